"""
The rows of a prepared dataset: what `ttt prepare` writes and what training and evaluation read.

A prepared folder is a `datasets.DatasetDict` (splits `train`, `validation`, `test`; `load_from_disk` opens it) with
two files beside it: `prepared.json` says what made it ([`PreparedInfo`]), `report.json` (and `report.md`, to be read)
what was left out and why.

| kind | `text` | `codes` | `answer_text` | `answer_codes` |
|---|---|---|---|---|
| `recording` | its transcript | its sound | | |
| `caption` | an instruction, or none | a sound | what is heard | |
| `dialogue` | the question's words, or none | the question's sound, or none | the answer's words | the answer's sound |
| `text` | the question | | the answer | |
| `document` | a text learnt whole, sounds in it as `<\\|audio_N\\|>` | | | |
| `messages` | (`messages` holds the conversation, sounds in it as `<\\|audio_N\\|>`) | | | |

Knows columns, files and names of tasks. Knows no tokens and no codec: `training/examples.py` makes training examples
of rows.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

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

Row = dict[str, Any]


def features() -> datasets.Features:
    """
    Give the columns of a prepared dataset.

    Returns:
        `datasets.Features`: `words` and `answer_words` are the spoken words in order with their times in seconds,
        without gaps, of the recording (or question) and of the answer; `messages` is a JSON list of `{"role",
        "content"}`; `seconds` is the length of all sound in the row. What a row does not have is `None`.
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


def tasks_of(row: Row) -> tuple[str, ...]:
    """
    Name what a row can teach.

    Args:
        row (`dict`): A row of a prepared dataset.

    Returns:
        `tuple[str, ...]`: Tasks that `training.examples.build_examples` takes with this row.
    """
    tasks = TASKS_OF_KIND[row["kind"]]
    return (*tasks, "interleaved") if row["kind"] == "recording" and row["words"] else tasks


def make_row(id: str, kind: str, **values: Any) -> Row:
    """
    Make a row; what is not given is `None`.

    Args:
        id (`str`): Names the row among those of its source.
        kind (`str`): One of `KINDS`.
        values: Other columns, see `features`.

    Returns:
        `dict`: A row with all columns.

    Raises:
        ValueError: If there is no such kind or column.
    """
    row: Row = dict.fromkeys(features()) | {"seconds": 0.0}
    if kind not in KINDS:
        raise ValueError(f"A row's kind is one of {', '.join(KINDS)}, but is {kind!r}.")
    unknown = values.keys() - row.keys()
    if unknown:
        raise ValueError(f"A row has no column {', '.join(sorted(unknown))}: its columns are {', '.join(row)}.")
    return row | {"id": id, "kind": kind} | values


@dataclass(frozen=True)
class PreparedInfo:
    """
    What made a prepared dataset.

    Args:
        source (`str`): Where the data came from, as it was given.
        codec (`str`): Name or path of the codec.
        codec_fingerprint (`str`): Hash of the codec's weights: codes of another codec mean other sounds.
        frame_rate (`float`): Codes per second.
        codebook_size (`int`): Codes of the codec.
        settings (`dict`): Everything else that decides what the rows are.
        counts (`dict[str, int]`): Rows by split.
        hours (`dict[str, float]`): Hours of sound by split.
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
    """
    path = Path(folder) / INFO_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} holds no prepared dataset ({INFO_FILE} is missing): run `ttt prepare`, or run it again "
            "if it was interrupted."
        )
    known = {column.name for column in fields(PreparedInfo)}
    return PreparedInfo(**{name: value for name, value in json.loads(path.read_text("utf-8")).items() if name in known})


def load_prepared(folder: str | Path) -> datasets.DatasetDict:
    """
    Open a prepared dataset; rows are read from disk as they are asked for.

    Args:
        folder (`str` or `Path`): A folder written by `ttt prepare`.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`; a split may be empty.

    Raises:
        FileNotFoundError: If the folder holds no prepared dataset, or one that is not finished.
    """
    read_info(folder)
    return datasets.load_from_disk(str(folder))


def save_prepared(folder: str | Path, rows: dict[str, list[Row]], info: PreparedInfo) -> None:
    """
    Write rows as a prepared dataset, for data that is made and not recorded.

    Args:
        folder (`str` or `Path`): Made if needed.
        rows (`dict[str, list[dict]]`): Rows by split; a split that is missing is empty.
        info ([`PreparedInfo`]): Counts and hours are filled in.
    """
    columns = {split: {name: [row[name] for row in rows.get(split, [])] for name in features()} for split in SPLITS}
    splits = {split: datasets.Dataset.from_dict(columns[split], features=features()) for split in SPLITS}
    save_splits(folder, splits)
    counts = {split: len(rows.get(split, [])) for split in SPLITS}
    hours = {split: sum(row["seconds"] for row in rows.get(split, [])) / 3600 for split in SPLITS}
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
