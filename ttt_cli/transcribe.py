"""
The command `ttt transcribe`.

Depends on options, files and messages. Recordings are transcribed by the packages, which are imported when it runs.
"""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .checks import check_readable
from .options import (
    Adapters,
    Device,
    Dtype,
    DtypeOption,
    Engine,
    EngineOption,
    Json,
    Language,
    MaxNewTokens,
    Model,
    Seed,
    Temperature,
    interruptible,
    status,
)
from .talk import STDIN, print_json, recording
from .talker import Audio, each_adapter, load


class TranscriptFormat(str, Enum):
    """How a transcript is printed."""

    text = "text"
    srt = "srt"
    vtt = "vtt"


@interruptible("The transcripts above are whole.")
def transcribe(
    files: Annotated[
        list[str] | None, typer.Argument(help="Recorded speech (wav, flac, mp3, ogg); - reads a file from stdin.")
    ] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="The same as an option; may be repeated.")] = None,
    form: Annotated[
        TranscriptFormat, typer.Option("--format", help="text, or subtitles of one recording: srt, vtt.")
    ] = TranscriptFormat.text,
    as_json: Json = False,
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    engine: EngineOption = Engine.torch,
    seed: Seed = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    adapter: Adapters = None,
    language: Language = None,
) -> None:
    """Transcribe recordings of any length. Of several, each line begins with the file's name."""
    names = list(dict.fromkeys([*(files or []), *map(str, audio or [])]))
    if not names:
        raise ValueError("Name what to transcribe: ttt transcribe FILE ..., or - for stdin.")
    if form is not TranscriptFormat.text and (as_json or len(names) > 1 or len(adapter or []) > 1):
        raise ValueError(f"--format {form.value} prints one transcript: name one recording, and leave out --json.")
    check_readable(Path(name) for name in names if name != STDIN)
    talker = load(
        model, device, dtype, engine, seed, adapter, language, temperature=temperature, max_new_tokens=max_new_tokens
    )
    recordings: dict[str, Audio] = {
        name: sys.stdin.buffer.read() if name == STDIN else recording(Path(name)) for name in names
    }
    failed = False
    for _ in each_adapter(talker, None, as_json):
        for name, speech in recordings.items():
            status(f"Transcribing {name} ...")
            try:
                transcript = talker.transcribe(speech)
            except (ValueError, OSError) as error:  # the other recordings are transcribed all the same
                typer.echo(f"Error: {error}", err=True)
                failed = True
                continue
            if as_json:
                print_json(talker, audio=name, **transcript.as_dict())
            else:
                text = transcript.format(form.value)
                typer.echo(text if len(recordings) == 1 else f"{name}: {text}")
    if failed:
        raise typer.Exit(1)
