"""
Models by name: a checkpoint, an adapter on the checkpoint it was trained from, or an adapter on another one.

    checkpoints/ttt-nano                        a checkpoint, by folder or Hub id
    runs/italian                                an adapter: its base is read from it
    checkpoints/ttt-nano+runs/italian           an adapter on this base

Depends on folders and Hub ids. Independent of data and training.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import file_exists
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from modeling_ttt import TttForConditionalGeneration
from processing_ttt import TttProcessor
from processing_ttt.loading_faults_ttt import faults_named, load_whole

from .lora import merge_adapter, read_adapter_config

ADAPTER_CONFIG = "adapter_config.json"


def split_model_name(name: str) -> tuple[str, str | None]:
    """
    Split a model's name into base and adapter.

    Args:
        name (`str`): See the module's docstring.

    Returns:
        `tuple[str, str | None]`: The base, and the adapter if there is one.

    Raises:
        ValueError: If an adapter does not name its base.
    """
    base, plus, adapter = name.partition("+")
    if plus:
        return base, adapter
    if not is_adapter(name):
        return name, None
    own_base = read_adapter_config(name).base_model_name_or_path
    if not own_base:
        raise ValueError(f"The adapter {name!r} does not state what it was trained from: name it as BASE+{name}.")
    return own_base, name


def base_of(adapters: Iterable[str]) -> str | None:
    """
    Find the model that adapters were trained from.

    Args:
        adapters (`Iterable[str]`): Folders or Hub ids.

    Returns:
        `str` or `None`: Folder or Hub id of the one base; `None` without adapters, or where they name none.

    Raises:
        ValueError: If there is no such adapter, or they were trained from different models.
    """
    bases = {adapter: read_adapter_config(adapter).base_model_name_or_path for adapter in adapters}
    if len(set(bases.values())) > 1:
        listed = ", ".join(f"{adapter} from {base}" for adapter, base in bases.items())
        raise ValueError(f"These adapters were trained from different models ({listed}): choose one with --model.")
    return next(iter(bases.values()), None)


def is_adapter(name: str) -> bool:
    """Ask whether a folder or Hub repository holds an adapter rather than a model."""
    if Path(name).is_dir():
        return (Path(name) / ADAPTER_CONFIG).is_file()
    try:
        return file_exists(name, ADAPTER_CONFIG)
    except (HfHubHTTPError, HFValidationError, OSError):
        return False  # loading it as a model raises what is wrong


def load_model(
    name: str, dtype: torch.dtype | str = "auto", device: str | torch.device | None = None, **kwargs: Any
) -> TttForConditionalGeneration:
    """
    Load a model, an adapter merged into its base.

    Args:
        name (`str`): See the module's docstring.
        dtype (`torch.dtype` or `str`, defaults to `"auto"`): Number format of the weights.
        device (`str`, *optional*): Where it goes.
        kwargs: For `from_pretrained`.

    Returns:
        [`TttForConditionalGeneration`]: In eval mode.
    """
    base, adapter = split_model_name(name)
    model = load_whole(TttForConditionalGeneration, base, dtype=dtype, **kwargs)
    if adapter is not None:
        model = merge_adapter(model, adapter)
    return (model if device is None else model.to(device)).eval()


def load_processor(name: str) -> TttProcessor:
    """Load the processor of a model by the model's name."""
    source = split_model_name(name)[0]
    with faults_named(f"the processor of {source!r}"):
        return TttProcessor.from_pretrained(source, trust_remote_code=False)
