"""
Write a checkpoint for another runtime: the graphs of its model and its codec, and the files that both need.

Joins the exports of the two model packages, which do not import each other. Depends on the extra of the runtime:
`edge` for ONNX Runtime, `openvino` or `executorch`.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME

from modeling_ttt import TttForConditionalGeneration
from modeling_ttt.export_manifest_ttt import MANIFEST_FILE, file_sha256
from modeling_ttt.export_onnx_ttt import export_onnx
from modeling_ttt.export_program_ttt import export_program
from processing_ttt import TttProcessor
from processing_ttt.codec_loading_ttt import CODEC_FOLDER
from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.export_codec_onnx_ttt import check_codec, export_codec


def export_checkpoint(
    model: TttForConditionalGeneration,
    processor: TttProcessor,
    output: str | os.PathLike,
    dtype: str = "float32",
    target: str = "onnx",
    report: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """
    Write a folder that `from_pretrained(..., engine="onnx")` loads, or one with the same for another runtime.

    Args:
        model ([`TttForConditionalGeneration`]): On a CPU.
        processor ([`TttProcessor`]): Its codec is exported if it is of nano's kind; another one runs on PyTorch.
        output (`str` or `os.PathLike`): New or empty folder.
        dtype (`str`, *optional*, defaults to `"float32"`): Number format of stored weights, `"float32"`, or `"int8"`
            for ONNX Runtime.
        target (`str`, *optional*, defaults to `"onnx"`): The runtime: `"onnx"`, `"openvino"` or `"executorch"`. Graphs
            and manifest are in a folder of this name.
        report (`Callable`, *optional*): Called with what is exported next, `"the model"` and `"the codec"`.

    Returns:
        `dict`: The manifest of the export: of [`export_onnx`] or [`export_program`]; with a codec of nano's kind
            `codec`, of [`export_codec`]; and `files`, the SHA-256 of the files of the processor and its codec.

    Raises:
        ImportError: The exporter's packages are missing.
        RuntimeError: A float32 graph differs from what it was exported from.
        ValueError: The model or its codec cannot be exported, or the number format is not known. All of these, and
            missing packages, are found before anything is written.
    """
    if target != "onnx" and dtype != "float32":
        raise ValueError(f"{dtype} is for ONNX Runtime: the export for {target} is in float32.")
    codec = processor.codec  # a checkpoint without its codec is refused before the work
    is_exported = isinstance(codec, TttCodecModel)
    if is_exported:
        check_codec(codec, target)
    report = report or (lambda _: None)
    report("the model")
    manifest = export_onnx(model, output, dtype) if target == "onnx" else export_program(model, output, target)
    folder = Path(output, target)
    if is_exported:
        report("the codec")
        manifest["codec"] = export_codec(codec, folder, dtype, target)
    for part in (model.config, model.generation_config, processor):
        part.save_pretrained(output)
    manifest["files"] = {name: file_sha256(Path(output, name)) for name in _processor_files(Path(output))}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _processor_files(output: Path) -> list[str]:
    """The files that decide which text and audio a token id means; options of decoding may be changed in an export."""
    patterns = ("*.json", "*.jinja", f"{CODEC_FOLDER}/*.json", f"{CODEC_FOLDER}/*.safetensors")
    names = {path.relative_to(output).as_posix() for pattern in patterns for path in output.glob(pattern)}
    return sorted(names - {CONFIG_NAME, GENERATION_CONFIG_NAME})
