"""
How nano should be decoded: rules and steps against what a judge understands, on sentences that training never saw.

    python benchmarks/sweep.py --out benchmarks/results/sweep.json

Each setting reads the same held-out sentences aloud (task tts, several rows at a time); pocketsphinx writes down what it hears, with a bigram
of the domain. Settings that draw at random run with three seeds, and their spread is shown. Reported: word error rate, forwards per block
and ids per forward, the mean over the rows. Differences of less than two points are noise at this size.
"""

import argparse
import json
import random
import statistics
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from finetune.nano.domain import items, text_corpus
from finetune.nano.judge import Judge, score
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttProcessor

BATCH_SIZE = 16
SETTINGS: list[dict[str, Any]] = [
    *({"denoising_steps": steps} for steps in (1, 2, 4, 8, 16)),
    *(
        {"denoising_steps": steps, "remasking": rule}
        for rule in ("calibrated", "entropy", "margin")
        for steps in (4, 8)
    ),
    *({"denoising_steps": steps, "remasking": "random"} for steps in (4, 8)),
    {"denoising_steps": 8, "reveal_schedule": "cosine"},
    *({"denoising_steps": 16, "confidence_threshold": threshold} for threshold in (0.3, 0.5, 0.7, 0.9)),
    {"denoising_steps": 16, "confidence_threshold": 0.5, "remasking": "calibrated"},
    *({"denoising_steps": 16, "entropy_bound": bound} for bound in (1.0, 3.0, 6.0)),
    *({"denoising_steps": 8, "audio_guidance_scale": scale} for scale in (0.1, 0.5)),
    *(
        {"denoising_steps": 8, "audio_guidance_scale": scale, "audio_guidance_context": "none"}
        for scale in (0.1, 0.5, 1.0)
    ),
    *({"denoising_steps": 8, "audio_temperature": temperature} for temperature in (0.5, 0.7, 1.0)),
    {"denoising_steps": 8, "audio_temperature": 1.0, "audio_top_p": 0.8},
]


def is_random(setting: dict[str, Any]) -> bool:
    """Whether a setting draws."""
    return setting.get("remasking") == "random" or bool(setting.get("audio_temperature"))


class ReadAloud:
    """Reads sentences aloud with one checkpoint and judges what is heard."""

    def __init__(self, folder: Path, texts: list[str]):
        self.model = TttForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = TttProcessor.from_pretrained(folder)
        self.judge = Judge(text_corpus())
        self.texts = sorted(texts, key=len)

    def measure(self, setting: dict[str, Any], seed: int) -> dict[str, float]:
        """Word error rate and cost of one setting."""
        heard, ids_per_forward = [], []
        for start in range(0, len(self.texts), BATCH_SIZE):
            texts = self.texts[start : start + BATCH_SIZE]
            inputs = self.processor.apply_chat_template(
                [self.processor.conversation("tts", text) for text in texts],
                add_generation_prompt=True, tokenize=True, return_dict=True,
            )  # fmt: skip
            generators = [torch.Generator().manual_seed(1000 * seed + start + row) for row in range(len(texts))]
            options = {"block_early_stop": True} | setting
            out = self.model.generate(**inputs, generator=generators, return_dict_in_generate=True, **options)
            replies = self.processor.batch_decode_reply(out.sequences[:, inputs["input_ids"].shape[1] :])
            heard += [self.judge.transcribe(reply.audio) if len(reply.audio) else "" for reply in replies]
            ids_per_forward += out.tokens_per_forward.tolist()
        return {"wer": score(self.texts, heard).wer, "ids_per_forward": statistics.mean(ids_per_forward)}


def sweep(folder: Path, limit: int) -> list[dict[str, Any]]:
    """Measure every setting."""
    texts = sorted({item.answer for item in items() if item.split == "unseen_fact"})
    reader = ReadAloud(folder, random.Random(0).sample(texts, min(limit, len(texts))))
    results = []
    for setting in tqdm(SETTINGS, desc="settings"):
        runs = [reader.measure(setting, seed) for seed in range(3 if is_random(setting) else 1)]
        words = [run["wer"] for run in runs]
        results.append(
            {
                **setting,
                "wer": statistics.mean(words),
                "wer_min": min(words),
                "wer_max": max(words),
                "ids_per_forward": statistics.mean(run["ids_per_forward"] for run in runs),
                "sentences": len(reader.texts),
            }
        )
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Markdown, one row per setting."""
    rows = ["| setting | WER | ids per forward |", "|---|---|---|"]
    for result in results:
        setting = ", ".join(f"{k.removeprefix('audio_')} {result[k]}" for k in result if k in _option_names())
        spread = (
            f" ({result['wer_min']:.3f} to {result['wer_max']:.3f})" if result["wer_max"] > result["wer_min"] else ""
        )
        rows.append(f"| {setting} | {result['wer']:.3f}{spread} | {result['ids_per_forward']:.2f} |")
    return "\n".join(rows)


def _option_names() -> set[str]:
    return {name for setting in SETTINGS for name in setting}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_checkpoint())
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = sweep(options.model, options.sentences)
    print(table(results))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
