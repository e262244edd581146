"""
Freely worded questions, indirect ones and those outside the domain, as corpora.

Depends on the domain and on `jobs.py`. Independent of audio and of files.
"""

import random
from dataclasses import replace

from finetune.nano.domain.free_questions import OUTSIDE, free_items, indirect_items
from finetune.nano.domain.outside import OUTSIDE_ANSWER, outside_questions
from finetune.nano.domain.questions import normalise

from .free_wording import free_test_questions, freely_worded
from .jobs import KIND_SHARES, Job, endless, item_fields, of_split, spoken

FREE_KIND_SHARES = KIND_SHARES | {"talk": 0.1, OUTSIDE: 0.16}
PLAIN_SHARE = 0.3  # of the freely worded questions begin as a plain one
SAID_AS_IT_IS_SHARE = 0.4  # of the freely worded templates, without an opening or an ending


def free_jobs(count: int, seed: int = 8) -> list[Job]:
    """
    Freely worded questions, and questions outside the domain.

    Args:
        count (`int`): How many; a larger count begins with the same ones.
        seed (`int`, *optional*, defaults to 8): Of the choice.

    Returns:
        `list[Job]`: Distinct texts, none of which is measured with.
    """
    rng = random.Random(seed)
    plain, free = endless(of_split("train"), rng), endless(list(free_items()), rng, FREE_KIND_SHARES)
    tested = _tested()
    jobs: dict[str, Job] = {}
    while len(jobs) < count:
        is_plain = rng.random() < PLAIN_SHARE
        item = next(plain if is_plain else free)
        text = item.question
        if is_plain or rng.random() >= SAID_AS_IT_IS_SHARE:
            text = freely_worded(text, item.kind, rng)
        job = spoken(text, "train", item_fields(item) | {"question": item.question}, rng)
        if normalise(text) not in tested:
            jobs.setdefault(text, job)
    return list(jobs.values())


def indirect_jobs(count: int, seed: int = 9) -> list[Job]:
    """
    Indirect and half questions.

    Args:
        count (`int`): How many; a larger count begins with the same ones.
        seed (`int`, *optional*, defaults to 9): Of the choice.

    Returns:
        `list[Job]`: Distinct texts, none of which is measured with.
    """
    rng = random.Random(seed)
    tested = _tested()
    jobs: dict[str, Job] = {}
    for item in endless(list(indirect_items()), rng):
        job = spoken(item.question, "train", item_fields(item) | {"question": item.question}, rng)
        if normalise(job.text) not in tested:
            jobs.setdefault(job.text, job)
        if len(jobs) == count:
            break
    return list(jobs.values())


def _tested() -> set[str]:
    """The questions to measure with or to choose by, which nothing is trained on."""
    return {normalise(question) for question, *_ in free_test_questions()}


def kind_jobs(kind: str, count: int) -> list[Job]:
    """
    Questions of one kind of which the other corpora have few, each once.

    Args:
        kind (`str`): `"talk"` or `OUTSIDE`.
        count (`int`): How many, if there are as many; a larger count begins with the same ones.

    Returns:
        `list[Job]`: Distinct texts, none of which is measured with.
    """
    rng = random.Random(kind)
    tested = _tested()
    chosen = [item for item in (*of_split("train"), *free_items()) if item.kind == kind]
    kept = [item for item in rng.sample(chosen, len(chosen)) if normalise(item.question) not in tested]
    jobs = [spoken(item.question, "train", item_fields(item) | {"question": item.question}, rng) for item in kept]
    return jobs[:count]


def outside_jobs(count: int) -> list[Job]:
    """
    Questions outside the domain to measure with, of templates that are never trained on.

    Args:
        count (`int`): How many.

    Returns:
        `list[Job]`: Distinct texts, split "outside".
    """
    rng = random.Random("outside")
    fields = {"kind": OUTSIDE, "answer": OUTSIDE_ANSWER}
    return [replace(spoken(q, "test", fields, rng), split="outside") for q in outside_questions(held_out=True)[:count]]
