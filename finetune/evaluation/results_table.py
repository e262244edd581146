"""
Results of an evaluation as a table and plots.

Depends on names and numbers alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FEWER_IS_BETTER = ("wer", "cer", "raw_wer", "raw_cer")
NOT_IN_THE_TABLE = ("model", "data", "task", "threads", "peak_memory_bytes")


def write_report(results: Sequence[dict[str, Any]], folder: Path) -> None:
    """
    Write `results.md`, and a plot of each task where matplotlib is installed.

    Args:
        results (`Sequence[dict]`): From `evaluate`.
        folder (`Path`): Where they go.
    """
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    for task in dict.fromkeys(result["task"] for result in results):
        _plot([result for result in results if result["task"] == task], folder / f"{task}.png")


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Write a table of everything that was measured for each task."""
    parts = []
    for task in dict.fromkeys(result["task"] for result in results):
        chosen = [result for result in results if result["task"] == task]
        columns = [
            name for name in dict.fromkeys(name for result in chosen for name in result) if name not in NOT_IN_THE_TABLE
        ]
        lines = [
            "| model | data | " + " | ".join(column.replace("_", " ") for column in columns) + " |",
            "|---" * (2 + len(columns)) + "|",
            *(
                f"| {result['model']} | {result['data']} | "
                + " | ".join(_cell(result.get(column)) for column in columns)
                + " |"
                for result in chosen
            ),
        ]
        parts.append(f"## {task}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw bars of the error rates, or of the share of right answers, by model and set."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    names = [
        name
        for name in dict.fromkeys(name for result in results for name in result)
        if name in FEWER_IS_BETTER[:2] or name.startswith(("cer (", "right ("))
    ]
    if not names:
        return
    figure = Figure(figsize=(1.5 + 1.2 * len(results) * max(1, len(names) // 2), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for offset, name in enumerate(names):
        values = [result.get(name) or 0.0 for result in results]
        bars = axes.bar([i + offset * width for i in range(len(results))], values, width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    labels = [f"{result['model']}\n{result['data']}" for result in results]
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(results))], labels, fontsize=8)
    axes.set_title(results[0]["task"])
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
