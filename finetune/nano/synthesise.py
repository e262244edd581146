"""
The speech that nano is trained and measured on, written to disk once, resumably.

    python -m finetune.nano.synthesise codec --out data/codec          # for the codec: WordNet phrases, then the domain, four voices
    python -m finetune.nano.synthesise questions --out data/questions  # spoken training questions, two voices
    python -m finetune.nano.synthesise answers --out data/answers      # every training answer once, voice slt
    python -m finetune.nano.synthesise answers-heldout --out data/answers-heldout  # the answers of unseen facts, voice slt
    python -m finetune.nano.synthesise sentences --out data/sentences  # training questions in the answers' voice: more to learn to speak from
    python -m finetune.nano.synthesise wrapped --out data/wrapped      # the same with other words around them
    python -m finetune.nano.synthesise drills --out data/drills        # words in random order for dictation, two voices
    python -m finetune.nano.synthesise test --out data/test            # held-out questions, and seen ones spoken anew

Format of an output folder, 16 kHz mono:
- `shard-00000.npy`: int16 `(samples,)`, the utterances one after the other.
- `shard-00000.jsonl`: one line per utterance, `{"id", "voice", "stretch", "text", "start", "samples", "words", "split", ...}`:
  `start` is the first sample in the shard, `words` is `[[word, start_s, end_s], ...]`, contiguous from 0 to the utterance's end, and
  `" ".join` of the words is the text. All but codec add `kind` and `answer` (of the question; of answers, the text itself).
  Wrapped questions also have `question`, what was wrapped. `split` is "train" or "test" for codec, one of `domain.SPLITS` otherwise; in test, "train" marks a seen question.
- `time.json`: seconds spent, seconds of audio, utterances.
A shard's `.jsonl` is renamed into place last: where it exists the shard is complete, so a reader may start while more shards are
written, and a run that was killed goes on where it stopped. A larger `--count` extends a folder of questions.

Knows: which texts are spoken by which voice. Does not know: codecs, tokens.
"""

import argparse
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .domain import Item, drills, items, wrapped
from .voices import SAMPLING_RATE, Voice

WORDNET = Path("/usr/share/wordnet")
UTTERANCES_PER_SHARD = 200
CODEC_VOICES = {"slt": 0.55, "rms": 0.15, "awb": 0.15, "kal16": 0.15}
CODEC_TEST_SHARE = 0.03
ANSWER_VOICE = "slt"
ANSWER_STRETCH = 0.9  # brisk: nearly every word then fits one block of the decoder
QUESTION_VOICES = {"slt": 0.5, "kal16": 0.5}
QUESTION_STRETCHES = (0.9, 0.95, 1.0, 1.05, 1.1)
TEST_STRETCHES = (0.93, 0.98, 1.03, 1.08)  # none of the training ones: every test utterance is a new sound
TEST_COUNTS = {"unseen_fact": 133, "unseen_sentence": 133, "unseen_template": 134, "train": 200}
KIND_SHARES = {  # small kinds run out of distinct utterances before; the others then take their place
    "sum": 0.20,
    "difference": 0.16,
    "opposite": 0.14,
    "colour": 0.10,
    "name": 0.10,
    "day": 0.09,
    "number": 0.09,
    "month": 0.07,
    "talk": 0.03,
    "mix": 0.02,
}


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
    What a codec is trained on: WordNet phrases, then training questions and answers, mostly in the voice that answers, half of
    them at its own pace.

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
    hashed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return Job(text, voice, stretch, "test" if hashed < CODEC_TEST_SHARE else "train")


def question_jobs(count: int, seed: int = 0) -> list[Job]:
    """
    Spoken training questions, in every voice and at every pace.

    Args:
        count (`int`): How many; a larger count begins with the same ones.
        seed (`int`, *optional*, defaults to 0): Of the choice.

    Returns:
        `list[Job]`: Distinct in (text, voice, stretch); kinds in the shares of `KIND_SHARES`, facts of a kind equally often.
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
    for item in _endless([item for item in _of_split("train") if item.kind not in ("name", "talk")], rng):
        (voice,) = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()))
        text = wrapped(item.question, rng)
        fields = _fields(item) | {"question": item.question}
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
    trained = {item.answer for item in _of_split("train")}
    chosen = {item.answer: item for item in items() if held_out != (item.answer in trained)}
    split = "unseen_fact" if held_out else "train"
    jobs = [Job(item.answer, ANSWER_VOICE, ANSWER_STRETCH, split, _fields(item)) for item in chosen.values()]
    return random.Random(0).sample(jobs, len(jobs))


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
    voices = rng.choices(list(QUESTION_VOICES), list(QUESTION_VOICES.values()), k=count)
    return [
        Job(text, voice, rng.choice(QUESTION_STRETCHES), "train", {"kind": "drill", "answer": text})
        for text, voice in zip(drills(count, seed), voices, strict=True)
    ]


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


def _question(item: Item, voice: str, stretch: float) -> Job:
    return Job(item.question, voice, stretch, item.split, _fields(item))


def _fields(item: Item) -> dict[str, str]:
    return {"kind": item.kind, "answer": item.answer}


def _of_split(split: str) -> list[Item]:
    return [item for item in items() if item.split == split]


def _endless(chosen: list[Item], rng: random.Random) -> Iterator[Item]:
    """Items for ever, kinds in their shares; a kind's facts come in rounds, each round with other words."""
    shares = {kind: share for kind, share in KIND_SHARES.items() if any(item.kind == kind for item in chosen)}
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


def write_shards(jobs: list[Job], out: Path) -> None:
    """
    Synthesise jobs into shards; finished shards are kept.

    Args:
        jobs (`list[Job]`): What to say, in order; the same list (or a longer one with the same beginning) resumes.
        out (`Path`): Folder of the shards.

    Raises:
        ValueError: The folder holds shards made from other jobs.
    """
    out.mkdir(parents=True, exist_ok=True)
    voices = {name: Voice(name) for name in sorted({job.voice for job in jobs})}
    shards = [jobs[i : i + UTTERANCES_PER_SHARD] for i in range(0, len(jobs), UTTERANCES_PER_SHARD)]
    for number, shard in enumerate(tqdm(shards, desc=out.name, unit="shard")):
        path = out / f"shard-{number:05d}.npy"
        if path.with_suffix(".jsonl").exists():
            _check_same(path.with_suffix(".jsonl"), shard)
            continue
        began = time.perf_counter()
        samples = _write_shard(shard, voices, path)
        _count_time(out / "time.json", time.perf_counter() - began, samples / SAMPLING_RATE, len(shard))


def _write_shard(shard: list[Job], voices: dict[str, Voice], path: Path) -> int:
    lines, waves, start = [], [], 0
    for number, job in enumerate(shard):
        spoken = voices[job.voice].speak(job.text, job.stretch)
        waves.append(np.clip(np.rint(spoken.audio * 32768), -32768, 32767).astype(np.int16))
        line = {"id": f"{path.stem}-{number:03d}", "voice": job.voice, "stretch": job.stretch, "text": job.text}
        line |= {"start": start, "samples": len(waves[-1])}
        line |= {"words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in spoken.words], "split": job.split}
        lines.append(json.dumps(line | job.fields))
        start += len(waves[-1])
    with _renamed_into(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, np.concatenate(waves))
    with _renamed_into(path.with_suffix(".jsonl")) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n")
    return start


@contextmanager
def _renamed_into(path: Path) -> Iterator[Path]:
    """A temporary path that takes its final name when the block ends well."""
    unfinished = path.with_name(path.name + ".tmp")
    yield unfinished
    os.replace(unfinished, path)


def _check_same(index: Path, shard: list[Job]) -> None:
    done = [(line["text"], line["voice"], line["stretch"]) for line in read_index(index)]
    if done != [(job.text, job.voice, job.stretch) for job in shard]:
        raise ValueError(f"{index} was made from other texts: remove its folder or choose another --out.")


def _count_time(path: Path, seconds: float, audio_seconds: float, utterances: int) -> None:
    total = json.loads(path.read_text()) if path.exists() else {}
    for key, value in (("seconds", seconds), ("audio_seconds", audio_seconds), ("utterances", utterances)):
        total[key] = round(total.get(key, 0) + value, 2)
    with _renamed_into(path) as unfinished:
        unfinished.write_text(json.dumps(total, indent=1) + "\n")


def read_index(index: Path) -> Iterator[dict]:
    """
    The lines of one shard's index.

    Args:
        index (`Path`): A `shard-*.jsonl`.

    Returns:
        `Iterator[dict]`: One per utterance, as in the module's docstring.
    """
    with index.open() as file:
        yield from map(json.loads, file)


def read_corpus(folder: Path) -> Iterator[tuple[dict, np.ndarray]]:
    """
    Every finished utterance of a folder.

    Args:
        folder (`Path`): Written by `write_shards`, perhaps still being written.

    Returns:
        `Iterator[tuple[dict, np.ndarray]]`: The index line and the audio, int16 `(samples,)` at 16 kHz.
    """
    for index in sorted(folder.glob("shard-*.jsonl")):
        audio = np.load(index.with_suffix(".npy"), mmap_mode="r")
        for line in read_index(index):
            yield line, audio[line["start"] : line["start"] + line["samples"]]


def main(arguments: Iterable[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    corpora = ("codec", "questions", "answers", "answers-heldout", "sentences", "wrapped", "drills", "test")
    parser = argparse.ArgumentParser(description="Synthesise nano's speech.")
    parser.add_argument("corpus", choices=corpora)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--count", type=int, default=40_000, help="spoken questions")
    parser.add_argument("--sentences", type=int, default=8_000, help="distinct questions in the voice of the answers")
    parser.add_argument("--wrapped", type=int, default=10_000, help="questions with other words around them")
    parser.add_argument("--drills", type=int, default=12_000, help="sentences of words in random order")
    options = parser.parse_args(arguments)
    if options.corpus == "codec":
        jobs = codec_jobs(phrases=4_000, sentences=3_000)
    elif options.corpus == "questions":
        jobs = question_jobs(options.count)
    elif options.corpus == "sentences":
        jobs = sentence_jobs(options.sentences)
    elif options.corpus == "wrapped":
        jobs = wrapped_jobs(options.wrapped)
    elif options.corpus == "drills":
        jobs = drill_jobs(options.drills)
    elif options.corpus == "test":
        jobs = test_question_jobs()
    else:
        jobs = answer_jobs(held_out=options.corpus == "answers-heldout")
    write_shards(jobs, options.out)


if __name__ == "__main__":
    main()
