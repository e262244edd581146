"""
Several prepared datasets mixed for training: a `data.yaml`, the examples it names, and the order in which an epoch
takes them.

    replay_ratio: 0.2              # share of the examples that comes from the datasets marked `replay`
    datasets:
      - path: prepared/italian     # a folder that `ttt prepare` wrote, relative to this file
        weight: 3                  # share among the datasets; without weights each counts by its size
        tasks: {asr: 1, tts: 2}    # shares among its tasks; or a list, [asr, tts]: each by its records;
                                   # without `tasks`, all that it can teach
      - path: prepared/italian-chat
        weight: 1
      - path: prepared/english     # base-language data against forgetting
        replay: true

Every (record, task) is an example with a fixed position. An epoch is a list of positions that depends on the seed and
the epoch alone, so neither the number of workers nor where a run was resumed changes the order. Over the epochs every
record of a task is used as often as any other: a task that is drawn more often than it has records begins a new
shuffled round, one that is drawn less often continues where it was.

Depends on prepared folders and weights. Independent of batches, noise and models.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from finetune.data.schema import INFO_FILE, TASKS_OF_KIND, PreparedInfo, Record, load_prepared, read_info
from finetune.yaml_files import read_yaml, shown
from processing_ttt.layout_ttt import TttLayout
from processing_ttt.tasks_ttt import DEFAULT_LANGUAGE

from .collate import Example
from .examples import ALL_TASKS, build_examples
from .token_cache import CachingTokenizer


@dataclass(frozen=True)
class MixtureEntry:
    """
    One prepared dataset of a mixture.

    Args:
        path (`Path`): Folder written by `ttt prepare`.
        tasks (`dict[str, float | None]`): Tasks with their shares, `None` for one that counts by its records; empty for
            all it can teach.
        weight (`float`, *optional*): Its share among the datasets.
        replay (`bool`): Whether it is there against forgetting.
    """

    path: Path
    tasks: dict[str, float | None] = field(default_factory=dict)
    weight: float | None = None
    replay: bool = False


@dataclass(frozen=True)
class Mixture:
    """
    Which datasets are mixed in which shares.

    Args:
        entries (`tuple[MixtureEntry, ...]`): The datasets.
        replay_ratio (`float`): Share of the examples that comes from those marked `replay`.
    """

    entries: tuple[MixtureEntry, ...]
    replay_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.replay_ratio < 1:
            raise ValueError(f"`replay_ratio` is a share from 0 to below 1, but is {self.replay_ratio}.")
        replayed = [entry for entry in self.entries if entry.replay]
        if len(replayed) == len(self.entries):
            raise ValueError("A mixture needs a dataset to learn from that is not marked `replay`.")
        if bool(replayed) != (self.replay_ratio > 0):
            raise ValueError("Mark datasets with `replay: true` and give a `replay_ratio` above 0, or do neither.")
        for group in (replayed, [entry for entry in self.entries if not entry.replay]):
            if len({entry.weight is None for entry in group}) > 1:
                raise ValueError("Give every dataset a `weight`, or none: then each counts by its size.")


def read_mixture(path: str | Path, tasks: Iterable[str] = ()) -> Mixture:
    """
    Read a `data.yaml`, or take a prepared folder as a mixture of one.

    Args:
        path (`str` or `Path`): The file or the folder.
        tasks (`Iterable[str]`): For a folder: only these tasks.

    Returns:
        [`Mixture`]

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If it is a manifest, or has a key that a mixture does not have.
    """
    path = Path(path)
    if path.is_dir() or path.name == INFO_FILE:
        folder = path if path.is_dir() else path.parent
        return Mixture((MixtureEntry(folder, _tasks(list(tasks), folder)),))
    if not path.is_file():
        raise FileNotFoundError(f"There is no prepared folder and no data file {str(path)!r}.")
    if path.suffix in (".jsonl", ".parquet", ".csv", ".tsv"):
        raise ValueError(
            f"{str(path)!r} is not prepared: give the folder that `ttt prepare {path} --out FOLDER` makes."
        )
    if list(tasks):
        raise ValueError(f"{str(path)!r} names the tasks of each dataset itself: give tasks there and not beside it.")
    written = read_yaml(path)
    if not isinstance(written, Mapping) or not isinstance(written.get("datasets"), list) or not written["datasets"]:
        raise ValueError(f"{str(path)!r} must hold a list `datasets` of prepared folders, each with its `path`.")
    _refuse_unknown(written, ("datasets", "replay_ratio"), str(path))
    entries = tuple(_entry(entry, path.parent) for entry in written["datasets"])
    return Mixture(entries, _number(written.get("replay_ratio", 0.0), "replay_ratio"))


def _entry(written: object, root: Path) -> MixtureEntry:
    if isinstance(written, str):
        written = {"path": written}
    if not isinstance(written, Mapping) or not isinstance(written.get("path"), str):
        raise ValueError(f"A dataset of a mixture is a folder, or has a `path`, but is {shown(written)}.")
    _refuse_unknown(written, [column.name for column in fields(MixtureEntry)], written["path"])
    folder = root / Path(written["path"]).expanduser()
    weight = None if written.get("weight") is None else _number(written["weight"], "weight")
    return MixtureEntry(folder, _tasks(written.get("tasks") or {}, folder), weight, bool(written.get("replay", False)))


def _tasks(written: object, folder: Path) -> dict[str, float | None]:
    if isinstance(written, str):
        written = [written]
    if not isinstance(written, (Mapping, list)) or not all(isinstance(task, str) for task in written):
        raise ValueError(
            f"`tasks` of {str(folder)!r} is a list of tasks, or tasks with shares, but is {shown(written)}."
        )
    shares = written if isinstance(written, Mapping) else dict.fromkeys(written)
    unknown = sorted(set(map(str, shares)) - set(ALL_TASKS))
    if unknown:
        raise ValueError(f"{str(folder)!r} is to teach {', '.join(unknown)}: the tasks are {', '.join(ALL_TASKS)}.")
    return {task: None if share is None else _number(share, task) for task, share in shares.items()}


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"`{name}` must be a number from 0 on, but is {shown(value)}.")
    return float(value)


def _refuse_unknown(written: Mapping, known: Iterable[str], where: str) -> None:
    unknown = sorted(set(map(str, written)) - set(known))
    if unknown:
        raise ValueError(
            f"{where!r} has {', '.join(unknown)}, which a mixture does not have: its keys are {', '.join(known)}."
        )


@dataclass(frozen=True)
class _Source:
    """The records of one dataset that teach one task, by their indices."""

    dataset: datasets.Dataset
    task: str
    indices: np.ndarray
    frame_rate: float
    share: float
    replayed: bool


class MixedExamples(Dataset):
    """
    The training examples of a mixture, each at its position; `order(epoch)` gives the positions that an epoch takes.

    Args:
        mixture ([`Mixture`]): What is mixed.
        tokenizer (`PreTrainedTokenizerBase`): The model's.
        layout ([`TttLayout`]): The model's.
        split (`str`, defaults to `"train"`): `train`, `validation` or `test`.
        aligned (`bool` or `int`, defaults to `False`): Words per group, see `build_examples`.
        system_prompts (`dict[str, str]`, *optional*): The processor's own.
        default_language (`str`, defaults to `"en"`): The language whose prompts have no tag.
        seed (`int`, defaults to 0): Decides every order.

    Raises:
        ValueError: If the datasets were made with different codecs, or one has no record for a task it should teach.
    """

    def __init__(
        self,
        mixture: Mixture,
        tokenizer: PreTrainedTokenizerBase,
        layout: TttLayout,
        split: str = "train",
        aligned: bool | int = False,
        system_prompts: dict[str, str] | None = None,
        default_language: str = DEFAULT_LANGUAGE,
        seed: int = 0,
    ):
        self.mixture = mixture
        self.tokenizer: Any = CachingTokenizer(tokenizer)
        self.layout = layout
        self.aligned = aligned
        self.system_prompts = system_prompts
        self.default_language = default_language
        self.seed = seed
        check_same_codec([(entry.path, read_info(entry.path)) for entry in mixture.entries], layout)
        self.sources = _sources(mixture, split)
        self._ends = np.cumsum([len(source.indices) for source in self.sources])
        self._quotas = self._share_out()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, position: int) -> Example:
        record, task = self.record(position)
        return build_examples(
            record,
            task,
            self.tokenizer,
            self.layout,
            self.sources[self._source_of(position)].frame_rate,
            self.aligned,
            self.system_prompts,
            self.default_language,
        )

    def record(self, position: int) -> tuple[Record, str]:
        """
        Give the record and the task of an example.

        Args:
            position (`int`): 0 to `len(self) - 1`.

        Returns:
            `tuple[Record, str]`
        """
        number = self._source_of(position)
        source = self.sources[number]
        start = int(self._ends[number - 1]) if number else 0
        return cast(Record, source.dataset[int(source.indices[position - start])]), source.task

    @property
    def languages(self) -> list[str]:
        """Tags of the languages that are learnt, sorted; what is only replayed against forgetting does not count."""
        columns = [
            source.dataset.select(source.indices).unique("language") for source in self.sources if not source.replayed
        ]
        return sorted({tag for column in columns for tag in column if tag})

    def recordings(self) -> list[int]:
        """Positions of the recordings with a transcript that are learnt, each once; replayed ones do not count."""
        first: dict[tuple[int, int], int] = {}
        for source, end in zip(self.sources, self._ends.tolist(), strict=True):
            if source.task in ("asr", "tts") and not source.replayed:
                for position, index in enumerate(source.indices.tolist(), end - len(source.indices)):
                    first.setdefault((id(source.dataset), index), position)  # tasks of a dataset share it
        return sorted(first.values())

    @property
    def epoch_length(self) -> int:
        """Number of examples of an epoch: those of the datasets without `replay`, plus what `replay_ratio` adds."""
        return int(self._quotas.sum())

    def order(self, epoch: int) -> np.ndarray:
        """
        Give the positions of the examples that an epoch takes, in order.

        Args:
            epoch (`int`): 0, 1, ...

        Returns:
            `np.ndarray` of shape `(epoch_length,)`: Positions.
        """
        starts = np.concatenate([[0], self._ends[:-1]])
        taken = [
            starts[number] + self._rounds(number, epoch * quota, (epoch + 1) * quota)
            for number, quota in enumerate(self._quotas.tolist())
        ]
        together = np.concatenate([np.zeros(0, np.int64), *taken])
        return np.random.default_rng([self.seed, 0, epoch]).permutation(together)

    def _rounds(self, source: int, begin: int, end: int) -> np.ndarray:
        """Places `begin` to `end` in the endless list of a source's records, shuffled anew for each round."""
        count = len(self.sources[source].indices)
        if begin == end:
            return np.zeros(0, np.int64)
        first, last = begin // count, (end - 1) // count
        rounds = [
            np.random.default_rng([self.seed, 1, source, number]).permutation(count)
            for number in range(first, last + 1)
        ]
        return np.concatenate(rounds)[begin - first * count : end - first * count]

    def _source_of(self, position: int) -> int:
        if not 0 <= position < len(self):
            raise IndexError(f"There are {len(self)} examples, and none at {position}.")
        return int(np.searchsorted(self._ends, position, side="right"))

    def _share_out(self) -> np.ndarray:
        """Examples of each source in an epoch: its share, in whole numbers, the largest remainders first."""
        if not self.sources:
            return np.zeros(0, np.int64)
        own = sum(len(source.indices) for source in self.sources if not source.replayed)
        exact = np.array([source.share for source in self.sources]) * round(own / (1 - self.mixture.replay_ratio))
        quotas = np.floor(exact).astype(np.int64)
        missing = round(exact.sum()) - quotas.sum()
        quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
        return quotas


def check_same_codec(infos: Iterable[tuple[Path, PreparedInfo]], layout: TttLayout) -> None:
    """
    Check that all codes are of one codec, and that the model has them all.

    Args:
        infos (iterable of `(Path, PreparedInfo)`): Folders, and what made them.
        layout ([`TttLayout`]): The model's.

    Raises:
        ValueError: If two folders were made with different codecs, or the model's audio alphabet has another size.
    """
    first: tuple[Path, PreparedInfo] | None = None
    for path, info in infos:
        first = first or (path, info)
        if info.codebook_size != layout.vocabulary.codebook_size:
            raise ValueError(
                f"{str(path)!r} was prepared with a codec of {info.codebook_size} codes, but the model has "
                f"{layout.vocabulary.codebook_size}: prepare it with this model (`ttt prepare --model`)."
            )
        if info.codec_fingerprint != first[1].codec_fingerprint:
            raise ValueError(
                f"{str(first[0])!r} and {str(path)!r} were prepared with different codecs ({first[1].codec}, "
                f"{info.codec}), so their codes mean different audio: prepare both with the same model."
            )


def _sources(mixture: Mixture, split: str) -> list[_Source]:
    """
    Every (dataset, task) with its records, shares adding up to one. A split other than `train` may lack records; the
    shares are then divided among those that have some.
    """
    found: list[_Source] = []
    for replay, group_share in ((False, 1 - mixture.replay_ratio), (True, mixture.replay_ratio)):
        group = [entry for entry in mixture.entries if entry.replay == replay]
        taught = [_teaching_indices(entry, split) for entry in group]
        sizes = [sum(map(len, indices.values())) for indices in taught]
        weights = [
            (size if entry.weight is None else entry.weight) if size else 0.0
            for entry, size in zip(group, sizes, strict=True)
        ]
        for entry, indices, weight in zip(group, taught, weights, strict=True):
            if weight:
                found += _entry_sources(entry, split, indices, replay, group_share * weight / sum(weights))
    total = sum(source.share for source in found)
    if split == "train" and not np.isclose(total, 1.0):
        raise ValueError(
            "A mixture needs a dataset with a weight above 0 among those to learn from, and among those to replay if "
            "there are any."
        )
    return [replace(source, share=source.share / total) for source in found]


def _teaching_indices(entry: MixtureEntry, split: str) -> dict[str, np.ndarray]:
    """Indices of a dataset's records by the tasks that are wanted of it."""
    table = load_prepared(entry.path)[split].data
    kinds = np.array(table.column("kind").to_pylist(), dtype=object)
    has_words = np.array([bool(words) for words in table.column("words").to_pylist()], dtype=bool)
    indices = {
        task: np.flatnonzero(np.isin(kinds, [kind for kind, can in TASKS_OF_KIND.items() if task in can]))
        for task in ALL_TASKS
    }
    indices["interleaved"] = np.flatnonzero((kinds == "recording") & has_words)
    wanted = entry.tasks or {task: None for task in ALL_TASKS if task != "interleaved" and len(indices[task])}
    lacking = [task for task in wanted if not len(indices[task])]
    if split == "train" and (lacking or not wanted):
        raise ValueError(
            f"{str(entry.path)!r} has no record that teaches {', '.join(lacking) or 'anything'} (kinds of records: "
            f"{', '.join(sorted(set(kinds))) or 'none'})."
        )
    return {task: indices[task] for task in wanted if len(indices[task])}


def _entry_sources(
    entry: MixtureEntry, split: str, indices: dict[str, np.ndarray], replay: bool, share: float
) -> list[_Source]:
    dataset, frame_rate = load_prepared(entry.path)[split], read_info(entry.path).frame_rate
    shares = {task: entry.tasks.get(task) for task in indices}
    weights = {task: len(indices[task]) if own is None else own for task, own in shares.items()}
    total = sum(weights.values())
    if not total:
        raise ValueError(f"All tasks of {str(entry.path)!r} have the share 0.")
    return [
        _Source(dataset, task, found, frame_rate, share * weights[task] / total, replay)
        for task, found in indices.items()
    ]
