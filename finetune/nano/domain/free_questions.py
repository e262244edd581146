"""
The questions of `free_templates.py`, `wordings.tsv` and `outside.py` as items, and how people type.

`wordings.tsv` has further wordings by several authors, a line each: what is asked for (the first template of a family,
the answer of small talk, or `outside`), a tab, and the wording with the family's slots. They are for training only.

Depends on the other modules of the domain. Independent of speech.
"""

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .families import Family, first_families
from .free_templates import CARRIERS, FREE_TALK, FREE_TEMPLATES, NOUN_PHRASES, QUESTION_CARRIERS
from .more_families import more_families
from .outside import OUTSIDE_ANSWER, outside_questions
from .questions import LARGEST_NUMBER, Item, fill, items
from .small_talk import TALK
from .spoken_numbers import number_words

WORDINGS = Path(__file__).with_name("wordings.tsv")
CARRIERS_PER_FACT = 12
OUTSIDE = "outside"  # the kind of a question that nano cannot answer
_DIGITS = {number_words(number): str(number) for number in range(101)}
_OPERATORS = {" plus ": " + ", " minus ": " - ", " times ": " x "}


@lru_cache(maxsize=1)
def free_items() -> tuple[Item, ...]:
    """
    Freely worded questions to train with, and questions outside the domain.

    Returns:
        `tuple[Item, ...]`: Distinct questions, none of which [`items`] has, of split "train"; every answer is that of
        a training item, or `OUTSIDE_ANSWER` for the kind `OUTSIDE`.
    """
    known = {item.question for item in items()}
    more = wordings()
    found: dict[str, Item] = {}
    for family, slots, answer in _trained_facts():
        first = family.templates[0]
        for template in (*FREE_TEMPLATES[first], *more.get(first, ())):
            question = fill(template, slots)
            found.setdefault(question, Item(family.kind, question, answer, "train"))
    for answer in TALK:
        questions = (*FREE_TALK.get(answer, ()), *more.get(answer, ()))
        found.update({question: Item("talk", question, answer, "train") for question in questions})
    outside = (*outside_questions(), *more.get(OUTSIDE, ()))
    found.update({question: Item(OUTSIDE, question, OUTSIDE_ANSWER, "train") for question in outside})
    return tuple(item for question, item in found.items() if question not in known)


@lru_cache(maxsize=1)
def wordings() -> dict[str, tuple[str, ...]]:
    """
    Read `wordings.tsv`.

    Returns:
        `dict[str, tuple[str, ...]]`: The wordings of each family, by its first template; of each answer of small talk;
        and of questions outside the domain, by `OUTSIDE`.
    """
    found: dict[str, list[str]] = {}
    for line in WORDINGS.read_text(encoding="utf-8").splitlines():
        asked, wording = line.split("\t")
        found.setdefault(asked, []).append(wording)
    return {asked: tuple(dict.fromkeys(lines)) for asked, lines in found.items()}


@lru_cache(maxsize=1)
def indirect_items(seed: int = 0) -> tuple[Item, ...]:
    """
    Indirect and half questions: what is asked for as a noun phrase, carried by a sentence that fits any.

    Args:
        seed (`int`, *optional*, defaults to 0): Of the choice of `CARRIERS_PER_FACT` carriers of a fact.

    Returns:
        `tuple[Item, ...]`: Distinct questions, none of which [`items`] or [`free_items`] has, of split "train".
    """
    rng = random.Random(seed)
    known = {item.question for item in (*items(), *free_items())}
    found: dict[str, Item] = {}
    for family, slots, answer in _trained_facts():
        phrases = NOUN_PHRASES.get(family.templates[0], ())
        for _ in range(CARRIERS_PER_FACT if phrases else 0):
            phrase = rng.choice(phrases)
            takes_what = not phrase.startswith(("how ", "when ", "what ", "which "))
            carrier = rng.choice(CARRIERS + QUESTION_CARRIERS if takes_what else CARRIERS)
            question = fill(carrier.format(phrase), slots)
            found.setdefault(question, Item(family.kind, question, answer, "train"))
    return tuple(item for question, item in found.items() if question not in known)


def _trained_facts() -> Iterator[tuple[Family, tuple[str, ...], str]]:
    """Families, slots and answers of all facts that are trained on and asked about."""
    trained = {item.answer for item in items() if item.split == "train"}
    asked = {number_words(number) for number in range(LARGEST_NUMBER + 1)}
    for family in [*first_families(), *more_families()]:
        for slots, answer in family.facts:
            if answer in trained and (not family.limited or asked.issuperset(slots)):
                yield family, slots, answer


def as_typed(question: str, rng: random.Random) -> str:
    """
    Write a question as people type: digits, no capitals, no punctuation.

    Args:
        question (`str`): With numbers in words.
        rng (`random.Random`): Chooses which of these.

    Returns:
        `str`: The question with the same meaning.
    """
    if rng.random() < 0.6:
        words = sorted(_DIGITS, key=len, reverse=True)
        pattern = r"\b(" + "|".join(words) + r")\b"
        question = re.sub(pattern, lambda found: _DIGITS[found[0].lower()], question, flags=re.IGNORECASE)
        if rng.random() < 0.5:
            for word, sign in _OPERATORS.items():
                question = question.replace(word, sign if rng.random() < 0.6 else sign.strip())
    if rng.random() < 0.5:
        question = question.rstrip(".?!")
    style = rng.random()
    if style < 0.5:
        return question.lower()
    return question.upper() if style < 0.56 else question
