"""
The command line: `ttt talk`, `ttt transcribe`, `ttt speak`, and from `ttt_checkpoints` `ttt convert`, `ttt convert-codec`, `ttt init`, and
from `finetune` the commands before, of and after training.

The two are the only modules that import all packages. This one knows options, files and messages; what they do is the packages' business.
"""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import ttt_checkpoints
from finetune import data_commands, train_commands
from finetune.extras import way_out
from spaces_demo.commands import demo

if TYPE_CHECKING:
    from processing_ttt import TttProcessor, TttReply, TttStreamer, TttTalker
    from spaces_demo.adapter_languages import AdapterLanguages

app = typer.Typer(
    name="ttt",
    help="Text-to-Talk: ask in speech or text, get text and speech back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(ttt_checkpoints.convert)
app.command()(ttt_checkpoints.convert_codec)
app.command()(ttt_checkpoints.init)
app.command()(data_commands.prepare)
app.command()(data_commands.codec_check)
app.command()(train_commands.train)
app.command()(train_commands.evaluate)
app.command()(train_commands.publish)
app.command()(train_commands.merge)
app.command()(demo)


class Dtype(str, Enum):
    """Number formats of the weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Model = Annotated[
    str,
    typer.Option(
        help="Folder or Hub id of a checkpoint. The nano checkpoint in the box by default.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the GPU if there is one.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Number format of the weights; auto: the checkpoint's.")]
Seed = Annotated[
    int | None, typer.Option(help="Seed of all sampling. Without it every run samples anew.", show_default=False)
]
Temperature = Annotated[
    float | None,
    typer.Option(min=0, help="Of the text; 0 is greedy. The checkpoint's setting by default.", show_default=False),
]
AudioTemperature = Annotated[
    float | None,
    typer.Option(min=0, help="Of the sound; 0 is greedy. The checkpoint's setting by default.", show_default=False),
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
        min=1, help="Longest reply, in ids of text and sound. The checkpoint's setting by default.", show_default=False
    ),
]
Stream = Annotated[
    bool, typer.Option("--stream", help="Print and write the reply as it comes. Ctrl-C ends it, and keeps what came.")
]
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
        help="Tag of the language, as an adapter was trained with it: it. That of the adapter by default, if it has one.",
        show_default=False,
    ),
]


@dataclass
class Talker:
    """A talker whose model may have several adapters, each asked in its own language."""

    talker: "TttTalker"
    adapters: "dict[str, AdapterLanguages]" = field(default_factory=dict)
    adapter: str = ""  # the active one

    @property
    def processor(self) -> "TttProcessor":
        """The talker's processor."""
        return self.talker.processor

    def ask(self, task: str, text: str | None = None, audio: Path | None = None) -> "TttReply":
        """Answer one question."""
        return self.talker.reply(audio, text, task, system_prompt=self.system_prompt(task))

    def stream(self, task: str, text: str | None = None, audio: Path | None = None) -> "TttStreamer":
        """Answer one question, to be followed while the reply is generated."""
        return self.talker.stream(audio, text, task, system_prompt=self.system_prompt(task))

    def system_prompt(self, task: str) -> str | None:
        """Write the prompt in the active adapter's language; `None` leaves it to the talker."""
        if self.talker.language is not None or not self.adapter:
            return None
        return self.adapters[self.adapter].system_prompt(task, self.processor)


def _load(
    model: str,
    device: str,
    dtype: Dtype,
    seed: int | None,
    adapters: list[str] | None = None,
    language: str | None = None,
    **options: Any,
) -> Talker:
    import torch

    from finetune.loading import base_of
    from modeling_ttt import nano_checkpoint
    from processing_ttt import TttTalker

    folders = dict(_named_adapters(adapters or []))
    source = model or base_of(folders.values()) or str(nano_checkpoint())
    options = {name: value for name, value in options.items() if value is not None}
    temperature = options.pop("temperature", None)
    if temperature is not None:
        options |= {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    if seed is not None:
        options["generator"] = torch.Generator().manual_seed(seed)
    talker = TttTalker.from_pretrained(source, device=device, dtype=dtype.value, language=language, **options)
    if not folders:
        return Talker(talker)
    from finetune.adapters import load_adapters
    from spaces_demo.adapter_languages import read_languages

    talker.model = load_adapters(talker.model, folders)
    return Talker(talker, {name: read_languages(folder) for name, folder in folders.items()})


def _named_adapters(adapters: list[str]) -> Iterator[tuple[str, str]]:
    """Take NAME=FOLDER apart; a single adapter needs no name."""
    for adapter in adapters:
        name, equals, folder = adapter.partition("=")
        if not equals and len(adapters) > 1:
            raise ValueError(f"Of several adapters each needs a name: --adapter NAME={adapter}.")
        yield (name, folder) if equals else ("adapter", adapter)


def _each_adapter(talker: Talker, out: Path) -> Iterator[Path]:
    """Activate one adapter after the other, and say where its answer goes: `reply.wav`, of several `reply-NAME.wav`."""
    for name in talker.adapters or ("",):
        if name:
            talker.talker.model.set_adapter(name)
            talker.adapter = name
        if len(talker.adapters) > 1:
            typer.echo(f"{name}:")
        yield out.with_stem(f"{out.stem}-{name}") if len(talker.adapters) > 1 else out


def _check_out(out: Path) -> None:
    """Refuse before any work is done what could not be written after it."""
    from processing_ttt.reply_ttt import sound_format

    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(out)!r} does not exist; create it, or choose another --out.")
    if out.is_dir():
        raise IsADirectoryError(f"{str(out)!r} is a folder; give --out the name of a file in it.")
    sound_format(out)


NO_SOUND = "The reply has no sound, so no file was written."


def _answer(talker: Talker, out: Path, task: str, text: str | None = None, audio: Path | None = None) -> None:
    """Generate a reply, then print its text and write its sound."""
    start = time.perf_counter()
    reply = talker.ask(task, text, audio)
    seconds = time.perf_counter() - start
    typer.echo(reply.text)
    if not len(reply.audio):
        typer.echo(NO_SOUND, err=True)
        return
    reply.save(out)
    typer.echo(
        f"{reply.seconds:.2f} s of speech in {out}, answered in {seconds:.2f} s: real-time factor {seconds / reply.seconds:.2f}"
    )


def _answer_as_it_comes(
    talker: Talker, out: Path, task: str, text: str | None = None, audio: Path | None = None
) -> None:
    """Print a reply's text and write its sound while it is generated; Ctrl-C ends it and leaves a whole file."""
    from processing_ttt import SoundWriter, TttAudioChunk, TttTextDelta

    start = time.perf_counter()
    writer = SoundWriter(out, talker.processor.codec_config.output_sampling_rate)
    first_audio = 0.0
    interrupted = False
    try:
        with writer, talker.stream(task, text, audio) as stream:
            for event in stream:
                if isinstance(event, TttTextDelta):
                    typer.echo(event.text, nl=False)
                elif isinstance(event, TttAudioChunk):
                    first_audio = first_audio or time.perf_counter() - start
                    writer.write(event.audio)
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - start
    typer.echo()
    if not writer.num_samples:
        typer.echo(NO_SOUND, err=True)
    else:
        typer.echo(
            f"{writer.seconds:.2f} s of speech in {out}, the first after {first_audio:.2f} s, "
            f"{'interrupted after' if interrupted else 'all in'} {seconds:.2f} s: real-time factor {seconds / writer.seconds:.2f}"
        )
    if interrupted:
        raise typer.Exit(130)  # as a shell reports a process that Ctrl-C ended


@app.command()
def talk(
    audio: Annotated[Path | None, typer.Option(help="A spoken question (wav, flac, mp3, ogg).")] = None,
    text: Annotated[str | None, typer.Option(help="A written question.")] = None,
    out: Annotated[Path, typer.Option(help="Where the spoken answer goes.")] = Path("reply.wav"),
    transcribe: Annotated[bool, typer.Option(help="Print first what was heard (a second pass).")] = False,
    stream: Stream = False,
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    seed: Seed = None,
    temperature: Temperature = None,
    audio_temperature: AudioTemperature = None,
    denoising_steps: Steps = None,
    max_new_tokens: MaxNewTokens = None,
    adapter: Adapters = None,
    language: Language = None,
) -> None:
    """Ask a question, spoken or written, and get the answer as text and speech."""
    if (audio is None) == (text is None):
        raise ValueError("Ask either with --audio FILE or with --text TEXT.")
    _check_out(out)
    talker = _load(
        model,
        device,
        dtype,
        seed,
        adapter,
        language,
        temperature=temperature,
        audio_temperature=audio_temperature,
        denoising_steps=denoising_steps,
        max_new_tokens=max_new_tokens,
    )
    talker.processor.codec  # noqa: B018 - loading is not part of the answer's time
    answer = _answer_as_it_comes if stream else _answer
    for path in _each_adapter(talker, out):
        if transcribe and audio is not None:
            typer.echo(f"Heard: {talker.ask('asr', audio=audio).text}")
        answer(talker, path, "chat", text=text, audio=audio)


@app.command()
def transcribe(
    audio: Annotated[Path, typer.Option(help="Recorded speech (wav, flac, mp3, ogg).")],
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    seed: Seed = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    adapter: Adapters = None,
    language: Language = None,
) -> None:
    """Write down what is said in a recording."""
    talker = _load(
        model, device, dtype, seed, adapter, language, temperature=temperature, max_new_tokens=max_new_tokens
    )
    for _ in _each_adapter(talker, Path("-")):
        typer.echo(talker.ask("asr", audio=audio).text)


@app.command()
def speak(
    text: Annotated[str, typer.Option(help="What to say.")],
    out: Annotated[Path, typer.Option(help="Where the speech goes.")] = Path("speech.wav"),
    stream: Stream = False,
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    seed: Seed = None,
    temperature: Temperature = None,
    audio_temperature: AudioTemperature = None,
    denoising_steps: Steps = None,
    max_new_tokens: MaxNewTokens = None,
    adapter: Adapters = None,
    language: Language = None,
) -> None:
    """Read a text aloud."""
    _check_out(out)
    talker = _load(
        model,
        device,
        dtype,
        seed,
        adapter,
        language,
        temperature=temperature,
        audio_temperature=audio_temperature,
        denoising_steps=denoising_steps,
        max_new_tokens=max_new_tokens,
    )
    talker.processor.codec  # noqa: B018 - loading is not part of the speaking time
    answer = _answer_as_it_comes if stream else _answer
    for path in _each_adapter(talker, out):
        answer(talker, path, "tts", text=text)


def _quiet() -> None:
    """Leave the screen to the answer: no progress bars or notes of the libraries."""
    logging.getLogger("torch.utils._pytree").setLevel(
        logging.ERROR
    )  # torchao, where installed, makes it talk on import
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


if __name__ == "__main__":
    main()
