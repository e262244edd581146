"""
Train nano's language model, with the project's own model, objective and layout, and transformers' Trainer.

    python -m finetune.nano.train_model create --codec codec/export --out model/init
    python -m finetune.nano.train_model encode --codec codec/export --speech data/nano --out data/codes
    python -m finetune.nano.train_model train --init model/init --out model/text --steps 600                 # text only: arithmetic is cheap here
    python -m finetune.nano.train_model train --init model/text --codes data/codes --out model/joint --steps 2500
    python -m finetune.nano.train_model export --model model/joint --codec codec/export --out checkpoints/ttt-nano

1. `create`: a byte-level BPE with markers and audio alphabet, and a random Qwen2 backbone of six layers.
2. `encode`: the codes of all spoken questions (at varied level and noise) and answers.
3. `train`: examples of the tasks chat, tts, asr and text, packed into rows; AdamW, cosine, bf16 autocast; a checkpoint every few minutes, from
   which the same command goes on. `time.json` says how long it took.
4. `export`: the Hub-ready folder: config, generation config, tokenizer, processor, codec, weights in bfloat16.

Hardware: two CPU cores; one process uses the threads of OMP_NUM_THREADS.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from finetune.trainer import TttTrainer
from modeling_ttt import TttConfig, TttForConditionalGeneration
from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.layout_ttt import TttLayout
from processing_ttt.processing_ttt import TttProcessor
from processing_ttt.vocabulary_ttt import TttVocabulary

from .examples import PackedBatches, build_examples, encode_corpus, train_tokenizer
from .muon import MuonAdamW

BLOCK_LENGTH = 16  # a word has at most 15 codes in 95 of 100 cases, and one end marker
# The best point of benchmarks/sweep.py, in at most as many steps as the published rule takes.
DENOISING = {"denoising_steps": 8, "entropy_bound": 3.0, "remasking": "entropy"}
FRAME_RATE = 25.0
MAX_NEW_TOKENS = 400
TASK_WEIGHTS = {"chat": 0.45, "tts": 0.08, "asr": 0.25, "text": 0.05, "facts": 0.2}  # how often, per example


def create(codec: Path, out: Path, seed: int = 0) -> None:
    """Write a tokenizer and a freshly initialised model."""
    codebook_size = TttCodecModel.from_pretrained(codec).config.codebook_size
    tokenizer = train_tokenizer(codebook_size)
    vocabulary = TttVocabulary.from_tokenizer(tokenizer)
    text_config = AutoConfig.for_model(
        "qwen2",
        vocab_size=vocabulary.vocab_size,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
    )
    torch.manual_seed(seed)
    model = TttForConditionalGeneration(TttConfig(text_config=text_config, **vocabulary.config_kwargs()))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"{model.num_parameters() / 1e6:.1f}M parameters, {vocabulary.audio_token_start_id} text ids -> {out}")


def encode(codec: Path, speech: Path, out: Path) -> None:
    """Encode the training corpora that `synthesise.py` wrote below `speech`."""
    model = TttCodecModel.from_pretrained(codec).eval()
    heard = ("questions", "wrapped", "drills")
    for corpus in ("answers", "sentences", *heard):
        encode_corpus(model, speech / corpus, out / corpus, as_heard=corpus in heard)


class _Clock(TrainerCallback):
    """Adds the seconds of every stretch of training to `time.json`, so that a resumed run knows its whole time."""

    def __init__(self, path: Path):
        self.path = path
        self.before = json.loads(path.read_text())["seconds"] if path.exists() else 0.0
        self.start = time.perf_counter()

    def on_save(self, args: TrainingArguments, state, control, **kwargs) -> None:
        """Write the time so far."""
        seconds = self.before + time.perf_counter() - self.start
        self.path.write_text(json.dumps({"seconds": round(seconds), "steps": state.global_step}) + "\n")


def train(
    init: Path, out: Path, steps: int, codes: Path | None, learning_rate: float, tokens_per_batch: int, row_length: int
) -> None:
    """Train from `init` for `steps` steps in all, or go on where a checkpoint in `out` stopped."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(init)
    layout = TttLayout(TttVocabulary.from_tokenizer(tokenizer))
    examples = build_examples(tokenizer, layout, codes, FRAME_RATE)
    longest = max(len(e["input_ids"]) for group in examples.values() for e in group)
    print(
        ", ".join(f"{task}: {len(group)}" for task, group in examples.items()),
        f"examples, the longest of {longest} ids",
    )
    model = TttForConditionalGeneration.from_pretrained(init, dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=1,  # one batch of PackedBatches
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(100, steps // 10),
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=20,
        save_steps=100,
        save_total_limit=1,
        remove_unused_columns=False,
        report_to=[],
        seed=0,
    )
    trainer = TttTrainer(
        model=model,
        args=arguments,
        train_dataset=PackedBatches(examples, TASK_WEIGHTS, layout, tokens_per_batch, row_length, BLOCK_LENGTH),
        data_collator=lambda batches: batches[0],
        optimizers=(MuonAdamW(model, learning_rate, weight_decay=0.05), None),
        callbacks=[_Clock(out / "time.json")],
    )
    last = get_last_checkpoint(out) if out.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def export(model: Path, codec: Path, out: Path) -> None:
    """Write the Hub-ready folder. Weights are stored in bfloat16 and loaded as float32, so that decoding is exact and the box small."""
    trained = TttForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()
    vocabulary = TttVocabulary.from_tokenizer(tokenizer := PreTrainedTokenizerFast.from_pretrained(model))
    trained.generation_config = GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        block_length=BLOCK_LENGTH,
        **DENOISING,
        block_early_stop=True,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        sampling_rate=AutoConfig.from_pretrained(
            codec
        ).output_sampling_rate,  # where pipeline("text-to-audio") looks for it
    )
    trained.save_pretrained(out)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(out / "model.safetensors").items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    processor = TttProcessor(tokenizer=tokenizer, codec_name_or_path=str(codec))
    processor.save_pretrained(out)


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(dest="stage", required=True)
    for stage, names in {
        "create": ("codec", "out"),
        "encode": ("codec", "speech", "out"),
        "train": ("init", "out"),
        "export": ("model", "codec", "out"),
    }.items():
        sub = stages.add_parser(stage)
        for name in names:
            sub.add_argument(f"--{name}", type=Path, required=True)
        if stage == "train":
            sub.add_argument("--steps", type=int, required=True)
            sub.add_argument("--codes", type=Path)
            sub.add_argument("--learning-rate", type=float, default=2e-3)
            sub.add_argument("--tokens-per-batch", type=int, default=4096)
            sub.add_argument("--row-length", type=int, default=512)
    arguments = vars(parser.parse_args())
    globals()[arguments.pop("stage")](**arguments)


if __name__ == "__main__":
    main()
