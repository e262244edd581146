"""
Examples: spoken questions of the checkpoint in the box, each answered by the model once and then from memory.

Depends on sessions. A remembered reply equals the one that the model would give: it is used only for the same audio,
decoded without sampling, at the beginning of a conversation.
"""

import copy
import json
import threading
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from modeling_ttt import nano_checkpoint
from processing_ttt import TttConversation

from ..service import AudioFile, TalkRequest
from .session import Session, ShownTurn

MAX_REMEMBERED = 32
FILES = ("4.wav", "6.wav", "8.wav", "10.wav")


@dataclass(frozen=True)
class Example:
    """
    A question in the box.

    Args:
        file (`str`): Its file name among the checkpoint's questions.
        label (`str`): Its words.
    """

    file: str
    label: str


def read_examples(folder: Path) -> tuple[Example, ...]:
    """
    Find examples among the questions of a checkpoint.

    Args:
        folder (`Path`): Holds the audio files, and `questions.jsonl` with their words.

    Returns:
        `tuple[Example, ...]`: Labelled by their words, or numbered where these are unknown.
    """
    listed = folder / "questions.jsonl"
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    words = {question["file"]: question["question"] for question in map(json.loads, lines)}
    return tuple(Example(file, words.get(file, f"Question {number}")) for number, file in enumerate(FILES, 1))


EXAMPLES = read_examples(nano_checkpoint() / "questions")


class ExampleCache:
    """Remembers the replies to the examples, for all sessions."""

    def __init__(self) -> None:
        self._questions = {question_bytes(example) for example in EXAMPLES}
        self._remembered: OrderedDict[tuple[object, ...], tuple[ShownTurn, TttConversation]] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, session: Session, request: TalkRequest, name: str | None = None) -> Generator[ShownTurn]:
        """
        Ask, or remember: `Session.ask` with a memory.

        Args:
            session ([`Session`]): Who asks.
            request ([`TalkRequest`]): What is asked.
            name (`str`, *optional*): Name of the turn, where the browser chose one.

        Yields:
            [`ShownTurn`]: As `Session.ask`.

        Raises:
            RequestError: As `Session.ask`.
        """
        key = self._key(session, request)
        with self._lock:
            remembered = self._remembered.get(key) if key else None
        if remembered is not None:
            turn, conversation = remembered
            yield session.recall(turn, conversation.fork())
            return
        asked: ShownTurn | None = None
        for asked in session.ask(request, name):
            yield asked
        if key and asked and session.turns == [asked]:  # not cleared since
            self._remember(key, asked, session.conversation)

    def _remember(self, key: tuple[object, ...], turn: ShownTurn, conversation: TttConversation) -> None:
        if turn.summary and turn.summary.finished:
            with self._lock:
                self._remembered[key] = copy.copy(turn), conversation.fork()
                while len(self._remembered) > MAX_REMEMBERED:
                    self._remembered.popitem(last=False)

    def _key(self, session: Session, request: TalkRequest) -> tuple[object, ...] | None:
        """Return what a reply depends on; `None` where it depends on more than the example."""
        audio, options = request.audio, request.options
        if (
            session.turns
            or session.is_retrying
            or request.text
            or not isinstance(audio, AudioFile)
            or audio.data not in self._questions
        ):
            return None
        if options.temperature or options.audio_temperature or options.remasking == "random":
            return None
        return (session.service, audio.data, request.task, options, request.adapter, request.speed)


def question_bytes(example: Example) -> bytes:
    """Read the audio file of an example."""
    return (nano_checkpoint() / "questions" / example.file).read_bytes()
