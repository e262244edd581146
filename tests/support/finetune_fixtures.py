"""
A tiny checkpoint and tiny prepared data, for the tests of `finetune`: seconds of training, no network, no audio files.
"""

import json
import random
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from processing_fixtures import tiny_tokenizer
from transformers import AutoConfig, GenerationConfig

from finetune.data.encoding import codec_fingerprint
from finetune.data.schema import PreparedInfo, Record, make_record, save_prepared
from finetune.training.recipe import Recipe, override
from modeling_ttt import TttConfig, TttForConditionalGeneration
from processing_ttt import TttCodecConfig, TttCodecModel, TttProcessor, add_ttt_tokens

CODES = 16
FRAME_RATE = 25.0
CODEC_SIZES = dict.fromkeys(
    ("hidden_size", "intermediate_size", "vocoder_hidden_size", "vocoder_intermediate_size"), 16
)
WORDS = ("sette", "più", "cinque", "fa", "dodici", "ciao", "buongiorno", "grazie", "prego", "nove")


def tiny_checkpoint(folder: Path, tied: bool = False, hidden_size: int = 32) -> Path:
    """A random model of two layers with its processor and codec, as a folder."""
    tokenizer = tiny_tokenizer()
    vocabulary = add_ttt_tokens(tokenizer, CODES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = TttCodecModel(TttCodecConfig(fsq_levels=[4, 4], **CODEC_SIZES))
        text_config = AutoConfig.for_model(
            "qwen2",
            vocab_size=vocabulary.vocab_size,
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=vocabulary.eos_token_id,
            pad_token_id=vocabulary.pad_token_id,
        )
        model = TttForConditionalGeneration(TttConfig(text_config=text_config, **vocabulary.config_kwargs()))
    model.generation_config = GenerationConfig(
        max_new_tokens=20, block_length=5, denoising_steps=2, eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
    )  # fmt: skip
    processor = TttProcessor(tokenizer, text_tokens=3, audio_tokens=4)
    processor.codec = codec.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def recordings(count: int, seed: int = 0, language: str | None = "it") -> list[Record]:
    """Rows of different lengths, each text with random codes."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        words = rng.choices(WORDS, k=rng.randint(1, 4))
        codes = [rng.randrange(CODES) for _ in range(rng.randint(3, 14))]
        rows.append(
            make_record(f"{seed}-{index}", "recording", text=" ".join(words), codes=codes, language=language,
            seconds=len(codes) / FRAME_RATE)
        )  # fmt: skip
    return rows


def tiny_info(codec_fingerprint: str = "", codebook_size: int = CODES) -> PreparedInfo:
    """What `ttt prepare --model` writes of data with the codes of `tiny_checkpoint`, or of another codec."""
    return PreparedInfo("made", "codec", codec_fingerprint or _tiny_fingerprint(), FRAME_RATE, codebook_size)


@lru_cache
def _tiny_fingerprint() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return codec_fingerprint(TttProcessor.from_pretrained(tiny_checkpoint(Path(folder) / "tiny")))


def tiny_data(folder: Path, train: int = 24, validation: int = 4, test: int = 4) -> Path:
    """Prepared recordings."""
    rows = {"train": recordings(train, 1), "validation": recordings(validation, 2), "test": recordings(test, 3)}
    save_prepared(folder, rows, tiny_info())
    return folder


def tiny_recipe(checkpoint: Path, data: Path, output_dir: Path, **keys) -> Recipe:
    """A run of a few updates."""
    plain = {
        "model": str(checkpoint),
        "data": str(data),
        "output_dir": str(output_dir),
        "max_steps": 6,
        "max_length": 256,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "eval_steps": 2,
        "bf16": False,
        "learning_rate": 1e-2,
        "lora_r": 4,
        "lora_alpha": 8,
        "validation_examples": 2,
        "validation_texts": 1,
        "max_new_tokens": 12,
        "early_stopping_patience": 0,
        "report_to": "none",
    }
    return override(Recipe(), plain | keys)


def history(folder: Path, *names: str) -> list[tuple]:
    """The curves of a run, from its last checkpoint."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    points = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [(point["step"], *(point[name] for name in names)) for point in points if names[0] in point]
