"""
How many tokens each example of a run has, which decides how examples are packed: counted once and cached in the run's
folder, because counting takes a millisecond an example, a quarter of an hour for a million.

Depends on examples and files. Independent of recipes and records.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.progress import progress_bar

from .collate import Example
from .mixture import MixedExamples

_AT_ONCE = 64


class _Lengths(torch.utils.data.Dataset):
    def __init__(self, examples: MixedExamples, measured: Callable[[Example], int] | None):
        self.examples = examples
        self.measured = measured

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, position: int) -> int:
        example = self.examples[position]
        return self.measured(example) if self.measured else len(example["input_ids"])


def count_lengths(
    examples: MixedExamples,
    measured: Callable[[Example], int] | None,
    folder: Path,
    settings: dict[str, Any],
    num_workers: int = 0,
) -> list[int]:
    """
    Count the tokens of every example, or read what was counted for the same data and settings.

    Args:
        examples ([`MixedExamples`]): The examples of a run.
        measured (`Callable`, *optional*): Gives the tokens of an example, where it may become longer.
        folder (`Path`): Where counts are cached.
        settings (`dict`): Everything that decides how examples are made of the data.
        num_workers (`int`, defaults to 0): Processes that count; 0 is this one.

    Returns:
        `list[int]`: By position.
    """
    path = folder / f"lengths-{_identity(examples, settings)}.npy"
    with contextlib.suppress(OSError, EOFError, ValueError):  # not there, or not whole
        return np.load(path, allow_pickle=False).tolist()
    batches = torch.utils.data.DataLoader(
        _Lengths(examples, measured), batch_size=_AT_ONCE, num_workers=num_workers, collate_fn=list
    )
    lengths: list[int] = []
    with progress_bar(total=len(examples), desc="examples", leave=False) as progress:
        for batch in batches:
            lengths += batch
            progress.update(len(batch))
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # several processes count the same
    with unfinished.open("wb") as file:
        np.save(file, np.asarray(lengths, np.int32))
    os.replace(unfinished, path)
    return lengths


def _identity(examples: MixedExamples, settings: dict[str, Any]) -> str:
    """Hash of the settings and of the data's files, names, sizes and times."""
    sources = []
    for source in examples.sources:
        files = [(file["filename"], os.stat(file["filename"])) for file in source.dataset.cache_files]
        sources.append((source.task, len(source.indices), [(name, at.st_size, at.st_mtime_ns) for name, at in files]))
    return hashlib.sha256(json.dumps([sources, settings]).encode()).hexdigest()[:16]
