"""
Where records are made: in this process, in several processes of this machine, or on a Ray cluster, with the same
result. An engine maps shards (a number and its items) to records, in any order; nothing is written here.
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

from .record_maker import Limits, Made, RecordMaker
from .records import Item, pack_items, unpack_items

ENGINES = ("local", "ray")
SHARDS_AHEAD = 2  # per process: read, but not made yet
RAY_WINDOW = 64  # shards per worker in one Ray data set

Shard = tuple[int, list[Item]]


@dataclass(frozen=True)
class Worker:
    """
    How to make a record maker, in whichever process.

    Args:
        model (`str`): Folder or Hub id of the checkpoint whose codec encodes.
        limits ([`Limits`]): What can be used.
        device (`str`): Where the codec runs.
        batch_size (`int`): Recordings encoded together.
    """

    model: str
    limits: Limits
    device: str
    batch_size: int

    def record_maker(self, processor: TttProcessor | None = None) -> RecordMaker:
        """Make it, loading the processor if none is given."""
        processor = processor or load_processor(self.model)
        processor.codec.to(self.device)
        return RecordMaker(processor, self.limits, self.batch_size)


def run_here(shards: Iterable[Shard], record_maker: RecordMaker) -> Iterator[tuple[int, Made]]:
    """Make the records in this process, shard by shard."""
    for number, items in shards:
        yield number, record_maker.make(items)


# ------------------------------------------------------------------------------------------------------------ processes

_record_maker: RecordMaker | None = None  # of a worker process


def run_processes(shards: Iterable[Shard], worker: Worker, num_proc: int) -> Iterator[tuple[int, Made]]:
    """
    Make the records in several processes of this machine.

    Args:
        shards (iterable of `(int, list[Item])`): Read as they are needed.
        worker ([`Worker`]): What each process makes records with.
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
    global _record_maker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # one core for each process, so no threads
    _record_maker = worker.record_maker()


def _die_with_parent() -> None:
    """A pool's processes would wait without end for work from a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _make_in_process(shard: Shard) -> tuple[int, Made]:
    assert _record_maker is not None
    return shard[0], _record_maker.make(shard[1])


# ------------------------------------------------------------------------------------------------------------------ Ray


class RayRecordMaker:
    """
    The actor of Ray Data that makes records; it loads the codec once.

    Args:
        worker ([`Worker`]): What it makes records with.
    """

    def __init__(self, worker: Worker):
        torch.set_num_threads(1)
        self._record_maker = worker.record_maker()

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Make the records of one packed shard."""
        made = self._record_maker.make(unpack_items(shard))
        return {"number": shard["number"], "made": json.dumps(vars(made))}


def run_ray(shards: Iterable[Shard], worker: Worker, num_proc: int) -> Iterator[tuple[int, Made]]:
    """
    Make the records on a Ray cluster, through Ray Data: the one that `RAY_ADDRESS` names, or one that is started here.

    Audio files must be there on every machine; records come back here and are written here.

    Args:
        shards (iterable of `(int, list[Item])`): Read in windows of many.
        worker ([`Worker`]): What each actor makes records with.
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
        packed = [{"number": number, **pack_items(items)} for number, items in window]
        made = ray.data.from_items(packed, override_num_blocks=len(packed)).map(
            RayRecordMaker,  # type: ignore[arg-type]  # Ray makes an actor of a class
            fn_constructor_args=(worker,),
            compute=ray.data.ActorPoolStrategy(size=num_proc),
            num_cpus=1,
            num_gpus=num_gpus,
        )
        for result in made.iter_rows():
            yield int(result["number"]), Made(**json.loads(result["made"]))
