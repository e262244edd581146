"""
Does nano speak in fewer denoising steps after it has learnt from its own codes instead of recorded ones?

    python -m finetune.nano.speech.natural answers --voices package/voices --out data/nano/voice --count 350
    python -m finetune.nano.checkpoint.prepare --model checkpoints/ttt-nano --speech data/nano --out prepared/nano
    # an hour of one CPU core; the data and finished trainings in --work are not made again
    python benchmarks/own_codes.py --data prepared/nano/voice --work own-codes --out benchmarks/results/own_codes.json

Codes that a step reveals at once are chosen apart from each other. Where several codes would be right, they may not fit
together; a model's own reply of many steps has settled on some of them. So nano reads the texts of the data aloud, in
steps of low entropy, and is trained further on that; and, by equal updates on the same texts, on the recorded codes.
All three read unseen sentences aloud in few steps and in many (`sweep.py`; transcribed by pocketsphinx).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from sweep import BATCH_SIZE, sweep
from tqdm import tqdm

from finetune.data.schema import Record, load_prepared, make_record, read_info, replace_text, save_prepared
from finetune.training.recipe import read_recipe
from finetune.training.train import train
from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttProcessor
from processing_ttt.tasks_ttt import system_prompt

TEACHER: dict[str, Any] = {"denoising_steps": 16, "entropy_bound": 1.0}
SETTINGS: list[dict[str, Any]] = [
    *({"denoising_steps": steps} for steps in (1, 2, 4, 8)),
    *({"denoising_steps": 16, "entropy_bound": bound} for bound in (3.0, 6.0, 10.0)),
]
LEARNING_RATE = 3e-4
WAYS = {"nothing": "nothing", "recorded": "recorded codes", "own": "its own codes"}


def spoken_by(folder: Path, records: list[Record]) -> list[Record]:
    """
    Let a model read recordings' texts aloud.

    Args:
        folder (`Path`): The model.
        records (`list[Record]`): Recordings.

    Returns:
        `list[Record]`: Messages, in the order of the recordings: the request to read a text, and the reply word by
        word with its codes.
    """
    model = TttForConditionalGeneration.from_pretrained(folder).eval()
    processor = TttProcessor.from_pretrained(folder)
    by_length = sorted({record["text"] or "" for record in records}, key=len)
    replies: dict[str, str] = {}
    for start in tqdm(range(0, len(by_length), BATCH_SIZE), desc="own codes"):
        texts = by_length[start : start + BATCH_SIZE]
        inputs = processor.prepare([processor.messages("tts", text) for text in texts], reply_texts=texts)
        ids = model.generate(**inputs, block_early_stop=True, **TEACHER)[:, inputs["input_ids"].shape[1] :]
        replies |= dict(zip(texts, map(processor.tokenizer.decode, ids), strict=True))
    prompt = {"role": "system", "content": system_prompt("tts", None)}
    return [
        make_record(
            record["id"],
            "messages",
            language=record["language"],
            messages=json.dumps(
                [
                    prompt,
                    {"role": "user", "content": record["text"]},
                    {"role": "assistant", "content": reply.partition(processor.tokenizer.eos_token)[0]},
                ]
            ),
            seconds=record["seconds"],
        )
        for record, reply in ((record, replies[record["text"] or ""]) for record in records)
    ]


def write_data(options: argparse.Namespace) -> None:
    """Write what each way learns from: a `data.yaml` with the recorded codes, and a prepared folder with the own."""
    options.work.mkdir(parents=True, exist_ok=True)
    recorded = {"datasets": [{"path": str(options.data.resolve()), "tasks": {"tts": 1}}]}
    replace_text(options.work / "recorded.yaml", json.dumps(recorded))
    replace_text(options.work / "own.yaml", json.dumps({"datasets": [{"path": "own"}]}))
    if not (options.work / "own").exists():
        records = load_prepared(options.data)["train"].to_list()
        save_prepared(options.work / "own", {"train": spoken_by(options.model, records)}, read_info(options.data))


def train_on(way: str, options: argparse.Namespace) -> Path:
    """Train nano further, or find that it is done."""
    settings = {
        "model": options.model, "data": options.work / f"{way}.yaml", "output_dir": options.work / "runs" / way,
        "max_steps": options.updates, "learning_rate": LEARNING_RATE, "warmup_ratio": 0.1,
        "per_device_train_batch_size": 4, "replaced_prompt_codes": 0, "compile_layers": "false", "bf16": "false",
        "dataloader_num_workers": 0, "logging_steps": 10, "eval_steps": options.updates, "validation_examples": 0,
        "validation_texts": 0, "report_to": "none",
    }  # fmt: skip
    return train(read_recipe(Path("nano"), [f"{key}={value}" for key, value in settings.items()]))


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each setting, WER at ids per forward for each way."""
    lines = [f"| learnt further from | {' | '.join(WAYS.values())} |", "|---" * (len(WAYS) + 1) + "|"]
    for number, setting in enumerate(SETTINGS):
        bound = setting.get("entropy_bound")
        name = f"entropy bound {bound:g}" if bound else f"steps {setting['denoising_steps']}"
        cells = [results[way][number] for way in WAYS]
        shown = [f"{cell['wer']:.3f} at {cell['ids_per_forward']:.2f}" for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_checkpoint())
    parser.add_argument("--data", type=Path, required=True, help="prepared recordings with word times")
    parser.add_argument("--work", type=Path, required=True, help="folder of the data and the runs")
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--sentences", type=int, default=132)
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    write_data(options)
    folders = {"nothing": options.model} | {way: train_on(way, options) for way in ("recorded", "own")}
    results: dict[str, Any] = {way: sweep(folder, options.sentences, SETTINGS) for way, folder in folders.items()}
    print(table(results))
    if options.out:
        info = {"sentences": options.sentences, "updates": options.updates, "teacher": TEACHER}
        replace_text(options.out, json.dumps(info | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
