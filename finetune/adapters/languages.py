"""
The languages that an adapter was trained in, and the system prompt that asks it for one.

    folder or Hub id ── training.json, recipe.yaml ──► [`AdapterLanguages`] ── task, tag ──► "... Language: it."

Depends on the files of `finetune.runs`. Independent of models and of PEFT.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from finetune.runs import RECIPE_FILE, RESULT_FILE
from processing_ttt import TttProcessor
from processing_ttt.tasks_ttt import DEFAULT_LANGUAGE, system_prompt


@dataclass(frozen=True)
class AdapterLanguages:
    """
    Languages of an adapter.

    Args:
        tags (`tuple[str, ...]`): As its data had them; none if they were not recorded.
        default (`str`, *optional*): The one whose prompts had no tag; `DEFAULT_LANGUAGE` of the tasks if not given.
    """

    tags: tuple[str, ...] = ()
    default: str | None = None

    def system_prompt(self, task: str, processor: TttProcessor, wanted: str | None = None) -> str | None:
        """
        Write the system prompt that the adapter was trained with.

        Args:
            task (`str`): One of `processing_ttt.TASKS`.
            processor ([`TttProcessor`]): Its `system_prompts` go before those of the tasks.
            wanted (`str`, *optional*): Tag of a language; one that the adapter does not have counts as none.

        Returns:
            `str` or `None`: In the wanted language, or else in the only one; `None`, the processor's own prompt, if
            there are none or several.
        """
        language = wanted if wanted in self.tags else self.tags[0] if len(self.tags) == 1 else None
        if language is None:
            return None
        return system_prompt(task, language, processor.system_prompts, self.default or DEFAULT_LANGUAGE)


def read_languages(source: str) -> AdapterLanguages:
    """
    Read the languages of an adapter.

    Args:
        source (`str`): Its folder or Hub id.

    Returns:
        [`AdapterLanguages`]: Without tags where the adapter comes without `training.json`, as one that others trained
        may.
    """
    training, recipe = _read(source, RESULT_FILE), _read(source, RECIPE_FILE)
    tags = training.get("languages")
    return AdapterLanguages(tuple(map(str, tags)) if isinstance(tags, list) else (), recipe.get("default_language"))


def _read(source: str, name: str) -> dict[str, Any]:
    """Read a file of an adapter, JSON or YAML; nothing where it is not there, or is not what `finetune` writes."""
    try:
        path = Path(source) / name if Path(source).is_dir() else Path(hf_hub_download(source, name))
        text = path.read_text(encoding="utf-8")
        read = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError, yaml.YAMLError):
        return {}
    return read if isinstance(read, dict) else {}
