"""transformers' pipelines take the checkpoint as it is."""

import numpy as np
import pytest
from transformers import pipeline

from modeling_ttt import nano_checkpoint
from processing_ttt import TASKS

FOLDER = str(nano_checkpoint())
QUESTION = [{"role": "user", "content": [{"type": "audio", "audio": f"{FOLDER}/questions/1.wav"}]}]
READ_ALOUD = [
    {"role": "system", "content": TASKS["tts"].system_prompt},
    {"role": "user", "content": "Seven plus five is twelve."},
]


def test_any_to_any_answers_in_text_or_in_audio():
    talker = pipeline("any-to-any", model=FOLDER)
    text = talker(QUESTION, return_full_text=False)[0]["generated_text"]
    assert len(text.split()) >= 2
    assert "<|" not in text
    audio = talker(QUESTION, generation_mode="audio")[0]["generated_audio"]
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert len(audio) > 8000


@pytest.mark.parametrize("task", ["text-to-audio", "text-to-speech"])
def test_text_to_audio_reads_a_conversation_aloud(task):
    spoken = pipeline(task, model=FOLDER)(READ_ALOUD)
    assert spoken["sampling_rate"] == 16_000
    assert spoken["audio"].ndim == 1
    assert len(spoken["audio"]) > 8000


def test_text_generation_answers_in_writing():
    writer = pipeline("text-generation", model=FOLDER)
    question = [
        {"role": "system", "content": TASKS["text"].system_prompt},
        {"role": "user", "content": "What is two plus three?"},
    ]
    answer = writer(question, return_full_text=False)[0]["generated_text"]
    assert len(answer.split()) >= 2
