"""
From the runs' results to one JSON file and one markdown table, with mean and spread over the seeds.

Knows results. Knows no models.
"""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .systems import SYSTEMS

RESULT = "result.json"
SAMPLED_ROW = ("ar-sampled", "AR, ids drawn (top-k 10, top-p 0.95)")
COLUMNS = {  # name in the results -> heading, digits
    "asr_wer": ("ASR WER", 3),
    "qa_exact": ("QA text exact", 3),
    "qa_heard": ("QA heard right", 3),
    "tts_wer": ("TTS WER", 3),
    "tts_keywords": ("TTS keywords", 3),
    "forwards": ("forwards per reply", 1),
    "seconds": ("s per reply", 3),
    "cpu_seconds": ("CPU s per reply", 3),
    "cpu_minutes": ("training, CPU min", 1),
    "tokens": ("tokens", 0),
}


def write_json(path: Path, value: Any) -> None:
    """Write a file under another name and rename it: it is there whole, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def collect(work: Path, runs: str = "runs") -> list[dict[str, Any]]:
    """
    Read the results of all finished runs.

    Args:
        work (`Path`): The folder of the comparison.
        runs (`str`, *optional*, defaults to `"runs"`): Its folder of runs.

    Returns:
        `list[dict]`: By system in the order of the table, then by seed.
    """
    found = [json.loads(path.read_text()) for path in (work / runs).glob(f"*/{RESULT}")]
    order = list(SYSTEMS)
    return sorted(found, key=lambda result: (order.index(result["system"]), result["seed"]))


def restore(collected: Path, work: Path, runs: str, options: dict[str, Any]) -> None:
    """
    Put the results that an earlier machine collected back into the folder of runs, so that they are not made again.

    Args:
        collected (`Path`): The JSON file; nothing happens if it is missing.
        work (`Path`): The folder of the comparison.
        runs (`str`): Its folder of runs.
        options (`dict`): Training options of the runs to come.

    Raises:
        ValueError: The file holds runs with other options, which must not stand in one table with these.
    """
    for result in json.loads(collected.read_text())["runs"] if collected.is_file() else []:
        found = result["training"]["options"]
        if found != options:
            other = ", ".join(f"{name}={found.get(name)}" for name in options if found.get(name) != options[name])
            raise ValueError(
                f"{collected} holds runs with other options ({other}): ask for these, or choose another --out."
            )
        path = work / runs / f"{result['system']}-{result['seed']}" / RESULT
        if not path.exists():
            write_json(path, result)


def spread(values: Sequence[float], digits: int) -> str:
    """
    Write mean and standard deviation over the seeds.

    Args:
        values (`Sequence[float]`): One per seed.
        digits (`int`): After the point.

    Returns:
        `str`: "0.123 ± 0.045", or the value alone if there is only one.
    """
    mean = f"{statistics.mean(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else mean


def markdown_table(results: Sequence[dict[str, Any]], floor: dict[str, float] | None = None) -> str:
    """
    Write the table of the comparison.

    Args:
        results (`Sequence[dict]`): From `collect`: `system`, `seed`, `measured`, `training`, and `sampled` for `ar`.
        floor (`dict`, *optional*): What the codec alone leaves of the test sentences.

    Returns:
        `str`: Markdown; a system without results has no row.
    """
    lines = ["| system | seeds | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, system in SYSTEMS.items():
        runs = [result for result in results if result["system"] == name]
        if runs:
            lines.append(_row(system.title, [_numbers(run, "measured") for run in runs]))
        sampled = [_numbers(run, "sampled") for run in runs if run.get("sampled")]
        if sampled:
            lines.append(_row(SAMPLED_ROW[1], sampled))
    if floor is not None:
        cells = [f"{floor[name]:.{digits}f}" if name in floor else "" for name, (_, digits) in COLUMNS.items()]
        lines.append(f"| the codec alone | | {' | '.join(cells)} |")
    return "\n".join(lines)


def _numbers(run: dict[str, Any], part: str) -> dict[str, float]:
    training = run["training"]
    return run[part] | {"cpu_minutes": training["cpu_seconds"] / 60, "tokens": training["tokens"]}


def _row(title: str, runs: list[dict[str, float]]) -> str:
    cells = [spread([run[name] for run in runs], digits) for name, (_, digits) in COLUMNS.items()]
    return f"| {title} | {len(runs)} | {' | '.join(cells)} |"
