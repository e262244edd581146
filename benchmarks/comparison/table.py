"""
From the runs' results to one JSON file and two markdown tables: mean and spread over the seeds, and differences to
TtT on the same seeds.

Depends on results. Independent of models.
"""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .systems import SYSTEMS

RESULT = "result.json"
OTHER_ROWS = {
    "sampled": "AR, sampled (top-k 10, top-p 0.95)",
    "calibrated": "TtT, one code per step, calibrated",
    "blocks_of_8": "TtT, in blocks of 8",
    "entropy_bound": "TtT, two streams, entropy bound of 3 nats",
    "four_steps": "TtT, two streams, 4 steps for a block",
    "two_steps": "TtT, two streams, 2 steps for a block",
    "one_step": "TtT, two streams, 1 step for a block",
}
REFERENCE = "ttt"
OWN_REFERENCE = {"ttt-block-8": "blocks_of_8"}  # compared with TtT decoded so as well
COLUMNS = {  # name in the results -> heading, digits
    "asr_wer": ("ASR WER", 3),
    "qa_exact": ("QA text right", 3),
    "qa_speech": ("QA audio right", 3),
    "tts_wer": ("TTS WER", 3),
    "given_text_wer": ("TTS WER, text given", 3),
    "seconds_too_long": ("too long, s", 2),
    "finished": ("replies that end", 3),
    "forwards": ("forwards per reply", 1),
    "seconds": ("s per reply", 3),
    "cpu_seconds": ("CPU s per reply", 3),
    "cpu_minutes": ("training, CPU min", 1),
    "tokens": ("tokens, before cuts", 0),
}
MEASURED_WITH = ("limit", "codec")  # how many items of each test, and which codec's voice
COMPARED = ("asr_wer", "qa_exact", "qa_speech", "tts_wer", "seconds_too_long", "forwards")


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
    return sorted(found, key=_place)


def merge(results: Sequence[dict[str, Any]], floor: dict | None, collected: Path) -> dict[str, Any]:
    """
    Put what is finished beside what a file holds already, so that a file never loses a run.

    Args:
        results (`Sequence[dict]`): From `collect`; they go before the file's.
        floor (`dict`, *optional*): From `codec_floor`.
        collected (`Path`): The JSON file, which may be missing.

    Returns:
        `dict`: `floor` and `runs`, as the file should be.
    """
    known = json.loads(collected.read_text()) if collected.is_file() else {"floor": None, "runs": []}
    runs = {(result["system"], result["seed"]): result for result in (*known["runs"], *results)}
    return {"floor": floor or known["floor"], "runs": sorted(runs.values(), key=_place)}


def _place(result: dict[str, Any]) -> tuple[int, int]:
    """By system in the order of the table, then by seed."""
    return list(SYSTEMS).index(result["system"]), result["seed"]


def check_options(result: dict[str, Any], options: dict[str, Any], where: Path) -> None:
    """
    Refuse a result that is not comparable with those to come.

    Args:
        result (`dict`): A finished run.
        options (`dict`): Of the runs to come: those of the training, and how it is measured (`MEASURED_WITH`).
        where (`Path`): Holds the result.

    Raises:
        ValueError: It was trained or measured with other options.
    """
    found = result["training"]["options"] | {name: result.get(name) for name in MEASURED_WITH}
    other = ", ".join(f"{name}={found.get(name)}" for name in options if found.get(name) != options[name])
    if other:
        raise ValueError(f"{where} holds runs with other options ({other}): ask for these, or choose another place.")


def restore(collected: Path, work: Path, runs: str, options: dict[str, Any]) -> None:
    """
    Put the results that an earlier machine collected back into the folder of runs, so that they are not made again.

    Args:
        collected (`Path`): The JSON file; nothing happens if it is missing.
        work (`Path`): The folder of the comparison.
        runs (`str`): Its folder of runs.
        options (`dict`): Of the runs to come, as for `check_options`.

    Raises:
        ValueError: The file holds runs with other options, which are not comparable with these.
    """
    for result in json.loads(collected.read_text())["runs"] if collected.is_file() else []:
        check_options(result, options, collected)
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


def markdown_table(results: Sequence[dict[str, Any]], floor: dict[str, Any] | None = None) -> str:
    """
    Write the table of the comparison.

    Args:
        results (`Sequence[dict]`): From `collect`: `system`, `seed`, `measured`, `training`, and perhaps another
            decoding (`OTHER_ROWS`).
        floor (`dict`, *optional*): What the codec alone leaves of the test sentences, and what other sentences' audio
            is transcribed as (`unrelated`).

    Returns:
        `str`: Markdown; a system without results has no row.
    """
    lines = ["| system | seeds | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, system in SYSTEMS.items():
        runs = [result for result in results if result["system"] == name]
        if runs:
            lines.append(_row(system.title, [_numbers(run, "measured") for run in runs]))
        for other, title in OTHER_ROWS.items():
            decoded = [_numbers(run, other) for run in runs if run.get(other)]
            if decoded:
                lines.append(_row(title, decoded))
    if floor is not None:
        lines.append(_floor_row("the codec alone", floor))
        lines.append(_floor_row("the codec, unrelated sentences", floor.get("unrelated", {})))
    return "\n".join(lines)


def paired_table(results: Sequence[dict[str, Any]]) -> str:
    """
    Write each system minus TtT on the same seed: their weights and the order of their examples began alike.

    Args:
        results (`Sequence[dict]`): As for `markdown_table`.

    Returns:
        `str`: Markdown; the mean over the seeds that both have, and the least and the most. Last come the systems
        that are decoded in a way of their
            own, minus TtT decoded so (`OWN_REFERENCE`).
    """
    headings = [COLUMNS[name][0] for name in COMPARED]
    lines = [
        f"| minus {SYSTEMS[REFERENCE].title} | seeds | {' | '.join(headings)} |",
        "|---" * (len(COMPARED) + 2) + "|",
    ]
    measured = {name: _by_seed(results, name, "measured") for name in SYSTEMS}
    reference = measured.pop(REFERENCE)
    compared = [(SYSTEMS[name].title, runs, reference) for name, runs in measured.items()]
    compared += [
        (title, _by_seed(results, name, part), reference) for part, title in OTHER_ROWS.items() for name in SYSTEMS
    ]
    compared += [
        (f"{SYSTEMS[name].title}, minus {OTHER_ROWS[part]}", measured[name], _by_seed(results, REFERENCE, part))
        for name, part in OWN_REFERENCE.items()
    ]
    for title, runs, others in compared:
        seeds = sorted(runs.keys() & others.keys())
        if seeds:
            cells = [
                _differences([runs[s][name] - others[s][name] for s in seeds], COLUMNS[name][1]) for name in COMPARED
            ]
            lines.append(f"| {title} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_seed(results: Sequence[dict[str, Any]], system: str, part: str) -> dict[int, dict[str, float]]:
    return {run["seed"]: run[part] for run in results if run["system"] == system and part in run}


def _differences(values: Sequence[float], digits: int) -> str:
    mean, least, most = (f"{value:+.{digits}f}" for value in (statistics.mean(values), min(values), max(values)))
    return f"{mean} ({least} to {most})" if len(values) > 1 else mean


def _floor_row(title: str, floor: dict[str, Any]) -> str:
    cells = [f"{floor[name]:.{digits}f}" if name in floor else "" for name, (_, digits) in COLUMNS.items()]
    return f"| {title} | | {' | '.join(cells)} |"


def _numbers(run: dict[str, Any], part: str) -> dict[str, float]:
    training = run["training"]
    return run[part] | {"cpu_minutes": training["cpu_seconds"] / 60, "tokens": training["tokens"]}


def _row(title: str, runs: list[dict[str, float]]) -> str:
    measured = {name: [run[name] for run in runs if name in run] for name in COLUMNS}
    cells = [spread(measured[name], digits) if measured[name] else "" for name, (_, digits) in COLUMNS.items()]
    return f"| {title} | {len(runs)} | {' | '.join(cells)} |"
