"""
What a public talker takes, and how it says no.

Knows numbers and sentences. Knows no model, no Gradio and no HTTP.
"""

import math
from dataclasses import dataclass


class DemoError(ValueError):
    """A request that cannot be answered, in one sentence for the person who asked."""


class Busy(DemoError):
    """
    A request that would be answered at another time.

    Args:
        message (`str`): The sentence for the person who asked.
        retry_after (`float`): In how many seconds it is worth asking again.
    """

    def __init__(self, message: str, retry_after: float):
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """
    Bounds of a service that strangers use.

    Args:
        upload_bytes (`int`): Size of a sound file.
        question_seconds (`float`): Length of a sound.
        text_characters (`int`): Length of a text.
        served_at_once (`int`): Requests that the model answers at the same time.
        waiting (`int`): Requests that wait for their turn.
        per_user (`int`): Requests of one user that are answered or wait.
        seconds_per_request (`float`): Time for one answer, from its turn on; waiting does not count.
        file_types (`tuple[str, ...]`): Endings of sound files that are taken. What the file holds is looked at besides.
    """

    upload_bytes: int = 10 * 2**20
    question_seconds: float = 30.0
    text_characters: int = 500
    served_at_once: int = 2
    waiting: int = 32
    per_user: int = 4
    seconds_per_request: float = 60.0
    file_types: tuple[str, ...] = (".wav", ".flac", ".mp3", ".ogg")

    @property
    def file_types_in_words(self) -> str:
        """The endings as a sentence lists them."""
        *most, last = [ending.lstrip(".") for ending in self.file_types]
        return f"{', '.join(most)} or {last}" if most else last

    @property
    def upload_in_words(self) -> str:
        """The largest file as a person reads it."""
        return f"{self.upload_bytes / 2**20:g} MB"


def in_words(seconds: float) -> str:
    """Say a wait as a person would: `about 12 s`, `about 3 min`."""
    return f"about {math.ceil(seconds)} s" if seconds <= 90 else f"about {math.ceil(seconds / 60)} min"
