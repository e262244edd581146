"""
Write the small codec as two graphs, for programs that run without PyTorch.

    codec_encoder.onnx: waveform (1, samples) ─► codes (1, samples / samples_per_code)
    codec_decoder.onnx: codes (1, codes) ─► waveform (1, codes * samples_per_code)

Both take any length; for ExecuTorch, up to 29 s. The manifest states the receptive field of the decoder, by which codes
are decoded as they come.

Depends on torch's exporter and on `onnx`: `pip install "text-to-talk[edge]"`; for OpenVINO and ExecuTorch on their
packages instead. Independent of token ids.
"""

import hashlib
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .codec_ttt import TttCodecModel
from .codec_whisper_ttt import TttCodecWhisperEncoder
from .export_codec_program_ttt import run_executorch, run_openvino, write_executorch, write_openvino
from .export_codec_real_ttt import real_codec

NAMES = ("codec_encoder", "codec_decoder")
ENCODER_FILE, DECODER_FILE = (f"{name}.onnx" for name in NAMES)
MAX_CODES = 750  # of a codec without a limit of its own
TOLERANCE = 1e-3  # of samples in [-1, 1]
LEAST_EQUAL = 0.99  # share of equal codes: where two digits are nearly as probable, rounding decides
SMALLEST_ROUNDED = 4096  # values of a weight; smaller ones stay in float32
LENGTHS = (9, 50)  # in codes, of what is compared


def check_codec(codec: TttCodecModel, target: str) -> None:
    """
    Refuse a codec that cannot be exported, before the work.

    Args:
        codec ([`TttCodecModel`]): The codec.
        target (`str`): The runtime.

    Raises:
        ValueError: Its encoder has a Fourier transform for which only ONNX Runtime has an operator.
    """
    if target != "onnx" and not isinstance(codec.encoder, TttCodecWhisperEncoder):
        raise ValueError(
            f"A codec with its own log-mel encoder is exported for ONNX Runtime only: {target} has no operator for its "
            "Fourier transform."
        )


def export_codec(
    codec: TttCodecModel, output: str | os.PathLike, dtype: str = "float32", target: str = "onnx"
) -> dict[str, Any]:
    """
    Write both graphs to a folder, and compare them with the codec.

    Args:
        codec ([`TttCodecModel`]): In float32, on a CPU.
        output (`str` or `os.PathLike`): Existing folder.
        dtype (`str`, *optional*, defaults to `"float32"`): Number format of stored weights: `"float32"`, or `"int8"`
            with a scale for each output channel, for ONNX Runtime. Both compute in float32.
        target (`str`, *optional*, defaults to `"onnx"`): The runtime: `"onnx"`, `"openvino"` or `"executorch"`.

    Returns:
        `dict`: For the manifest: `sampling_rate` in Hz; `samples_per_code`; `decode_context` and `decode_lookahead` in
        codes; `max_segment_frames`, the most codes of one call of the encoder, or `None`; the SHA-256 of the files;
        `equal_codes`, a share, and `max_difference` of samples, which were measured.

    Raises:
        ImportError: The exporter's packages are missing.
        RuntimeError: A float32 graph differs from the codec.
        ValueError: See [`check_codec`].
    """
    check_codec(codec, target)
    folder, config = Path(output), codec.config
    targets: dict[str, tuple[str, Callable[..., None], Callable[..., np.ndarray]]] = {
        "onnx": (".onnx", partial(_write, dtype=dtype), run),
        "openvino": (".xml", write_openvino, run_openvino),
        "executorch": (".pte", write_executorch, run_executorch),
    }
    suffix, write, run_graph = targets[target]
    files = [f"{name}{suffix}" for name in NAMES]
    halves = _halves(codec if target == "onnx" else real_codec(codec))
    noise = torch.randn(1, LENGTHS[1] * config.samples_per_code, generator=torch.Generator().manual_seed(0)) / 10
    codes = torch.arange(LENGTHS[1])[None] * 37 % config.codebook_size
    equal, differences = [], []
    for file, half, own, values in zip(files, halves, _halves(codec), (noise, codes), strict=True):
        step = values.shape[1] // LENGTHS[1]
        longest = step * (config.max_segment_frames or MAX_CODES)
        write(half, values, folder / file, (step, longest))
        for length in LENGTHS:
            given = values[:, : length * step]
            expected, got = own(given), torch.from_numpy(run_graph(folder / file, given.numpy()))
            if file == files[0]:
                equal.append((expected == got).float().mean())
            else:
                differences.append((expected - got).abs().max())
    part = {
        "sampling_rate": config.sampling_rate,
        "samples_per_code": config.samples_per_code,
        "decode_context": config.decode_context,
        "decode_lookahead": config.decode_lookahead,
        "max_segment_frames": config.max_segment_frames,
        "sha256": {path.name: _sha256(path) for path in sorted(folder.glob("codec_*"))},
        "equal_codes": round(float(torch.stack(equal).mean()), 4),
        "max_difference": float(torch.stack(differences).max()),
    }
    if dtype == "float32" and (part["equal_codes"] < LEAST_EQUAL or not part["max_difference"] <= TOLERANCE):
        raise RuntimeError(
            f"The codec's graphs differ from the codec ({part['equal_codes']:.0%} of the codes are equal, samples "
            f"differ by {part['max_difference']:.2g}): they must not be used. Other versions of torch or of the "
            "exporter's packages may export them right."
        )
    return part


def run(graph: str | os.PathLike, values: np.ndarray) -> np.ndarray:
    """
    Run a graph of one input and one output on ONNX Runtime.

    Args:
        graph (`str` or `os.PathLike`): The file.
        values (`np.ndarray`): Its input.

    Returns:
        `np.ndarray`: Its output.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(graph), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]


class _Encoder(nn.Module):
    input_name, output_name = "waveform", "codes"

    def __init__(self, codec: TttCodecModel):
        super().__init__()
        self.codec = codec

    @torch.no_grad()
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """`(1, samples)`, a multiple of `samples_per_code`, -> `(1, codes)`."""
        num_codes = waveform.shape[1] // self.codec.config.samples_per_code
        row_frames = torch.ones(1, dtype=torch.long) * num_codes
        bins = self.codec.encoder.bins(self.codec.standard_level(waveform), row_frames)
        return self.codec.quantizer.codes(bins)


class _Decoder(nn.Module):
    input_name, output_name = "codes", "waveform"

    def __init__(self, codec: TttCodecModel):
        super().__init__()
        self.codec = codec

    @torch.no_grad()
    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """`(1, codes)` -> `(1, codes * samples_per_code)`."""
        return self.codec.vocoder(self.codec.decoder(self.codec.quantizer.from_codes(codes))).clamp(-1.0, 1.0)


def _halves(codec: TttCodecModel) -> tuple[nn.Module, nn.Module]:
    return _Encoder(codec).eval(), _Decoder(codec).eval()


def _write(half: nn.Module, values: torch.Tensor, path: Path, lengths: tuple[int, int], dtype: str) -> None:
    program = torch.onnx.export(
        half,
        (values,),
        dynamo=True,
        input_names=[str(half.input_name)],
        output_names=[str(half.output_name)],
        dynamic_shapes=({1: torch.export.Dim.AUTO},),
        verbose=False,
    )
    assert program is not None
    graph = program.model_proto
    for node in graph.graph.node:
        node.ClearField("metadata_props")  # where in the source it came from: more than a small codec's weights
    if dtype == "int8":
        _round_weights(graph.graph)
    path.write_bytes(graph.SerializeToString())


def _round_weights(graph: Any) -> None:
    """Store the matrices and kernels of a graph in 8 bits, by output channel; a runtime restores them at loading."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    used = {node.input[1]: node.op_type for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")}
    for name, operation in used.items():
        if name not in weights or math.prod(weights[name].dims) < SMALLEST_ROUNDED:
            continue
        values = numpy_helper.to_array(weights[name])
        axis = 0 if operation == "Conv" else values.ndim - 1
        others = tuple(number for number in range(values.ndim) if number != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, np.finfo(np.float32).tiny)
        rounded = np.rint(values / scale).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.append(numpy_helper.from_array(rounded, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
        graph.node.insert(0, helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name]))
        graph.node.insert(0, helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], to=TensorProto.FLOAT))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


__all__ = ["DECODER_FILE", "ENCODER_FILE", "check_codec", "export_codec", "run"]
