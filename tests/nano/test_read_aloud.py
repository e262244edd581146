"""Texts that a synthesiser reads become recordings with a manifest."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import finetune.nano.speech
from finetune.nano.speech.read_aloud import read_aloud, recorded
from finetune.nano.speech.voices import Utterance, Word


class Reader:
    """Speaks a tenth of a second for each word, and nothing that is "..."."""

    name = "if_sara"

    def __init__(self):
        self.spoken = []

    def speak(self, text):
        if text == "...":
            raise ValueError("nothing to speak")
        self.spoken.append(text)
        words = text.split()
        times = [Word(word, i / 10, (i + 1) / 10) for i, word in enumerate(words)]
        return Utterance(np.full(1600 * len(words), 0.25, np.float32), times)


def test_every_text_is_recorded_once_by_every_voice_with_its_words(tmp_path):
    texts = ["Attivato.", "...", "Nuovo messaggio.", "Attivato."]
    assert read_aloud(texts, [Reader()], tmp_path, "it") == ["..."]
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text("utf-8").splitlines()]
    assert [line["text"] for line in lines] == ["Attivato.", "Nuovo messaggio."]
    assert lines[1]["words"][1] == {"word": "messaggio.", "start": 0.1, "end": 0.2}
    assert lines[1]["language"] == "it" and lines[1]["licence"] == "Apache-2.0"
    audio, rate = soundfile.read(tmp_path / lines[1]["audio"])
    assert rate == 16_000 and len(audio) == 3200 and audio[0] == pytest.approx(0.25, abs=1e-4)


def test_a_killed_run_goes_on_and_its_unfinished_line_is_written_again(tmp_path):
    read_aloud(["Attivato.", "Nuovo messaggio."], [Reader()], tmp_path, "it")
    manifest = tmp_path / "manifest.jsonl"
    whole = manifest.read_text("utf-8")
    manifest.write_text(whole[:-20], "utf-8")
    again = Reader()
    assert read_aloud(["Attivato.", "Nuovo messaggio."], [again], tmp_path, "it") == []
    assert again.spoken == ["Nuovo messaggio."] and manifest.read_text("utf-8") == whole
    assert len(recorded(manifest)) == 2


def test_the_italian_sentences_can_be_read_as_they_are_written():
    file = Path(finetune.nano.speech.__file__).with_name("italian.txt")
    sentences = file.read_text("utf-8").splitlines()
    assert len(set(sentences)) == len(sentences) == 2111
    assert not [each for each in sentences if not re.fullmatch(r"[A-Za-zàèéìòùÈ' ,.?!;:]+", each)]
    assert max(len(each.split()) for each in sentences) <= 12 and sentences != sorted(sentences)
