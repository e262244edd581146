"""
Where data comes from: a Hub data set, an audio folder, Common Voice, a manifest, the released data format; each as a
series of items. A line that cannot be read is an item with a `problem`.

Depends on file formats and folders. Reads no audio.
"""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from .records import FIELDS, Item, as_item
from .splits import split_of_source

METADATA = ("metadata.csv", "metadata.jsonl")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = (".jsonl", ".json", ".parquet", *DELIMITERS)
COMMON_VOICE_SPLITS = ("train", "dev", "test")
BATCH_ROWS = 64
PARQUET_COPY = "refs/convert/parquet"  # branch of the Hub's own


@dataclass(frozen=True)
class Source:
    """
    A data set that can be read again and again, always in the same order.

    Args:
        name (`str`): As it was given.
        kind (`str`): `table`, `audiofolder`, `common_voice` or `hub`.
        files (`tuple[tuple[Path, str | None], ...]`): Tables with the split that each is, if any.
        folder (`Path`): Where relative paths of audio files begin.
        columns (`dict[str, str]`): Names of fields that differ from the usual ones.
        hub (`dict`): What `datasets.load_dataset` is given.
    """

    name: str
    kind: str
    files: tuple[tuple[Path, str | None], ...] = ()
    folder: Path = Path(".")
    columns: Mapping[str, str] = field(default_factory=dict)
    hub: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Hash of what decides the items: the tables' bytes, or what the Hub is asked for. Audio is not read."""
        digest = hashlib.sha256(json.dumps([self.kind, dict(self.columns)], sort_keys=True).encode())
        for path, split in self.files:
            digest.update(f"{path.name} {split}".encode())
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
        asked = {name: value for name, value in self.hub.items() if name != "streaming"}
        digest.update(json.dumps(asked, sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def items(self, start: int = 0) -> Iterator[Item]:
        """
        Read the items.

        Args:
            start (`int`, defaults to 0): How many to pass over.

        Yields:
            [`Item`]
        """
        if self.kind == "hub":
            yield from self._hub_items(start)
            return
        for path, _ in self.files:
            _check_header(path, self.columns)
        records = (pair for path, split in self.files for pair in ((record, split) for record in _records(path)))
        for number, (record, split) in islice(enumerate(records), start, None):
            yield self._item(record, number, split)

    def count(self) -> int | None:
        """Count the items without reading their audio; `None` for a data set on the Hub."""
        return None if self.kind == "hub" else sum(map(_count, (path for path, _ in self.files)))

    def _item(self, record: Any, number: int, split: str | None) -> Item:
        if isinstance(record, Unreadable):
            return Item(f"{number:08d}", problem="unreadable line", detail=record.why)
        if self.kind == "common_voice":
            # Its "path" names a file in the folder of clips, and each clip is a record.
            record = {"id": record.get("path"), **record, "audio": f"clips/{record.get('path') or ''}"}
        elif self.kind == "audiofolder":
            record = {"id": record.get("file_name"), **record}
        item = as_item(record, number, self.folder, self.columns)
        return item if split is None else replace(item, split=split)

    def _hub_items(self, start: int) -> Iterator[Item]:
        for number, (record, split) in enumerate(_hub_records(self.hub, start), start=start):
            yield self._item(record, number, split)


@dataclass(frozen=True)
class Unreadable:
    """
    A line that is no record.

    Args:
        why (`str`): What is wrong with it.
    """

    why: str


# ----------------------------------------------------------------------------------------------- finding out what it is


def open_source(
    name: str,
    columns: Mapping[str, str] | None = None,
    hub_config: str | None = None,
    hub_split: str | None = None,
    streaming: bool = False,
) -> Source:
    """
    Find the source that a name refers to.

    Args:
        name (`str`): A table (`.jsonl`, `.json`, `.parquet`, `.csv`, `.tsv`), a folder, or the id of a data set on
            the Hub.
        columns (`dict[str, str]`, *optional*): Which field of a record is the `text`, the `audio`, ... where they go
            by other names.
        hub_config (`str`, *optional*): Configuration of a Hub data set, as a language.
        hub_split (`str`, *optional*): Split of a Hub data set, as `train[:10%]`; all splits by default.
        streaming (`bool`, defaults to `False`): Read a Hub data set while it is downloaded.

    Returns:
        [`Source`]

    Raises:
        FileNotFoundError: If a path leads nowhere.
        ValueError: If a file or folder is of an unknown kind.
    """
    path, columns = Path(name).expanduser(), columns or {}
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            raise ValueError(f"{name!r} is no table that can be read: a manifest is one of {', '.join(TABLES)}.")
        return Source(name, "table", ((path, None),), path.parent, columns)
    if path.is_dir():
        return _open_folder(name, path, columns)
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or path.suffix.lower() in TABLES or not name.strip():
        raise FileNotFoundError(f"There is no file or folder {name!r}.")
    asked = {"path": name, "name": hub_config, "split": hub_split, "streaming": streaming}
    return Source(name, "hub", columns=columns, hub=asked)


def _open_folder(name: str, path: Path, columns: Mapping[str, str]) -> Source:
    metadata = [path / file for file in METADATA if (path / file).is_file()]
    if metadata:
        return Source(name, "audiofolder", ((metadata[0], None),), path, columns)
    if (path / "clips").is_dir():
        named = [(path / f"{part}.tsv", split_of_source(part)) for part in COMMON_VOICE_SPLITS]
        parts: list[tuple[Path, str | None]] = [(file, split) for file, split in named if file.is_file()]
        if not parts and (path / "validated.tsv").is_file():
            parts = [(path / "validated.tsv", None)]
        if parts:
            return Source(name, "common_voice", tuple(parts), path, columns)
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in (".jsonl", ".json", ".parquet"))
    if tables:
        return Source(name, "table", tuple((file, None) for file in tables), path, columns)
    raise ValueError(
        f"{name!r} is no folder of data that is known: an audio folder has {' or '.join(METADATA)} with a column "
        "file_name, Common Voice has clips/ and train.tsv or validated.tsv, and other data is in .jsonl, .json or "
        ".parquet files."
    )


# --------------------------------------------------------------------------------------------------------------- tables


def _records(path: Path) -> Iterator[Any]:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        yield from _json_lines(path)
    elif suffix == ".json":
        yield from _json_list(path)
    elif suffix == ".parquet":
        yield from _parquet_records(path)
    else:
        yield from _delimited_records(path, DELIMITERS[suffix])


def _count(path: Path) -> int:
    if path.suffix.lower() == ".parquet":
        with _parquet_faults(path):
            return pyarrow.parquet.read_metadata(path).num_rows
    return sum(1 for _ in _records(path))


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip(b" \t\r\n\xef\xbb\xbf"):
                continue
            try:
                yield json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield Unreadable(f"line {number} is no JSON ({error})"[:200])


def _json_list(path: Path) -> Iterator[Any]:
    try:
        written = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is no JSON ({error}): a file of one record per line is named .jsonl."
        ) from error
    if not isinstance(written, list):
        raise ValueError(f"{str(path)!r} must hold a list of records, but holds a {type(written).__name__}.")
    yield from written


def _parquet_records(path: Path) -> Iterator[Any]:
    with _parquet_faults(path), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            yield from batch.to_pylist()


@contextmanager
def _parquet_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as Parquet ({str(error).splitlines()[0]}).") from error


def _check_header(path: Path, columns: Mapping[str, str]) -> None:
    """Refuse a delimited table of which no column is known, as of one that is separated by something else."""
    delimiter = DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file, delimiter=delimiter), [])
    known = {name for names in FIELDS.values() for name in names} | set(columns.values())
    if header and known.isdisjoint(header):
        raise ValueError(
            f"{str(path)!r} has no column that is known: separated by {delimiter!r} its first line is {header}. A .csv "
            "file is separated by commas, a .tsv file by tabs; `--column FIELD=NAME` names other columns, as "
            "audio=NAME and text=NAME."
        )


def _delimited_records(path: Path, delimiter: str) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL  # Common Voice does not quote
    # Bytes that are not UTF-8 become surrogates, which are found, record by record, where texts are checked.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter, quoting=quoting)  # type: ignore[call-overload]
        try:
            for row in rows:
                extra = row.pop(None, None)  # an empty name may be that of a column, as of the index that pandas writes
                yield Unreadable(f"line {rows.line_num} has more fields than the header") if extra else row
        except csv.Error as error:
            raise ValueError(f"{str(path)!r} cannot be read after line {rows.line_num} ({error}).") from error


# ------------------------------------------------------------------------------------------------------------------ Hub


def _hub_records(asked: Mapping[str, Any], start: int) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Rows of a Hub data set with the names of their splits, audio as it is stored."""
    try:
        loaded = load_from_hub(**asked)
    except Exception as error:  # the library raises what its many file systems and builders raise
        raise ValueError(
            f"{asked['path']!r} is neither a file or folder here nor a data set that could be loaded from the Hub: "
            f"{str(error).splitlines()[0]}"
        ) from error
    splits: Iterable = (
        loaded.items() if hasattr(loaded, "items") else [(re.sub(r"\[.*?\]", "", asked["split"]), loaded)]
    )
    for split, dataset in splits:
        dataset = _undecoded(dataset)
        if not asked["streaming"]:  # otherwise its length is known only when it has been read
            if start >= len(dataset):
                start -= len(dataset)
                continue
            dataset, start = dataset.skip(start) if start else dataset, 0
        for record in dataset:
            if start:
                start -= 1
            else:
                yield record, split


def load_from_hub(path: str, name: str | None = None, **asked: Any) -> Any:
    """
    Load a data set, also one that is a script, which `datasets` runs no more: of many of these the Hub keeps a copy
    as Parquet.

    Args:
        path (`str`): Its id.
        name (`str`, *optional*): Its configuration, in such a copy a folder.
        asked: Other arguments of `datasets.load_dataset`.

    Returns:
        What `datasets.load_dataset` returns.
    """
    import datasets

    try:
        return datasets.load_dataset(path, name, **asked)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        return datasets.load_dataset(path, data_dir=name, revision=PARQUET_COPY, **asked)


def _undecoded(dataset: Any) -> Any:
    import datasets

    dataset = dataset if dataset.features is not None else dataset._resolve_features()
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Audio):
            dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    return dataset
