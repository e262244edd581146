"""
Which checkpoint a run resumes from: the last complete one that is whole.

A process may be killed at any moment, also while it writes. So a checkpoint counts as complete from the moment it holds
a small marker file, which also records its files with their sizes, the data, and how long the run has taken so far.
Depends on folders. Independent of models.
"""

import json
import logging
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from finetune.data.schema import replace_text
from finetune.hardware import peak_memory
from finetune.runs import WHOLE

logger = logging.getLogger(__name__)


def last_complete_checkpoint(folder: Path) -> Path | None:
    """
    Find the checkpoint to resume from, and remove incomplete ones.

    Args:
        folder (`Path`): A run's `output_dir`.

    Returns:
        `Path` or `None`: The newest complete checkpoint that is whole; `None` if there is no complete one.

    Raises:
        ValueError: If there are complete ones, and each is damaged.
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
    for _, path in sorted(found, reverse=True):
        fault = fault_of(path)
        if fault is None:
            return path
        logger.warning("%s is not used: %s.", path, fault)
    if found:
        raise ValueError(
            f"No checkpoint in {str(folder)!r} is whole (the newest: {fault_of(max(found)[1])}): bring the files back, "
            "or train in another output_dir."
        )
    return None


def fault_of(checkpoint: Path) -> str | None:
    """
    Read a complete checkpoint's files, to find one that is missing, cut or changed.

    Args:
        checkpoint (`Path`): Its folder.

    Returns:
        `str` or `None`: What is wrong with which file; `None` for a whole checkpoint.
    """
    try:
        sizes = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8")).get("files", {})
    except (ValueError, AttributeError):
        return f"{WHOLE} is damaged"
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if not _is_readable(file):
            return f"{name} is damaged"
    return None


def _is_readable(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, "pt"):
                return True
        elif file.suffix in (".pt", ".pth"):
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    except (ValueError, SafetensorError, zipfile.BadZipFile):
        return False
    return True


def check_same_data(checkpoint: Path, fingerprint: str) -> None:
    """
    Refuse data other than those that a run began with.

    Args:
        checkpoint (`Path`): The one to resume from.
        fingerprint (`str`): Of the data that are there now.

    Raises:
        ValueError: If they differ from those of the checkpoint.
    """
    before = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8")).get("data", fingerprint)
    if before != fingerprint:
        raise ValueError(
            f"The training data changed since {str(checkpoint)!r} was written: bring the old data back, or train in "
            "another output_dir."
        )


class CheckpointMarker(TrainerCallback):
    """
    Marks each checkpoint as complete once all of it is written, with seconds and peak memory of the run so far.

    Args:
        resumed_from (`Path`, *optional*): The checkpoint that the run resumes from.
        fingerprint (`str`, *optional*): Of the run's data.
    """

    def __init__(self, resumed_from: Path | None = None, fingerprint: str = ""):
        self.fingerprint = fingerprint
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
            files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
            replace_text(folder / WHOLE, json.dumps({**self.spent(), "data": self.fingerprint, "files": files}) + "\n")
