"""
The commands of inference: `ttt talk`, `ttt transcribe`, `ttt speak`.

Depends on options, files and messages. Independent of how replies are generated: that is done by the packages, imported when they are needed.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    Adapters,
    AudioTemperature,
    Device,
    Dtype,
    DtypeOption,
    Language,
    MaxNewTokens,
    Model,
    Seed,
    Steps,
    Stream,
    Temperature,
)

if TYPE_CHECKING:
    from finetune.adapters.languages import AdapterLanguages
    from processing_ttt import TttProcessor, TttReply, TttStreamer


@dataclass
class Talker:
    """A loaded model with its processor, and how to decode."""

    model: Any
    processor: "TttProcessor"
    options: dict[str, Any]
    language: str | None = None
    adapters: "dict[str, AdapterLanguages]" = field(default_factory=dict)
    adapter: str = ""  # the active one

    def ask(self, task: str, text: str | None = None, audio: Path | None = None) -> "TttReply":
        """Run one turn: encode the question, generate, decode the reply."""
        inputs = self._inputs(task, text, audio)
        ids = self.model.generate(**inputs, **self.options)
        return self.processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])

    def stream(self, task: str, text: str | None = None, audio: Path | None = None) -> "TttStreamer":
        """Begin one turn, to be followed while it is generated."""
        return self.processor.stream_reply(self.model, self._inputs(task, text, audio), **self.options)

    def _inputs(self, task: str, text: str | None, audio: Path | None) -> Any:
        conversation = self.processor.conversation(task, text=text, audio=audio)
        prompt = self._system_prompt(task)
        if prompt is not None:
            conversation[0]["content"] = prompt
        return self.processor.apply_chat_template(
            conversation,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,  # what a user writes is text, and ends no turn and holds no sound
        ).to(self.model.device)

    def _system_prompt(self, task: str) -> str | None:
        """Write the prompt of the language that was asked for, or else of the active adapter's; `None` is the processor's own."""
        if self.language is not None:
            from processing_ttt.tasks_ttt import system_prompt

            return system_prompt(task, self.language, self.processor.system_prompts)
        return self.adapters[self.adapter].system_prompt(task, self.processor) if self.adapter else None


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
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoProcessor

    from finetune.adapters.loading import base_of
    from modeling_ttt import nano_checkpoint
    from modeling_ttt.device_ttt import choose_device
    from processing_ttt import TttProcessor  # noqa: F401 - registers the processor with AutoProcessor

    folders = dict(_named_adapters(adapters or []))
    source = model or base_of(folders.values()) or str(nano_checkpoint())
    if not os.path.isdir(source) and (source.startswith((".", "~", os.sep)) or source.count("/") > 1):
        raise FileNotFoundError(f"There is no folder {source!r}, and it is no Hub id (owner/name) either.")
    model_type = AutoConfig.from_pretrained(source).model_type
    if model_type != "ttt":
        raise ValueError(
            f"{source!r} is a {model_type} model and not Text-to-Talk yet: `ttt convert` turns a released checkpoint into one, `ttt init` "
            "starts one from a language model."
        )
    try:
        loaded = AutoModel.from_pretrained(source, dtype=dtype.value).to(choose_device(device)).eval()
    except SafetensorError as error:
        raise OSError(
            f"The weights of {source!r} are damaged, or Git LFS pointers instead of the files ({error}): download them again."
        ) from error
    processor = AutoProcessor.from_pretrained(source)
    languages = {}
    if folders:
        from finetune.adapters.languages import read_languages
        from finetune.adapters.lora import load_adapters

        loaded = load_adapters(loaded, folders)
        languages = {name: read_languages(folder) for name, folder in folders.items()}
    options = {name: value for name, value in options.items() if value is not None}
    temperature = options.pop("temperature", None)
    if temperature is not None:
        options |= {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    if seed is not None:
        options["generator"] = torch.Generator().manual_seed(seed)
    return Talker(loaded, processor, options, language, languages)


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
            talker.model.set_adapter(name)
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
    talker.processor.save_audio(reply, out)
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
