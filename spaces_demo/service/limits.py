"""
What a public talker accepts, and the errors of what it does not.

Independent of the model, Gradio and HTTP.
"""

import math
from dataclasses import dataclass, replace


class RequestError(ValueError):
    """
    A request that cannot be answered.

    Args:
        message (`str`): A sentence for the person who asked.
        field (`str`, *optional*): What of the request is at fault: a field of [`TalkRequest`] or of its options.
    """

    def __init__(self, message: str, field: str | None = None):
        super().__init__(message)
        self.field = field


class ServiceFault(RequestError):
    """A failure of the service, which the same request may not meet again."""


class Busy(RequestError):
    """
    A request that can be answered later.

    Args:
        message (`str`): A sentence for the person who asked.
        retry_after (`float`): Seconds until it is worth asking again.
    """

    def __init__(self, message: str, retry_after: float):
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """
    Limits of a service that strangers use.

    Args:
        upload_bytes (`int`): Largest audio file.
        question_seconds (`float`): Longest audio.
        text_characters (`int`): Longest text.
        served_at_once (`int`): Requests that are answered at the same time.
        waiting (`int`): Requests that wait for their turn.
        per_user (`int`): Requests of one user that are answered or wait.
        seconds_per_request (`float`): Most seconds for one answer; waiting does not count.
        file_types (`tuple[str, ...]`): Endings of audio files that are accepted. The content is checked, too.
        recording_seconds (`float`, *optional*): Longest audio that is transcribed; by default as any other.
        visits (`int`): Visits of the page that are remembered; one more ends that which was idle for longest.
        visit_seconds (`float`): Seconds after its last question that a visit is remembered.
        folder_bytes (`int`): Most bytes of uploaded files and of replies that are kept; the oldest are deleted.
    """

    upload_bytes: int = 10 * 2**20
    question_seconds: float = 30.0
    text_characters: int = 500
    served_at_once: int = 2
    waiting: int = 32
    per_user: int = 4
    seconds_per_request: float = 60.0
    file_types: tuple[str, ...] = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".webm")
    recording_seconds: float | None = None
    visits: int = 128
    visit_seconds: float = 3600.0
    folder_bytes: int = 2**30

    def of_task(self, task: str) -> "Limits":
        """Return the limits of a task, whose longest audio is `question_seconds`."""
        longest = self.recording_seconds if task == "asr" else None
        return self if longest is None else replace(self, question_seconds=longest)

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
    """Write a time to wait for a person: `about 12 s`, `about 3 min`."""
    return f"about {math.ceil(seconds)} s" if seconds <= 90 else f"about {math.ceil(seconds / 60)} min"
