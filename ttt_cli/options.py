"""What several commands share: options with their types and help texts, and the way out of an interrupted command."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated

import typer

LOWEST_SEED, HIGHEST_SEED = -(2**63), 2**64 - 1  # of PyTorch's generators


@contextmanager
def interruptible(advice: str | Callable[[], str]) -> Iterator[None]:
    """
    End what Ctrl-C interrupts with one line about how to go on, which may depend on what is there by then; also as a
    decorator of a command.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {advice if isinstance(advice, str) else advice()}", err=True)
        raise typer.Exit(130) from None  # as a shell reports a process that Ctrl-C ended


def show_progress() -> None:
    """Let huggingface_hub show how far it is with what takes long, if a person watches."""
    if sys.stderr.isatty():
        os.environ.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

        disable_progress_bars()
        import transformers.utils.logging  # noqa: F401 - asks once, here, whether to show a bar for each loaded part

        enable_progress_bars()


@contextmanager
def without_collections() -> Iterator[None]:
    """
    Import and load without Python's search for objects that nothing refers to, and leave what is there by then out of
    later searches: nearly all of it stays, and the search takes a fifth of the time. Also as a decorator.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def status(text: str) -> None:
    """Show a person at a terminal what takes time; programs read no such line."""
    if sys.stderr.isatty():
        typer.echo(text, err=True)


class Dtype(str, Enum):
    """Number formats of the weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Engine(str, Enum):
    """What runs the forward passes."""

    torch = "torch"
    onnx = "onnx"


Model = Annotated[
    str,
    typer.Option(
        help="Folder or Hub id of a checkpoint. The nano checkpoint in the box by default.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the GPU if there is one.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Number format of the weights; auto: the checkpoint's.")]
EngineOption = Annotated[
    Engine, typer.Option("--engine", help="torch, or onnx: a folder that `ttt export` wrote, on ONNX Runtime.")
]


def check_seed(seed: int | None) -> int | None:
    """Refuse what PyTorch takes for no seed. Limits of the option itself would fill a column of the help."""
    if seed is not None and not LOWEST_SEED <= seed <= HIGHEST_SEED:
        raise typer.BadParameter(f"A seed is from {LOWEST_SEED} to {HIGHEST_SEED}.")
    return seed


Seed = Annotated[
    int | None,
    typer.Option(
        callback=check_seed, help="Seed of all sampling. Without it, every run draws differently.", show_default=False
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=0, max=100, help="Of the text; 0 is greedy. The checkpoint's setting by default.", show_default=False
    ),
]
AudioTemperature = Annotated[
    float | None,
    typer.Option(
        min=0, max=100, help="Of the audio; 0 is greedy. The checkpoint's setting by default.", show_default=False
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="Denoising steps per block, at most. The checkpoint's setting by default.", show_default=False
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Longest reply, in tokens of text and audio. The checkpoint's setting by default.",
        show_default=False,
    ),
]
Stream = Annotated[
    bool,
    typer.Option("--stream", help="Print and write the reply as it comes. Ctrl-C ends it, and keeps what there is."),
]
Speed = Annotated[
    float, typer.Option(min=0.25, max=4, help="Speed of the speech, at the same pitch: at 2 it takes half as long.")
]
Play = Annotated[bool, typer.Option("--play", help="Play the speech, too (the extra mic).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, an object in each line.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        help="NAME=FOLDER or a Hub id; of several, each answers in turn on the one loaded model.",
        show_default=False,
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="Language tag that the adapter was trained with (it). By default the adapter's, if it has one.",
        show_default=False,
    ),
]
