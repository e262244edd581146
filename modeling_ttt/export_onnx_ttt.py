"""
Write a model as an ONNX graph that `onnx_ttt` runs: one forward pass, for text and for blocks, at any cached length.

    input_ids, attention_mask (4-D), position_ids, past_keys.0, ... ─► logits, present_keys.0, ...

Depends on transformers' exporter, `onnx` and `onnxscript`: `pip install "text-to-talk[edge]"`. Independent of text and
waveforms.
"""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from .export_inputs_ttt import check_exportable, compare, dynamic_shapes, example_inputs
from .export_manifest_ttt import MANIFEST_FILE, file_sha256
from .export_rewrites_ttt import rewrite
from .modeling_ttt import TttForConditionalGeneration
from .onnx_ttt import DATA_FILE, GRAPH_FILE, ONNX_FOLDER, TttOnnxForConditionalGeneration

DTYPES = ("float32", "int8")
OPSET = 23  # the first with operators for attention, normalization and rotary positions: half as many operations
TOLERANCE = 1e-3  # of float32 logits, whose size is about 10
MODEL_FIELDS = ("vocab_size", "audio_token_start_id", "audio_code_offset", "audio_codebook_size", "mask_token_id")
_STATE = re.compile(r"^(input|output)\..*layers\.(\d+)\.(keys|values)$")


def export_onnx(
    model: TttForConditionalGeneration, output: str | os.PathLike, dtype: str = "float32"
) -> dict[str, Any]:
    """
    Write `onnx/model.onnx`, its weights and a manifest to a folder, and compare it with the model.

    Args:
        model ([`TttForConditionalGeneration`]): In float32, on a CPU.
        output (`str` or `os.PathLike`): The folder of the checkpoint.
        dtype (`str`, *optional*, defaults to `"float32"`): Number format of the weights: `"float32"` or `"int8"`
            (matrices only, by output channel; activations are rounded as they come, but those of down projections).

    Returns:
        `dict`: The manifest; `max_difference` of logits and `equal_best_ids`, a share, are of the comparison.

    Raises:
        ImportError: The exporter's packages are missing.
        ValueError: The backbone has windows, the format is unknown, or the model is not on a CPU.
        RuntimeError: The graph's float32 logits differ from the model's by more than 0.001.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    check_exportable(model, "onnx")
    folder = Path(output) / ONNX_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval().float()
    graph = _graph(model, dtype)
    _save(graph, folder / GRAPH_FILE)
    manifest = {
        "format": "onnx",
        "dtype": dtype,
        "transformers": transformers.__version__,
        "opset": graph.opset_imports[""],
        "model": {name: getattr(model.config, name) for name in MODEL_FIELDS},
        "sha256": {name: file_sha256(folder / name) for name in (GRAPH_FILE, DATA_FILE)},
    } | compare(model, TttOnnxForConditionalGeneration(model.config, folder / GRAPH_FILE))
    if dtype == "float32" and not manifest["max_difference"] <= TOLERANCE:  # NaN, too
        raise RuntimeError(
            f"The logits of the graph differ by {manifest['max_difference']:.2g} from those of the model: it must not "
            "be used. Other versions of torch, onnxscript or onnxruntime may export it right."
        )
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _graph(model: TttForConditionalGeneration, dtype: str) -> Any:
    from transformers.exporters import OnnxConfig, OnnxExporter

    # No `ort_fusions`: its attention takes every mask for a causal one. That of the opset takes the mask as it is.
    config = OnnxConfig(dynamic=True, dynamic_shapes=dynamic_shapes(model), opset_version=OPSET)
    with contextlib.redirect_stdout(io.StringIO()):  # torch's exporter prints its steps
        graph = OnnxExporter().export(model, example_inputs(model), config=config).program
    rewrite(graph)
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        if match := _STATE.match(value.name):
            side, layer, name = match.groups()
            value.name = f"{'past' if side == 'input' else 'present'}_{name}.{layer}"
    return _rounded(graph, model) if dtype == "int8" else graph


def _rounded(graph: Any, model: TttForConditionalGeneration) -> Any:
    """
    Store matrices in 8 bits by output channel. ONNX Runtime rounds activations too, with one scale for a whole input;
    those of down projections have outliers, so these matrices are restored at loading and multiplied in float32.
    Attention is computed in float32, too.
    """
    from transformers.exporters import ExportFormat, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    backbone = model.config.text_config
    down = [backbone.intermediate_size, backbone.hidden_size]
    weights = graph.graph.initializers
    nodes = [node for node in graph.graph if node.op_type == "MatMul" and node.inputs[1].name in weights]
    restored = [node for node in nodes if list(node.inputs[1].shape.numpy()) == down]
    for node in restored:
        _restore_at_loading(graph.graph, node)
    exact = [*restored, *(node for node in graph.graph if node.op_type in ("Attention", "Split"))]
    config = OnnxRuntimeDynamicConfig(per_channel=True, nodes_to_exclude=[node.name for node in exact])
    graph.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"  # else it advises to optimise, which was done
    return OnnxRuntimeQuantizer(config).quantize(graph, {}, ExportFormat.ONNX)


def _restore_at_loading(graph: Any, node: Any) -> None:
    """Replace the matrix of a product by integers, a scale for each column, and operations on these constants."""
    import onnx_ir

    matrix = node.inputs[1]
    values = matrix.const_value.numpy()
    scale = np.maximum(np.abs(values).max(0, keepdims=True) / 127, np.finfo(np.float32).tiny)
    parts = {"int8": np.rint(values / scale).astype(np.int8), "scale": scale.astype(np.float32)}
    integers, factors = (
        onnx_ir.val(f"{matrix.name}.{name}", const_value=onnx_ir.tensor(array, name=f"{matrix.name}.{name}"))
        for name, array in parts.items()
    )
    for value in (integers, factors):
        graph.register_initializer(value)
    cast = onnx_ir.node("Cast", [integers], {"to": onnx_ir.DataType.FLOAT})
    product = onnx_ir.node("Mul", [cast.outputs[0], factors])
    graph.insert_before(node, [cast, product])
    node.replace_input_with(1, product.outputs[0])
    del graph.initializers[matrix.name]


def _save(graph: Any, path: Path) -> None:
    import onnx_ir

    onnx_ir.save(graph, path, external_data=DATA_FILE)


__all__ = ["export_onnx"]
