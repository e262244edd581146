"""What nano's measurement compares: its speech with that of its voice, by several judges."""

from types import SimpleNamespace

import numpy as np
import pytest

from finetune.evaluation.whisper_base import WhisperBaseJudge
from finetune.nano.measure import model
from finetune.nano.measure.judge import WhisperJudge


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("18-3 is 15.", "eighteen minus three is fifteen."),
        ("18 - 3 is 15.", "eighteen minus three is fifteen."),
        ("A well-known man, 7 years old.", "A well-known man, seven years old."),
    ],
)
def test_whisper_s_figures_are_compared_in_words(monkeypatch, heard, text):
    monkeypatch.setattr(WhisperBaseJudge, "__init__", lambda self: None)
    monkeypatch.setattr(WhisperBaseJudge, "transcribe", lambda self, waveforms, rate, language: [heard])
    assert WhisperJudge().transcribe(np.zeros(160, np.float32)) == text


class Spoken:
    """Nano that speaks what it is given as a waveform of one sample for each letter, and loses one in the codec."""

    def ask_all(self, task, texts):
        assert task == "tts"
        return [SimpleNamespace(audio=np.full(len(text), 0.5, np.float32)) for text in texts]

    def resynthesise(self, waveforms):
        return [waveform[1:] for waveform in waveforms]


class Counts:
    """A judge that says a word for each sample."""

    def transcribe(self, waveform):
        return " ".join("a" * len(waveform))


def test_answers_and_general_english_are_judged_apart(monkeypatch):
    monkeypatch.setattr(model, "mean_opinion", lambda waveforms, rate: float(len(waveforms)))
    lines = [{"text": "a a a a", "kind": "sum"}, {"text": "a a a", "kind": "phrase"}]
    originals = [np.full(len(line["text"].split()), 0.5, np.float32) for line in lines]
    judges = {"domain bigram": Counts(), "general English": Counts()}
    found = model._reading_aloud(Spoken(), lines, originals, judges)
    answers, phrases = found["speak, unseen answers"], found["speak, unseen general English"]
    assert set(answers) == {"domain bigram", "general English", "DNSMOS"} and "domain bigram" not in phrases
    assert answers["general English"]["wer"] == pytest.approx(3 / 4)  # seven samples for four words
    assert phrases["general English"]["wer"] == pytest.approx(2 / 3)
    assert found["answers, the synthesiser itself"]["general English"]["wer"] == 0
    assert found["general English, the synthesiser through the codec"]["general English"]["wer"] == pytest.approx(1 / 3)
    assert answers["DNSMOS"] == {"overall": 1.0, "n": 1}
