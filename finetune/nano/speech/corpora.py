"""
The texts and voices of each corpus: everything that nano is trained and measured on, before it is audio.

Depends on texts, voices and rates. Independent of audio, codecs and files other than WordNet's.
"""

import random
import re
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from finetune.nano.domain.follow_ups import follow_ups
from finetune.nano.domain.free_questions import OUTSIDE
from finetune.nano.domain.outside import OUTSIDE_ANSWER
from finetune.nano.domain.questions import Item, drills, items, wrapped

from .free_corpora import free_jobs, indirect_jobs, kind_jobs, outside_jobs
from .jobs import (
    QUESTION_STRETCHES,
    QUESTION_VOICES,
    TEST_STRETCHES,
    Job,
    endless,
    item_fields,
    of_split,
    share_of,
    spoken,
)

WORDNET = Path("/usr/share/wordnet")
CODEC_VOICES = {"slt": 0.55, "rms": 0.15, "awb": 0.15, "kal16": 0.15}
CODEC_TEST_SHARE = 0.03
FLITE_VOICE = "slt"
FLITE_STRETCH = 0.9  # brisk: nearly every word then fits one block of the decoder
TEST_COUNTS = {"unseen_fact": 150, "unseen_sentence": 250, "unseen_template": 300, "train": 200}
PHRASE_TEST_SHARE = 0.05
REPEATED_WORDS = 7  # longest phrase to be repeated
ASK_TO_REPEAT = (
    "Repeat after me, {}", "Say after me, {}", "Please say {}", "Repeat this, {}", "Please repeat {}", "Can you say {}",
    "I say {}", "Now say {}", "Can you repeat this, {}",
)  # fmt: skip


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
    for item in islice(endless(of_split("train"), rng), sentences // 2):
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
        `list[Job]`: Distinct in text, voice and `stretch`; kinds by `KIND_SHARES`, facts of a kind equally
        often.
    """
    rng = random.Random(seed)
    jobs: list[Job] = []
    made = set()
    for item in endless(of_split("train"), rng):
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
    for item in endless([item for item in of_split("train") if item.kind not in ("name", "talk", "joke")], rng):
        (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
        text = wrapped(item.question, rng)
        fields = item_fields(item) | {"question": item.question}
        jobs.setdefault(text, Job(text, voice, rng.choice(QUESTION_STRETCHES), item.split, fields))
        if len(jobs) == count:
            break
    return list(jobs.values())


def answer_jobs(held_out: bool) -> list[Job]:
    """
    Every answer once, in the voice of nano.

    Args:
        held_out (`bool`): The answers that no training question has (those of unseen facts), instead of all others.

    Returns:
        `list[Job]`: Distinct texts, shuffled, so that any part of them is a fair sample.
    """
    trained = {item.answer for item in of_split("train")}
    chosen = {item.answer: item for item in items() if held_out != (item.answer in trained)}
    split = "unseen_fact" if held_out else "train"
    jobs = [Job(item.answer, FLITE_VOICE, FLITE_STRETCH, split, item_fields(item)) for item in chosen.values()]
    jobs = random.Random(0).sample(jobs, len(jobs))
    if not held_out:
        fields = {"kind": OUTSIDE, "answer": OUTSIDE_ANSWER}
        jobs.insert(0, Job(OUTSIDE_ANSWER, FLITE_VOICE, FLITE_STRETCH, split, fields))
    return jobs


def sentence_jobs(count: int) -> list[Job]:
    """
    Training questions in the voice of nano: for reading aloud beyond its answers.

    Args:
        count (`int`): How many, if there are as many.

    Returns:
        `list[Job]`: Distinct texts, in the order of `question_jobs`.
    """
    distinct: dict[str, Item] = {}
    for item in islice(endless(of_split("train"), random.Random(1)), 4 * count):
        distinct.setdefault(item.question, item)
    return [_question(item, FLITE_VOICE, FLITE_STRETCH) for item in islice(distinct.values(), count)]


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
    return [spoken(text, "train", {"kind": "drill", "answer": text}, rng) for text in drills(count, seed)]


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
        for item in rng.sample(of_split(split), len(of_split(split))):
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
    General English, which is what WordNet's definitions are, in the voice of nano: to read aloud, and to
    repeat.

    Args:
        count (`int`): How many.
        split (`str`, *optional*, defaults to `"train"`): "train" or "test", by a hash of the text.

    Returns:
        `list[Job]`: Distinct texts.
    """
    phrases = _phrases(split)
    return [
        Job(text, FLITE_VOICE, FLITE_STRETCH, split, {"kind": "phrase", "answer": text}) for text in phrases[:count]
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
    return [spoken(text, split, {"kind": "phrase", "answer": text}, rng) for text in _phrases(split)[::-1][:count]]


def repeat_jobs(count: int, split: str = "train") -> list[Job]:
    """
    Requests to repeat a short phrase of `phrase_jobs`.

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
        spoken(
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
        jobs.append(spoken(found.question, found.split, fields, rng))
    return jobs


def _phrases(split: str) -> list[str]:
    phrases = [text for text in wordnet_phrases() if len(text.split()) <= 10]
    chosen = [text for text in phrases if (share_of(text) < PHRASE_TEST_SHARE) == (split == "test")]
    return random.Random(0).sample(chosen, len(chosen))


def _question(item: Item, voice: str, stretch: float) -> Job:
    return Job(item.question, voice, stretch, item.split, item_fields(item))


# Name -> jobs, and how many by default; a larger count begins with the same ones, but for codec, whose parts both grow.
CORPORA: dict[str, tuple[Callable[[int], list[Job]], int]] = {
    "codec": (lambda count: codec_jobs(count - count // 7 * 3, count // 7 * 3), 7_000),
    "questions": (question_jobs, 40_000),
    "wrapped": (wrapped_jobs, 24_000),  # with them, forty thousand distinct questions
    "free": (free_jobs, 8_000),
    "indirect": (indirect_jobs, 4_000),
    "small-talk": (partial(kind_jobs, "talk"), 2_000),
    "outside": (partial(kind_jobs, OUTSIDE), 900),
    "repeat": (repeat_jobs, 4_000),
    "follow-ups": (follow_up_jobs, 6_000),
    "drills": (drill_jobs, 8_000),
    "dictation": (dictation_jobs, 8_000),
    "answers": (lambda count: answer_jobs(held_out=False)[:count], 10_000),
    "sentences": (sentence_jobs, 8_000),
    "phrases": (phrase_jobs, 8_000),
    "test": (lambda count: test_question_jobs()[:count], 10_000),
    "outside-test": (outside_jobs, 100),
    "dictation-test": (lambda count: dictation_jobs(count, "test"), 150),
    "repeat-test": (lambda count: repeat_jobs(count, "test"), 60),
    "follow-ups-test": (lambda count: follow_up_jobs(count, "test"), 100),
}
