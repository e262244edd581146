"""
The commands before training: `ttt prepare` and `ttt codec-check`.

Depends on options and messages. The work is done by `finetune`, which is imported when a command runs.
"""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .checks import MANIFESTS, check_device, check_hub, check_installed, check_model, looks_like_path
from .options import interruptible, status

CodecModel = Annotated[
    str,
    typer.Option(
        "--model",
        help="Checkpoint whose codec is used: folder or Hub id. The nano checkpoint in the box by default.",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(help="Where the codec runs: cpu, cuda, cuda:1, mps, or auto: the GPU if there is one.")
]
Columns = Annotated[
    list[str],
    typer.Option(
        "--column",
        help="FIELD=NAME, where a field has another name in the data: text=normalized_text. May be repeated.",
        show_default=False,
    ),
]
HubConfig = Annotated[str | None, typer.Option(help="Configuration of a Hub data set (it_it).", show_default=False)]
HubSplit = Annotated[
    str | None,
    typer.Option(help="Split of a Hub data set (train[:10%]). All of them by default.", show_default=False),
]
Streaming = Annotated[bool, typer.Option("--streaming", help="Read a Hub data set while it is downloaded.")]
Seed = Annotated[int, typer.Option(help="Seed that chooses the held-out records.")]


class Engine(str, Enum):
    """Where records are made."""

    local = "local"
    ray = "ray"


class Align(str, Enum):
    """Where word times come from."""

    none = "none"
    proportional = "proportional"


class SplitBy(str, Enum):
    """What stays together when records are held out."""

    hash = "hash"
    speaker = "speaker"
    source = "source"


@interruptible("The same command goes on where it was stopped.")
def prepare(
    source: Annotated[
        str,
        typer.Argument(
            help="A manifest (.jsonl, .json, .parquet, .csv, .tsv), an audio folder, an unpacked Common Voice folder, "
            "or a Hub id."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the prepared dataset. The same command goes on where it was interrupted.")
    ],
    model: CodecModel = "",
    language: Annotated[
        str | None, typer.Option(help="Language tag of records without one (it, pt-BR).", show_default=False)
    ] = None,
    speaker: Annotated[str | None, typer.Option(help="Speaker of records without one.", show_default=False)] = None,
    column: Columns = [],  # noqa: B006 - typer reads it
    align: Annotated[
        Align,
        typer.Option(
            help="Add word times, for layouts like nano's: proportional divides the audio by length of words."
        ),
    ] = Align.none,
    split_by: Annotated[
        SplitBy, typer.Option(help="Hold out whole sentences (hash), whole speakers, or what the source holds out.")
    ] = SplitBy.hash,
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the records.")] = 0.05,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the records.")] = 0.05,
    seed: Seed = 0,
    min_seconds: Annotated[float, typer.Option(min=0, help="Shortest audio, in seconds.")] = 0.1,
    max_seconds: Annotated[float, typer.Option(min=0, help="Longest audio, in seconds.")] = 30.0,
    max_characters: Annotated[int, typer.Option(min=1, help="Longest transcript.")] = 1000,
    hub_config: HubConfig = None,
    hub_split: HubSplit = None,
    streaming: Streaming = False,
    engine: Annotated[Engine, typer.Option(help="local, or ray: the cluster that RAY_ADDRESS names.")] = Engine.local,
    num_proc: Annotated[int, typer.Option(min=1, help="Processes, or Ray actors.")] = 1,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Recordings encoded together: 16 on a GPU, 1 on a CPU by default.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Turn recordings and texts into a dataset of codes, ready for training."""
    _check_arguments(source, model, device)
    status("Loading PyTorch ...")
    from finetune.data.prepare import Splitting
    from finetune.data.prepare import prepare as run
    from finetune.data.record_maker import Limits
    from finetune.data.report import readable
    from finetune.data.sources import open_source

    report = run(
        open_source(source, _columns(column), hub_config, hub_split, streaming),
        out,
        _checkpoint(model),
        Limits(min_seconds, max_seconds, max_characters, align.value, language, speaker),
        Splitting(split_by.value, validation, test, seed),
        engine.value,
        num_proc,
        batch_size,
        device,
    )
    typer.echo(readable(report | {"examples": {}}).rstrip())
    typer.echo(f"\nIn {out}; what was left out and why: {out / 'report.md'}")


def _check_arguments(source: str, model: str, device: str) -> None:
    is_path = looks_like_path(source) or Path(source).suffix in MANIFESTS
    if is_path and not Path(source).expanduser().exists():
        raise FileNotFoundError(f"There is no file or folder {source!r}.")
    check_model(model)
    check_device(device)
    check_hub([model])
    check_hub([source], "datasets")


def _columns(given: list[str]) -> dict[str, str]:
    from finetune.data.records import FIELDS

    columns = {}
    for pair in given:
        field, equals, name = pair.partition("=")
        if not equals or field not in FIELDS or not name:
            raise ValueError(f"--column {pair!r} must be FIELD=NAME, with a field of {', '.join(FIELDS)}.")
        columns[field] = name
    return columns


def _checkpoint(model: str) -> str:
    from modeling_ttt import nano_checkpoint

    return model or str(nano_checkpoint())


@interruptible("The same command begins again.")
def codec_check(
    source: Annotated[str, typer.Argument(help="Recordings with transcripts, as for `ttt prepare`.")],
    judge: Annotated[
        str,
        typer.Option(
            help="What transcribes: an ASR model (folder or Hub id), pocketsphinx (English), whisper-base "
            "(many languages), or model: the checkpoint itself."
        ),
    ] = "model",
    model: CodecModel = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report and some audio to listen to.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Recordings.")] = 100,
    language: Annotated[
        str | None, typer.Option(help="Language tag of recordings without one.", show_default=False)
    ] = None,
    column: Columns = [],  # noqa: B006 - typer reads it
    max_seconds: Annotated[float, typer.Option(min=0, help="Longest recording.")] = 30.0,
    hub_config: HubConfig = None,
    hub_split: HubSplit = None,
    streaming: Streaming = False,
    device: Device = "auto",
) -> None:
    """Measure what the codec preserves of real speech: an upper limit of what training can reach."""
    _check_arguments(source, model, device)
    check_installed("datasets", "jiwer")
    status("Loading PyTorch ...")
    from finetune.adapters.loading import load_model, load_processor
    from finetune.data.record_maker import Limits
    from finetune.data.sources import open_source
    from finetune.evaluation.batched_model import Checkpoint
    from finetune.evaluation.codec_check import check_codec, readable
    from finetune.evaluation.judges import make_judge
    from processing_ttt.device_ttt import choose_device

    recordings = open_source(source, _columns(column), hub_config, hub_split, streaming)
    name = _checkpoint(model)
    processor = load_processor(name)
    device = str(choose_device(device))
    processor.codec.to(device)
    checkpoint = Checkpoint(load_model(name, device=device), processor) if judge == "model" else None
    limits = Limits(max_seconds=max_seconds, language=language)
    check = check_codec(recordings, processor, make_judge(judge, checkpoint), count, limits, out, name)
    typer.echo(readable(check).rstrip())
    if out is not None:
        typer.echo(f"\nThe report and some audio to listen to are in {out}.")
