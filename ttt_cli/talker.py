"""
What a command of inference asks: a model, loaded once, with its adapters.

    options ── checks of checks.py, then PyTorch ──► [`Talker`] ── one adapter after the other ──► replies

Depends on options and files. Independent of what is asked and how answers are shown.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .checks import check_device, check_hub, check_installed, check_language, check_model
from .options import Dtype, Engine, show_progress, status, without_collections

if TYPE_CHECKING:
    from finetune.adapters.languages import AdapterLanguages
    from processing_ttt import TttProcessor, TttReply, TttStreamer, TttTalker, TttTranscript

DEFAULT_LANGUAGE = "en"  # of `processing_ttt.tasks_ttt`, whose import takes seconds
REPLY = Path("reply.wav")

Audio = Path | bytes  # a file, or what came from stdin


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

    def ask(self, task: str, text: str | None = None, audio: Audio | None = None) -> "TttReply":
        """Answer one question."""
        return self.talker.reply(audio, text, task, system_prompt=self.system_prompt(task))

    def stream(self, task: str, text: str | None = None, audio: Audio | None = None) -> "TttStreamer":
        """Answer one question, to be followed while the reply is generated."""
        return self.talker.stream(audio, text, task, system_prompt=self.system_prompt(task))

    def transcribe(self, audio: Audio) -> "TttTranscript":
        """Transcribe a recording of any length."""
        return self.talker.transcribe(audio, system_prompt=self.system_prompt("asr"))

    def system_prompt(self, task: str) -> str | None:
        """Write the prompt in the active adapter's language; `None` leaves it to the talker."""
        if self.talker.language is not None or not self.adapter:
            return None
        return self.adapters[self.adapter].system_prompt(task, self.processor)


@without_collections()
def load(
    model: str,
    device: str,
    dtype: Dtype,
    engine: Engine,
    seed: int | None,
    adapters: list[str] | None = None,
    language: str | None = None,
    **options: Any,
) -> Talker:
    """Check the options of a command, then load what answers."""
    check_device(device)
    if engine is Engine.onnx and adapters:
        raise ValueError("--engine onnx takes no --adapter: merge it (`ttt merge`), then `ttt export`.")
    check_installed(*(["onnxruntime"] if engine is Engine.onnx else []), *(["peft"] if adapters else []))
    folders = named_adapters(adapters or [])
    for name in (model, *folders.values()):
        check_model(name)
    check_language(language, [] if model or folders else [DEFAULT_LANGUAGE], "nano")
    check_hub((*model.split("+"), *folders.values()))
    status(f"Loading {model or 'the model'} ...")
    if model and not Path(model).is_dir():
        show_progress()  # it may be downloaded
    import torch

    from finetune.adapters.loading import base_of
    from modeling_ttt import nano_checkpoint
    from processing_ttt import TttTalker

    source = model or _base(base_of(folders.values())) or str(nano_checkpoint())
    languages = _languages(folders, language)
    options = {name: value for name, value in options.items() if value is not None}
    temperature = options.pop("temperature", None)
    if temperature is not None:
        options |= {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    if seed is not None:
        options["generator"] = torch.Generator().manual_seed(seed)
    talker = TttTalker.from_pretrained(
        source, device=device, dtype=dtype.value, language=language, engine=engine.value, **options
    )
    if folders:
        from finetune.adapters.lora import load_adapters

        talker.model = load_adapters(talker.model, folders)
    return Talker(talker, languages)


def _base(base: str | None) -> str | None:
    """The checkpoint that adapters were trained from, which is known by its name then and there."""
    try:
        check_hub([base or ""])
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The adapter was trained from {base!r}; give its place now by --model. {error}"
        ) from None
    return base


def _languages(folders: dict[str, str], wanted: str | None) -> "dict[str, AdapterLanguages]":
    """Read what languages adapters have, and refuse one that none of them has."""
    from finetune.adapters.languages import read_languages

    languages = {name: read_languages(folder) for name, folder in folders.items()}
    if all(one.tags for one in languages.values()):
        known = [tag for one in languages.values() for tag in (*one.tags, one.default or DEFAULT_LANGUAGE)]
        check_language(wanted, known, f"the adapter {', '.join(folders.values())}")
    return languages


def named_adapters(adapters: list[str]) -> dict[str, str]:
    """Split NAME=FOLDER; a single adapter needs no name."""
    folders = {}
    for adapter in adapters:
        name, equals, folder = adapter.partition("=")
        if not equals and len(adapters) > 1:
            raise ValueError(f"Of several adapters each needs a name: --adapter NAME={adapter}.")
        folders[name if equals else "adapter"] = folder if equals else adapter
    return folders


def files_of(out: Path, adapters: Iterable[str]) -> dict[str, Path]:
    """Give the file of each adapter's answer: `reply.wav`, of several `reply-NAME.wav`; "" is no adapter."""
    names = list(adapters) or [""]
    return {name: out.with_stem(f"{out.stem}-{name}") if len(names) > 1 else out for name in names}


def each_adapter(talker: Talker, out: Path | None, as_json: bool = False, default: Path = REPLY) -> Iterator[Path]:
    """
    Activate one adapter after the other, and give the file of its answer; where none was named, one that is not there.
    """
    for name, path in files_of(out or default, talker.adapters).items():
        if name:
            talker.talker.model.set_adapter(name)
            talker.adapter = name
        if len(talker.adapters) > 1 and not as_json:
            typer.echo(f"{name}:")
        yield path if out else _free(path)


def _free(path: Path) -> Path:
    """The path, or where it is taken `reply-2.wav`, `reply-3.wav`, ..."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(candidate for candidate in chain([path], numbered) if not candidate.exists())
