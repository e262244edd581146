"""
One utterance to synthesise, and how texts, voices and rates are drawn for a corpus.

Depends on the domain. Independent of what a corpus is for, of audio and of files.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from finetune.nano.domain.questions import Item, items

QUESTION_VOICES = {"slt": 0.3, "kal16": 0.4, "rms": 0.15, "awb": 0.15}
QUESTION_STRETCHES = (0.9, 0.95, 1.0, 1.05, 1.1)
TEST_STRETCHES = (0.93, 0.98, 1.03, 1.08)  # none of the training ones: every test utterance is a new recording
KIND_SHARES = {  # small kinds run out of distinct utterances before; the others then take their place
    "sum": 0.12, "difference": 0.13, "opposite": 0.09, "name": 0.07, "colour": 0.06, "day": 0.05, "number": 0.05,
    "month": 0.035, "mix": 0.01, "talk": 0.045, "product": 0.06, "capital": 0.06, "unit": 0.05, "time": 0.05,
    "spelling": 0.04, "compare": 0.04, "rhyme": 0.035, "count": 0.03, "letter": 0.03, "calendar": 0.03, "joke": 0.02,
    "animal": 0.015,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """
    One utterance to synthesise.

    Args:
        text (`str`): The text.
        voice (`str`): Name of the voice.
        stretch (`float`): Factor on durations: 1.2 is slower.
        split (`str`): Which part of the data it belongs to.
        fields (`dict[str, str]`, *optional*): Copied into the index.
    """

    text: str
    voice: str
    stretch: float
    split: str
    fields: dict[str, str] = field(default_factory=dict)


def spoken(text: str, split: str, fields: dict[str, str], rng: random.Random) -> Job:
    """Give a text to a random voice of the questions, at a random rate of its split."""
    (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
    return Job(text, voice, rng.choice(QUESTION_STRETCHES if split == "train" else TEST_STRETCHES), split, fields)


def share_of(text: str) -> float:
    """Give a number in [0, 1) that depends on the text alone, to hold texts out by."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def item_fields(item: Item) -> dict[str, str]:
    """Give an item's fields of the index."""
    return {"kind": item.kind, "answer": item.answer}


def of_split(split: str) -> list[Item]:
    """Items of a split of `items`."""
    return [item for item in items() if item.split == split]


def endless(chosen: list[Item], rng: random.Random, kind_shares: dict[str, float] = KIND_SHARES) -> Iterator[Item]:
    """An endless series of items, kinds in their shares; a kind's facts come in rounds, each round with other words."""
    present = {item.kind for item in chosen}
    shares = {kind: share for kind, share in kind_shares.items() if kind in present}
    rounds = {kind: _rounds([i for i in chosen if i.kind == kind], rng) for kind in shares}
    while True:
        (kind,) = rng.choices(list(shares), list(shares.values()))
        yield next(rounds[kind])


def _rounds(chosen: list[Item], rng: random.Random) -> Iterator[Item]:
    by_answer: dict[str, list[Item]] = {}
    for item in rng.sample(chosen, len(chosen)):
        by_answer.setdefault(item.answer, []).append(item)
    number = 0
    while True:
        yield from (same[number % len(same)] for same in rng.sample(list(by_answer.values()), len(by_answer)))
        number += 1
