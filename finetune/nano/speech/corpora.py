"""
What is said by which voice, corpus by corpus: everything that nano is trained and measured on, before it is sound.

Knows texts, voices and paces. Does not know sound, codecs and files, but for WordNet's.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from finetune.nano.domain.follow_ups import follow_ups
from finetune.nano.domain.free_questions import OUTSIDE, free_items, indirect_items
from finetune.nano.domain.outside import OUTSIDE_ANSWER, outside_questions
from finetune.nano.domain.questions import Item, drills, items, normalise, wrapped

from .free_wording import free_test_questions, freely_worded

WORDNET = Path("/usr/share/wordnet")
CODEC_VOICES = {"slt": 0.55, "rms": 0.15, "awb": 0.15, "kal16": 0.15}
CODEC_TEST_SHARE = 0.03
ANSWER_VOICE = "slt"
ANSWER_STRETCH = 0.9  # brisk: nearly every word then fits one block of the decoder
QUESTION_VOICES = {"slt": 0.3, "kal16": 0.4, "rms": 0.15, "awb": 0.15}
QUESTION_STRETCHES = (0.9, 0.95, 1.0, 1.05, 1.1)
TEST_STRETCHES = (0.93, 0.98, 1.03, 1.08)  # none of the training ones: every test utterance is a new sound
TEST_COUNTS = {"unseen_fact": 150, "unseen_sentence": 250, "unseen_template": 300, "train": 200}
PHRASE_TEST_SHARE = 0.05
REPEATED_WORDS = 7  # longest phrase to be said after somebody
ASK_TO_REPEAT = (
    "Repeat after me, {}", "Say after me, {}", "Please say {}", "Repeat this, {}", "Please repeat {}", "Can you say {}",
    "I say {}", "Now say {}", "Can you repeat this, {}",
)  # fmt: skip
KIND_SHARES = {  # small kinds run out of distinct utterances before; the others then take their place
    "sum": 0.12, "difference": 0.13, "opposite": 0.09, "name": 0.07, "colour": 0.06, "day": 0.05, "number": 0.05,
    "month": 0.035, "mix": 0.01, "talk": 0.045, "product": 0.06, "capital": 0.06, "unit": 0.05, "time": 0.05,
    "spelling": 0.04, "compare": 0.04, "rhyme": 0.035, "count": 0.03, "letter": 0.03, "calendar": 0.03, "joke": 0.02,
    "animal": 0.015,
}  # fmt: skip
FREE_KIND_SHARES = KIND_SHARES | {"talk": 0.1, OUTSIDE: 0.16}
PLAIN_SHARE = 0.3  # of the freely worded questions begin as a plain one
SAID_AS_IT_IS_SHARE = 0.4  # of the freely worded templates, without an opening or an ending


@dataclass(frozen=True)
class Job:
    """
    One utterance to synthesise.

    Args:
        text (`str`): What is said.
        voice (`str`): Who says it.
        stretch (`float`): How slowly.
        split (`str`): Which part of the data it belongs to.
        fields (`dict[str, str]`, *optional*): Copied into the index.
    """

    text: str
    voice: str
    stretch: float
    split: str
    fields: dict[str, str] = field(default_factory=dict)


def wordnet_phrases(folder: Path = WORDNET) -> list[str]:
    """
    Definitions of WordNet that are plain phrases of 4 to 14 words.

    Args:
        folder (`Path`): Holds WordNet's `data.noun`, `data.verb`, `data.adj` and `data.adv`.

    Returns:
        `list[str]`: Distinct phrases of letters and spaces, capitalised, with a full stop; sorted.

    Raises:
        FileNotFoundError: WordNet is not installed.
    """
    phrases = set()
    for part in ("noun", "verb", "adj", "adv"):
        path = folder / f"data.{part}"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: install the Debian package `wordnet-base`.")
        for line in path.read_text(encoding="latin-1").splitlines():
            phrase = re.sub(r"\([^)]*\)", " ", line.partition("|")[2].partition(";")[0]).strip()
            spoken_words = phrase.split()
            if 4 <= len(spoken_words) <= 14 and re.fullmatch(r"[a-zA-Z ]+", phrase):
                phrase = " ".join(spoken_words)
                phrases.add(phrase[0].upper() + phrase[1:] + ".")
    return sorted(phrases)


def codec_jobs(phrases: int, sentences: int, seed: int = 0) -> list[Job]:
    """
    What a codec is trained on: WordNet phrases, then training questions and answers, mostly in the voice that
    answers, half of them at its own pace.

    Args:
        phrases (`int`): How many WordNet phrases.
        sentences (`int`): How many sentences of the domain.
        seed (`int`, *optional*, defaults to 0): Of the choice.

    Returns:
        `list[Job]`: Split "test" for about 3 % of the texts (by a hash of the text), else "train".
    """
    rng = random.Random(seed)
    every_phrase = wordnet_phrases()
    jobs = [_codec_job(text, rng) for text in rng.sample(every_phrase, len(every_phrase))[:phrases]]
    for item in islice(_endless(_of_split("train"), rng), sentences // 2):
        jobs += [_codec_job(item.question, rng), _codec_job(item.answer, rng)]
    return jobs


def _codec_job(text: str, rng: random.Random) -> Job:
    (voice,) = rng.choices(list(CODEC_VOICES), list(CODEC_VOICES.values()))
    stretch = 1.0 if rng.random() < 0.5 else round(rng.uniform(0.85, 1.2), 2)
    return Job(text, voice, stretch, "test" if share_of(text) < CODEC_TEST_SHARE else "train")


def question_jobs(count: int, seed: int = 0) -> list[Job]:
    """
    Spoken training questions, in every voice and at every pace.

    Args:
        count (`int`): How many; a larger count begins with the same ones.
        seed (`int`, *optional*, defaults to 0): Of the choice.

    Returns:
        `list[Job]`: Distinct in (text, voice, stretch); kinds in the shares of `KIND_SHARES`, facts of a kind equally
        often.
    """
    rng = random.Random(seed)
    jobs: list[Job] = []
    made = set()
    for item in _endless(_of_split("train"), rng):
        (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
        job = _question(item, voice, rng.choice(QUESTION_STRETCHES))
        if (job.text, job.voice, job.stretch) not in made:
            made.add((job.text, job.voice, job.stretch))
            jobs.append(job)
        if len(jobs) == count:
            return jobs
    return jobs


def wrapped_jobs(count: int, seed: int = 4) -> list[Job]:
    """
    Spoken training questions with other words around them.

    Args:
        count (`int`): How many.
        seed (`int`, *optional*, defaults to 4): Of the choice.

    Returns:
        `list[Job]`: Distinct texts.
    """
    rng = random.Random(seed)
    jobs: dict[str, Job] = {}
    for item in _endless([item for item in _of_split("train") if item.kind not in ("name", "talk", "joke")], rng):
        (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
        text = wrapped(item.question, rng)
        fields = _fields(item) | {"question": item.question}
        jobs.setdefault(text, Job(text, voice, rng.choice(QUESTION_STRETCHES), item.split, fields))
        if len(jobs) == count:
            break
    return list(jobs.values())


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
    plain, free = _endless(_of_split("train"), rng), _endless(list(free_items()), rng, FREE_KIND_SHARES)
    tested = {normalise(question) for question, *_ in free_test_questions()}
    jobs: dict[str, Job] = {}
    while len(jobs) < count:
        is_plain = rng.random() < PLAIN_SHARE
        item = next(plain if is_plain else free)
        text = item.question
        if is_plain or rng.random() >= SAID_AS_IT_IS_SHARE:
            text = freely_worded(text, item.kind, rng)
        job = _spoken(text, "train", _fields(item) | {"question": item.question}, rng)
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
    tested = {normalise(question) for question, *_ in free_test_questions()}
    jobs: dict[str, Job] = {}
    for item in _endless(list(indirect_items()), rng):
        job = _spoken(item.question, "train", _fields(item) | {"question": item.question}, rng)
        if normalise(job.text) not in tested:
            jobs.setdefault(job.text, job)
        if len(jobs) == count:
            break
    return list(jobs.values())


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
    return [replace(_spoken(q, "test", fields, rng), split="outside") for q in outside_questions(held_out=True)[:count]]


def answer_jobs(held_out: bool) -> list[Job]:
    """
    Every answer once, in the voice of nano.

    Args:
        held_out (`bool`): The answers that no training question has (those of unseen facts), instead of all others.

    Returns:
        `list[Job]`: Distinct texts, shuffled, so that any part of them is a fair sample.
    """
    trained = {item.answer for item in _of_split("train")}
    chosen = {item.answer: item for item in items() if held_out != (item.answer in trained)}
    split = "unseen_fact" if held_out else "train"
    jobs = [Job(item.answer, ANSWER_VOICE, ANSWER_STRETCH, split, _fields(item)) for item in chosen.values()]
    jobs = random.Random(0).sample(jobs, len(jobs))
    if not held_out:
        fields = {"kind": OUTSIDE, "answer": OUTSIDE_ANSWER}
        jobs.insert(0, Job(OUTSIDE_ANSWER, ANSWER_VOICE, ANSWER_STRETCH, split, fields))
    return jobs


def sentence_jobs(count: int) -> list[Job]:
    """
    Training questions in the voice of nano: what it may learn to speak beyond its answers.

    Args:
        count (`int`): How many, if there are as many.

    Returns:
        `list[Job]`: Distinct texts, in the order of `question_jobs`.
    """
    distinct: dict[str, Item] = {}
    for item in islice(_endless(_of_split("train"), random.Random(1)), 4 * count):
        distinct.setdefault(item.question, item)
    return [_question(item, ANSWER_VOICE, ANSWER_STRETCH) for item in islice(distinct.values(), count)]


def drill_jobs(count: int, seed: int = 3) -> list[Job]:
    """
    Words in random order, in the voices of the questions.

    Args:
        count (`int`): How many.
        seed (`int`, *optional*, defaults to 3): Of words, voices and paces.

    Returns:
        `list[Job]`: Distinct texts.
    """
    rng = random.Random(seed)
    return [_spoken(text, "train", {"kind": "drill", "answer": text}, rng) for text in drills(count, seed)]


def test_question_jobs(seed: int = 2) -> list[Job]:
    """
    Questions to measure with: each split's kinds equally often, at paces that no training question has.

    Args:
        seed (`int`, *optional*, defaults to 2): Of the choice.

    Returns:
        `list[Job]`: `TEST_COUNTS` of each split, distinct texts.
    """
    rng = random.Random(seed)
    jobs = []
    for split, count in TEST_COUNTS.items():
        by_kind: dict[str, list[Item]] = {}
        for item in rng.sample(_of_split(split), len(_of_split(split))):
            by_kind.setdefault(item.kind, []).append(item)
        chosen: list[Item] = []
        while len(chosen) < count:
            chosen += [found.pop() for _, found in sorted(by_kind.items()) if found]
        for item in chosen[:count]:
            (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
            jobs.append(_question(item, voice, rng.choice(TEST_STRETCHES)))
    return jobs


def phrase_jobs(count: int, split: str = "train") -> list[Job]:
    """
    General English, which is what WordNet's definitions are, in the voice of nano: to read aloud, and to say after
    somebody.

    Args:
        count (`int`): How many.
        split (`str`, *optional*, defaults to `"train"`): "train" or "test", by a hash of the text.

    Returns:
        `list[Job]`: Distinct texts.
    """
    phrases = _phrases(split)
    return [
        Job(text, ANSWER_VOICE, ANSWER_STRETCH, split, {"kind": "phrase", "answer": text}) for text in phrases[:count]
    ]


def dictation_jobs(count: int, split: str = "train") -> list[Job]:
    """
    General English in the voices of the questions, to be written down.

    Args:
        count (`int`): How many.
        split (`str`, *optional*, defaults to `"train"`): "train" or "test", by a hash of the text.

    Returns:
        `list[Job]`: Distinct texts, other ones than those of `phrase_jobs` as far as there are enough.
    """
    rng = random.Random(f"dictation {split}")
    return [_spoken(text, split, {"kind": "phrase", "answer": text}, rng) for text in _phrases(split)[::-1][:count]]


def repeat_jobs(count: int, split: str = "train") -> list[Job]:
    """
    Requests to say a short phrase of `phrase_jobs`.

    Args:
        count (`int`): How many, in the order of `phrase_jobs`.
        split (`str`, *optional*, defaults to `"train"`): "train" or "test": other phrases, and the last wording among
            the others.

    Returns:
        `list[Job]`: Distinct phrases.
    """
    rng = random.Random(f"repeat {split}")
    short = [phrase for phrase in _phrases(split) if len(phrase.split()) <= REPEATED_WORDS]
    asks = ASK_TO_REPEAT if split == "test" else ASK_TO_REPEAT[:-1]
    return [
        _spoken(
            rng.choice(asks).format(phrase[0].lower() + phrase[1:]),
            split,
            {"kind": "repeat", "answer": phrase},
            rng,
        )
        for phrase in short[:count]
    ]


def follow_up_jobs(count: int, split: str = "train") -> list[Job]:
    """
    The second questions of `follow_ups`.

    Args:
        count (`int`): How many.
        split (`str`, *optional*, defaults to `"train"`): Of `follow_ups`; "test" is "unseen_template".

    Returns:
        `list[Job]`: Each with the first turn in its fields `first_question` and `first_answer`.
    """
    rng = random.Random(f"follow-up {split}")
    jobs = []
    for found in follow_ups(count, "train" if split == "train" else "unseen_template"):
        fields = {"kind": found.first.kind, "answer": found.answer}
        fields |= {"first_question": found.first.question, "first_answer": found.first.answer}
        jobs.append(_spoken(found.question, found.split, fields, rng))
    return jobs


def _phrases(split: str) -> list[str]:
    phrases = [text for text in wordnet_phrases() if len(text.split()) <= 10]
    chosen = [text for text in phrases if (share_of(text) < PHRASE_TEST_SHARE) == (split == "test")]
    return random.Random(0).sample(chosen, len(chosen))


def _spoken(text: str, split: str, fields: dict[str, str], rng: random.Random) -> Job:
    (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
    return Job(text, voice, rng.choice(QUESTION_STRETCHES if split == "train" else TEST_STRETCHES), split, fields)


def share_of(text: str) -> float:
    """Give a number in [0, 1) that depends on the text alone, to hold texts out by."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def _question(item: Item, voice: str, stretch: float) -> Job:
    return Job(item.question, voice, stretch, item.split, _fields(item))


def _fields(item: Item) -> dict[str, str]:
    return {"kind": item.kind, "answer": item.answer}


def _of_split(split: str) -> list[Item]:
    return [item for item in items() if item.split == split]


def _endless(chosen: list[Item], rng: random.Random, kind_shares: dict[str, float] = KIND_SHARES) -> Iterator[Item]:
    """Items for ever, kinds in their shares; a kind's facts come in rounds, each round with other words."""
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


# Name -> jobs, and how many by default; a larger count begins with the same ones, but for codec, whose parts both grow.
CORPORA: dict[str, tuple[Callable[[int], list[Job]], int]] = {
    "codec": (lambda count: codec_jobs(count - count // 7 * 3, count // 7 * 3), 7_000),
    "questions": (question_jobs, 40_000),
    "wrapped": (wrapped_jobs, 24_000),  # with them, forty thousand distinct questions
    "free": (free_jobs, 8_000),
    "indirect": (indirect_jobs, 4_000),
    "repeat": (repeat_jobs, 4_000),
    "follow-ups": (follow_up_jobs, 6_000),
    "drills": (drill_jobs, 8_000),
    "dictation": (dictation_jobs, 8_000),
    "answers": (lambda count: answer_jobs(held_out=False)[:count], 10_000),
    "sentences": (sentence_jobs, 8_000),
    "phrases": (phrase_jobs, 8_000),
    "test": (lambda count: test_question_jobs()[:count], 10_000),
    "answers-heldout": (lambda count: answer_jobs(held_out=True)[:count], 10_000),
    "outside-test": (outside_jobs, 100),
    "phrases-test": (lambda count: phrase_jobs(count, "test"), 100),
    "dictation-test": (lambda count: dictation_jobs(count, "test"), 150),
    "repeat-test": (lambda count: repeat_jobs(count, "test"), 60),
    "follow-ups-test": (lambda count: follow_up_jobs(count, "test"), 100),
}
