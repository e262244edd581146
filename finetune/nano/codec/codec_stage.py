"""
One resumable stage of training a codec: its utterances, its optimizer and schedule, its state on disk, and the export
of the codec.

Depends on the shards that `synthesise` writes (which may still be growing: the folder is read again now and then), and
on the manifests of recordings.
Independent of what a stage trains, and with which loss.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from finetune.data.schema import replace_text
from finetune.hardware import computes_bfloat16
from processing_ttt.audio_input_ttt import load_audio
from processing_ttt.codec_ttt import TttCodecModel

from ..speech.voices import SAMPLING_RATE

CHECKPOINT_SECONDS = 120
REMEMBERED_BATCHES = 200  # of about 2 MB
WARMUP_STEPS = 100


class Utterances:
    """
    The training utterances of a folder of shards, or the recordings that a manifest lists.

    Args:
        data (`Path`): Shards as `synthesise` writes them, of which only those whose `.jsonl` exists are read; or a
            `.jsonl` file whose lines have paths of recordings as `audio`.
        split (`str`, *optional*, defaults to `"train"`): Which utterances of shards.

    Raises:
        ValueError: There are none.
    """

    def __init__(self, data: Path, split: str = "train"):
        self.folder, self.split = data, split
        self.known: set[Path] = set()
        self.index: list[Callable[[], np.ndarray]] = []  # reads an utterance, float32 in [-1, 1]
        if data.suffix == ".jsonl":
            lines = map(json.loads, data.read_text(encoding="utf-8").splitlines())
            self.index = [partial(load_audio, data.parent / line["audio"], SAMPLING_RATE) for line in lines]
        else:
            self.rescan()
        if not self.index:
            raise ValueError(
                f"{data} holds no finished shard with utterances of split {split!r}: write some with `synthesise`."
            )

    def rescan(self) -> None:
        """Add the shards finished since the last look."""
        for index in sorted(set(self.folder.glob("shard-*.jsonl")) - self.known):
            audio = np.load(index.with_suffix(".npy"), mmap_mode="r")
            lines = map(json.loads, index.read_text().splitlines())
            chosen = [line for line in lines if line["split"] == self.split]
            self.index += [partial(_part_of_shard, audio, line["start"], line["samples"]) for line in chosen]
            self.known.add(index)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, number: int, multiple: int) -> torch.Tensor:
        """One utterance, float32 `(samples,)` in [-1, 1], padded with zeros to a multiple of `multiple` samples."""
        waveform = torch.from_numpy(self.index[number]())
        return F.pad(waveform, (0, -len(waveform) % multiple))


def _part_of_shard(audio: np.ndarray, start: int, samples: int) -> np.ndarray:
    return audio[start : start + samples].astype(np.float32) / 32768


def crop(waveform: torch.Tensor, start: int, samples: int) -> torch.Tensor:
    """`samples` samples from `start` on, followed by zeros where the waveform is shorter."""
    piece = waveform[start : start + samples]
    return F.pad(piece, (0, samples - piece.shape[0]))


Batch = TypeVar("Batch")


class Reused(Generic[Batch]):
    """
    Batches that are used several times, because making one takes longer than a step.

    Args:
        make (`Callable`): From a random generator to a batch.
        uses (`int`): How often a batch is used, on average.
    """

    def __init__(self, make: Callable[[np.random.Generator], Batch], uses: int):
        self.make, self.uses = make, uses
        self.batches: deque[Batch] = deque(maxlen=REMEMBERED_BATCHES)

    def draw(self, rng: np.random.Generator) -> Batch:
        """One more batch, new or used before."""
        if len(self.batches) < 8 or rng.random() < 1 / self.uses:
            self.batches.append(self.make(rng))
            return self.batches[-1]
        return self.batches[int(rng.integers(len(self.batches)))]


class Stage:
    """
    One resumable training stage: optimizer, cosine over a budget of CPU time, checkpoints, times.

    Args:
        name (`str`): Names the checkpoint and the entry in `time.json`.
        out (`Path`): Where they are written.
        parts (`dict[str, nn.Module]`): What is trained.
        minutes (`float`): Budget, in minutes of CPU time over all restarts.
        learning_rate (`float`): Peak learning rate.
        betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.98)`): AdamW's.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        parts: dict[str, nn.Module],
        minutes: float,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.98),
    ):
        self.name, self.out, self.minutes, self.learning_rate = name, out, minutes, learning_rate
        self.parameters = {
            f"{part}.{key}": value for part, module in parts.items() for key, value in module.named_parameters()
        }
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=learning_rate, betas=betas, weight_decay=0.01)
        self.step, self.cpu_seconds, self.wall_seconds = 0, 0.0, 0.0
        self.losses: dict[str, float] = {}
        self.is_half = computes_bfloat16("cpu")
        if self.checkpoint.exists():
            self.resume()
        self.cpu_start = time.process_time() - self.cpu_seconds
        self.wall_start = time.monotonic() - self.wall_seconds

    @property
    def checkpoint(self) -> Path:
        """The file that the stage goes on from."""
        return self.out / f"{self.name}.safetensors"

    def progress(self) -> float:
        """Share of the budget that is spent."""
        self.cpu_seconds = time.process_time() - self.cpu_start
        self.wall_seconds = time.monotonic() - self.wall_start
        return min(1.0, self.cpu_seconds / (60 * self.minutes))

    def update(self, loss: torch.Tensor, losses: dict[str, float]) -> None:
        """One optimizer step at the learning rate of this moment."""
        rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * self.progress()))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.step + 1) / WARMUP_STEPS)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        for key, value in losses.items():
            self.losses[key] = 0.99 * self.losses.get(key, value) + 0.01 * value

    def save(self) -> None:
        """Write the checkpoint, whole or not at all, and the times."""
        tensors = {f"model.{key}": value.detach().contiguous() for key, value in self.parameters.items()}
        for key, value in self.parameters.items():
            # none of a part that never learnt anything
            for moment, tensor in self.optimizer.state.get(value, {}).items():
                tensors[f"{moment}.{key}"] = tensor.contiguous()
        self.progress()
        entry = {"step": self.step, "cpu_seconds": self.cpu_seconds, "wall_seconds": self.wall_seconds, **self.losses}
        unfinished = self.checkpoint.with_suffix(".unfinished")
        save_file(tensors, unfinished, metadata={"state": json.dumps(entry)})
        os.replace(unfinished, self.checkpoint)
        times = self.out / "time.json"
        table = json.loads(times.read_text()) if times.exists() else {}
        table[self.name] = {key: round(value, 4) for key, value in entry.items()}
        replace_text(times, json.dumps(table, indent=1) + "\n")

    def resume(self) -> None:
        """Go on from the checkpoint."""
        with safe_open(self.checkpoint, framework="pt") as stored:
            state = json.loads(stored.metadata()["state"])
            self.step, self.cpu_seconds = state.pop("step"), state.pop("cpu_seconds")
            self.wall_seconds, self.losses = state.pop("wall_seconds"), state
            for key, value in self.parameters.items():
                value.data.copy_(stored.get_tensor(f"model.{key}"))
                moments = {moment: f"{moment}.{key}" for moment in ("step", "exp_avg", "exp_avg_sq")}
                if moments["exp_avg"] in stored.keys():  # noqa: SIM118 - not a dictionary
                    self.optimizer.state[value] = {moment: stored.get_tensor(name) for moment, name in moments.items()}

    def run(
        self, compute_loss: Callable[[np.random.Generator], tuple], regularly: dict[Callable[[], None], float]
    ) -> None:
        """
        Train until the budget is spent.

        Args:
            compute_loss (`Callable`): From a random generator to a loss and its parts; drawn anew from the step's
                number.
            regularly (`dict[Callable, float]`): What is called every so many seconds.
        """
        regularly = {self.save: CHECKPOINT_SECONDS, **regularly}
        due = {action: time.monotonic() + seconds for action, seconds in regularly.items()}
        with tqdm(total=round(self.minutes, 1), initial=self.cpu_seconds / 60, unit="min", mininterval=10) as bar:
            while self.progress() < 1:
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_half):
                    loss, losses = compute_loss(np.random.default_rng((self.step, 1)))
                self.update(loss, losses)
                bar.set_postfix({"step": self.step, **{k: f"{v:.4f}" for k, v in self.losses.items()}}, refresh=False)
                bar.update(self.cpu_seconds / 60 - bar.n)
                for action in [action for action, moment in due.items() if time.monotonic() > moment]:
                    action()
                    due[action] = time.monotonic() + regularly[action]
        self.save()


def export(model: TttCodecModel, folder: Path) -> None:
    """
    Write the codec for `AutoModel.from_pretrained`; each file appears whole or not at all.

    The weights of a Whisper encoder are stored in float16, as they were released, and load as float32.

    Args:
        model ([`TttCodecModel`]): The codec.
        folder (`Path`): Gets it, in place of what is there.
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    state = {
        name: value.half() if name.startswith("encoder.whisper.") else value
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(unfinished, state_dict=state)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(unfinished.iterdir()):
        os.replace(file, folder / file.name)
    unfinished.rmdir()
