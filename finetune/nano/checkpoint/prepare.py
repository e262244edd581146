"""
From nano's speech to prepared datasets, as `ttt train` reads them: codes, words with their times, and the shares in
which they are mixed.

    python -m finetune.nano.checkpoint.prepare --model checkpoints/ttt-nano --speech data/nano --out prepared/nano
    ttt train nano --set model=runs/nano-init --set data=prepared/nano/data.yaml --set output_dir=runs/nano

| dataset | rows | from the corpora |
|---|---|---|
| chat | spoken question, spoken answer | those of `QUESTIONS`, and repeat |
| noted | spoken question, written answer: the same facts at half of the token ids | the same |
| typed | written question, spoken answer; also as people type | those of `TYPED` |
| small_talk | the same of greetings and small talk, spoken and written: few, and what people say first | the same |
| greetings | greetings in every way of typing them, spoken answer | the same |
| turns | two spoken questions and their spoken answers, the second about the first | follow-ups |
| talks | two to four unrelated questions, greetings, some typed; spoken answers | those of `TYPED`, and repeat |
| dictated | audio, its words | those of `QUESTIONS` |
| words | the same, where no word can be guessed from the one before | drills, dictation, natural |
| recorded | recorded English, its words | recorded, where it was fetched; the split that is not held out |
| aloud | words, their audio | answers, sentences, phrases |
| voice | the same in the voice that the codec decodes to | voice; the split that is not held out |
| written | question, answer | the domain |
| keyboard | question as people type, answer | the domain, freely worded |
| facts | lists of answers | the domain, with larger numbers |

Users' audio is encoded by the checkpoint's codec, in as many rooms and noises as `VARIATIONS` has for each corpus;
nano's own speech as it is. A reply is that of the corpus `voice`, where it has one.

Codes are kept in `codes/` below the output folder, a file per shard; a run that was killed goes on. Corpora that are
still growing may be prepared again: what is new is encoded.

Depends on the folders that `synthesise.py` writes, the codec and the columns of prepared records. Independent of
models.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from finetune.adapters.loading import load_processor
from finetune.data.encoding import codec_fingerprint
from finetune.data.schema import PreparedInfo, Record, make_record, replace_text, save_prepared
from finetune.nano.codec.encode import encode_corpus, read_codes
from finetune.nano.domain.free_questions import OUTSIDE, as_typed, free_items, indirect_items
from finetune.nano.domain.questions import LARGEST_WRITTEN_NUMBER, Item, items, keywords
from finetune.nano.domain.small_talk import GREETINGS
from finetune.nano.domain.spoken_numbers import number_words
from finetune.nano.speech.free_wording import freely_worded
from finetune.nano.speech.jobs import share_of
from processing_ttt.layout_ttt import aligned_groups
from processing_ttt.tasks_ttt import TASKS

# How often each corpus is encoded, each time in another room: most often what there is least of.
VARIATIONS = {
    "questions": 2, "wrapped": 1, "free": 1, "indirect": 1, "small-talk": 1, "outside": 1, "repeat": 1,
    "follow-ups": 1, "drills": 2, "dictation": 1, "recorded": 2, "natural": 3,
}  # fmt: skip
SPOKEN = ("answers", "sentences", "phrases", "voice")
AGAIN = "-again"
TYPED = ("questions", "free", "indirect", "small-talk", "outside")  # as people type, too
QUESTIONS = (*TYPED, "wrapped", "natural")
WORDS_KINDS = ("drill", "phrase")
TYPED_QUESTIONS = 20_000
OUTSIDE_SHARE = 0.12  # of the typed questions, at least
WAYS_OF_TYPING = 6  # tried for each greeting, with and without an exclamation mark
MIXTURE = Path(__file__).with_name("mixture.yaml")
VALIDATION_SHARE = 0.004
TURNS_OF_A_TALK = (2, 4)  # fewest and most
TYPED_SHARE = 0.25  # of the questions of a talk
SMALL_TALK_SHARE = 0.5  # of the talks have a greeting or small talk somewhere
FACTS_PER_LIST = 16
ROUNDS_OF_FACTS = 10
NUMBERS = [number_words(number) for number in range(101)]

Line = dict[str, Any]  # of `encode_corpus`


def prepare(model: str, speech: Path, out: Path) -> dict[str, int]:
    """
    Encode what is new and write all prepared datasets.

    Args:
        model (`str`): Checkpoint whose codec encodes.
        speech (`Path`): Holds the corpora that `synthesise.py` wrote; those that are missing teach nothing.
        out (`Path`): Gets a folder for each dataset, and `data.yaml`.

    Returns:
        `dict[str, int]`: Training rows of each dataset.

    Raises:
        ValueError: If `out` holds codes of another codec.
    """
    processor = load_processor(model)
    codec, fingerprint = processor.codec.eval(), codec_fingerprint(processor)
    _check_codes(out / "codes", fingerprint)
    lines: dict[str, list[Line]] = {corpus: [] for corpus in (*VARIATIONS, *SPOKEN)}
    for corpus, variations in VARIATIONS.items():
        for variation in range(variations):
            again = AGAIN + str(variation) if variation else ""
            encode_corpus(codec, speech / corpus, out / "codes" / (corpus + again), varied=True, variation=variation)
            lines[corpus] += [
                line | {"id": line["id"] + again} for line in read_codes(out / "codes" / (corpus + again))
            ]
    for corpus in SPOKEN:
        encode_corpus(codec, speech / corpus, out / "codes" / corpus, varied=False)
        lines[corpus] = [line for line in read_codes(out / "codes" / corpus) if line["split"] == "train"]
    info = PreparedInfo(
        source="finetune.nano",
        codec=model,
        codec_fingerprint=fingerprint,
        frame_rate=codec.config.frame_rate,
        codebook_size=codec.config.codebook_size,
    )
    counts = {}
    for name, rows in _datasets(lines, codec.config.frame_rate).items():
        splits: dict[str, list[Record]] = {"train": [], "validation": []}
        for row in rows:
            is_held_out = share_of(row["id"].partition(AGAIN)[0]) < VALIDATION_SHARE
            splits["validation" if is_held_out else "train"].append(row)
        save_prepared(out / name, splits, info)
        counts[name] = len(splits["train"])
    mixture = yaml.safe_load(MIXTURE.read_text())
    mixture["datasets"] = [entry for entry in mixture["datasets"] if counts[entry["path"]]]
    replace_text(out / "data.yaml", yaml.safe_dump(mixture, sort_keys=False))
    return counts


def _check_codes(folder: Path, fingerprint: str) -> None:
    """Refuse codes of another codec; remember whose these are."""
    note = folder / "codec.txt"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(note, fingerprint)
    if note.read_text() != fingerprint:
        raise ValueError(f"{folder} holds codes of another codec: remove it, or choose another --out.")


def _datasets(lines: dict[str, list[Line]], frame_rate: float) -> dict[str, Iterable[Record]]:
    replies = {
        line["text"]: line for corpus in ("answers", "phrases", "voice") for line in lines[corpus] if "words" in line
    }
    typing = random.Random(0)
    asked = [(name, line) for name, line in _named(lines, *QUESTIONS, "repeat") if line["kind"] not in WORDS_KINDS]
    spoken = [(name, line) for name, line in asked if line["answer"] in replies]
    written = {
        line["text"]: (f"typed/{name}", line) for name, line in _named(lines, *TYPED) if line["answer"] in replies
    }
    typed = [
        (name, line | {"text": text, "codes": None})
        for name, line in written.values()
        for text in {line["text"]: 1, as_typed(line["text"], typing): 1}
    ]
    return {
        "chat": (_dialogue(name, line, replies[line["answer"]], frame_rate) for name, line in spoken),
        "noted": (_note(name, line, frame_rate) for name, line in asked),
        "typed": (_dialogue(name, line, replies[line["answer"]], frame_rate) for name, line in typed),
        "small_talk": (
            _dialogue(name, line, replies[line["answer"]], frame_rate)
            for name, line in (*spoken, *typed)
            if line["kind"] == "talk"
        ),
        "greetings": _greetings(written.values(), replies, frame_rate),
        "turns": _turns(lines, replies, frame_rate),
        "talks": _talks(list(_named(lines, *TYPED, "repeat")), replies, frame_rate),
        "dictated": (
            _recording(name, line, frame_rate)
            for name, line in _named(lines, *QUESTIONS)
            if line["kind"] not in WORDS_KINDS
        ),
        "words": (
            _recording(name, line, frame_rate)
            for name, line in _named(lines, "drills", "dictation", "natural")
            if line["kind"] in WORDS_KINDS
        ),
        "recorded": (
            _recording(name, line, frame_rate) for name, line in _named(lines, "recorded") if line["split"] == "train"
        ),
        "aloud": (
            _recording(name, line, frame_rate) for name, line in _named(lines, "answers", "sentences", "phrases")
        ),
        "voice": (_recording(name, line, frame_rate) for name, line in _named(lines, "voice") if "words" in line),
        "written": (
            make_record(f"written-{number}", "text", language="en", text=item.question, answer_text=item.answer)
            for number, item in enumerate(items())
            if item.split == "train"
        ),
        "keyboard": _keyboard(),
        "facts": (
            make_record(f"facts-{number}", "document", language="en", text=text)
            for number, text in enumerate(lists_of_facts())
        ),
    }


def _greetings(
    written: Iterable[tuple[str, Line]], replies: dict[str, Line], frame_rate: float, seed: int = 0
) -> Iterator[Record]:
    """Each greeting as people type it: small, capital, with any punctuation."""
    rng = random.Random(seed)
    for name, line in written:
        if line["answer"] in GREETINGS:
            exclaimed = line["text"].replace(".", "!")
            typed = [as_typed(text, rng) for text in (line["text"], exclaimed) for _ in range(WAYS_OF_TYPING)]
            for text in dict.fromkeys((line["text"], exclaimed, *typed)):
                yield _dialogue(name, line | {"text": text, "codes": None}, replies[line["answer"]], frame_rate)


def _keyboard(seed: int = 0) -> Iterator[Record]:
    """Free and plain questions of all kinds as people type them, and their answers as text."""
    rng = random.Random(seed)
    plain = [item for item in items() if item.split == "train"]
    by_kind: dict[str, list[Item]] = defaultdict(list)
    for item in (*plain, *free_items(), *indirect_items()):
        by_kind[item.kind].append(item)
    kinds = sorted(by_kind)
    for number in range(TYPED_QUESTIONS):
        kind = OUTSIDE if rng.random() < OUTSIDE_SHARE else kinds[number % len(kinds)]
        item = rng.choice(by_kind[kind])
        text = as_typed(freely_worded(item.question, item.kind, rng) if rng.random() < 0.5 else item.question, rng)
        yield make_record(f"keyboard-{number}", "text", language="en", text=text, answer_text=item.answer)


def _named(lines: dict[str, list[Line]], *corpora: str) -> Iterator[tuple[str, Line]]:
    for corpus in corpora:
        for line in lines[corpus]:
            yield f"{corpus}/{line['id']}", line


def _words(line: Line) -> list[dict[str, Any]]:
    return [{"word": word, "start": start, "end": end} for word, start, end in line["words"]]


def _recording(name: str, line: Line, frame_rate: float) -> Record:
    columns = {
        "text": line["text"],
        "codes": line["codes"],
        "seconds": len(line["codes"]) / frame_rate,
    }
    if "words" in line:  # a person's words have no times
        columns["words"] = _words(line)
    return make_record(name, "recording", language="en", speaker=line["voice"], **columns)


def _dialogue(name: str, asked: Line, reply: Line, frame_rate: float) -> Record:
    return make_record(
        name,
        "dialogue",
        language="en",
        speaker=asked["voice"],
        text=asked["text"],
        codes=asked["codes"],
        answer_text=reply["text"],
        answer_codes=reply["codes"],
        answer_words=_words(reply),
        seconds=(len(asked["codes"] or ()) + len(reply["codes"])) / frame_rate,
    )


def _note(name: str, asked: Line, frame_rate: float) -> Record:
    messages = [
        {"role": "system", "content": TASKS["text"].system_prompt},
        {"role": "user", "content": _written(asked["codes"])},
        {"role": "assistant", "content": asked["answer"]},
    ]
    return make_record(
        name, "messages", language="en", messages=json.dumps(messages), seconds=len(asked["codes"]) / frame_rate
    )


def _turns(
    lines: dict[str, list[Line]], replies: dict[str, Line], frame_rate: float, seed: int = 0
) -> Iterator[Record]:
    """Conversations of two turns; one voice asks both questions, if it ever asked the first."""
    rng = random.Random(seed)
    spoken: dict[tuple[str, str], list[Line]] = defaultdict(list)
    by_text: dict[str, list[Line]] = defaultdict(list)
    for line in lines["questions"]:
        spoken[line["text"], line["voice"]].append(line)
        by_text[line["text"]].append(line)
    for name, second in _named(lines, "follow-ups"):
        firsts = spoken[second["first_question"], second["voice"]] or by_text[second["first_question"]]
        answers = [replies[second[field]] for field in ("first_answer", "answer") if second[field] in replies]
        if not firsts or len(answers) < 2:
            continue
        first = rng.choice(firsts)
        exchanges = [(_written(asked["codes"]), reply) for asked, reply in zip((first, second), answers, strict=True)]
        codes = sum(len(line["codes"]) for line in (first, second, *answers))
        yield _conversation(name, exchanges, codes, frame_rate)


def _talks(
    asked: Sequence[tuple[str, Line]], replies: dict[str, Line], frame_rate: float, seed: int = 0
) -> Iterator[Record]:
    """Conversations of unrelated questions; one voice asks them all, and sometimes writes instead."""
    rng = random.Random(seed)
    by_voice: dict[str, list[tuple[str, Line]]] = defaultdict(list)
    small_talk: dict[bool, list[Line]] = defaultdict(list)  # by whether it is a greeting
    for name, line in rng.sample(asked, len(asked)):
        if line["answer"] in replies:
            if line["kind"] == "talk":
                small_talk[line["answer"] in GREETINGS].append(line)
            else:
                by_voice[line["voice"]].append((name, line))
    for voice, questions in sorted(by_voice.items()):
        start = 0
        while start < len(questions) - 1:
            talk = questions[start : start + rng.randint(*TURNS_OF_A_TALK)]
            start += len(talk)
            said = [(line, rng.random() < TYPED_SHARE) for _, line in talk]
            chosen = small_talk[rng.random() < 0.5]
            if chosen and rng.random() < SMALL_TALK_SHARE:
                line = rng.choice(chosen)
                said.insert(rng.randint(0, len(said)), (line, line["voice"] != voice or rng.random() < TYPED_SHARE))
            exchanges = [
                (as_typed(line["text"], rng) if is_typed else _written(line["codes"]), replies[line["answer"]])
                for line, is_typed in said
            ]
            codes = sum(len(reply["codes"]) for _, reply in exchanges)
            codes += sum(len(line["codes"]) for line, is_typed in said if not is_typed)
            yield _conversation(f"talk/{talk[0][0]}", exchanges, codes, frame_rate)


def _conversation(name: str, exchanges: Sequence[tuple[str, Line]], codes: int, frame_rate: float) -> Record:
    """What was asked, as text with codes in it, and what was replied, word by word."""
    messages = []
    for question, reply in exchanges:
        pieces = aligned_groups(reply["words"], reply["codes"], frame_rate, 1)
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": "".join(text + _written(codes) for text, codes in pieces)})
    return make_record(name, "messages", language="en", messages=json.dumps(messages), seconds=codes / frame_rate)


def _written(codes: Iterable[int]) -> str:
    return "".join(f"<|audio_{code}|>" for code in codes)


def lists_of_facts(seed: int = 0) -> list[str]:
    """
    Write answers as plain text, a line each: half of the lists at random, half in order, operand by operand. Every
    answer restates its question, so this is arithmetic at eight ids a fact, where a question and its answer in a
    conversation take nearly forty.

    Args:
        seed (`int`, *optional*, defaults to 0): Of the random order.

    Returns:
        `list[str]`: Lists of `FACTS_PER_LIST` lines; numbers up to `LARGEST_WRITTEN_NUMBER`, and no fact that is held
        out.
    """
    answers = sorted({item.answer for item in items(largest_number=LARGEST_WRITTEN_NUMBER) if item.split == "train"})
    rng = random.Random(seed)
    # "Thirteen minus five is eight." comes before "Thirteen minus six is seven."
    in_order = sorted(answers, key=_operands)
    lists = []
    for number in range(ROUNDS_OF_FACTS):
        ordered = in_order if number % 2 else rng.sample(answers, len(answers))
        first = rng.randrange(FACTS_PER_LIST)
        for start in range(first, len(ordered), FACTS_PER_LIST):
            lists.append("\n".join(ordered[start : start + FACTS_PER_LIST]))
    return lists


def _operands(answer: str) -> tuple[str, tuple[int, ...]]:
    """Sort key of an answer: what is done, then the numbers it is done to."""
    words = keywords(answer)
    numbers = tuple(NUMBERS.index(word) for word in words if word in NUMBERS)
    return " ".join(word for word in words if word not in NUMBERS), numbers[:2]


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint whose codec encodes")
    parser.add_argument("--speech", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True)
    for name, count in prepare(**vars(parser.parse_args())).items():
        print(f"{name}: {count} rows")


if __name__ == "__main__":
    main()
