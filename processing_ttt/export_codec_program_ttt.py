"""
Write a half of the small codec as a program of OpenVINO or ExecuTorch, and run it.

Depends on `openvino` or `executorch`. Independent of what the halves compute.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn


def write_openvino(half: nn.Module, values: torch.Tensor, path: Path, lengths: tuple[int, int]) -> None:
    """
    Write a half of the codec for OpenVINO.

    Args:
        half (`nn.Module`): Takes one tensor.
        values (`torch.Tensor` of shape `(1, length)`): Its input.
        path (`Path`): The file, `.xml`; weights are beside it, `.bin`.
        lengths (`tuple[int, int]`): Bounds of the length, which OpenVINO does not need.

    Raises:
        ImportError: `openvino` is not installed.
    """
    import openvino

    model = openvino.convert_model(torch.export.export(half, (values,), dynamic_shapes=({1: torch.export.Dim.AUTO},)))
    openvino.save_model(model, path, compress_to_fp16=False)


def write_executorch(half: nn.Module, values: torch.Tensor, path: Path, lengths: tuple[int, int]) -> None:
    """
    Write a half of the codec for ExecuTorch, lowered to XNNPACK.

    Args:
        half (`nn.Module`): Takes one tensor.
        values (`torch.Tensor` of shape `(1, length)`): Its input.
        path (`Path`): The file, `.pte`.
        lengths (`tuple[int, int]`): Bounds of the length; memory is planned for the longest.

    Raises:
        ImportError: `executorch` is not installed.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    length = torch.export.Dim.AUTO(min=lengths[0], max=lengths[1])
    program = torch.export.export(half, (values,), dynamic_shapes=({1: length},))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    with path.open("wb") as file:
        lowered.to_executorch().write_to_file(file)


def run_openvino(path: str | os.PathLike, values: np.ndarray) -> np.ndarray:
    """
    Run a graph of one input and one output on OpenVINO, in float32.

    Args:
        path (`str` or `os.PathLike`): The file.
        values (`np.ndarray`): Its input.

    Returns:
        `np.ndarray`: Its output.
    """
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(os.fspath(path), "CPU", options)(values)[0]


def run_executorch(path: str | os.PathLike, values: np.ndarray) -> np.ndarray:
    """
    Run a program of one input and one output on ExecuTorch.

    Args:
        path (`str` or `os.PathLike`): The file.
        values (`np.ndarray`): Its input.

    Returns:
        `np.ndarray`: Its output.
    """
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(Path(path)).load_method("forward")
    return method.execute([torch.from_numpy(values).contiguous()])[0].numpy()


__all__ = ["run_executorch", "run_openvino", "write_executorch", "write_openvino"]
