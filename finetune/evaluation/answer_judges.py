"""
Is an answer right? Judges of answers to questions, by name.

    exact          the answer's words are those of one of the accepted answers, whatever case and punctuation
    contains       the answer contains the words of an accepted answer in order: for models that answer in sentences
    HUB_ID         a chat model of transformers, asked for yes or no

Depends on texts alone.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from .metrics import normalise


class AnswerJudge(Protocol):
    """Decides whether an answer is right."""

    name: str

    def is_right(self, question: str | None, answer: str, accepted: Sequence[str], language: str | None) -> bool:
        """
        Judge one answer.

        Args:
            question (`str`, *optional*): What was asked, where the data has it written.
            answer (`str`): What came back.
            accepted (`Sequence[str]`): Right answers.
            language (`str`, *optional*): Tag of their language.

        Returns:
            `bool`
        """
        ...


def make_answer_judge(name: str) -> AnswerJudge:
    """Find a judge by name, see the module's docstring."""
    if name == "exact":
        return ExactJudge()
    return ContainsJudge() if name == "contains" else ChatJudge(name)


class ExactJudge:
    """Compares whole answers."""

    name = "exact"

    def is_right(self, question: str | None, answer: str, accepted: Sequence[str], language: str | None) -> bool:
        """See `AnswerJudge`."""
        return normalise(answer, language) in {normalise(text, language) for text in accepted}


class ContainsJudge:
    """Looks for an accepted answer in the answer, word by word: "is ten" holds "ten", "often" does not."""

    name = "contains"

    def is_right(self, question: str | None, answer: str, accepted: Sequence[str], language: str | None) -> bool:
        """See `AnswerJudge`."""
        words = f" {normalise(answer, language)} "
        wanted = [normalise(text, language) for text in accepted]
        return any(f" {text} " in words for text in wanted if text)


class ChatJudge:
    """
    A chat model that is asked whether an answer is right.

    Args:
        name (`str`): Folder or Hub id.
    """

    def __init__(self, name: str):
        from transformers import pipeline

        self.name = name
        self.model: Any = pipeline("text-generation", model=name, trust_remote_code=False)

    def is_right(self, question: str | None, answer: str, accepted: Sequence[str], language: str | None) -> bool:
        """See `AnswerJudge`."""
        asked = (
            f"Question: {question or '(spoken, not written down)'}\nAccepted answers: {'; '.join(accepted)}\nGiven "
            f"answer: {answer}\n"
            "Does the given answer say the same as one of the accepted answers? Reply with yes or no."
        )
        reply = self.model(
            [{"role": "user", "content": asked}], max_new_tokens=5, do_sample=False, return_full_text=False
        )
        return reply[0]["generated_text"].strip().lower().startswith("yes")
