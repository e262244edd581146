"""
Examples: spoken questions from the checkpoint in the box, each answered by the model once and shown from memory after
that.

Knows exchanges. A remembered reply is what asking would give, because it is only used where it would: for the same
sound, decoded without chance, at the beginning of a conversation.
"""

import copy
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modeling_ttt import nano_checkpoint
from processing_ttt import TttConversation

from .session import Exchange, Question, Session

MAX_REMEMBERED = 32
FILES = ("4.wav", "6.wav", "8.wav", "10.wav")


@dataclass(frozen=True)
class Example:
    """
    A question in the box.

    Args:
        file (`str`): Its name among the checkpoint's questions.
        label (`str`): What is said in it.
    """

    file: str
    label: str


def read_examples(folder: Path) -> tuple[Example, ...]:
    """
    Find examples among the questions of a checkpoint.

    Args:
        folder (`Path`): Holds the sounds, and in `questions.jsonl` what is said in them.

    Returns:
        `tuple[Example, ...]`: Labelled by what is said, or numbered where nobody wrote it down.
    """
    listed = folder / "questions.jsonl"
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    said = {question["file"]: question["question"] for question in map(json.loads, lines)}
    return tuple(Example(file, said.get(file, f"Question {number}")) for number, file in enumerate(FILES, 1))


EXAMPLES = read_examples(nano_checkpoint() / "questions")


class ExampleCache:
    """Remembers the replies to the examples, for everybody."""

    def __init__(self) -> None:
        self._sounds = {question_bytes(example) for example in EXAMPLES}
        self._remembered: OrderedDict[tuple[object, ...], tuple[Exchange, TttConversation]] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, session: Session, question: Question) -> Iterator[Exchange]:
        """
        Ask, or remember: `Session.ask` with a memory.

        Args:
            session ([`Session`]): Who asks.
            question ([`Question`]): What is asked.

        Yields:
            [`Exchange`]: As `Session.ask`.

        Raises:
            DemoError: As `Session.ask`.
        """
        key = self._key(session, question)
        with self._lock:
            remembered = self._remembered.get(key) if key else None
        if remembered is not None:
            exchange, conversation = remembered
            yield session.recall(exchange, conversation.fork())
            return
        exchange = None
        for exchange in session.ask(question):
            yield exchange
        if key and exchange and exchange.summary and exchange.summary.finished and session.exchanges == [exchange]:
            with self._lock:
                self._remembered[key] = copy.copy(exchange), session.conversation.fork()
                while len(self._remembered) > MAX_REMEMBERED:
                    self._remembered.popitem(last=False)

    def _key(self, session: Session, question: Question) -> tuple[object, ...] | None:
        """Say what a reply depends on; `None` where it is not only the example."""
        if session.exchanges or question.sound is None or question.sound.data not in self._sounds or question.text:
            return None
        options = question.options
        if options.temperature or options.audio_temperature or options.remasking == "random":
            return None
        return (session.service, question.sound.data, question.task, options, question.adapter)


def question_bytes(example: Example) -> bytes:
    """Read an example's sound."""
    return (nano_checkpoint() / "questions" / example.file).read_bytes()
