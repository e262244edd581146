"""Accumulated batches and several processes train as one large batch does."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from checkout import ROOT
from finetune_fixtures import history, tiny_checkpoint, tiny_data, tiny_recipe
from transformers import TrainingArguments

from finetune.adapters.loading import load_model, load_processor
from finetune.training.batch_plan import RowPlan, shuffled
from finetune.training.corruption import longest_length
from finetune.training.mixture import MixedExamples, read_mixture
from finetune.training.recipe import Recipe, override
from finetune.training.train import train
from finetune.training.trainer import TttTrainer, count_samples
from finetune.training.training_data import NoisingCollator, PlannedRows, training_objective


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("train") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("train") / "data")


def weights_after(base, data, folder, rows_of_batch, accumulated, packs, form):
    """Two updates of plain gradient descent on twelve rows each."""
    processor, model = load_processor(str(base)), load_model(str(base))
    examples = MixedExamples(read_mixture(data), processor.tokenizer, processor.layout)
    recipe = override(Recipe(), {"objective": form, "max_length": 256})
    objective = training_objective(recipe, model.config, model.block_length)
    lengths = [longest_length(examples[i], objective, processor.vocabulary) for i in range(len(examples))]
    plan = RowPlan(lengths, shuffled(len(examples), 0), 4, 256 if packs else None)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=rows_of_batch,
        gradient_accumulation_steps=accumulated,
        learning_rate=0.1, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[],
        save_strategy="no", use_cpu=True,
        disable_tqdm=True, remove_unused_columns=False, logging_steps=1,
    )  # fmt: skip
    trainer = TttTrainer(
        model=model, args=arguments, train_dataset=PlannedRows(examples, plan, 2),
        data_collator=NoisingCollator(processor.vocabulary, objective, 0, packs),
    )  # fmt: skip
    counts = [count_samples(trainer.data_collator([trainer.train_dataset[i]])) for i in range(4)]
    trainer.train()
    losses = [
        (point["loss"], point["text_loss"], point["audio_loss"])
        for point in trainer.state.log_history
        if "loss" in point
    ]
    return trainer.model.lm_head.weight.detach().clone(), losses, counts


@pytest.mark.parametrize(("packs", "form"), [(True, "paper"), (False, "paper"), (True, "two_stream")])
def test_accumulating_four_batches_is_one_batch_of_four_even_if_they_hold_different_numbers_of_samples(
    base, data, tmp_path, packs, form
):
    whole, losses, counts = weights_after(base, data, tmp_path, 4, 1, packs, form)
    assert (len(set(counts)) > 1) == packs, "packed rows hold different numbers of samples"
    for rows_of_batch, accumulated in ((1, 4), (2, 2)):
        parts, part_losses, _ = weights_after(base, data, tmp_path, rows_of_batch, accumulated, packs, form)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(part_losses), torch.tensor(losses), atol=1e-4, rtol=1e-5)
    assert (whole - load_model(str(base)).lm_head.weight).abs().max() > 1e-3
    assert all(total == pytest.approx(text + audio, rel=1e-5) for total, text, audio in losses)


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def train_as_rank(rank, recipe, port):
    """In a process of its own: one of two, which find each other as `torchrun` has its processes do."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    AcceleratorState._reset_state(reset_partial_state=True)  # this test's process has trained alone before
    train(recipe)
    torch.distributed.destroy_process_group()


def assert_same_curves(two: Path, one: Path):
    assert json.loads((two / "training.json").read_text())["processes"] == 2
    names = ("loss", "text_loss", "audio_loss", "tokens")
    torch.testing.assert_close(
        torch.tensor(history(two, *names)), torch.tensor(history(one, *names)), atol=1e-3, rtol=1e-4
    )
    assert history(two, "eval_wer") == history(one, "eval_wer")


@pytest.mark.parametrize("form", ["paper", pytest.param("two_stream", marks=pytest.mark.slow)])
def test_two_processes_train_as_one(base, data, tmp_path, form):
    """Data parallel over gloo, half of the rows each: the curves of one process with all of them."""
    keys = {"per_device_train_batch_size": 4, "max_steps": 3, "eval_steps": 3, "objective": form}
    one = tiny_recipe(base, data, tmp_path / "one", **keys)
    train(one)
    half = override(one, {"output_dir": str(tmp_path / "two"), "per_device_train_batch_size": 2})
    port = free_port()
    start = multiprocessing.get_context("fork").Process  # what is imported here need not be imported again
    processes = [start(target=train_as_rank, args=(rank, half, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert_same_curves(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_two_launched_processes_train_as_one(base, data, tmp_path):
    """The same as a user starts it."""
    one = tiny_recipe(base, data, tmp_path / "one", per_device_train_batch_size=4, max_steps=3, eval_steps=3)
    train(one)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(vars(one)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "0",
        "--standalone",
    ]
    command += ["-m", "finetune.train", str(tmp_path / "recipe.yaml"), "--set", f"output_dir={tmp_path / 'two'}"]
    command += ["--set", "per_device_train_batch_size=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_curves(tmp_path / "two", tmp_path / "one")
