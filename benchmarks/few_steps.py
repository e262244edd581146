"""
Does a model learn from itself to speak in fewer denoising steps? On the finished runs of the paper comparison.

    python benchmarks/paper_comparison.py --work comparison --systems ttt-two-stream --seeds 0 1 2
    python benchmarks/few_steps.py --work comparison --seeds 0 1 2 --out benchmarks/results/few_steps.json  # resumable

The two-stream system of each seed is trained further in two ways, by equal updates from the same weights on the same
examples and masks: on the recorded codes, and on those that the model it begins with reveals in `--teacher-steps` steps
(`comparison/distillation.py`). All three are measured in 1, 2, 4 and 8 steps for a block of 16. Hardware: one
CPU core, one thread.
"""

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from comparison.data import load_benchmark
from comparison.evaluation import Measurement
from comparison.systems import SYSTEMS, create_model
from comparison.table import RESULT, spread, write_json
from comparison.training import TrainingOptions, load_finished, train
from paper_comparison import CODEC

SYSTEM = "ttt-two-stream"
STEPS = (1, 2, 4, 8)
NEW_DRAWS = 1000  # added to the seed: examples and masks are drawn anew
WAYS = {"start": "as it was", "recorded": "recorded codes", "teacher": "the teacher's codes"}
COLUMNS = {"qa_speech": ("QA audio right", 3), "tts_wer": ("TTS WER", 3), "forwards": ("forwards per reply", 1)}


def main(arguments: list[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the paper comparison")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--updates", type=int, default=250)
    parser.add_argument("--teacher-steps", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--limit", type=int, help="use so many items of each test only")
    parser.add_argument("--codec", type=Path, default=CODEC)
    parser.add_argument("--out", type=Path, help="where the results go as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    benchmark = load_benchmark(options.work, options.codec)
    results = []
    for seed in options.seeds:
        start = options.work / "runs" / f"{SYSTEM}-{seed}"
        if not (start / "model.safetensors").is_file():
            parser.error(
                f"{start} is not trained yet: run paper_comparison.py --systems {SYSTEM} --seeds {seed} first."
            )
        results += [_measured(way, seed, start, benchmark, options) for way in WAYS]
        if options.out:
            write_json(options.out, results)
    print(table(results))


def _comparable(options: argparse.Namespace) -> dict[str, Any]:
    training = TrainingOptions(options.updates, learning_rate=options.learning_rate)
    return asdict(training) | {"teacher_steps": options.teacher_steps, "limit": options.limit}


def _measured(way: str, seed: int, start: Path, benchmark: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure one seed in one way; a finished one is read."""
    system, vocabulary = SYSTEMS[SYSTEM], benchmark.layout.vocabulary
    folder = options.work / "few-steps" / f"{way}-{seed}"
    if (folder / RESULT).is_file():
        result = json.loads((folder / RESULT).read_text())
        if result["options"] != _comparable(options):
            raise ValueError(f"{folder} was made with other options: remove it, or choose another --work.")
        return result
    training: dict[str, Any] = {}
    if way != "start":
        training = train(
            folder,
            system,
            NEW_DRAWS + seed,
            benchmark.examples,
            vocabulary,
            TrainingOptions(options.updates, learning_rate=options.learning_rate),
            start=start,
            teacher_steps=options.teacher_steps if way == "teacher" else 0,
        )
    model = create_model(system, vocabulary, seed).eval()
    load_finished(start if way == "start" else folder, model)
    measured = {
        str(steps): Measurement(benchmark, system, model, {"denoising_steps": steps}, options.limit).run()
        for steps in STEPS
    }
    result = {"way": way, "seed": seed, "options": _comparable(options), "training": training, "measured": measured}
    write_json(folder / RESULT, result)
    return result


def table(results: list[dict[str, Any]]) -> str:
    """
    Write the results as a table.

    Args:
        results (`list[dict]`): `way`, `seed`, and `measured` by the number of steps.

    Returns:
        `str`: Markdown, mean and standard deviation over the seeds.
    """
    lines = [f"| learnt further from | steps | {' | '.join(heading for heading, _ in COLUMNS.values())} |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for way, title in WAYS.items():
        runs = [run for run in results if run["way"] == way]
        for steps in STEPS if runs else ():
            measured = [run["measured"][str(steps)] for run in runs]
            cells = [spread([m[name] for m in measured], digits) for name, (_, digits) in COLUMNS.items()]
            lines.append(f"| {title} | {steps} | {' | '.join(cells)} |")
    minutes = {way: [run["training"]["cpu_seconds"] / 60 for run in results if run["way"] == way] for way in WAYS
               if way != "start"}  # fmt: skip
    lines += [f"\nCPU minutes, {WAYS[way]}: {statistics.mean(spent):.1f}" for way, spent in minutes.items() if spent]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
