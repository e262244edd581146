"""
Draws what `decode.py` measured: speed beside quality, and what a batch brings.

    python benchmarks/plot.py benchmarks/results/decode.json docs/assets/decode.svg
"""

import json
import sys
from pathlib import Path
from typing import Any


def plot(results: dict[str, Any], path: Path) -> None:
    """
    Draw the picture.

    Args:
        results (`dict`): What `decode.py --out` writes.
        path (`Path`): Where to; the extension decides between SVG and PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ttt"  # the same numbers give the same file
    from matplotlib import pyplot

    name = results["decoders"][0]["model"]
    threads = results["threads"]  # the first number of them
    own = [row for row in results["decoders"] if row["model"] == name and row.get("threads", threads) == threads]
    decoders = own[::-1]
    batches = results.get("rows", [])
    figure, (speed, rows) = pyplot.subplots(1, 2, figsize=(11, 3.8), width_ratios=(3, 2), layout="constrained")
    bars = speed.barh([row["decoder"] for row in decoders], [row["speed_up"] for row in decoders], color="#4c72b0")
    speed.bar_label(bars, [_label(row) for row in decoders], padding=3, fontsize=8)
    speed.set_xlim(0, 1.35 * max(row["speed_up"] for row in decoders))
    speed.set_xlabel("ids per CPU second, against the published procedure")
    speed.set_title(
        f"{name}, a reply of {results['seconds_of_speech']:g} s, {results['threads']} thread(s)", fontsize=10
    )
    for weights in dict.fromkeys(row["weights"] for row in batches):
        line = [(row["rows"], row["ids_per_cpu_second"]) for row in batches if row["weights"] == weights]
        rows.plot(*zip(*line, strict=True), "o-", label=weights)
    rows.set_xscale("log", base=2)
    sizes = sorted({row["rows"] for row in batches})
    rows.set_xticks(sizes, [str(size) for size in sizes])
    rows.set_ylim(bottom=0)
    rows.set_xlabel("rows of the batch")
    rows.set_ylabel("ids per CPU second")
    rows.set_title("ragged batches", fontsize=10)
    rows.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _label(row: dict[str, Any]) -> str:
    quality = f", WER {row['wer']:.2f}" if "wer" in row else ""
    return f"{row['speed_up']:.1f}x{quality}"


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
