"""The released files end to end: the command line converts codec and model, then a spoken question is answered."""

import subprocess
import sys

import soundfile
from checkout import own_packages
from clean_process import NOT_INSTALLED
from glm4_voice_fixtures import (
    noise,
    tiny_decoder_model,
    tiny_tokenizer_model,
    write_released_decoder,
    write_released_tokenizer,
)
from released_fixtures import CODEBOOK_SIZE, write_released

TALK = """
import torch
from transformers import AutoModel, AutoProcessor

torch.set_num_threads(1)
folder, question, answer = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor.prepare(processor.messages("chat", audio=question))
begin = torch.tensor([[model.config.begin_audio_token_id]])  # a random model would hardly speak by itself
ids = torch.cat([inputs["input_ids"], begin], dim=1)
ids = model.generate(ids, max_new_tokens=40, generator=torch.Generator().manual_seed(0))
reply = processor.decode_reply(ids[0, inputs["input_ids"].shape[1]:])
processor.save_audio(reply, answer)
assert type(processor.codec).__module__.startswith("transformers_modules."), type(processor.codec)
"""


def run(*command):
    """Run a command that must succeed; returns what it prints."""
    environment = {**own_packages(), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_released_model_and_codec_are_converted_and_talk_in_a_process_without_our_packages(tmp_path):
    released, ours = tmp_path / "released", tmp_path / "ours"
    tokenizer = tiny_tokenizer_model(quantize_vocab_size=CODEBOOK_SIZE)
    spoken = tiny_decoder_model(flow={"vocab_size": CODEBOOK_SIZE})
    write_released_tokenizer(released / "glm-4-voice-tokenizer", tokenizer)
    write_released_decoder(released / "glm-4-voice-decoder", spoken)
    write_released(released / "model")
    assert "Built with glm-4" in run("-m", "ttt_cli", "convert-codec", released, tmp_path / "codec")
    run("-m", "ttt_cli", "convert", released / "model", ours, "--codec", tmp_path / "codec")
    assert (ours / "codec" / "LICENSE-glm-4-voice.md").is_file()

    soundfile.write(tmp_path / "question.wav", noise(20000).numpy(), 16000)
    run("-I", "-c", NOT_INSTALLED + TALK, ours, tmp_path / "question.wav", tmp_path / "answer.wav")
    audio, rate = soundfile.read(tmp_path / "answer.wav")
    assert rate == 22050
    assert len(audio) > 0 and len(audio) % 256 == 0
    assert abs(audio).max() > 0.001
