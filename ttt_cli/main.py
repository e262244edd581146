"""
The application `ttt`: which commands there are, and how errors are shown.

    chat.py, talk.py, transcribe.py, checkpoints.py, edge.py, data.py, training.py    the commands
    spaces_demo/commands.py                                                  `demo`: a Space ships without this package

Depends on the commands' functions. Independent of what they do.
"""

import gc
import importlib.metadata
import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from spaces_demo.commands import demo

from .chat import chat
from .checkpoints import convert, convert_codec, init
from .data import codec_check, prepare
from .edge import export
from .extras import way_out
from .talk import speak, talk
from .training import evaluate, merge, publish, train
from .transcribe import transcribe

# Of unknown options, wrong values, too many arguments: click's class, or that of typer's own copy of click.
USAGE_ERROR: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="ttt",
    help="Text-to-Talk: ask in speech or text, get text and speech back.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"text-to-talk {importlib.metadata.version('text-to-talk')}")
        except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
            typer.echo("text-to-talk, not installed")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Text-to-Talk: ask in speech or text, get text and speech back."""


for command in (
    convert,
    convert_codec,
    export,
    init,
    prepare,
    codec_check,
    train,
    evaluate,
    publish,
    merge,
    demo,
    chat,
    transcribe,
):
    app.command()(command)
for answering in (talk, speak):  # which say themselves what to do with a second argument
    app.command(context_settings={"allow_extra_args": True})(answering)


def _quiet() -> None:
    """Leave the screen to the answer: no progress bars of the libraries, and no notes to other libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when huggingface_hub is imported
    if not sys.stderr.isatty():  # a bar fills a log
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # These write when torchao is imported, where a kernel of bitsandbytes is missing, of operators that an export does
    # not use, and that an export may be wrong, which is tested after each.
    exporters = ("torch.onnx._internal.exporter._registration", "transformers.exporters")
    for name in ("torch.utils._pytree", "bitsandbytes", *exporters):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)  # libraries to libraries, as DeprecationWarning
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show what a user should know in one line, without the place in a library that it comes from."""
    typer.echo(f"Warning: {message}", err=True)


def _misuse(error: Any) -> str:
    """Say in one line what is wrong with a command line, and where its options are listed."""
    said = " ".join(error.format_message().split())
    command = error.ctx.command_path if error.ctx else "ttt"
    return f"{said}{'' if said.endswith(('.', '?')) else '.'} See `{command} --help`."


def main() -> None:
    """Run the command line; an error is one line and exit code 1, not a traceback and not a box."""
    _quiet()
    try:
        code = app(None if sys.argv[1:] else ["--help"], prog_name="ttt", standalone_mode=False)
    except USAGE_ERROR as error:
        message = _misuse(error)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        message = way_out(error) if isinstance(error, ImportError) else str(error)
    else:
        raise SystemExit(code)
    finally:
        gc.freeze()  # Python would search all objects of the libraries for circles before it ends, for a second
    typer.echo(f"Error: {message}", err=True)
    raise SystemExit(1)
