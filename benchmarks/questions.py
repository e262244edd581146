"""
Where the time of a whole spoken question goes, from its waveform to the audio of its answer, on PyTorch and on exports.

    ttt export checkpoints/ttt-nano nano-float32 && ttt export checkpoints/ttt-nano nano-int8 --dtype int8
    OMP_NUM_THREADS=1 python benchmarks/questions.py --exports nano-float32 nano-int8 --out questions.json

The questions in the box, answered by nano as it is shipped. Engines take turns question by question, so that other work
on the machine disturbs all alike; seconds are CPU seconds of the process for all questions, medians of `--repeats`.
"listen" encodes the question, "forwards" are the backbone's, "decoder" is the rest of `generate`, "speak" decodes the
codes. An export in float32 must write PyTorch's token ids.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from decode import table

from modeling_ttt import nano_checkpoint
from processing_ttt import TttTalker

PARTS = ("listen", "forwards", "decoder", "speak", "whole")
COLUMNS = {"engine": "{}", **dict.fromkeys(PARTS, "{:.2f}"), "speed_up": "{:.2f}x", "same_ids": "{}"}


class Timed:
    """
    A talker whose parts are timed.

    Args:
        engine (`str`): `"torch"` or `"onnx"`.
        folder (`Path`): A checkpoint, or its export.
    """

    def __init__(self, engine: str, folder: Path):
        self.talker = TttTalker.from_pretrained(folder, device="cpu", engine=engine)
        self.spent: dict[str, float] = {}
        self.generated: Any = None
        codec, model = self.talker.processor.codec, self.talker.model
        for owner, method, part in (
            (codec, "encode", "listen"),
            (codec, "decode", "speak"),
            (model, "generate", "generate"),
            (model.model, "forward", "forwards"),
        ):
            object.__setattr__(owner, method, self._timed(getattr(owner, method), part))

    def _timed(self, method: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            result = method(*arguments, **options)
            self.spent[part] = self.spent.get(part, 0.0) + time.process_time() - began
            if part == "generate":
                self.generated = result
            return result

        return run

    def answer(self, question: Path) -> list[int]:
        """The token ids of a question and its answer."""
        began = time.process_time()
        self.talker.reply(audio=question)
        self.spent["whole"] = self.spent.get("whole", 0.0) + time.process_time() - began
        return self.generated.tolist()

    def take(self) -> dict[str, float]:
        """The seconds of each part since the last call."""
        spent, self.spent = self.spent, {}
        return spent | {"decoder": spent["generate"] - spent["forwards"]}


def measure(talkers: dict[str, Timed], questions: list[Path], repeats: int) -> list[dict[str, Any]]:
    """A row for each engine; the first round only warms up."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in talkers}
    ids: dict[str, list[list[int]]] = {}
    for number in range(repeats + 1):
        ids = {name: [] for name in talkers}
        for question in questions:
            for name, talker in talkers.items():
                ids[name].append(talker.answer(question))
        for name, talker in talkers.items():
            spent = talker.take()
            if number:
                runs[name].append(spent)
    rows: list[dict[str, Any]] = []
    first = next(iter(talkers))
    for name, several in runs.items():
        row: dict[str, Any] = {part: statistics.median(run[part] for run in several) for part in several[0]}
        rows.append({"engine": name, **row})
        rows[-1]["speed_up"] = rows[0]["whole"] / row["whole"]
        rows[-1]["same_ids"] = sum(own == other for own, other in zip(ids[name], ids[first], strict=True))
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=Path, nargs="+", required=True, help="folders of `ttt export`")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    questions = sorted(
        path for path in (nano_checkpoint() / "questions").glob("*.wav") if not path.stem.endswith("-reply")
    )
    talkers = {"PyTorch": Timed("torch", nano_checkpoint())}
    talkers |= {folder.name: Timed("onnx", folder) for folder in options.exports}
    rows = measure(talkers, questions, options.repeats)
    print(f"{len(questions)} questions, {torch.get_num_threads()} thread(s)\n\n{table(rows, COLUMNS)}")
    for row in rows:
        manifest = [folder / "onnx" / "manifest.json" for folder in options.exports if folder.name == row["engine"]]
        exact = all(json.loads(path.read_text())["dtype"] == "float32" for path in manifest)
        if exact and row["same_ids"] != len(questions):
            raise SystemExit(f"{row['engine']} does not write PyTorch's token ids")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
