"""The end of a turn, by energy: of nano's questions, of quiet ones, in noise, and where nobody speaks."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_ttt import nano_checkpoint

NODE = shutil.which("node")
DETECT = Path(__file__).with_name("detect.mjs")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed (https://nodejs.org)")
RATE = 16000
BEFORE = 1.0  # seconds


def detected(*waveforms):
    given = json.dumps([waveform.tolist() for waveform in waveforms])
    done = subprocess.run([NODE, DETECT], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def noise(seconds, level=1e-3, seed=0):
    return np.random.default_rng(seed).normal(0, level, int(seconds * RATE))


def in_a_room(speech, gain=1.0, level=1e-3):
    """Speech with silence around it, and noise."""
    padded = np.concatenate([np.zeros(int(BEFORE * RATE)), speech * gain, np.zeros(3 * RATE)])
    return padded + noise(len(padded) / RATE, level)[: len(padded)]


def test_a_question_begins_and_ends_where_its_speech_does():
    for gain, level in ((1.0, 1e-3), (0.1, 1e-4), (1.0, 5e-3)):
        speeches = [soundfile.read(nano_checkpoint() / "questions" / f"{n}.wav")[0] for n in (1, 4, 6)]
        answers = detected(*(in_a_room(speech, gain, level) for speech in speeches))
        for speech, answer in zip(speeches, answers, strict=True):
            loud = np.flatnonzero(np.abs(speech) > 0.03 * np.abs(speech).max())
            begin, end = BEFORE + loud[0] / RATE, BEFORE + loud[-1] / RATE
            seconds = answer["memory"]["num_windows"] * 512 / RATE
            assert answer["is_over"]
            assert answer["begins"] == pytest.approx(begin, abs=0.25)
            assert seconds - answer["silence"] == pytest.approx(end, abs=0.35)


def test_noise_and_a_click_are_no_turn():
    click = noise(6)
    click[3 * RATE : 3 * RATE + 400] = 0.9
    for answer in detected(noise(6), noise(6, 0.02), click):
        assert answer["begins"] is None and not answer["is_over"]
