"""
Load models from folders and Hub repositories, or name in one sentence what is wrong with their files.

transformers gives missing weights random values, follows an index of weights to any file, and lets a damaged file fail
in whatever way it does. Depends on transformers' loading. Independent of which model is loaded.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME


class DamagedCheckpointError(OSError):
    """Why the files of a checkpoint cannot be used."""


@contextmanager
def faults_named(what: str, way_out: str = "") -> Iterator[None]:
    """
    Turn the errors of a damaged file into a `DamagedCheckpointError` of one sentence.

    Args:
        what (`str`): What is loaded, with its name: `the codec 'my-codec'`.
        way_out (`str`, *optional*): What to do if a file is missing or the name is wrong; without it, such an error
            of transformers is raised as it is.

    Raises:
        DamagedCheckpointError: For weights that are damaged, and for any error that does not explain itself.
        ValueError: If code of the checkpoint would have to run.
    """
    try:
        yield
    except SafetensorError as error:
        raise DamagedCheckpointError(
            f"The weights of {what} are damaged, or Git LFS pointers instead of the files ({error}): download them "
            "again."
        ) from error
    except (DamagedCheckpointError, ImportError, torch.OutOfMemoryError):
        raise
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{_capitalised(what)} needs Python code of its own, which is not run: load it in Python with "
                "`trust_remote_code=True` once you have read that code and trust it."
            ) from error
        if isinstance(error, ValueError) and "\n" in str(error).strip():  # transformers explains itself at length
            way_out = way_out or "one of its files is missing, damaged or of another kind of model."
        if not way_out:
            raise
        raise OSError(f"{_capitalised(what)} cannot be loaded ({_first_line(error)}): {way_out}") from error
    except Exception as error:  # a file with other content than expected fails wherever it is used first
        cause = error.__cause__ or error  # a strict configuration wraps what is wrong with it
        raise DamagedCheckpointError(
            f"{_capitalised(what)} cannot be loaded ({type(cause).__name__}: {_first_line(cause)}): one of its files "
            "is damaged or of another kind of model."
        ) from error


def _capitalised(what: str) -> str:
    return what[0].upper() + what[1:]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


def load_whole(model_class: Any, source: str | os.PathLike, **kwargs: Any) -> Any:
    """
    Load a model all of whose weights are in its files.

    Args:
        model_class: A class or Auto class with `from_pretrained`.
        source (`str` or `os.PathLike`): Folder or Hub id.
        kwargs: For `from_pretrained`. Code of the checkpoint runs only with `trust_remote_code=True`.

    Returns:
        The model.

    Raises:
        DamagedCheckpointError: If a file is damaged or outside of the folder, or weights are missing, NaN or infinite.
    """
    source = os.fspath(source)
    kwargs.setdefault("trust_remote_code", False)  # by default transformers asks on standard input
    with faults_named(repr(source)):
        check_weight_files(os.path.join(source, kwargs.get("subfolder", "")))
        with _BoundedSize(source, Path(source, kwargs.get("subfolder", ""))):
            model, found = model_class.from_pretrained(source, output_loading_info=True, **kwargs)
    if missing := sorted(found["missing_keys"]):
        raise DamagedCheckpointError(
            f"The weights of {source!r} lack {len(missing)} tensors, {missing[0]} among them: download the checkpoint "
            "again, or convert it again."
        )
    check_finite(dict(model.named_parameters()), source)
    return model


def check_weight_files(folder: str | os.PathLike) -> None:
    """
    Refuse an index of weights that leads out of its folder.

    Args:
        folder (`str` or `os.PathLike`): A checkpoint's folder; anything else passes.

    Raises:
        DamagedCheckpointError: If the index is damaged or names a file that is not directly in the folder.
    """
    index = Path(folder) / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        return
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(
            f"{str(index)!r} is damaged: it has no `weight_map` of tensors and files."
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise DamagedCheckpointError(
                f"{str(index)!r} names the file {name!r}: weights must be in the folder of their index."
            )


class _BoundedSize(TorchFunctionMode):
    """
    Refuse a configuration that needs far more weights than a folder has, before memory is filled for them.

    transformers makes all tensors on the meta device before it reads a file; their values are counted here.

    Args:
        source (`str`): Folder or Hub id, for the error.
        folder (`Path`): Where the weights are, if it is a folder.
    """

    def __init__(self, source: str, folder: Path):
        super().__init__()
        self.source = source
        self.num_values = self.most_values = 0
        for file in folder.glob("*.safetensors"):
            with safe_open(file, framework="pt"):  # raises if it is damaged, or a Git LFS pointer
                # A quantized weight has at least four bits, and its layer is made twice: whole, then quantized.
                self.most_values += 4 * file.stat().st_size

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and made.is_meta and self.most_values:
            self.num_values += made.numel()
            if self.num_values > self.most_values:
                raise DamagedCheckpointError(
                    f"The configuration of {self.source!r} needs more weights than its files can hold, "
                    f"{self.most_values} at most: download the checkpoint again, or convert it again."
                )
        return made


def check_finite(weights: dict[str, torch.Tensor], source: str) -> None:
    """
    Refuse weights with a value that is no number.

    Args:
        weights (`dict[str, torch.Tensor]`): Tensors by name; those that are quantized or on no device pass.
        source (`str`): Where they come from, for the error.

    Raises:
        DamagedCheckpointError: Naming the first tensor that has NaN or infinite values.
    """
    for name, tensor in weights.items():
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta
        if not is_plain or not tensor.is_floating_point() or tensor.itemsize < 2 or not tensor.numel():
            continue
        if not all(torch.isfinite(bound) for bound in torch.aminmax(tensor.detach())):  # NaN spreads to both bounds
            raise DamagedCheckpointError(
                f"The weights of {source!r} are not all numbers: {name} has NaN or infinite values. Its training "
                "diverged, or the file is damaged; take an earlier checkpoint, or download it again."
            )


def check_adapter(model: Any, name: str, source: str | os.PathLike) -> None:
    """
    Check that all weights of an adapter came from its files: PEFT leaves those that are missing as they begin.

    Args:
        model (`PeftModel`): With the adapter loaded.
        name (`str`): The adapter's name there.
        source (`str` or `os.PathLike`): Its folder or Hub id.

    Raises:
        DamagedCheckpointError: If weights are missing, NaN or infinite.
    """
    from peft import get_peft_model_state_dict
    from peft.utils import load_peft_weights

    source = os.fspath(source)
    stored = load_peft_weights(source, device="cpu")
    expected = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    if missing := sorted(expected.keys() - stored.keys()):
        raise DamagedCheckpointError(
            f"The adapter {source!r} lacks {len(missing)} of the {len(expected)} tensors that it has on this model, "
            f"{missing[0]} among them: it belongs to another model, or its file is incomplete."
        )
    check_finite(stored, source)


__all__ = [
    "DamagedCheckpointError",
    "check_adapter",
    "check_finite",
    "check_weight_files",
    "faults_named",
    "load_whole",
]
