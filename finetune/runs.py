"""
The files that a training run leaves in its folder, and how they are read.

    recipe.yaml     the recipe, as the run was started
    training.json   its result: data, length, time, memory; written when the run is finished
    train.lock      held by the process that trains
    checkpoint-N/   what a run goes on from, written after N updates; complete once it holds whole.json

Depends on no other module of `finetune` but `yaml_files`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .yaml_files import read_yaml

RECIPE_FILE = "recipe.yaml"
RESULT_FILE = "training.json"
LOCK_FILE = "train.lock"
WHOLE = "whole.json"  # of a checkpoint


@dataclass(frozen=True)
class Facts:
    """
    The facts about a run.

    Args:
        training (`dict`): Of `training.json`; empty if the folder has none.
        recipe (`dict`): Of `recipe.yaml`, as written; empty if the folder has none.
        results (`list[dict]`): Of `ttt evaluate`'s `results.json`, those of this model.
    """

    training: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)


def read_facts(folder: Path, results: Path | None = None, label: str | None = None) -> Facts:
    """
    Read what a run left behind.

    Args:
        folder (`Path`): Its `output_dir`.
        results (`Path`, *optional*): A `results.json` of `ttt evaluate`.
        label (`str`, *optional*): Which of the models in it: its label, or its folder as named on the command line; not
            needed if there is only one.

    Returns:
        [`Facts`]

    Raises:
        ValueError: If the results hold nothing of this model, or several models and no label is given.
    """
    training = _read_json(folder / RESULT_FILE) or {}
    path = folder / RECIPE_FILE
    recipe = read_yaml(path) if path.is_file() else {}
    measured = _read_json(results) if results is not None else []
    if results is not None and measured is None:
        raise ValueError(f"{str(results)!r} is not there: it is written by `ttt evaluate --out`.")
    if label is not None:
        measured = [result for result in measured if result["model"] == label]
        if not measured:
            raise ValueError(f"{str(results)!r} holds no results of {label!r}.")
    models = list(dict.fromkeys(result["model"] for result in measured or []))
    if len(models) > 1:
        raise ValueError(f"{str(results)!r} holds several models ({', '.join(models)}): name one of them by --label.")
    return Facts(training, recipe or {}, measured or [])


def newest_checkpoint(folder: Path) -> Path | None:
    """
    Find the checkpoint that a run goes on from, without reading it.

    Args:
        folder (`Path`): Its `output_dir`.

    Returns:
        `Path` or `None`: The newest complete one; `None` if there is none yet.
    """
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{WHOLE}")]
    numbered = {int(number): path for path in whole if (number := path.name.rpartition("-")[2]).isdigit()}
    return numbered[max(numbered)] if numbered else None


def _read_json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: it is no JSON ({error}).") from error
