"""
Second questions that mean something only after the first: "What colour is grass?" - "Grass is green." - "And a frog?"

Depends on texts. What a second turn asks for is always a fact that is trained on; its last wording is never trained on.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from .families import Family, first_families
from .more_families import more_families
from .questions import LARGEST_NUMBER, Item, items
from .spoken_numbers import number_words

SWAPPED = ("colour", "opposite", "capital", "rhyme", "animal", "spelling", "joke")  # asked again about something else
ASK_SWAPPED = ("And {}?", "What about {}?", "And what about {}?", "How about {}?")
ASK_NEXT = {
    "after": ("And after that?", "And what comes after that?", "And then?", "What comes after that?"),
    "before": ("And before that?", "And what comes before that?", "What is before that?", "What comes before that?"),
}
ASK_MORE = {
    "plus": ("And plus {}?", "Plus {}?", "Now plus {}.", "And if you add {}?"),
    "minus": ("And minus {}?", "Minus {}?", "Now minus {}.", "And if you subtract {}?"),
}

_NEIGHBOUR = re.compile(r"(After|Before) (.+) comes (.+)\.")
_RESULT = re.compile(r".+ (?:plus|minus) .+ is (.+)\.")


@dataclass(frozen=True)
class FollowUp:
    """
    Two turns of a conversation.

    Args:
        first (`Item`): The first question with its answer, from training.
        question (`str`): The second question.
        answer (`str`): Its answer, in the light of the first.
        split (`str`): "train", or "unseen_template" if the second question's wording is never trained on.
    """

    first: Item
    question: str
    answer: str
    split: str


def follow_ups(count: int, split: str = "train", seed: int = 5) -> list[FollowUp]:
    """
    Draw two-turn conversations.

    Args:
        count (`int`): How many.
        split (`str`, *optional*, defaults to `"train"`): "train" or "unseen_template".
        seed (`int`, *optional*, defaults to 5): Of the choice.

    Returns:
        `list[FollowUp]`: Distinct; a larger count begins with the same ones.

    Raises:
        ValueError: The split is neither.
    """
    if split not in ("train", "unseen_template"):
        raise ValueError(f"A second turn is of split 'train' or 'unseen_template', not {split!r}.")
    rng = random.Random(f"{seed} {split}")
    train = [item for item in items() if item.split == "train"]
    makers = [*_swappers(train), _neighbour_maker(train), _sum_maker(train)]
    found: dict[FollowUp, None] = {}
    while len(found) < count:
        first, ask, slot, answer = rng.choice(makers)(rng)
        template = ask[-1] if split == "unseen_template" else rng.choice(ask[:-1])
        found[FollowUp(first, template.format(slot), answer, split)] = None
    return list(found)


# the first item, wordings, their slot, the answer
_Maker = Callable[[random.Random], tuple[Item, tuple[str, ...], str, str]]


def _swappers(train: list[Item]) -> list[_Maker]:
    return [
        _swapper(family, [item for item in train if item.kind == family.kind])
        for family in [*first_families(), *more_families()]
        if family.kind in SWAPPED
    ]


def _swapper(family: Family, train: list[Item]) -> _Maker:
    answers = {answer for _, answer in family.facts}
    own = [item for item in train if item.answer in answers]
    facts = list(family.facts)
    article = "a {}" if family.kind == "animal" else "{}"

    def make(rng: random.Random) -> tuple[Item, tuple[str, ...], str, str]:
        first = rng.choice(own)
        slots, answer = rng.choice([fact for fact in facts if fact[1] != first.answer])
        return first, ASK_SWAPPED, article.format(*slots), answer

    return make


def _neighbour_maker(train: list[Item]) -> _Maker:
    steps = {(m[1], m[2]): item.answer for item in train if (m := _NEIGHBOUR.fullmatch(item.answer))}
    firsts = []
    for item in train:
        match = _NEIGHBOUR.fullmatch(item.answer)
        if match is None:
            continue
        there = f"the letter {match[3]}" if match[2].startswith("the letter") else match[3]
        if (match[1], there) in steps:
            firsts.append((item, match[1].lower(), steps[match[1], there]))

    def make(rng: random.Random) -> tuple[Item, tuple[str, ...], str, str]:
        first, side, answer = rng.choice(firsts)
        return first, ASK_NEXT[side], "", answer

    return make


def _sum_maker(train: list[Item]) -> _Maker:
    known = {item.answer for item in train if item.kind in ("sum", "difference")}
    values = {number_words(number): number for number in range(LARGEST_NUMBER + 1)}
    firsts = [
        (item, values[match[1]])
        for item in train
        if item.kind in ("sum", "difference") and (match := _RESULT.fullmatch(item.answer)) and match[1] in values
    ]

    def make(rng: random.Random) -> tuple[Item, tuple[str, ...], str, str]:
        while True:
            first, result = rng.choice(firsts)
            sign, more = rng.choice(list(ASK_MORE)), rng.randint(1, 10)
            total = result + more if sign == "plus" else result - more
            if total >= 0:
                answer = f"{number_words(result).capitalize()} {sign} {number_words(more)} is {number_words(total)}."
                if answer in known:
                    return first, ASK_MORE[sign], number_words(more), answer

    return make
