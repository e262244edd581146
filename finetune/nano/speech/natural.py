"""
Corpora of natural voices: questions, freely worded questions and dictation for training, others of each for measuring,
and the voice that answers.

    python -m finetune.nano.speech.natural train --voices package/voices --out data/nano/natural --count 3000
    python -m finetune.nano.speech.natural answers --voices package/voices --out data/nano/voice --count 2400
    python -m finetune.nano.speech.natural answers-test --voices package/voices --out data/nano/voice-test
    python -m finetune.nano.speech.natural test --voices package/voices --out data/nano/natural-test

| corpus | what | speakers |
|---|---|---|
| train | training questions, also freely worded, requests to repeat, general English | `TRAINING_VOICES`, mixtures |
| answers | nano's answers and general English, in turn | `ANSWERING_VOICE` |
| answers-test | held-out answers, and general English that nothing was trained on | `ANSWERING_VOICE` |
| dev | held-out questions and trained general English, to choose settings by | `DEV_VOICES` |
| test | held-out questions, freely worded ones written by hand, general English | `TEST_VOICES` |
| free | freely worded questions that were written apart, and questions outside the domain | `TEST_VOICES` |
| free-dev | others, written apart too, to choose settings by | `DEV_VOICES` |
| shipped | the questions beside the checkpoint | `TEST_VOICES` |

`KEPT_FOR_OTHERS` are never synthesised here: they stay unseen for checks by others. The folders are those of
`synthesise.py`; any part of a corpus is a fair sample of it, and a larger `--count` extends it.

Depends on texts (`corpora.py`) and `kokoro.py`. Independent of codecs and models.
"""

import argparse
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import chain, cycle, islice, zip_longest
from pathlib import Path

from ..domain.free_questions import OUTSIDE
from ..domain.questions import Item, items
from .corpora import ASK_TO_REPEAT, answer_jobs, dictation_jobs, phrase_jobs, question_jobs, test_question_jobs
from .free_corpora import free_jobs as freely_worded_jobs
from .free_wording import FreeQuestion, free_test_questions
from .jobs import Job, share_of
from .kokoro import KokoroModel, KokoroVoice
from .synthesise import write_shards

TRAINING_VOICES = (
    "af_alloy", "af_bella", "af_heart", "af_nicole", "af_nova", "af_river", "af_sarah", "am_adam", "am_fenrir",
    "am_michael", "am_santa", "bf_emma", "bm_george", "bm_lewis",
)  # fmt: skip
# Voices of other languages have an accent in English: a small share of the mixtures.
ACCENTED_VOICES = (
    "ef_dora",
    "em_alex",
    "ff_siwis",
    "if_sara",
    "im_nicola",
    "pf_dora",
    "pm_alex",
    "hf_alpha",
    "hm_omega",
)
ANSWERING_VOICE = "af_heart"
ANSWERING_STRETCHES = (0.9, 1.1)
ANSWERING_DEV_SHARE = 0.03  # of the texts
DEV_VOICES = ("am_liam", "bf_alice")
TEST_VOICES = ("am_puck", "bf_isabella", "bm_daniel", "am_echo", "af_kore", "af_jessica")
KEPT_FOR_OTHERS = ("af_sky", "am_onyx", "bm_fable", "bf_lily", "af_aoede", "am_eric")
MIXTURE_SHARE = 0.5  # of the training utterances are by a mixture of voices
ACCENTED_SHARE = 0.15  # of the mixtures have a voice of another language in them
STRETCHES = (0.8, 1.25)
LAST_DICTATION = 6000  # of the dictations, where natural voices begin, backwards
KIND_SHARES = {"question": 0.25, "freely worded": 0.5, "dictation": 0.2, "repeat": 0.05}
DEV_COUNTS = {"question": 80, "dictation": 40}
TEST_QUESTIONS_PER_VOICE = 30
TEST_DICTATION_PER_VOICE = 10
TEST_PHRASES = 100


SHIPPED_QUESTIONS = (
    "What is seven plus three?",
    "Please subtract six from thirteen.",
    "Do you know what time it is one hour after five o'clock?",
    "Today is Monday, what is tomorrow?",
    "How many years make four centuries?",
    "What city is the capital of Austria?",
    "Tell me the opposite of above.",
    "How do I spell house?",
    "What is a rhyme for rose?",
    "Do you know a joke about an egg?",
)


def training_jobs(count: int, seed: int = 5) -> list[Job]:
    """
    Utterances to train with.

    Args:
        count (`int`): How many utterances; a larger count begins with the same ones.
        seed (`int`, *optional*, defaults to 5): Of texts, speakers and paces.

    Returns:
        `list[Job]`: In random order of kinds, in the shares of `KIND_SHARES`. A freely worded question has in its field
        `question` what it was before fillers were put around it.
    """
    rng = random.Random(seed)
    questions, free = iter(question_jobs(2 * count, seed=seed)), iter(freely_worded_jobs(count, seed=seed))
    # Other phrases than the first ones of the fast synthesisers, in an order that does not depend on `count`.
    dictations = chain(dictation_jobs(LAST_DICTATION)[::-1], dictation_jobs(60_000)[LAST_DICTATION:])
    phrases = iter(phrase for phrase in phrase_jobs(60_000) if len(phrase.text.split()) <= 7)
    jobs = []
    for _ in range(count):
        (kind,) = rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()))
        if kind == "dictation":
            job = next(dictations)
            text, fields = job.text, job.fields
        elif kind == "repeat":
            phrase = next(phrases).text
            text = rng.choice(ASK_TO_REPEAT[:-1]).format(phrase[0].lower() + phrase[1:])
            fields = {"kind": "repeat", "answer": phrase}
        else:
            job = next(free if kind == "freely worded" else questions)
            text, fields = job.text, job.fields
        jobs.append(Job(text, random_speaker(rng), round(rng.uniform(*STRETCHES), 2), "train", fields))
    return jobs


def random_speaker(rng: random.Random) -> str:
    """
    A speaker to train with: a stock voice, or a convex mixture of two or three.

    Args:
        rng (`random.Random`): Chooses.

    Returns:
        `str`: A name that [`KokoroVoice`] takes.
    """
    if rng.random() >= MIXTURE_SHARE:
        return rng.choice(TRAINING_VOICES)
    voices = rng.sample(TRAINING_VOICES, rng.choice((2, 3)))
    if rng.random() < ACCENTED_SHARE:
        voices[0] = rng.choice(ACCENTED_VOICES)
    weights = [rng.uniform(0.2, 1) for _ in voices]
    shares = [round(weight / sum(weights), 2) for weight in weights]
    shares[-1] = round(1 - sum(shares[:-1]), 2)
    return "+".join(f"{voice}:{share}" for voice, share in zip(voices, shares, strict=True))


def answering_jobs(count: int, seed: int = 8) -> list[Job]:
    """
    Speech of the voice that answers, to train a codec's decoder with.

    Args:
        count (`int`): How many utterances; a larger count begins with the same ones.
        seed (`int`, *optional*, defaults to 8): Of the paces.

    Returns:
        `list[Job]`: An answer and a phrase of general English in turn, as long as there are answers; split "dev" by a
        hash of the text, else "train".
    """
    rng = random.Random(seed)
    in_turn = chain.from_iterable(zip_longest(answer_jobs(held_out=False), phrase_jobs(count)))
    jobs = islice((job for job in in_turn if job is not None), count)
    return [
        Job(
            job.text,
            ANSWERING_VOICE,
            round(rng.uniform(*ANSWERING_STRETCHES), 2),
            "dev" if share_of(job.text) < ANSWERING_DEV_SHARE else "train",
            job.fields,
        )
        for job in jobs
    ]


def answering_test_jobs() -> list[Job]:
    """
    What the voice that answers says of texts that nothing was trained on: to compare nano's speech with.

    Returns:
        `list[Job]`: The held-out answers, then general English (kind "phrase"), at the voice's own pace.
    """
    jobs = (*answer_jobs(held_out=True), *phrase_jobs(TEST_PHRASES, "test"))
    return [replace(job, voice=ANSWERING_VOICE, stretch=1.0) for job in jobs]


def dev_jobs(seed: int = 6) -> list[Job]:
    """
    Utterances to choose settings by.

    Args:
        seed (`int`, *optional*, defaults to 6): Of the choice.

    Returns:
        `list[Job]`: Held-out questions that `test_question_jobs` does not have, and training phrases in voices that
        nothing is trained on.
    """
    rng = random.Random(seed)
    tested = {job.text for job in test_question_jobs()}
    questions = [job for job in _held_out() if job.question not in tested]
    jobs = [_question(item, rng) for item in rng.sample(questions, DEV_COUNTS["question"])]
    jobs += [
        Job(job.text, rng.choice(DEV_VOICES), 1.0, "train", job.fields)
        for job in phrase_jobs(10_000)[-DEV_COUNTS["dictation"] :]
    ]
    return rng.sample(jobs, len(jobs))


def _held_out() -> list[Item]:
    return [item for item in items() if item.split != "train"]


def _question(item: Item, rng: random.Random) -> Job:
    fields = {"kind": item.kind, "answer": item.answer}
    return Job(item.question, rng.choice(DEV_VOICES), 1.0, item.split, fields)


def test_jobs(seed: int = 7) -> list[Job]:
    """
    Utterances to measure with.

    Args:
        seed (`int`, *optional*, defaults to 7): Of the choice.

    Returns:
        `list[Job]`: For each of `TEST_VOICES` the same number of held-out questions of `test_question_jobs` (splits
        as there), the freely worded ones that were known (split "free"), and phrases of
        `dictation_jobs(split="test")` (split "dictation").
    """
    rng = random.Random(seed)
    held_out = [job for job in test_question_jobs() if job.split != "train"]
    questions = iter(rng.sample(held_out, TEST_QUESTIONS_PER_VOICE * len(TEST_VOICES)))
    phrases = iter(dictation_jobs(TEST_DICTATION_PER_VOICE * len(TEST_VOICES), "test"))
    jobs = []
    for voice in TEST_VOICES:
        for _ in range(TEST_QUESTIONS_PER_VOICE):
            job = next(questions)
            jobs.append(Job(job.text, voice, 1.0, job.split, job.fields))
        for _ in range(TEST_DICTATION_PER_VOICE):
            job = next(phrases)
            jobs.append(Job(job.text, voice, 1.0, "dictation", job.fields))
    jobs += [
        Job(question, voice, 1.0, "free", {"kind": kind, "answer": answer})
        for (question, kind, answer, _), voice in zip(_free_questions("known"), cycle(TEST_VOICES), strict=False)
    ]
    return rng.sample(jobs, len(jobs))


def free_jobs(written: str = "apart", voices: Iterable[str] = TEST_VOICES) -> list[Job]:
    """
    Freely worded questions, and questions outside the domain, to measure with or to choose by.

    Args:
        written (`str`, *optional*, defaults to `"apart"`): Which of them: see [`FreeQuestion`].
        voices (`Iterable[str]`, *optional*, defaults to `TEST_VOICES`): Who asks, in turn.

    Returns:
        `list[Job]`: Splits "free " and `written`, and "outside".
    """
    return [
        Job(found.question, voice, 1.0, _free_split(found), {"kind": found.kind, "answer": found.answer})
        for found, voice in zip(_free_questions(written), cycle(voices), strict=False)
    ]


def _free_questions(written: str) -> list[FreeQuestion]:
    return [found for found in free_test_questions() if found.written == written]


def _free_split(found: FreeQuestion) -> str:
    return OUTSIDE if found.kind == OUTSIDE else f"free {found.written}"


def shipped_jobs() -> list[Job]:
    """
    The questions beside the checkpoint, in voices that nothing is trained on.

    Returns:
        `list[Job]`: One held-out question of each kind.
    """
    by_text = {item.question: item for item in _held_out()}
    chosen = [by_text[text] for text in SHIPPED_QUESTIONS]
    return [
        Job(item.question, voice, 1.0, item.split, {"kind": item.kind, "answer": item.answer})
        for item, voice in zip(chosen, cycle(TEST_VOICES), strict=False)
    ]


def main(arguments: Iterable[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "corpus",
        choices=("train", "answers", "answers-test", "dev", "test", "free", "free-dev", "shipped"),
    )
    parser.add_argument("--voices", type=Path, required=True, help="folder voices of the npm package kokoro-js")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--count", type=int, default=3000, help="utterances of train or answers")
    options = parser.parse_args(None if arguments is None else list(arguments))
    jobs: dict[str, Callable[[], list[Job]]] = {
        "train": partial(training_jobs, options.count),
        "answers": partial(answering_jobs, options.count),
        "answers-test": answering_test_jobs,
        "dev": dev_jobs,
        "test": test_jobs,
        "free": free_jobs,
        "free-dev": partial(free_jobs, "dev", DEV_VOICES),
        "shipped": shipped_jobs,
    }
    # Nano's own speech has no pauses around it; users make some.
    is_own = options.corpus in ("answers", "answers-test")
    voice = partial(KokoroVoice, model=KokoroModel(options.voices), trimmed=is_own)
    write_shards(jobs[options.corpus](), options.out, voice)


if __name__ == "__main__":
    main()
