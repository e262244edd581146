"""What the benchmark of turn detection rests on: pauses are where they should be, and ends are counted as stated."""

import sys

import numpy as np
import pytest
from checkout import ROOT

pytest.importorskip("torchaudio", reason="the nano extra is not installed")
pytest.importorskip("gradio", reason="the demo extra is not installed")
sys.path.append(str(ROOT / "benchmarks"))

import turn_detection

RATE = turn_detection.SAMPLING_RATE
SPEECH, SILENCE = 0.9, 0.1  # probabilities


def test_a_pause_is_put_at_the_quietest_place_and_the_end_of_speech_is_known():
    samples = np.full(3 * RATE, 0.5, np.float32)
    samples[round(1.45 * RATE) : round(1.55 * RATE)] = 0.001
    audio, last = turn_detection.with_pause(samples, 0.8, np.random.default_rng(0))
    assert last == pytest.approx(turn_detection.BEFORE + 3.8)
    loud = np.abs(audio) > 0.1
    begin, end = round((turn_detection.BEFORE + 1.45) * RATE), round((turn_detection.BEFORE + 2.35) * RATE)
    assert loud[begin - 10] and not loud[begin:end].any() and loud[end + 10]
    assert audio[begin : begin + RATE // 2].any()  # a faint noise


def test_a_turn_ends_after_the_silence_at_the_end_of_a_call():
    probabilities = [SILENCE] * 5 + [SPEECH] * 20 + [SILENCE] * 40
    window = turn_detection.WINDOW / RATE
    assert turn_detection.turn_ends(probabilities, 16) == pytest.approx(42 * window)  # 41 windows, in calls of six
    assert turn_detection.turn_ends(probabilities, 41) is None
    assert turn_detection.turn_ends([SILENCE] * 60, 16) is None  # nobody spoke


def test_turns_that_end_early_are_cut_and_those_that_do_not_end_are_missed():
    early, late = [SPEECH] * 6 + [SILENCE] * 18, [SPEECH] * 6 + [SILENCE] * 18
    found = turn_detection.judged([(early, 9.0), (late, 0.2), ([SPEECH] * 60, 1.9)], 16)
    assert found["cut"] == found["missed"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["delay"] == pytest.approx(24 * 0.032 - 0.2, abs=1e-3) and found["hold"] == 0.512
