"""
Training one system on one seed: the same rows in the same order for every system, resumable at any moment.

A run is a folder. `state.safetensors` holds weights and optimiser after some step, replaced whole every
`SECONDS_PER_CHECKPOINT`; the step, the seconds and the curve so far are its metadata, so that they can never disagree
with it. `model.safetensors` appears when the run is finished. Batches depend on (seed, step) alone and there is no
dropout, so a run that was killed ends with the weights of one that was not.

Depends on examples, systems and files. Independent of audio.
"""

import copy
import json
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from finetune.training.collate import Example, assign_rows
from finetune.training.muon import MuonAdamW
from processing_ttt.vocabulary_ttt import TttVocabulary

from .distillation import teacher_labels
from .systems import System, compute_loss, create_model, make_batch

SECONDS_PER_CHECKPOINT = 120
TASK_WEIGHTS = {"chat": 0.45, "tts": 0.3, "asr": 0.25}  # how often, per example
STEPS_PER_POINT = 20  # of the curve
STATE, MODEL = "state.safetensors", "model.safetensors"

Plan = list[list[list[tuple[str, int]]]]  # step -> row -> (task, number of the example)


@dataclass(frozen=True)
class TrainingOptions:
    """
    What is equal for all systems.

    Args:
        steps (`int`): Updates.
        rows (`int`): Packed rows of an update.
        row_length (`int`): Ids of a row.
        learning_rate (`float`): Peak, of Muon and AdamW.
        weight_decay (`float`): Of both.
        precision (`str`): `"bf16"` autocast, or `"fp32"`.
        device (`str`): Where it runs.
    """

    steps: int
    rows: int = 8
    row_length: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    precision: str = "fp32"
    device: str = "cpu"


def plan_batches(lengths: dict[str, list[int]], options: TrainingOptions, seed: int) -> Plan:
    """
    Decide which examples every step sees, and in which row: tasks by their weights, the examples of a task in
    shuffled rounds.

    Args:
        lengths (`dict[str, list[int]]`): Ids of each task's examples, before any system changes them.
        options (`TrainingOptions`): Steps and rows.
        seed (`int`): Of the order.

    Returns:
        `list`: For each step, for each of its rows, the examples as (task, number).
    """
    rng = random.Random(seed)
    tasks = [task for task in TASK_WEIGHTS if lengths.get(task)]
    weights = [TASK_WEIGHTS[task] for task in tasks]
    rounds = {task: _rounds(len(lengths[task]), random.Random(f"{seed} {task}")) for task in tasks}
    capacity = 0.95 * options.rows * options.row_length  # first fit wastes a little
    plan: Plan = []
    chosen: list[tuple[str, int]] = []
    total = 0
    while len(plan) < options.steps:
        (task,) = rng.choices(tasks, weights)
        example = (task, next(rounds[task]))
        length = lengths[task][example[1]]
        if total + length > capacity:
            rows = assign_rows([lengths[t][i] for t, i in chosen], options.row_length)
            plan.append([[chosen[number] for number in row] for row in rows[: options.rows]])
            chosen, total = [], 0
        chosen.append(example)
        total += length
    return plan


def _rounds(count: int, rng: random.Random) -> Iterator[int]:
    order = list(range(count))
    while True:
        rng.shuffle(order)
        yield from order


def learning_rate_at(step: int, options: TrainingOptions) -> float:
    """Rise over the first tenth (at most 100 steps), then fall as a cosine to 0."""
    warmup = max(1, min(100, options.steps // 10))
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, options.steps - warmup)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(
    folder: Path,
    system: System,
    seed: int,
    examples: dict[str, list[Example]],
    vocabulary: TttVocabulary,
    options: TrainingOptions,
    stop_after: int | None = None,
    backbone: dict[str, Any] | None = None,
    start: Path | None = None,
    teacher_steps: int = 0,
) -> dict[str, Any]:
    """
    Train a system, or go on where its folder stopped.

    Args:
        folder (`Path`): Of the run, made if needed.
        system (`System`): What is trained.
        seed (`int`): Of weights, order and noise.
        examples (`dict[str, list[dict]]`): Training examples by task.
        vocabulary (`TttVocabulary`): The ids.
        options (`TrainingOptions`): Equal for all systems.
        stop_after (`int`, *optional*): Save and leave after this step, as if interrupted there.
        backbone (`dict`, *optional*): Other sizes than the comparison's.
        start (`Path`, *optional*): A finished run whose weights it begins with, instead of random ones.
        teacher_steps (`int`, *optional*, defaults to 0): If positive, the model it begins with completes the masks in
            so many steps, and what it revealed is learnt.

    Returns:
        `dict`: `steps`, `seconds` (wall), `cpu_seconds`, `tokens` (ids of the examples, before cuts), `curve` (mean
        losses) and `options`.

    Raises:
        ValueError: The folder holds a run with other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = create_model(system, vocabulary, seed, backbone).to(options.device).train()
    if start is not None:
        load_finished(start, model)
    teacher = copy.deepcopy(model).eval() if teacher_steps else None
    optimiser = MuonAdamW(model, options.learning_rate, options.weight_decay)
    progress = _resume(folder, model, optimiser, asdict(options))
    lengths = {task: [len(example["input_ids"]) for example in found] for task, found in examples.items()}
    plan = plan_batches(lengths, options, seed)
    began, cpu_began, saved = time.perf_counter(), time.process_time(), time.perf_counter()
    before, cpu_before = progress["seconds"], progress["cpu_seconds"]
    for step in tqdm(
        range(progress["steps"], options.steps),
        desc=folder.name,
        initial=progress["steps"],
        total=options.steps,
        mininterval=10,
    ):
        rows = [[examples[task][number] for task, number in row] for row in plan[step]]
        batch = make_batch(system, model, rows, options.row_length, vocabulary, seed, step)
        if teacher is not None:
            batch["labels"] = teacher_labels(teacher, _on(batch, options.device), teacher_steps)
        losses = _update(system, model, optimiser, batch, step, options)
        progress["steps"] = step + 1
        progress["tokens"] += sum(len(example["input_ids"]) for row in rows for example in row)
        _add_to_curve(progress["curve"], step, losses)
        progress["seconds"] = before + time.perf_counter() - began
        progress["cpu_seconds"] = cpu_before + time.process_time() - cpu_began
        is_last = progress["steps"] in (options.steps, stop_after)
        if is_last or time.perf_counter() - saved > SECONDS_PER_CHECKPOINT:
            _save(folder, model, optimiser, progress)
            saved = time.perf_counter()
        if progress["steps"] == stop_after:
            break
    if progress["steps"] == options.steps:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        _replace(folder / MODEL, weights, progress)
    return progress


def step_costs(
    systems: Sequence[System],
    examples: dict[str, list[Example]],
    vocabulary: TttVocabulary,
    options: TrainingOptions,
    backbone: dict[str, Any] | None = None,
) -> list[list[float]]:
    """
    Measure steps of several systems by turns, on the same examples.

    Args:
        systems (`Sequence[System]`): What is measured.
        examples (`dict[str, list[dict]]`): Training examples by task.
        vocabulary (`TttVocabulary`): The ids.
        options (`TrainingOptions`): Steps, of which the first is not counted.
        backbone (`dict`, *optional*): Other sizes than the comparison's.

    Returns:
        `list[list[float]]`: For each system the CPU seconds of each step, its batch included.
    """
    models = [create_model(system, vocabulary, 0, backbone).to(options.device).train() for system in systems]
    optimisers = [MuonAdamW(model, options.learning_rate, options.weight_decay) for model in models]
    lengths = {task: [len(example["input_ids"]) for example in found] for task, found in examples.items()}
    seconds: list[list[float]] = [[] for _ in systems]
    for step, planned in enumerate(plan_batches(lengths, options, 0)):
        rows = [[examples[task][number] for task, number in row] for row in planned]
        for system, model, optimiser, taken in zip(systems, models, optimisers, seconds, strict=True):
            began = time.process_time()
            batch = make_batch(system, model, rows, options.row_length, vocabulary, 0, step)
            _update(system, model, optimiser, batch, step, options)
            taken.append(time.process_time() - began)
    return [taken[1:] for taken in seconds]


def _update(
    system: System, model: nn.Module, optimiser: MuonAdamW, batch: dict, step: int, options: TrainingOptions
) -> dict[str, float]:
    """Take one step; gives its losses."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate_at(step, options)
    batch = _on(batch, options.device)
    with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16"):
        losses = compute_loss(system, model, batch)
    losses["loss"].backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    for parameter in model.parameters():
        parameter.grad = None
    return {name: value.item() for name, value in losses.items()}


def _on(batch: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _add_to_curve(curve: list[dict[str, float]], step: int, losses: dict[str, float]) -> None:
    """Keep the mean losses of every `STEPS_PER_POINT` steps; the last point is that of the steps so far."""
    count = step % STEPS_PER_POINT
    if count == 0:
        curve.append({"step": step + 1} | losses)
        return
    point = curve[-1]
    for name, value in losses.items():
        point[name] = (point[name] * count + value) / (count + 1)
    point["step"] = step + 1


# ---------------------------------------------------------------------------------------------------------------- files


def load_finished(folder: Path, model: nn.Module) -> dict[str, Any]:
    """
    Load the weights of a finished run into its model.

    Args:
        folder (`Path`): Of the run.
        model (`nn.Module`): From `create_model`; it changes.

    Returns:
        `dict`: What `train` returned.
    """
    model.load_state_dict(load_file(folder / MODEL))
    with safe_open(folder / MODEL, "pt") as file:
        return json.loads(file.metadata()["progress"])


def _save(folder: Path, model: nn.Module, optimiser: MuonAdamW, progress: dict[str, Any]) -> None:
    """Replace the state of a run, whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for part, state in optimiser.state_dict().items():
        for number, values in state["state"].items():
            tensors |= {f"{part}.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    _replace(folder / STATE, {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, progress)


def _replace(path: Path, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata={"progress": json.dumps(progress)})
    os.replace(temporary, path)


def _resume(folder: Path, model: nn.Module, optimiser: MuonAdamW, options: dict[str, Any]) -> dict[str, Any]:
    """Restore weights and optimiser; gives the progress so far, that of a beginning if there is none."""
    path = folder / STATE
    if not path.is_file():
        return {"steps": 0, "seconds": 0.0, "cpu_seconds": 0.0, "tokens": 0, "curve": [], "options": options}
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if progress["options"] != options:
        changed = sorted(name for name in options if progress["options"].get(name) != options[name])
        raise ValueError(
            f"{folder} was trained with another {', '.join(changed)}: choose another --work, or remove it."
        )
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    states = optimiser.state_dict()
    for name, tensor in tensors.items():
        part, number, field = name.split(".", 2)
        if part in states:
            states[part]["state"].setdefault(int(number), {})[field] = tensor
    optimiser.load_state_dict(states)
    return progress
