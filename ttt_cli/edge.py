"""
The command that writes a checkpoint for other runtimes: `ttt export`.

Depends on options, folders and messages.
"""

import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .checks import check_hub, check_installed, check_model, check_new_folder
from .extras import MODULES
from .options import interruptible, status


class ExportedDtype(str, Enum):
    """Number formats of exported weights."""

    float32 = "float32"
    int8 = "int8"


class ExportFormat(str, Enum):
    """Runtimes that a checkpoint is exported for."""

    onnx = "onnx"
    openvino = "openvino"
    executorch = "executorch"


EXTRAS = {ExportFormat.onnx: "edge", ExportFormat.openvino: "openvino", ExportFormat.executorch: "executorch"}
# What a model of nano's size takes, and several times that on a machine that does other work.
MINUTES = {ExportFormat.onnx: "1 minute", ExportFormat.openvino: "1 minute", ExportFormat.executorch: "3 minutes"}


@interruptible("Delete what was written of the new folder; then the same command begins again.")
def export(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a checkpoint.")],
    output: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    dtype: Annotated[
        ExportedDtype, typer.Option("--dtype", help="Number format of the weights; int8 is smaller and not exact.")
    ] = ExportedDtype.float32,
    target: Annotated[
        ExportFormat,
        typer.Option("--format", help="The runtime: `--engine onnx` runs onnx; your programs run all."),
    ] = ExportFormat.onnx,
) -> None:
    """Write a checkpoint for another runtime: its graphs, tokenizer, codec and settings."""
    check_model(model)
    check_new_folder(output)
    if target != ExportFormat.onnx and dtype != ExportedDtype.float32:
        raise ValueError(f"--dtype {dtype.value} is for ONNX Runtime: leave it out for --format {target.value}.")
    check_installed(*MODULES[EXTRAS[target]])
    check_hub([model])
    status(f"Loading {model} ...")
    import torch
    from transformers import AutoProcessor

    from modeling_ttt import TttForConditionalGeneration
    from processing_ttt.loading_faults_ttt import load_whole
    from text_to_talk.export import export_checkpoint

    loaded = load_whole(TttForConditionalGeneration, model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(model)
    began = time.monotonic()

    def report(part: str) -> None:
        status(f"{time.monotonic() - began:4.0f} s: exporting {part} ...")

    status(f"For {target.value} a model of nano's size takes {MINUTES[target]} or more.")
    manifest = export_checkpoint(loaded, processor, output, dtype.value, target.value, report)
    megabytes = sum(file.stat().st_size for file in (output / target.value).iterdir()) / 1e6
    typer.echo(
        f"Written to {output}: {megabytes:.0f} MB of {dtype.value}. For random token ids, logits differ from PyTorch's "
        f"by {manifest['max_difference']:.1g} at most, and {manifest['equal_best_ids']:.0%} of the best ids are equal."
    )
    if "codec" in manifest:
        typer.echo(f"Of the codec, {manifest['codec']['equal_codes']:.0%} of the codes are equal.")
    else:
        typer.echo("A codec of this kind is not exported: it runs on PyTorch.")
    if target == ExportFormat.onnx:
        typer.echo(f"ttt talk --engine onnx --model {output} ...")
