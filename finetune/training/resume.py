"""
Which checkpoint a run resumes from: the last complete one.

A process may be killed at any moment, also while it writes. So a checkpoint counts as complete from the moment it holds
a small marker file, which also records how long the run has taken so far. Depends on folders. Independent of models.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from finetune.data.schema import replace_text
from finetune.hardware import peak_memory

WHOLE = "whole.json"


def last_complete_checkpoint(folder: Path) -> Path | None:
    """
    Find the checkpoint to resume from, and remove incomplete ones.

    Args:
        folder (`Path`): A run's `output_dir`.

    Returns:
        `Path` or `None`: The newest complete checkpoint, if there is one.
    """
    found = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.rpartition("-")[2]
        if not step.isdigit():
            continue
        if (path / WHOLE).is_file():
            found.append((int(step), path))
        else:
            shutil.rmtree(path, ignore_errors=True)  # several processes may be at it
    return max(found)[1] if found else None


class CheckpointMarker(TrainerCallback):
    """
    Marks each checkpoint as complete once all of it is written, with seconds and peak memory of the run so far.

    Args:
        resumed_from (`Path`, *optional*): The checkpoint that the run resumes from.
    """

    def __init__(self, resumed_from: Path | None = None):
        before = json.loads((resumed_from / WHOLE).read_text()) if resumed_from is not None else {}
        self.seconds_before = before.get("seconds", 0.0)
        self.cpu_before = before.get("cpu_seconds", 0.0)
        self.peak_before = before.get("peak_memory_bytes", 0)
        self.start = time.perf_counter()
        self.cpu_start = time.process_time()

    def spent(self) -> dict[str, Any]:
        """Seconds on the clock and of this process on the CPU, and peak memory, over all segments of the run."""
        return {
            "seconds": round(self.seconds_before + time.perf_counter() - self.start, 1),
            "cpu_seconds": round(self.cpu_before + time.process_time() - self.cpu_start, 1),
            "peak_memory_bytes": max(self.peak_before, peak_memory()),
        }

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when the Trainer has written everything."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            replace_text(folder / WHOLE, json.dumps(self.spent()) + "\n")
