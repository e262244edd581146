"""
Who makes the rows: this process, several processes of this machine, or the machines of a Ray cluster. The rows are
the same.

Each engine takes shards (a number and its items) and gives back what became of them, in any order; nothing is written
here.
"""

import json
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import Any

import torch

from finetune.adapters.loading import load_processor
from processing_ttt import TttProcessor

from .records import Item, pack_items, unpack_items
from .row_maker import Limits, Made, RowMaker

ENGINES = ("local", "ray")
SHARDS_AHEAD = 2  # per process: read, but not made yet
RAY_WINDOW = 64  # shards per worker in one Ray data set

Shard = tuple[int, list[Item]]


@dataclass(frozen=True)
class Worker:
    """
    How to make a row maker, in whichever process.

    Args:
        model (`str`): Folder or Hub id of the checkpoint whose codec encodes.
        limits ([`Limits`]): What can be used.
        device (`str`): Where the codec runs.
        batch_size (`int`): Sounds encoded together.
    """

    model: str
    limits: Limits
    device: str
    batch_size: int

    def row_maker(self, processor: TttProcessor | None = None) -> RowMaker:
        """Make it, loading the processor if none is given."""
        processor = processor or load_processor(self.model)
        processor.codec.to(self.device)
        return RowMaker(processor, self.limits, self.batch_size)


def run_here(shards: Iterable[Shard], row_maker: RowMaker) -> Iterator[tuple[int, Made]]:
    """Make the rows in this process, shard by shard."""
    for number, items in shards:
        yield number, row_maker.make(items)


# ------------------------------------------------------------------------------------------------------------ processes

_row_maker: RowMaker | None = None  # of a worker process


def run_processes(shards: Iterable[Shard], worker: Worker, num_proc: int) -> Iterator[tuple[int, Made]]:
    """
    Make the rows in several processes of this machine.

    Args:
        shards (iterable of `(int, list[Item])`): Read as they are needed.
        worker ([`Worker`]): What each process makes rows with.
        num_proc (`int`): Processes.

    Yields:
        `tuple[int, Made]`: Shards as they are ready.

    Raises:
        RuntimeError: If a process dies, as it does when memory runs out.
    """
    shards = iter(shards)
    pool = ProcessPoolExecutor(num_proc, multiprocessing.get_context("spawn"), _start_process, (worker,))
    try:
        running = {pool.submit(_make_in_process, shard) for shard in islice(shards, num_proc * SHARDS_AHEAD)}
        while running:
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_make_in_process, shard) for shard in islice(shards, len(ready))}
            for future in ready:
                yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process died, perhaps because memory ran out. What is done is kept: run the same command again, with a "
            "smaller --num-proc."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_process(worker: Worker) -> None:
    global _row_maker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # processes share out the cores, not threads
    _row_maker = worker.row_maker()


def _die_with_parent() -> None:
    """A pool's processes would wait for ever for work from a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _make_in_process(shard: Shard) -> tuple[int, Made]:
    assert _row_maker is not None
    return shard[0], _row_maker.make(shard[1])


# ------------------------------------------------------------------------------------------------------------------ Ray


class RayRowMaker:
    """
    The actor of Ray Data that makes rows; it loads the codec once.

    Args:
        worker ([`Worker`]): What it makes rows with.
    """

    def __init__(self, worker: Worker):
        torch.set_num_threads(1)
        self._row_maker = worker.row_maker()

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Make the rows of one packed shard."""
        made = self._row_maker.make(unpack_items(shard))
        return {"number": shard["number"], "made": json.dumps(vars(made))}


def run_ray(shards: Iterable[Shard], worker: Worker, num_proc: int) -> Iterator[tuple[int, Made]]:
    """
    Make the rows on a Ray cluster, through Ray Data: the one that `RAY_ADDRESS` names, or one that is started here.

    Sounds that are paths must be there on every machine; rows come back here and are written here.

    Args:
        shards (iterable of `(int, list[Item])`): Read in windows of many.
        worker ([`Worker`]): What each actor makes rows with.
        num_proc (`int`): Actors, each with one CPU, and one GPU if the codec runs on one.

    Yields:
        `tuple[int, Made]`: Shards as they are ready.

    Raises:
        ImportError: If Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError('`--engine ray` needs Ray: pip install "text-to-talk[ray]".') from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    num_gpus = 1 if worker.device.startswith("cuda") else None
    shards = iter(shards)
    while window := list(islice(shards, RAY_WINDOW * num_proc)):
        rows = [{"number": number, **pack_items(items)} for number, items in window]
        made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayRowMaker,
            fn_constructor_args=(worker,),
            compute=ray.data.ActorPoolStrategy(size=num_proc),
            num_cpus=1,
            num_gpus=num_gpus,
        )
        for row in made.iter_rows():
            yield int(row["number"]), Made(**json.loads(row["made"]))
