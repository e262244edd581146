"""
A request: a task, a question, and how to decode the reply; checked before any work is done.

Depends on limits. Trusts nothing in a request but `conversation`, which the front end made itself.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import torch

from modeling_ttt.denoising_rules_ttt import REMASKING_RULES
from processing_ttt import TASKS, TttConversation, TttItemConversation
from processing_ttt.audio_speed_ttt import FASTEST, SLOWEST

from .limits import Limits, RequestError
from .uploads import AudioInput, Upload, checked_audio

TASKS_SERVED = ("chat", "asr", "tts", "text")
MAX_DENOISING_STEPS = 64
MAX_TEMPERATURE = 5.0
MAX_GUIDANCE_SCALE = 10.0
MAX_ENTROPY_BOUND = 100.0  # nats
MAX_NEW_TOKENS = 8192
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class DecodingOptions:
    """
    How a reply is decoded; `None` leaves a value to the checkpoint.

    Args:
        denoising_steps (`int`, *optional*): Most forward passes over a block of audio.
        remasking (`str`, *optional*): The order in which positions of a block are revealed.
        temperature (`float`, *optional*): Temperature of text; 0 is greedy.
        audio_temperature (`float`, *optional*): Temperature of audio; 0 is greedy.
        audio_guidance_scale (`float`, *optional*): Guidance of audio; 0 is off.
        entropy_bound (`float`, *optional*): Most uncertainty that a denoising step may reveal, in nats; 0 is off: a
            fixed number of positions then.
        seed (`int`, *optional*): Seed of sampling; the same seed gives the same reply.
        max_new_tokens (`int`, *optional*): Longest reply, in token ids of text and audio.
    """

    denoising_steps: int | None = None
    remasking: str | None = None
    temperature: float | None = None
    audio_temperature: float | None = None
    audio_guidance_scale: float | None = None
    entropy_bound: float | None = None
    seed: int | None = None
    max_new_tokens: int | None = None

    @classmethod
    def from_dict(cls, options: object) -> "DecodingOptions":
        """
        Read options that came as JSON.

        Args:
            options (`dict`, *optional*): Names and values; `None` leaves all to the checkpoint.

        Returns:
            [`DecodingOptions`], not checked yet.

        Raises:
            RequestError: If it is no dictionary, or has an unknown option.
        """
        if options is None:
            return cls()
        known = [option.name for option in fields(cls)]
        if not isinstance(options, dict):
            raise RequestError(f"The options are a dictionary of {', '.join(known)}.", "options")
        if set(options) - set(known):
            raise RequestError(f"The options that can be chosen are {', '.join(known)}.", "options")
        return cls(**options)

    def check(self) -> None:
        """Raise a [`RequestError`] for a value of the wrong type or out of its range."""
        _check_number("denoising_steps", self.denoising_steps, 1, MAX_DENOISING_STEPS, whole=True)
        _check_number("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _check_number("audio_temperature", self.audio_temperature, 0, MAX_TEMPERATURE)
        _check_number("audio_guidance_scale", self.audio_guidance_scale, 0, MAX_GUIDANCE_SCALE)
        _check_number("entropy_bound", self.entropy_bound, 0, MAX_ENTROPY_BOUND)
        _check_number("seed", self.seed, 0, MAX_SEED, whole=True)
        _check_number("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS, whole=True)
        if self.remasking is not None and self.remasking not in tuple(REMASKING_RULES):  # a list has no hash
            raise RequestError(f"The remasking is one of {', '.join(REMASKING_RULES)}.", "remasking")

    def generate_kwargs(self) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        names = ("denoising_steps", "remasking", "audio_temperature", "audio_guidance_scale", "max_new_tokens")
        options = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.entropy_bound is not None:
            options["entropy_bound"] = self.entropy_bound or None
        if self.temperature:
            options |= {"do_sample": True, "temperature": float(self.temperature)}
        elif self.temperature is not None:
            options["do_sample"] = False
        if self.seed is not None:
            options["generator"] = torch.Generator().manual_seed(self.seed)
        return options


@dataclass(frozen=True)
class PastTurn:
    """
    A turn before the question, which the client keeps and sends with each question.

    Args:
        text (`str`, *optional*): The user's text.
        audio (`Upload`, *optional*): The user's audio, as in a [`TalkRequest`].
        reply (`str` or `Sequence[int]`): The reply's text, or its token ids from this service.
    """

    text: str | None
    audio: Upload | None
    reply: str | Sequence[int]

    def checked(self, limits: Limits) -> "CheckedTurn":
        """
        Check it as a question is.

        Args:
            limits ([`Limits`]): Limits of the service.

        Returns:
            `tuple`: The user's text and audio as `TalkRequest.checked_question` returns them, and the reply.

        Raises:
            RequestError: If it cannot be taken.
        """
        text = checked_text(self.text, limits)
        reply = checked_text(self.reply, limits) if isinstance(self.reply, str) else self.reply
        if text is None and self.audio is None:
            raise RequestError("A message of the user is empty: leave it out.", "text")
        if not reply:
            raise RequestError("A message of the assistant is empty: leave it out.", "text")
        return text, None if self.audio is None else _checked_audio(self.audio, limits), reply


CheckedTurn: TypeAlias = tuple[str | None, AudioInput | None, str | Sequence[int]]


@dataclass(frozen=True)
class TalkRequest:
    """
    One request.

    Args:
        task (`str`, defaults to `"chat"`): `chat` answers in text and audio, `asr` transcribes, `tts` reads aloud,
            `text` answers in text.
        text (`str`, *optional*): The user's text.
        audio (`Upload`, *optional*): The user's audio: the path of a file that the front end itself wrote, the bytes of
            a file, an [`AudioFile`] (bytes and the name they came under), or sampling rate and samples.
        conversation ([`TttConversation`] or [`TttItemConversation`], *optional*): The turns before, for `chat`; gets
            this turn, and the system prompt if the service has adapters. Messages that can be changed already have the
            question among them.
        options ([`DecodingOptions`], *optional*): How to decode.
        adapter (`str`, *optional*): One of the service's adapters.
        language (`str`, *optional*): Language tag, where the adapter has several; one that it does not have is ignored.
        user (`str`, *optional*): Who asks, for the limit per user.
        history (`Sequence[PastTurn]`): The turns before, for `chat` without `conversation`.
        speed (`float`): Speed at which the reply is played, from 0.25 to 4. Its audio has speed 1; the player changes
            it.
    """

    task: str = "chat"
    text: str | None = None
    audio: Upload | None = None
    conversation: TttConversation | TttItemConversation | None = None
    options: DecodingOptions = field(default_factory=DecodingOptions)
    adapter: str | None = None
    language: str | None = None
    user: str | None = None
    history: Sequence[PastTurn] = ()
    speed: float = 1.0

    def checked_question(self, limits: Limits) -> tuple[str | None, AudioInput | None]:
        """
        Check everything that can be checked without the model.

        Args:
            limits ([`Limits`]): Limits of the service.

        Returns:
            `tuple`: The text without space around it, and the audio as `load_audio` takes it; `None` where there is
                none.

        Raises:
            RequestError: If the request cannot be answered.
        """
        if self.task not in TASKS_SERVED:
            raise RequestError(f"The task is one of {', '.join(TASKS_SERVED)}.", "task")
        if isinstance(self.conversation, TttItemConversation) and self.text is None and self.audio is None:
            self.options.check()
            return None, None
        task, text = TASKS[self.task], checked_text(self.text, limits)
        if task.needs_audio and self.audio is None:
            raise RequestError("There is no audio: record some or choose a file.", "audio")
        if not task.takes_audio and self.audio is not None:
            raise RequestError(f"The task {self.task} takes text and no audio.", "audio")
        if text is None and self.audio is None:
            raise RequestError(
                "There is no question: record, upload or write one."
                if task.takes_audio
                else "There is no text: write some.",
                "text",
            )
        if self.task == "asr" and text is not None:
            raise RequestError("The task asr takes audio and no text.", "text")
        if self.conversation is not None and self.task != "chat":
            raise RequestError("Only the task chat continues a conversation.")
        if self.history and (self.conversation is not None or self.task != "chat"):
            raise RequestError("Only the task chat has turns before, which come with a conversation or without.")
        if not isinstance(self.options, DecodingOptions):
            raise RequestError("The options are `DecodingOptions`.")
        self.options.check()
        _check_number("speed", self.speed, SLOWEST, FASTEST)
        return text, None if self.audio is None else _checked_audio(self.audio, limits.of_task(self.task))


def _checked_audio(audio: object, limits: Limits) -> AudioInput:
    try:
        return checked_audio(audio, limits)
    except RequestError as error:
        error.field = "audio"
        raise


def checked_text(text: object, limits: Limits) -> str | None:
    """
    Check a user's text.

    Args:
        text (`str`, *optional*): As it came.
        limits ([`Limits`]): Limits of the service.

    Returns:
        `str` or `None`: Without space around it; an empty text is `None`.

    Raises:
        RequestError: If it is no text, too long, or has control characters.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise RequestError("The text must be text.", "text")
    if len(text) > limits.text_characters:
        raise RequestError(
            f"The text has {len(text)} characters, and the limit is {limits.text_characters}: make it shorter.",
            "text",
        )
    # Cc are control characters, Cs halves of surrogate pairs: no tokenizer takes them.
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t" for character in text):
        raise RequestError("The text has characters that cannot be read: write it again.", "text")
    return text.strip() or None


def _check_number(name: str, value: object, low: float, high: float, whole: bool = False) -> None:
    if value is None:
        return
    is_kind = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if is_kind and isinstance(value, (int, float)) and low <= value <= high:  # NaN is in no range
        return
    kind = "a whole number" if whole else "a number"
    raise RequestError(f"{name} must be {kind} from {low} to {high}.", name)
