"""
Draws how the systems of the paper comparison learn: quality beside the CPU time of training, from the results of
several lengths.

    python benchmarks/learning_curves.py benchmarks/results/paper_comparison{,_2x,_4x}.json \\
        --systems ar ttt ttt-two-stream --decodings entropy_bound one_step --picture docs/assets/learning_curves.svg

Prints two tables: mean and standard deviation over the seeds of each system at each number of updates, and in other
decodings (`OTHER_ROWS`) if asked for, which the picture leaves out. The time of an update is that of the longest runs
of its system, so that runs of another machine have a place on the axis too.

Depends on results. Independent of models.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.systems import SYSTEMS
from comparison.table import COLUMNS, OTHER_ROWS, spread

ANSWERS = ("asr_wer", "qa_exact", "qa_speech", "forwards")
READING = ("tts_wer", "tts_keywords", "given_text_wer")
HEADINGS = {name: heading for name, (heading, _) in COLUMNS.items()} | {"tts_keywords": "TTS keywords right"}
DRAWN = {"qa_exact": "answers right in text", "qa_speech": "answers right in audio", "tts_wer": "reading aloud, WER"}


@dataclass(frozen=True)
class Point:
    """
    One system after some updates, decoded in one way.

    Args:
        system (`str`): Its title.
        updates (`int`): Of training.
        minutes (`float`): CPU time of so many updates, by the longest runs of the system.
        runs (`list[dict]`): What was measured, one for each seed.
    """

    system: str
    updates: int
    minutes: float
    runs: list[dict[str, Any]]

    def values(self, name: str) -> list[float]:
        """What is known of a number, by seed."""
        return [run[name] for run in self.runs if name in run]


def points(results: Sequence[dict[str, Any]], systems: Sequence[str], decodings: Sequence[str] = ()) -> list[Point]:
    """
    Gather runs by system, decoding and length.

    Args:
        results (`Sequence[dict]`): The runs of all files.
        systems (`Sequence[str]`): Which systems, in this order.
        decodings (`Sequence[str]`, *optional*): Other ways of decoding than a system's own.

    Returns:
        `list[Point]`: By system and decoding, then by updates.
    """
    found = []
    for system in systems:
        own = [run for run in results if run["system"] == system]
        lengths = sorted({run["training"]["steps"] for run in own})
        if not lengths:
            continue
        longest = [run["training"] for run in own if run["training"]["steps"] == lengths[-1]]
        seconds = statistics.mean(training["cpu_seconds"] / training["steps"] for training in longest)
        for part in ("measured", *decodings):
            title = OTHER_ROWS.get(part, SYSTEMS[system].title)
            for updates in lengths:
                measured = [run[part] for run in own if run["training"]["steps"] == updates and part in run]
                found += [Point(title, updates, updates * seconds / 60, measured)] if measured else []
    return found


def table(found: Sequence[Point], shown: Sequence[str]) -> str:
    """Write numbers of the points as markdown: `ANSWERS` with the time of training, or `READING`."""
    headings = " | ".join(HEADINGS[name] for name in shown)
    lines = [f"| system | updates | CPU min | {headings} |", "|---" * (len(shown) + 3) + "|"]
    for point in found:
        digits = {name: 1 if name == "forwards" else 3 for name in shown}
        cells = [spread(values, digits[name]) if (values := point.values(name)) else "" for name in shown]
        lines.append(f"| {point.system} | {point.updates} | {point.minutes:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found: Sequence[Point], path: Path) -> None:
    """
    Draw the curves.

    Args:
        found (`Sequence[Point]`): From `points`.
        path (`Path`): Where to; the extension decides between SVG and PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ttt"  # the same numbers give the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(DRAWN), figsize=(11, 3.4), layout="constrained")
    for panel, (name, title) in zip(panels, DRAWN.items(), strict=True):
        for system in dict.fromkeys(point.system for point in found):
            line = [point for point in found if point.system == system]
            means = [statistics.mean(point.values(name)) for point in line]
            minutes = [point.minutes for point in line]
            (drawn,) = panel.plot(minutes, means, "-", label=system)
            for point in line:
                values = point.values(name)
                panel.plot([point.minutes] * len(values), values, "o", color=drawn.get_color(), markersize=4)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("CPU minutes of training")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of paper_comparison.py, one for each length")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--decodings", nargs="+", choices=list(OTHER_ROWS), default=[])
    parser.add_argument("--picture", type=Path, help="SVG or PNG")
    options = parser.parse_args(arguments)
    results = [run for path in options.results for run in json.loads(path.read_text())["runs"]]
    found = points(results, options.systems, options.decodings)
    print(table(found, ANSWERS), table(found, READING), sep="\n\n")
    if options.picture:
        plot(points(results, options.systems), options.picture)


if __name__ == "__main__":
    main()
