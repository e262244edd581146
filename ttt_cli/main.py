"""
The application `ttt`: which commands there are, and how errors are shown.

    talk.py, checkpoints.py, data.py, training.py    the commands
    spaces_demo/commands.py                          `demo`: a Space ships without this package

Depends on the commands' functions. Independent of what they do.
"""

import logging
import sys
import warnings

import typer

from spaces_demo.commands import demo

from .checkpoints import convert, convert_codec, init
from .data import codec_check, prepare
from .extras import way_out
from .talk import speak, talk, transcribe
from .training import evaluate, merge, publish, train

app = typer.Typer(
    name="ttt",
    help="Text-to-Talk: ask in speech or text, get text and speech back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    convert,
    convert_codec,
    init,
    prepare,
    codec_check,
    train,
    evaluate,
    publish,
    merge,
    demo,
    talk,
    transcribe,
    speak,
):
    app.command()(command)


def _quiet() -> None:
    """Leave the screen to the answer: no progress bars or notes of the libraries."""
    # torchao, where it is installed, makes this logger write on import.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def main() -> None:
    """Run the command line; an error is one line, not a traceback."""
    if not {"--help", "-h"} & set(sys.argv):
        _quiet()
    try:
        app()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        typer.echo(f"Error: {way_out(error) if isinstance(error, ImportError) else error}", err=True)
        raise SystemExit(1) from None
