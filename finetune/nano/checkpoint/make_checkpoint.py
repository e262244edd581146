"""
Nano's checkpoint: a new model before training, and after it the folder that the packages ship.

    python -m finetune.nano.checkpoint.make_checkpoint create --codec checkpoints/ttt-nano/codec --out runs/nano-init
    ttt train nano --set model=runs/nano-init --set data=prepared/nano/data.yaml --set output_dir=runs/nano
    python -m finetune.nano.checkpoint.make_checkpoint export --model runs/nano --codec checkpoints/ttt-nano/codec \\
        --out checkpoints/ttt-nano

1. `create`: a byte-level BPE with markers and audio alphabet, a random Qwen2 backbone of six layers, and the processor.
2. `export`: config, generation config, tokenizer, processor, codec, and weights in bfloat16; no source files, which the
   packages add when the checkpoint is published. `--average-with RUN --share 0.4` takes the mean of the weights of two
   runs, of which one began where the other ended; the card has the result.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerFast

from modeling_ttt import TttConfig, TttForConditionalGeneration
from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.processing_ttt import TttProcessor
from processing_ttt.vocabulary_ttt import TttVocabulary

from .tokenizer import train_tokenizer

BLOCK_LENGTH = 16  # a word has at most 15 codes in 95 of 100 cases, and one end marker
# The best point of benchmarks/sweep.py.
DENOISING = {"denoising_steps": 16, "entropy_bound": 3.0, "remasking": "low_confidence"}
MAX_NEW_TOKENS = 400
TRANSCRIPTION_SECONDS = 5.0  # nano learnt from single sentences


def create(codec: Path, out: Path, seed: int = 0) -> None:
    """Write a tokenizer and a freshly initialised model."""
    codebook_size = TttCodecModel.from_pretrained(codec).config.codebook_size
    tokenizer = train_tokenizer(codebook_size)
    vocabulary = TttVocabulary.from_tokenizer(tokenizer)
    text_config = AutoConfig.for_model(
        "qwen2",
        vocab_size=vocabulary.vocab_size,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
    )
    torch.manual_seed(seed)
    model = TttForConditionalGeneration(TttConfig(text_config=text_config, **vocabulary.config_kwargs()))
    model.generation_config = _generation_config(vocabulary, codec)
    model.save_pretrained(out)
    make_processor(tokenizer, codec).save_pretrained(out)
    print(f"{model.num_parameters() / 1e6:.1f}M parameters, {vocabulary.audio_token_start_id} text ids -> {out}")


def export(model: Path, codec: Path, out: Path, average_with: Path | None = None, share: float = 0.5) -> None:
    """
    Write the folder that the packages ship. Weights are stored in bfloat16, to keep it small, and loaded as float32.

    Args:
        model (`Path`): What was trained, with its tokenizer.
        codec (`Path`): Its codec.
        out (`Path`): The folder.
        average_with (`Path`, *optional*): Another run of the same geometry.
        share (`float`, *optional*, defaults to 0.5): 0 to 1, of the other run in the mean.

    Raises:
        ValueError: If the share is none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` is from 0 to 1, but is {share}.")
    trained = TttForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()
    if average_with is not None:
        other = TttForConditionalGeneration.from_pretrained(average_with, dtype=torch.float32).state_dict()
        trained.load_state_dict({name: own.lerp(other[name], share) for name, own in trained.state_dict().items()})
    vocabulary = TttVocabulary.from_tokenizer(tokenizer := PreTrainedTokenizerFast.from_pretrained(model))
    trained.generation_config = _generation_config(vocabulary, codec)
    with tempfile.TemporaryDirectory() as temporary:
        # A folder in the temporary one, which only its owner may read: `copytree` copies permissions too.
        saved = Path(temporary) / "checkpoint"
        trained.save_pretrained(saved)
        weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(saved / "model.safetensors").items()}
        save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
        make_processor(tokenizer, codec, spoken_input=True).save_pretrained(saved)
        _copy_without_sources(saved, out)


def _copy_without_sources(saved: Path, out: Path) -> None:
    """Copy a checkpoint without its source files and without the `auto_map` that names them in its JSON files."""
    shutil.copytree(saved, out, ignore=shutil.ignore_patterns("*.py"), dirs_exist_ok=True)
    for path in saved.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("auto_map", None) is not None:
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
            (out / path.relative_to(saved)).write_text(text + "\n", encoding="utf-8")


def make_processor(tokenizer: PreTrainedTokenizerFast, codec: Path, spoken_input: bool = False) -> TttProcessor:
    """Nano's processor, with a codec; `spoken_input` for users, whose typed questions are written as if spoken."""
    return TttProcessor(
        tokenizer,
        codec_name_or_path=str(codec),
        transcription_seconds=TRANSCRIPTION_SECONDS,
        spoken_input=spoken_input,
    )


def _generation_config(vocabulary: TttVocabulary, codec: Path) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        block_length=BLOCK_LENGTH,
        **DENOISING,
        block_early_stop=True,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        # where pipeline("text-to-audio") looks for it
        sampling_rate=AutoConfig.from_pretrained(codec).output_sampling_rate,
    )


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(dest="stage", required=True)
    for stage, names in {"create": ("codec", "out"), "export": ("model", "codec", "out")}.items():
        sub = stages.add_parser(stage)
        for name in names:
            sub.add_argument(f"--{name}", type=Path, required=True)
    exports = stages.choices["export"]
    exports.add_argument("--average-with", type=Path, help="another run, whose weights are averaged with the model's")
    exports.add_argument("--share", type=float, default=0.5, help="of the other run in the average")
    arguments = vars(parser.parse_args())
    run: Callable[..., None] = create if arguments.pop("stage") == "create" else export
    run(**arguments)


if __name__ == "__main__":
    main()
