"""
Write a model as a program for OpenVINO or ExecuTorch: one forward pass, for text and for blocks, at any cached length.

    input_ids, attention_mask (4-D), position_ids, cache (keys and values) ─► logits, keys and values

A program needs at least one cached position: before the first forward pass, one of zeros that the mask hides.

Depends on transformers' exporters, and on `openvino` or `executorch`. Independent of text and waveforms.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicCache

from .export_inputs_ttt import check_exportable, compare, dynamic_shapes, example_inputs
from .export_manifest_ttt import MANIFEST_FILE, file_sha256
from .export_onnx_ttt import MODEL_FIELDS, TOLERANCE
from .masking_ttt import CACHE_NAME
from .modeling_ttt import TttForConditionalGeneration

PROGRAM_FILES = {"openvino": "openvino_model.xml", "executorch": "model.pte"}
MAX_QUERIES, MAX_CACHED = 512, 4096  # of ExecuTorch, which plans its memory for them; longer prompts go in pieces


def export_program(model: TttForConditionalGeneration, output: str | os.PathLike, target: str) -> dict[str, Any]:
    """
    Write the program and a manifest to a folder named as the target, and compare it with the model.

    Args:
        model ([`TttForConditionalGeneration`]): In float32, on a CPU.
        output (`str` or `os.PathLike`): The folder of the checkpoint.
        target (`str`): `"openvino"`, or `"executorch"` (XNNPACK; one sequence, and the bounds of the manifest).

    Returns:
        `dict`: The manifest; `max_difference` of logits and `equal_best_ids`, a share, are of the comparison.

    Raises:
        ImportError: The exporter's packages are missing.
        ValueError: The backbone has windows, the target is unknown, or the model is not on a CPU.
        RuntimeError: The program's logits differ from the model's by more than 0.001.
    """
    if target not in PROGRAM_FILES:
        raise ValueError(f"`target` must be one of {', '.join(PROGRAM_FILES)}, got {target!r}.")
    check_exportable(model, target)
    folder = Path(output) / target
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval().float()
    num_sequences = 1 if target == "executorch" else 2
    exported = _exported(model, target, num_sequences)
    exported.save_pretrained(folder)
    names = [PROGRAM_FILES[target], *(["openvino_model.bin"] if target == "openvino" else [])]
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()  # what the folder above holds once more
    manifest = {
        "format": target,
        "dtype": "float32",
        "transformers": transformers.__version__,
        "model": {name: getattr(model.config, name) for name in MODEL_FIELDS},
        "sha256": {name: file_sha256(folder / name) for name in names},
    } | compare(model, _with_hidden_position(exported, model), num_sequences)
    if target == "executorch":
        manifest |= {"max_queries": MAX_QUERIES, "max_cached": MAX_CACHED}
    if not manifest["max_difference"] <= TOLERANCE:  # NaN, too
        raise RuntimeError(
            f"The logits of the program differ by {manifest['max_difference']:.2g} from those of the model: it must "
            f"not be used. Other versions of torch or {target} may export it right."
        )
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _exported(model: TttForConditionalGeneration, target: str, num_sequences: int) -> Any:
    """transformers' `ExportedModel`, which runs the program, too."""
    inputs = example_inputs(model, num_sequences=num_sequences)
    if target == "openvino":
        from transformers.exporters import OpenVINOConfig, OpenVINOExporter

        # Keys and values stay inputs and outputs: most denoising steps keep none.
        config = OpenVINOConfig(dynamic=True, dynamic_shapes=dynamic_shapes(model), stateful=False)
        exported = OpenVINOExporter().export(model, inputs, config=config)
        # Otherwise OpenVINO computes in bfloat16 on CPUs that multiply it.
        return exported.to("cpu", config={"INFERENCE_PRECISION_HINT": "f32"})
    from transformers.exporters import ExecutorchConfig, ExecutorchExporter

    shapes = dynamic_shapes(model, MAX_QUERIES, MAX_CACHED)
    return ExecutorchExporter().export(model, inputs, config=ExecutorchConfig(dynamic=True, dynamic_shapes=shapes))


def _with_hidden_position(exported: Callable[..., Any], model: TttForConditionalGeneration) -> Callable[..., Any]:
    """Run a program also without cached positions: with one of zeros that no query sees."""
    backbone = model.config.text_config
    heads = backbone.num_key_value_heads
    size = getattr(backbone, "head_dim", None) or backbone.hidden_size // backbone.num_attention_heads

    def run(**inputs: Any) -> Any:
        cache: DynamicCache = inputs[CACHE_NAME]
        if not cache.layers:
            inputs["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (1, 0))
            for number in range(backbone.num_hidden_layers):
                zeros = torch.zeros(len(inputs["input_ids"]), heads, 1, size)
                cache.update(zeros, zeros.clone(), number)
        return exported(**{name: value for name, value in inputs.items() if name != "use_cache"})

    return run


__all__ = ["export_program"]
