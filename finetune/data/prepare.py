"""
From a folder of recordings to a prepared dataset: read, check, encode, split, write. `ttt prepare` is this module's
command.

    items -> shards of 64 -> an engine makes records -> OUT/work/shard-00000.parquet, ...
          -> splits in OUT -> OUT/prepared.json

Every file is written under another name and renamed; `prepared.json` comes last. Whenever a run is killed, the same
command goes on with the shards that are missing, and a finished folder is left as it is. Other settings for the same
folder are refused.

Depends on files and their order. `record_maker.py` makes records, `sources.py` reads items.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import datasets
import filelock
import pyarrow
import pyarrow.parquet
from tqdm import tqdm

from finetune.adapters.loading import load_processor
from finetune.progress import progress_bar
from processing_ttt import TttProcessor
from processing_ttt.device_ttt import choose_device

from .encoding import codec_fingerprint
from .engines import ENGINES, Shard, Worker, run_here, run_processes, run_ray
from .record_maker import Limits, Made
from .records import Item
from .report import write_report
from .schema import INFO_FILE, REPORT_FILE, SPLITS, PreparedInfo, features, read_info, replace_text, save_splits
from .sources import Source
from .splits import SPLIT_BY, assign_splits, hash_group, split_of_source

WORK_FOLDER = "work"
LOCK_FILE = "prepare.lock"
SHARD_ITEMS = 64

logger = logging.getLogger(__name__)
GPU_BATCH_SIZE = 16
SOURCE_SPLIT = "source_split"  # a column of the shards only
SAME_ID = (
    "an earlier record has the same id: if its audio is another one, name a column whose values differ with "
    "--column id=..."
)


@dataclass(frozen=True)
class Splitting:
    """
    How records are held out.

    Args:
        by (`str`, defaults to `"hash"`): `hash` keeps records with the same words together, `speaker` those of a
            speaker, `source` keeps the splits that the data has, see `split_of_source`.
        validation (`float`, defaults to 0.05): Share of the records.
        test (`float`, defaults to 0.05): Share of the records.
        seed (`int`, defaults to 0): Chooses which.
    """

    by: str = "hash"
    validation: float = 0.05
    test: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in SPLIT_BY:
            raise ValueError(f"Records are split by {', '.join(SPLIT_BY)}, but not by {self.by!r}.")
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise ValueError(
                f"The shares of validation ({self.validation}) and test ({self.test}) must be from 0 on and leave some "
                "records to train on."
            )


def prepare(
    source: Source,
    out: str | Path,
    model: str,
    limits: Limits | None = None,
    splitting: Splitting | None = None,
    engine: str = "local",
    num_proc: int = 1,
    batch_size: int | None = None,
    device: str = "auto",
    shard_items: int = SHARD_ITEMS,
) -> dict[str, Any]:
    """
    Prepare a dataset, or go on with one that was interrupted, or do nothing if it is there.

    Args:
        source ([`Source`]): From `open_source`.
        out (`str` or `Path`): Folder of the prepared dataset.
        model (`str`): Folder or Hub id of the checkpoint whose codec encodes.
        limits ([`Limits`], *optional*): What can be used, and what is added.
        splitting ([`Splitting`], *optional*): How records are held out.
        engine (`str`, defaults to `"local"`): `local` or `ray`.
        num_proc (`int`, defaults to 1): Processes, or Ray actors.
        batch_size (`int`, *optional*): Recordings encoded together; by default 16 on a GPU and 1 on a CPU, where it is
            fastest.
        device (`str`, defaults to `"auto"`): Where the codec runs.
        shard_items (`int`, defaults to 64): Items made at once, and lost at most when a run is killed.

    Returns:
        `dict`: The report, as `report.json` holds it.

    Raises:
        ValueError: If the folder holds something else, or no record can be used, or a split of the source is to be kept
        that is none of ours.
    """
    limits, splitting, out = limits or Limits(), splitting or Splitting(), Path(out)
    if engine not in ENGINES or num_proc < 1 or shard_items < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(
            f"`engine` is one of {', '.join(ENGINES)}; `num_proc`, `batch_size` and `shard_items` are at least 1."
        )
    device = str(choose_device(device))
    _refuse_foreign_folder(out)
    processor = load_processor(model)
    info = PreparedInfo(
        source=source.name,
        codec=str(model),
        codec_fingerprint=codec_fingerprint(processor),
        frame_rate=float(processor.codec_config.frame_rate),
        codebook_size=int(processor.codec_config.codebook_size),
        settings={"source": source.fingerprint(), **asdict(limits), **asdict(splitting), "shard_items": shard_items},
    )
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / LOCK_FILE, timeout=0)
    try:
        with lock:
            if (out / INFO_FILE).is_file():
                _refuse_other_settings(out, read_info(out), info)
                shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
                return json.loads((out / REPORT_FILE).read_text("utf-8"))
            worker = Worker(
                str(model), limits, device, batch_size or (GPU_BATCH_SIZE if device.startswith("cuda") else 1)
            )
            _make_shards(source, out, info, worker, processor, engine, num_proc, shard_items, splitting.by == "source")
            return _assemble(out, info, splitting)
    except filelock.Timeout as error:
        raise ValueError(f"Another run is preparing {str(out)!r}: wait for it, or choose another folder.") from error


def _refuse_foreign_folder(out: Path) -> None:
    """Refuse a non-empty folder without one of our marker files: its split folders would be overwritten."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{str(out)!r} is a file: the prepared dataset is a folder.")
    ours = (out / INFO_FILE, out / LOCK_FILE, out / WORK_FOLDER / INFO_FILE)
    if out.is_dir() and any(out.iterdir()) and not any(path.is_file() for path in ours):
        raise ValueError(f"{str(out)!r} is not empty and holds no prepared dataset: choose another folder.")


def _refuse_other_settings(out: Path, there: PreparedInfo, wanted: PreparedInfo) -> None:
    """Refuse other settings than those the folder was made with, naming them."""
    old, new = (info.settings | {"codec": info.codec_fingerprint} for info in (there, wanted))
    differ = [f"{name} {old.get(name)!r}, not {new[name]!r}" for name in new if old.get(name) != new[name]]
    if differ:
        raise ValueError(
            f"{str(out)!r} was prepared with other settings ({'; '.join(differ)}): choose another folder, or delete "
            "this one."
        )


# --------------------------------------------------------------------------------------------------------------- shards


def _make_shards(
    source: Source,
    out: Path,
    info: PreparedInfo,
    worker: Worker,
    processor: TttProcessor,
    engine: str,
    num_proc: int,
    shard_items: int,
    keeps_splits: bool,
) -> None:
    """Make the shards that are not there yet."""
    work = out / WORK_FOLDER
    work.mkdir(exist_ok=True)
    if (work / INFO_FILE).is_file():
        _refuse_other_settings(out, read_info(work), info)
    info.write(work)
    with progress_bar(desc=f"prepare {source.name}", total=source.count(), unit="record") as progress:
        shards = _missing_shards(source, shard_items, work, progress, keeps_splits)
        if engine == "ray":
            results = run_ray(shards, worker, num_proc)
        elif num_proc > 1:
            results = run_processes(shards, worker, num_proc)
        else:
            results = run_here(shards, worker.record_maker(processor))
        for number, made in results:
            _write_shard(work, number, made)
            progress.update(len(made.records) + len(made.problems))


def _missing_shards(
    source: Source, shard_items: int, work: Path, progress: tqdm, keeps_splits: bool
) -> Iterator[Shard]:
    """Cut the items into shards, passing over those that are done. An id that was there before is a problem."""
    there = {int(path.stem.removeprefix("shard-")) for path in work.glob("shard-*.parquet")}
    done = {number for number in there if _is_whole(work, number)}
    number = next(number for number in count() if number not in done)
    seen = {id for earlier in range(number) for id in _ids_of_shard(work, earlier)}
    progress.update(number * shard_items)
    items = source.items(number * shard_items)
    while shard := list(islice(items, shard_items)):
        unique = []
        for item in shard:
            if keeps_splits and item.split is not None:
                split_of_source(str(item.split))  # refuse an unknown name before the work, not after it
            unique.append(Item(item.id, problem="duplicate id", detail=SAME_ID) if item.id in seen else item)
            seen.add(item.id)
        if number in done:
            progress.update(len(shard))
        else:
            yield number, unique
        number += 1


def _is_whole(work: Path, number: int) -> bool:
    try:
        _ids_of_shard(work, number)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("Shard %d in %s is damaged (%s), and is made again.", number, work, str(error).splitlines()[0])
        return False
    return True


def _ids_of_shard(work: Path, number: int) -> list[str]:
    """The ids that a shard has used up, for records or for problems."""
    table = pyarrow.parquet.read_table(work / f"shard-{number:05d}.parquet", columns=["id"])
    problems = json.loads((work / f"problems-{number:05d}.json").read_text("utf-8"))
    return [*table.column("id").to_pylist(), *(problem["id"] for problem in problems)]


def _write_shard(work: Path, number: int, made: Made) -> None:
    """Write the problems of a shard, then its records, whose file shows that both are there."""
    replace_text(work / f"problems-{number:05d}.json", json.dumps(made.problems))
    schema = features().arrow_schema.append(pyarrow.field(SOURCE_SPLIT, pyarrow.string()))
    rows = [{**record, SOURCE_SPLIT: split} for record, split in zip(made.records, made.splits, strict=True)]
    path = work / f"shard-{number:05d}.parquet"
    partial = path.with_suffix(".partial")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), partial)
    partial.replace(path)


# ----------------------------------------------------------------------------------------------------------- assembling


def _assemble(out: Path, info: PreparedInfo, splitting: Splitting) -> dict[str, Any]:
    """Assign the records of all shards to splits and write these, the report, and at last `prepared.json`."""
    work = out / WORK_FOLDER
    shards = [path for path in sorted(work.glob("shard-*.parquet")) if pyarrow.parquet.read_metadata(path).num_rows]
    problems = [p for path in sorted(work.glob("problems-*.json")) for p in json.loads(path.read_text("utf-8"))]
    columns = ["id", "text", "speaker", "seconds", SOURCE_SPLIT]
    records = [record for path in shards for record in pyarrow.parquet.read_table(path, columns=columns).to_pylist()]
    splits, notes = _split(records, splitting)
    counts = {split: splits.count(split) for split in SPLITS}
    hours = {
        split: sum(record["seconds"] for record, its in zip(records, splits, strict=True) if its == split) / 3600
        for split in SPLITS
    }
    report = write_report(out, info.source, counts, hours, problems, notes)
    if not records:
        raise ValueError(
            f"None of the {report['found']} records of {info.source!r} can be used"
            + (f" ({_listed(report['skipped'])}; see {out / 'report.md'})." if problems else ": it holds no records.")
        )
    cached = datasets.Dataset.from_parquet(
        [str(path) for path in shards],
        features=datasets.Features(features() | {SOURCE_SPLIT: datasets.Value("string")}),
        cache_dir=str(work / "cache"),
    ).remove_columns(SOURCE_SPLIT)
    chosen = {split: [index for index, its in enumerate(splits) if its == split] for split in SPLITS}
    shutil.rmtree(work / "splits", ignore_errors=True)
    save_splits(work / "splits", {split: cached.select(indices) for split, indices in chosen.items()})
    for path in sorted((work / "splits").iterdir()):
        if (out / path.name).is_dir():
            shutil.rmtree(out / path.name)
        os.replace(path, out / path.name)
    PreparedInfo(**(asdict(info) | {"counts": counts, "hours": hours})).write(out)
    shutil.rmtree(work, ignore_errors=True)
    return report


def _split(records: list[dict[str, Any]], splitting: Splitting) -> tuple[list[str], list[str]]:
    """The split of each record, and notes for the report."""
    if splitting.by == "source":
        names = [record[SOURCE_SPLIT] for record in records]
        unnamed = names.count(None)
        notes = [f"Records that name no split are in {SPLITS[0]}: {unnamed}."] if unnamed else []
        return [SPLITS[0] if name is None else split_of_source(name) for name in names], notes
    by_speaker = splitting.by == "speaker"
    groups = [record["speaker"] if by_speaker else hash_group(record["text"], record["id"]) for record in records]
    splits = assign_splits(groups, splitting.validation, splitting.test, splitting.seed)
    notes = [
        f"No record is in {split}: there are too few {'speakers' if by_speaker else 'different sentences'} "
        "to hold some out."
        for split, share in (("validation", splitting.validation), ("test", splitting.test))
        if share and split not in splits
    ]
    return splits, notes


def _listed(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in reasons.items())
