"""
The command line: `ttt talk`, `ttt transcribe`, `ttt speak`, `ttt convert-codec`.

The only module that imports all packages. It knows options, files and messages; what they do is the packages' business.
"""

import logging
import sys
import time
import warnings
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from processing_ttt import TttProcessor, TttReply

app = typer.Typer(
    name="ttt",
    help="Text-to-Talk: ask in speech or text, get text and speech back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    typer.Option(min=1, help="Denoising steps per block. The checkpoint's setting by default.", show_default=False),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="Longest reply, in ids of text and sound. The checkpoint's setting by default.", show_default=False
    ),
]


@dataclass
class Talker:
    """A loaded model with its processor, and how to decode."""

    model: Any
    processor: "TttProcessor"
    options: dict[str, Any]

    def ask(self, task: str, text: str | None = None, audio: Path | None = None) -> "TttReply":
        """Run one turn: encode the question, generate, decode the reply."""
        inputs = self.processor.apply_chat_template(
            self.processor.conversation(task, text=text, audio=audio),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        ids = self.model.generate(**inputs.to(self.model.device), **self.options)
        return self.processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])


def _load(model: str, device: str, dtype: Dtype, seed: int | None, **options: Any) -> Talker:
    import torch
    from transformers import AutoModel, AutoProcessor

    from modeling_ttt import nano_checkpoint
    from processing_ttt import TttProcessor  # noqa: F401 - registers the processor with AutoProcessor

    source = model or str(nano_checkpoint())
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    loaded = AutoModel.from_pretrained(source, dtype=dtype.value).to(device).eval()
    processor = AutoProcessor.from_pretrained(source)
    options = {name: value for name, value in options.items() if value is not None}
    temperature = options.pop("temperature", None)
    if temperature is not None:
        options |= {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    if seed is not None:
        options["generator"] = torch.Generator().manual_seed(seed)
    return Talker(loaded, processor, options)


def _check_out(out: Path) -> None:
    """Refuse before any work is done what could not be written after it."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(out)!r} does not exist; create it, or choose another --out.")


def _write_reply(reply: "TttReply", out: Path, seconds: float, talker: Talker) -> None:
    typer.echo(reply.text)
    if not len(reply.audio):
        typer.echo("The reply has no sound, so no file was written.", err=True)
        return
    talker.processor.save_audio(reply, out)
    typer.echo(
        f"{reply.seconds:.2f} s of speech in {out}, answered in {seconds:.2f} s: real-time factor {seconds / reply.seconds:.2f}"
    )


@app.command()
def talk(
    audio: Annotated[Path | None, typer.Option(help="A spoken question (wav, flac, mp3, ogg).")] = None,
    text: Annotated[str | None, typer.Option(help="A written question.")] = None,
    out: Annotated[Path, typer.Option(help="Where the spoken answer goes.")] = Path("reply.wav"),
    transcribe: Annotated[bool, typer.Option(help="Print first what was heard (a second pass).")] = False,
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    seed: Seed = None,
    temperature: Temperature = None,
    audio_temperature: AudioTemperature = None,
    denoising_steps: Steps = None,
    max_new_tokens: MaxNewTokens = None,
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
        temperature=temperature,
        audio_temperature=audio_temperature,
        denoising_steps=denoising_steps,
        max_new_tokens=max_new_tokens,
    )
    if transcribe and audio is not None:
        typer.echo(f"Heard: {talker.ask('asr', audio=audio).text}")
    talker.processor.codec  # noqa: B018 - loading is not part of the answer's time
    start = time.perf_counter()
    reply = talker.ask("chat", text=text, audio=audio)
    _write_reply(reply, out, time.perf_counter() - start, talker)


@app.command()
def transcribe(
    audio: Annotated[Path, typer.Option(help="Recorded speech (wav, flac, mp3, ogg).")],
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    seed: Seed = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
) -> None:
    """Write down what is said in a recording."""
    talker = _load(model, device, dtype, seed, temperature=temperature, max_new_tokens=max_new_tokens)
    typer.echo(talker.ask("asr", audio=audio).text)


@app.command()
def speak(
    text: Annotated[str, typer.Option(help="What to say.")],
    out: Annotated[Path, typer.Option(help="Where the speech goes.")] = Path("speech.wav"),
    model: Model = "",
    device: Device = "auto",
    dtype: DtypeOption = Dtype.auto,
    seed: Seed = None,
    temperature: Temperature = None,
    audio_temperature: AudioTemperature = None,
    denoising_steps: Steps = None,
    max_new_tokens: MaxNewTokens = None,
) -> None:
    """Read a text aloud."""
    _check_out(out)
    talker = _load(
        model,
        device,
        dtype,
        seed,
        temperature=temperature,
        audio_temperature=audio_temperature,
        denoising_steps=denoising_steps,
        max_new_tokens=max_new_tokens,
    )
    talker.processor.codec  # noqa: B018 - loading is not part of the speaking time
    start = time.perf_counter()
    reply = talker.ask("tts", text=text)
    _write_reply(reply, out, time.perf_counter() - start, talker)


@app.command("convert-codec")
def convert_codec(
    source: Annotated[
        str, typer.Argument(help="Folder of glm-4-voice-tokenizer and glm-4-voice-decoder, or who has them on the Hub.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    tokenizer: Annotated[
        str, typer.Option(help="Folder or Hub id of the speech tokenizer, if it lies elsewhere.")
    ] = "",
    decoder: Annotated[str, typer.Option(help="Folder or Hub id of the decoder, if it lies elsewhere.")] = "",
) -> None:
    """Make one codec of the released files of GLM-4-Voice."""
    from processing_ttt import glm4_voice_convert as convert
    from processing_ttt.glm4_voice_licence import LICENCE_NOTICE

    typer.echo(LICENCE_NOTICE)
    convert.convert_codec(
        tokenizer or f"{source}/{convert.TOKENIZER_NAME}", decoder or f"{source}/{convert.DECODER_NAME}", output
    )
    typer.echo(f"The codec is in {output}.")


def _quiet() -> None:
    """Leave the screen to the answer: no progress bars or notes of the libraries."""
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
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
