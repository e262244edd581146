"""
The paper's comparison at small scale: one backbone, the same data, order, tokens and steps; what differs is the
objective.

    python benchmarks/paper_comparison.py --work comparison --seeds 0 1 2    # the same command resumes
    python benchmarks/paper_comparison.py --work comparison --systems ar ttt --seeds 0 --steps 40 --runs trial
    python benchmarks/paper_comparison.py --work comparison --cost  # CPU seconds of a step beside TtT's
    # a table of the finished runs
    python benchmarks/paper_comparison.py --work comparison --table --out benchmarks/results/paper_comparison.json

1. Data (`comparison/data.py`): a corner of nano's world is synthesised and encoded below `--work`, once.
2. For each seed and system (`comparison/systems.py`): training (`comparison/training.py`) from the seed's random
   weights, in a folder of its own, a state every two minutes, replaced whole. Finished runs are skipped.
3. Measurement (`comparison/evaluation.py`) on held-out questions and sentences: ASR, spoken QA, TTS; forwards and
   seconds of a reply.
4. `--out` gets all results as JSON, and results that it holds already are not made again: a machine goes on where
   another one stopped. Two tables are printed (`comparison/table.py`): mean and standard deviation over the seeds,
   and differences to TtT on the same seeds.

Equal steps are what counts. `--minutes` only chooses their number: from the speed of `ttt` on this machine, measured
once and kept in `--work`. Needs flite (Debian) and pocketsphinx, as `finetune.nano` does. Hardware: one CPU core, one
thread; `--device cuda` is the same code.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from comparison.data import Benchmark, encode_speech, load_benchmark, make_speech
from comparison.evaluation import OTHER_DECODINGS, Measurement, codec_floor
from comparison.systems import SYSTEMS, create_model
from comparison.table import (
    REFERENCE,
    RESULT,
    check_options,
    collect,
    markdown_table,
    merge,
    paired_table,
    restore,
    write_json,
)
from comparison.training import MODEL, TrainingOptions, load_finished, step_costs, train

from finetune.hardware import computes_bfloat16

CODEC = Path("checkpoints/ttt-nano/codec")
OUT = Path("benchmarks/results/paper_comparison.json")
STEPS = 1000  # 1.9M ids; a quarter of an hour for each system on one core without bfloat16
COST_STEPS = 20
PROBE_STEPS = 6  # to measure the speed with; the first one is not counted


def main(arguments: list[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    if options.cost:
        print(_cost_table(options))
        return
    if not options.table:
        _run_all(options)
    results, floor = _collect(options)
    print(markdown_table(results, floor), paired_table(results), sep="\n\n")


def _collect(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float] | None]:
    """Gather what is finished, here and in `--out`, which gets it all."""
    results = collect(options.work, options.runs)
    floor_file = options.work / "floor.json"
    floor = json.loads(floor_file.read_text()) if floor_file.exists() else None
    if options.out:
        merged = merge(results, floor, options.out)
        results, floor = merged["runs"], merged["floor"]
        write_json(options.out, merged)
    return results, floor


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of data and runs")
    parser.add_argument("--runs", default="runs", help="folder of the runs below --work; one for each number of steps")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=STEPS, help="updates of each run")
    length.add_argument("--minutes", type=float, help="as many updates as TtT makes in this time on this machine")
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp32"), default="auto", help="auto: what the hardware has"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="use so many items of each test only")
    parser.add_argument("--codec", type=Path, default=CODEC)
    parser.add_argument("--out", type=Path, help=f"where all results go as JSON; {OUT} for the repository's own")
    parser.add_argument("--cost", action="store_true", help="only measure what a step costs, once there is data")
    parser.add_argument("--table", action="store_true", help="train nothing, only collect")
    return parser.parse_args(arguments)


def _cost_table(options: argparse.Namespace) -> str:
    """Measure steps of TtT and of the systems by turns; the ratio is the median over steps on the same examples."""
    names = [REFERENCE, *(name for name in options.systems if name != REFERENCE)]
    benchmark = load_benchmark(options.work, options.codec)
    training = TrainingOptions(COST_STEPS + 1, precision=_precision(options), device=options.device)
    systems = [SYSTEMS[name] for name in names]
    seconds = step_costs(systems, benchmark.examples, benchmark.layout.vocabulary, training)
    lines = ["| system | CPU s per step | of TtT |", "|---|---|---|"]
    for system, own in zip(systems, seconds, strict=True):
        ratio = statistics.median(mine / theirs for mine, theirs in zip(own, seconds[0], strict=True))
        lines.append(f"| {system.title} | {statistics.median(own):.2f} | {ratio:.2f}x |")
    return "\n".join(lines)


def _run_all(options: argparse.Namespace) -> None:
    make_speech(options.work)
    encode_speech(options.work, options.codec)
    benchmark = load_benchmark(options.work, options.codec)
    if not (options.work / "floor.json").exists():
        write_json(options.work / "floor.json", codec_floor(benchmark))
    training = TrainingOptions(options.steps, precision=_precision(options), device=options.device)
    if options.minutes is not None:
        training = replace(training, steps=_steps_in(options.minutes, options.work, benchmark, training))
    measuring = {"limit": options.limit, "codec": _fingerprint(options.codec)}
    if options.out:
        restore(options.out, options.work, options.runs, asdict(training) | measuring)
    for seed in options.seeds:
        for name in options.systems:
            folder = options.work / options.runs / f"{name}-{seed}"
            if (folder / RESULT).exists():
                check_options(json.loads((folder / RESULT).read_text()), asdict(training) | measuring, folder)
            else:
                write_json(folder / RESULT, _run(folder, name, seed, benchmark, training, measuring))
                _collect(options)


def _run(
    folder: Path, name: str, seed: int, benchmark: Benchmark, options: TrainingOptions, measuring: dict[str, Any]
) -> dict[str, Any]:
    """Train and measure one system on one seed."""
    system, vocabulary = SYSTEMS[name], benchmark.layout.vocabulary
    if not (folder / MODEL).exists():
        train(folder, system, seed, benchmark.examples, vocabulary, options)
    model = create_model(system, vocabulary, seed).eval()
    training = load_finished(folder, model)
    model.to(options.device)
    began = time.process_time()
    result = {"system": name, "seed": seed, "training": training, **measuring}
    check_options(result, asdict(options), folder)
    limit = measuring["limit"]
    result["measured"] = Measurement(benchmark, system, model, limit=limit).run()
    for other, decoding in OTHER_DECODINGS.get(name, {}).items():
        result[other] = Measurement(benchmark, system, model, decoding, limit).run()
    return result | {"measuring_cpu_seconds": time.process_time() - began}


def _fingerprint(codec: Path) -> str:
    """Identify a codec by its weights: another voice is transcribed differently."""
    return hashlib.sha256((codec / "model.safetensors").read_bytes()).hexdigest()[:12]


def _precision(options: argparse.Namespace) -> str:
    """Use bfloat16 where it is multiplied by the hardware; elsewhere it is slower than float32."""
    if options.precision != "auto":
        return options.precision
    return "bf16" if computes_bfloat16(options.device) else "fp32"


def _steps_in(minutes: float, work: Path, benchmark: Benchmark, options: TrainingOptions) -> int:
    """
    Count the steps that fit; the speed is measured once, so that a resumed run and other systems get the same number.
    """
    path = work / f"speed-{options.device}-{options.precision}.json"
    if not path.exists():
        arguments = (SYSTEMS["ttt"], 0, benchmark.examples, benchmark.layout.vocabulary)
        several = replace(options, steps=PROBE_STEPS)
        with tempfile.TemporaryDirectory() as probe:  # one that was interrupted has measured no speed
            first = train(Path(probe), *arguments, several, stop_after=1)["seconds"]
            seconds = (train(Path(probe), *arguments, several)["seconds"] - first) / (PROBE_STEPS - 1)
        write_json(path, {"seconds_per_step": seconds})
    return max(1, round(60 * minutes / json.loads(path.read_text())["seconds_per_step"]))


if __name__ == "__main__":
    main()
