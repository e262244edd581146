"""
What a person asks of a talker: a task, a question, and how to decode; checked before any work is done.

Knows limits and the sentences of refusals. Trusts nothing in a request but `conversation`, which the front end made
itself.
"""

import unicodedata
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from modeling_ttt.samplers_ttt import REMASKING_RULES
from processing_ttt import TASKS, TttConversation

from .limits import DemoError, Limits
from .uploads import SoundFile, checked_sound

TASKS_SERVED = ("chat", "asr", "tts", "text")
MAX_DENOISING_STEPS = 64
MAX_TEMPERATURE = 5.0
MAX_GUIDANCE_SCALE = 10.0
MAX_NEW_TOKENS = 8192
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class DecodingOptions:
    """
    How a reply is decoded; `None` leaves a value to the checkpoint.

    Args:
        denoising_steps (`int`, *optional*): Forward passes over a block of sound, at most.
        remasking (`str`, *optional*): Which positions of a block go first.
        temperature (`float`, *optional*): Of the text; 0 takes the best.
        audio_temperature (`float`, *optional*): Of the sound; 0 takes the best.
        audio_guidance_scale (`float`, *optional*): Guidance of the sound; 0 is off.
        seed (`int`, *optional*): Draws the same again.
        max_new_tokens (`int`, *optional*): Longest reply, in ids of text and sound.
    """

    denoising_steps: int | None = None
    remasking: str | None = None
    temperature: float | None = None
    audio_temperature: float | None = None
    audio_guidance_scale: float | None = None
    seed: int | None = None
    max_new_tokens: int | None = None

    @classmethod
    def from_dict(cls, options: Any) -> "DecodingOptions":
        """
        Take options as JSON brings them.

        Args:
            options (`dict`, *optional*): Names and values; nothing is the checkpoint's own.

        Returns:
            [`DecodingOptions`], not checked yet.

        Raises:
            DemoError: If it is no dictionary, or names an option that there is not.
        """
        if options is None:
            return cls()
        known = [option.name for option in fields(cls)]
        if not isinstance(options, dict):
            raise DemoError(f"The options are a dictionary of {', '.join(known)}.")
        if set(options) - set(known):
            raise DemoError(f"The options that can be chosen are {', '.join(known)}.")
        return cls(**options)

    def check(self) -> None:
        """Raise a [`DemoError`] for a value of the wrong kind or out of its range."""
        _check_number("denoising_steps", self.denoising_steps, 1, MAX_DENOISING_STEPS, whole=True)
        _check_number("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _check_number("audio_temperature", self.audio_temperature, 0, MAX_TEMPERATURE)
        _check_number("audio_guidance_scale", self.audio_guidance_scale, 0, MAX_GUIDANCE_SCALE)
        _check_number("seed", self.seed, 0, MAX_SEED, whole=True)
        _check_number("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS, whole=True)
        if self.remasking is not None and self.remasking not in tuple(REMASKING_RULES):  # a list has no hash
            raise DemoError(f"The remasking is one of {', '.join(REMASKING_RULES)}.")

    def generate_kwargs(self) -> dict[str, Any]:
        """Give the arguments of `generate`."""
        names = ("denoising_steps", "remasking", "audio_temperature", "audio_guidance_scale", "max_new_tokens")
        options = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.temperature is not None:
            options |= (
                {"do_sample": True, "temperature": float(self.temperature)}
                if self.temperature
                else {"do_sample": False}
            )
        if self.seed is not None:
            options["generator"] = torch.Generator().manual_seed(self.seed)
        return options


@dataclass(frozen=True)
class TalkRequest:
    """
    One request.

    Args:
        task (`str`, defaults to `"chat"`): `chat` answers in text and sound, `asr` writes down, `tts` reads aloud,
            `text` answers in text.
        text (`str`, *optional*): What the user writes.
        audio (*optional*): What the user says: the path of a file that the front end itself put there, the bytes of a
        file,
            a [`SoundFile`] (bytes and the name they came under), or `(rate, array)`.
        conversation ([`TttConversation`], *optional*): The turns before, for `chat`; gets this turn, and of a service
            with adapters the system prompt.
        options ([`DecodingOptions`], *optional*): How to decode.
        adapter (`str`, *optional*): One of the service's adapters.
        language (`str`, *optional*): Tag of the language, where the adapter has several; one that it does not have is
            no fault.
        user (`str`, *optional*): Who asks, for the bound per user.
    """

    task: str = "chat"
    text: str | None = None
    audio: Any = None
    conversation: TttConversation | None = None
    options: DecodingOptions = field(default_factory=DecodingOptions)
    adapter: str | None = None
    language: str | None = None
    user: str | None = None

    def checked_question(self, limits: Limits) -> tuple[str | None, Any]:
        """
        Check everything that can be checked without the model.

        Args:
            limits ([`Limits`]): Of the service.

        Returns:
            `tuple`: The text, tidied, and the sound as `load_audio` takes it, each `None` if there is none.

        Raises:
            DemoError: If the request cannot be answered.
        """
        if self.task not in TASKS_SERVED:
            raise DemoError(f"The task is one of {', '.join(TASKS_SERVED)}.")
        task, text = TASKS[self.task], checked_text(self.text, limits)
        if task.needs_audio and self.audio is None:
            raise DemoError("There is nothing to listen to: record a sound or choose a file.")
        if not task.takes_audio and self.audio is not None:
            raise DemoError(f"The task {self.task} takes text and no sound.")
        if text is None and self.audio is None:
            raise DemoError(
                "There is no question: say, upload or write one."
                if task.takes_audio
                else "There is no text: write some."
            )
        if self.task == "asr" and text is not None:
            raise DemoError("Writing down takes a sound and no text.")
        if self.conversation is not None and self.task != "chat":
            raise DemoError("Only the task chat goes on with a conversation.")
        if not isinstance(self.options, DecodingOptions):
            raise DemoError("The options are `DecodingOptions`.")
        self.options.check()
        return text, None if self.audio is None else checked_sound(self.audio, limits)


def checked_text(text: Any, limits: Limits) -> str | None:
    """
    Check what a user wrote.

    Args:
        text (`str`, *optional*): As it came.
        limits ([`Limits`]): Of the service.

    Returns:
        `str` or `None`: Without space around it; nothing at all is `None`.

    Raises:
        DemoError: If it is no text, too long, or holds what no person writes.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise DemoError("The text must be text.")
    if len(text) > limits.text_characters:
        raise DemoError(f"The text has {len(text)} characters, and we take {limits.text_characters}: make it shorter.")
    # Cc are control characters, Cs halves of characters: no tokenizer takes them.
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t" for character in text):
        raise DemoError("The text holds characters that cannot be read: write it again.")
    return text.strip() or None


def _check_number(name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    if value is None:
        return
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # NaN lies nowhere
        kind = "a whole number" if whole else "a number"
        raise DemoError(f"{name} must be {kind} from {low} to {high}.")


__all__ = ["DecodingOptions", "SoundFile", "TalkRequest", "checked_text"]
