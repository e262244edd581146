"""
What nano's wrong answers are: another answer of the right kind, or one of another kind.

Depends on texts. Independent of how they were transcribed.
"""

from collections import Counter
from collections.abc import Sequence

from rapidfuzz import fuzz, process

from finetune.nano.domain.questions import items


class AnswerKinds:
    """
    Names the kind of question that a reply answers: that of the right answer which is nearest to it, letter by letter.

    A wrong reply is mostly a sentence of the domain with one word changed ("Twelve plus seven is twenty."), so the
    nearest sentence has its kind.
    """

    def __init__(self) -> None:
        self.kinds = {item.answer: item.kind for item in items()}

    def __call__(self, reply: str) -> str:
        """
        Args:
            reply (`str`): What nano wrote, not empty.

        Returns:
            `str`: A kind of `domain.Item`.
        """
        nearest, _, _ = process.extractOne(reply, self.kinds.keys(), scorer=fuzz.ratio)
        return self.kinds[nearest]


def confusions(lines: Sequence[dict], texts: Sequence[str]) -> dict[str, dict[str, int]]:
    """
    Count, for every kind of question, the kinds of the replies that are wrong.

    Args:
        lines (`Sequence[dict]`): The questions, with "kind" and "answer".
        texts (`Sequence[str]`): One reply each.

    Returns:
        `dict[str, dict[str, int]]`: Of a kind of question, how many wrong replies are of which kind; "nothing" is an
        empty one.
    """
    kind_of = AnswerKinds()
    found: dict[str, Counter[str]] = {}
    for line, text in zip(lines, texts, strict=True):
        wrong = found.setdefault(line["kind"], Counter())
        if text.strip() != line["answer"]:
            wrong[kind_of(text) if text.strip() else "nothing"] += 1
    return {kind: dict(wrong.most_common()) for kind, wrong in sorted(found.items())}
