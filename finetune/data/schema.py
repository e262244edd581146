"""
The records of a prepared dataset: what `ttt prepare` writes and what training and evaluation read.

A prepared folder is a `datasets.DatasetDict` (splits `train`, `validation`, `test`; `load_from_disk` opens it) with
two files beside it: `prepared.json` states what made it ([`PreparedInfo`]), `report.json` (and `report.md`, to be read)
what was left out and why.

| kind | `text` | `codes` | `answer_text` | `answer_codes` |
|---|---|---|---|---|
| `recording` | its transcript | its audio | | |
| `caption` | an instruction, or none | audio | its description | |
| `dialogue` | the question's words, or none | the question's audio, or none | the answer's words | the answer's audio |
| `text` | the question | | the answer | |
| `document` | a text learnt whole, audio in it as `<\\|audio_N\\|>` | | | |
| `messages` | (`messages` holds the messages, audio in them as `<\\|audio_N\\|>`) | | | |

Depends on columns, files and names of tasks. Independent of tokens and codecs: `training/examples.py` turns records
into training examples.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict, cast

import datasets

TASKS_OF_KIND = {
    "recording": ("asr", "tts"),
    "caption": ("caption",),
    "dialogue": ("chat",),
    "text": ("text",),
    "document": ("document",),
    "messages": ("messages",),
}
KINDS = tuple(TASKS_OF_KIND)
SPLITS = ("train", "validation", "test")
INFO_FILE = "prepared.json"
REPORT_FILE = "report.json"
BYTES_PER_FILE = 2**29


class WordTime(TypedDict):
    """A spoken word, and when it begins and ends, in seconds."""

    word: str
    start: float
    end: float


class Record(TypedDict):
    """One entry of a prepared dataset; `features` describes its fields."""

    id: str
    kind: str
    language: str | None
    speaker: str | None
    text: str | None
    codes: list[int] | None
    answer_text: str | None
    answer_codes: list[int] | None
    words: list[WordTime] | None
    answer_words: list[WordTime] | None
    messages: str | None
    seconds: float


def features() -> datasets.Features:
    """
    Give the columns of a prepared dataset.

    Returns:
        `datasets.Features`: `words` and `answer_words` are the spoken words in order with their times in seconds,
        without gaps, of the recording (or question) and of the answer; `messages` is a JSON list of `{"role",
        "content"}`; `seconds` is the length of all audio of the record. What a record does not have is `None`.
    """
    text, number = datasets.Value("string"), datasets.Value("float64")
    codes = datasets.List(datasets.Value("int32"))
    words = datasets.List({"word": text, "start": number, "end": number})
    return datasets.Features(
        {
            "id": text,
            "kind": text,
            "language": text,
            "speaker": text,
            "text": text,
            "codes": codes,
            "answer_text": text,
            "answer_codes": codes,
            "words": words,
            "answer_words": words,
            "messages": text,
            "seconds": number,
        }
    )


def tasks_of(record: Record) -> tuple[str, ...]:
    """
    Name what a record can teach.

    Args:
        record ([`Record`]): Of a prepared dataset.

    Returns:
        `tuple[str, ...]`: Tasks that `training.examples.build_examples` takes with this record.
    """
    tasks = TASKS_OF_KIND[record["kind"]]
    return (*tasks, "interleaved") if record["kind"] == "recording" and record["words"] else tasks


def make_record(id: str, kind: str, **values: Any) -> Record:
    """
    Make a record; what is not given is `None`.

    Args:
        id (`str`): Names the record among those of its source.
        kind (`str`): One of `KINDS`.
        values: Other columns, see `features`.

    Returns:
        [`Record`]: With all columns.

    Raises:
        ValueError: If there is no such kind or column.
    """
    columns = features()
    if kind not in KINDS:
        raise ValueError(f"A record's kind is one of {', '.join(KINDS)}, but is {kind!r}.")
    unknown = values.keys() - columns.keys()
    if unknown:
        raise ValueError(f"A record has no column {', '.join(sorted(unknown))}: its columns are {', '.join(columns)}.")
    return cast(Record, dict.fromkeys(columns) | {"seconds": 0.0, "id": id, "kind": kind} | values)


@dataclass(frozen=True)
class PreparedInfo:
    """
    What made a prepared dataset.

    Args:
        source (`str`): Where the data came from, as it was given.
        codec (`str`): Name or path of the codec.
        codec_fingerprint (`str`): Hash of the codec's weights: codes of another codec mean other audio.
        frame_rate (`float`): Codes per second.
        codebook_size (`int`): Codes of the codec.
        settings (`dict`): Everything else that decides what the records are.
        counts (`dict[str, int]`): Records by split.
        hours (`dict[str, float]`): Hours of audio by split.
    """

    source: str
    codec: str
    codec_fingerprint: str
    frame_rate: float
    codebook_size: int
    settings: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    hours: dict[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `prepared.json`, whole or not at all."""
        replace_text(folder / INFO_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def read_info(folder: str | Path) -> PreparedInfo:
    """
    Read what made a prepared dataset.

    Args:
        folder (`str` or `Path`): A folder written by `ttt prepare`.

    Returns:
        [`PreparedInfo`]

    Raises:
        FileNotFoundError: If the folder holds no prepared dataset, or one that is not finished.
        ValueError: If its description is damaged.
    """
    path = Path(folder) / INFO_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} holds no prepared dataset ({INFO_FILE} is missing): run `ttt prepare`, or run it again "
            "if it was interrupted."
        )
    known = {column.name for column in fields(PreparedInfo)}
    try:
        written = json.loads(path.read_text("utf-8"))
        return PreparedInfo(**{name: value for name, value in written.items() if name in known})
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}): prepare the data again, in a new folder.") from error


def load_prepared(folder: str | Path) -> datasets.DatasetDict:
    """
    Open a prepared dataset; records are read from disk as they are asked for.

    Args:
        folder (`str` or `Path`): A folder written by `ttt prepare`.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`; a split may be empty.

    Raises:
        FileNotFoundError: If the folder holds no prepared dataset, or one that is not finished.
    """
    read_info(folder)
    return datasets.load_from_disk(str(folder))


def save_prepared(folder: str | Path, records: dict[str, list[Record]], info: PreparedInfo) -> None:
    """
    Write records as a prepared dataset, for data that is made and not recorded.

    Args:
        folder (`str` or `Path`): Made if needed.
        records (`dict[str, list[Record]]`): Records by split; a split that is missing is empty.
        info ([`PreparedInfo`]): Counts and hours are filled in.
    """
    plain = {split: [dict(record) for record in records.get(split, [])] for split in SPLITS}
    columns = {split: {name: [record[name] for record in plain[split]] for name in features()} for split in SPLITS}
    splits = {split: datasets.Dataset.from_dict(columns[split], features=features()) for split in SPLITS}
    save_splits(folder, splits)
    counts = {split: len(records.get(split, [])) for split in SPLITS}
    hours = {split: sum(record["seconds"] for record in records.get(split, [])) / 3600 for split in SPLITS}
    PreparedInfo(**(asdict(info) | {"counts": counts, "hours": hours})).write(Path(folder))


def save_splits(folder: str | Path, splits: dict[str, datasets.Dataset]) -> None:
    """Write splits as `load_from_disk` opens them; an empty one needs a file too, which the library leaves out."""
    num_shards = {split: max(1, dataset.data.nbytes // BYTES_PER_FILE) for split, dataset in splits.items()}
    datasets.DatasetDict(splits).save_to_disk(str(folder), num_shards=num_shards)


def replace_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it: it is there whole, or as it was before."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
