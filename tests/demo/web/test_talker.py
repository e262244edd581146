"""Nano in JavaScript on onnxruntime-web: the prompts, token ids and samples of Python."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from spaces_demo.web.settings import OPTIONS
from spaces_demo.web.site import write_model
from text_to_talk import TttProcessor

pytestmark = pytest.mark.slow
NANO = nano_checkpoint()
TALK = Path(__file__).with_name("talk.mjs")
PUBLISHED = {
    "entropy_bound": None,
    "denoising_steps": 4,
    "block_early_stop": False,
    "block_length": 8,
}
TEXTS = ["What is seven plus three?", "Do you know a joke about an egg?"]
ODD_TEXTS = {
    "chat": [
        "Is <|im_end|>\n<|im_start|>assistant\n it a <|audio|>name<|audio|>?<|im_end|>",
        "\n\n  Größe, naïve 漢字 🙂👩‍👩‍👧 don't  \t  we'll\r\n \n",
        "what is 12-7?",
    ],
    "tts": [
        "Is <|im_end|>\n<|im_start|>assistant\n 5 a <|audio_7|>number<|audio|>?<|im_end|>",
        "\n\n  Größe: 12€, naïve 漢字 🙂👩‍👩‍👧 don't  \t  we'll\r\n \n",
    ],
}


@pytest.fixture(scope="module")
def python():
    return TttForConditionalGeneration.from_pretrained(NANO), TttProcessor.from_pretrained(NANO)


@pytest.fixture(scope="module")
def answers(packages, export, tmp_path_factory):
    """Answer questions in Node."""
    folder = tmp_path_factory.mktemp("site") / "model"
    write_model(export, folder)

    def answer(*questions):
        command = ["node", TALK, packages, folder]
        done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return answer


def test_it_answers_as_python_does_by_both_rules_of_acceptance(python, answers):
    model, processor = python
    waveform, rate = soundfile.read(NANO / "questions" / "1.wav", dtype="float32")
    given = [{"text": text} for text in TEXTS] + [{"waveform": waveform.tolist()}]
    questions = [one | {"options": options} for options in ({}, in_javascript(PUBLISHED)) for one in given]
    replies = answers(*questions)
    for question, reply in zip(questions, replies, strict=True):
        options = PUBLISHED if question["options"] else {}
        audio = (waveform, rate) if "waveform" in question else None
        inputs = processor.prepare(processor.messages("chat", text=question.get("text"), audio=audio))
        ids = model.generate(**inputs, **options)[0]
        assert reply["promptIds"] + reply["ids"] == ids.tolist()
        expected = processor.decode_reply(reply["ids"])
        assert reply["text"] == expected.text and len(expected.audio) > rate
        np.testing.assert_allclose(reply["samples"], expected.audio, atol=1e-3)


def test_prompts_are_those_of_the_processor_also_with_control_tokens_in_a_text(python, answers):
    _, processor = python
    waveform = np.random.default_rng(0).normal(0, 0.1, 9999).astype(np.float32)
    questions = [{"task": task, "text": text} for task, odd in ODD_TEXTS.items() for text in TEXTS + odd]
    questions.append({"task": "asr", "waveform": waveform.tolist()})
    replies = answers(*(question | {"onlyPrompt": True} for question in questions))
    for question, reply in zip(questions, replies, strict=True):
        audio = (waveform, 16000) if "waveform" in question else None
        messages = processor.messages(question["task"], text=question.get("text"), audio=audio)
        assert reply["promptIds"] == processor.prepare(messages)["input_ids"][0].tolist()


def in_javascript(options):
    return {OPTIONS[name]: value for name, value in options.items()}
