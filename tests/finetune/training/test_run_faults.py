"""Runs that diverge, that are damaged or changed between two starts, and that are started twice."""

import json
import logging
import math
import re
import shutil
from pathlib import Path

import filelock
import pytest
import torch
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe

import ttt_cli
from finetune.training.recipe import override
from finetune.training.resume import WHOLE
from finetune.training.train import train
from finetune.training.trainer import DivergedError, TttTrainer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("faults") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("faults") / "data")


def short_recipe(base, data, folder, **keys):
    plain = {"metric_for_best_model": "loss", "validation_examples": 0, "validation_texts": 0, "max_steps": 4}
    return tiny_recipe(base, data, folder, **plain | keys)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def stopped(base, data, tmp_path_factory):
    """A run with two checkpoints that ended before its result."""
    recipe = short_recipe(base, data, tmp_path_factory.mktemp("faults") / "run")

    def stop(self, output_dir=None, _internal_call=False):
        if not _internal_call:
            raise StoppedError
        original(self, output_dir, _internal_call)

    with pytest.MonkeyPatch.context() as patch:
        original = TttTrainer.save_model
        patch.setattr(TttTrainer, "save_model", stop)
        with pytest.raises(StoppedError):
            train(recipe)
    return recipe


@pytest.fixture
def run(stopped, tmp_path):
    shutil.copytree(stopped.output_dir, tmp_path / "run")
    return override(stopped, {"output_dir": str(tmp_path / "run")})


def losses(folder: Path) -> list[float]:
    points = json.loads((folder / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
    return [point["loss"] for point in points if "loss" in point]


# ----------------------------------------------------------------------------------------------------------- divergence


def test_a_run_whose_loss_is_no_number_ends_with_an_error_and_saves_nothing(base, data, tmp_path):
    recipe = short_recipe(base, data, tmp_path / "run", learning_rate=1e38, warmup_ratio=0.0)
    with pytest.raises(DivergedError, match=r"at update \d its loss is NaN or infinite\. Nothing was saved of it"):
        train(recipe)
    assert not (tmp_path / "run" / "training.json").exists()
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_weights_that_are_no_numbers_are_not_saved_though_the_last_loss_was_one(base, data, tmp_path, monkeypatch):
    def spoil(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        if self.state.global_step == 3:
            with torch.no_grad():
                next(weight for weight in self.model.parameters() if weight.requires_grad).view(-1)[0] = math.nan
        return loss

    original = TttTrainer.training_step
    monkeypatch.setattr(TttTrainer, "training_step", spoil)
    recipe = short_recipe(base, data, tmp_path / "run")
    with pytest.raises(DivergedError, match="has NaN or infinite values"):
        train(recipe)
    assert (tmp_path / "run" / "checkpoint-2").exists() and not (
        tmp_path / "run" / "adapter_model.safetensors"
    ).exists()


def test_the_command_line_ends_with_one_line_and_a_failure(base, data, tmp_path, capsys, monkeypatch):
    recipe = short_recipe(base, data, tmp_path / "run", learning_rate=1e38, warmup_ratio=0.0)
    values = {name: value for name, value in vars(recipe).items() if name not in ("stages", "tasks")}
    monkeypatch.setattr("sys.argv", ["ttt", "train", *(f"--set={name}={value}" for name, value in values.items())])
    with pytest.raises(SystemExit) as ended:
        ttt_cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("Error: Training diverged: at update")


# ---------------------------------------------------------------------------------------------------------- checkpoints


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "fault"),
    [
        ("optimizer.pt", Path.unlink, "optimizer.pt is missing"),
        ("optimizer.pt", cut, r"optimizer.pt has \d+ bytes instead of \d+"),
        ("optimizer.pt", change_a_byte, "optimizer.pt is damaged"),
        ("rng_state.pth", cut, "rng_state.pth has"),
        ("adapter_model.safetensors", cut, "adapter_model.safetensors has"),
        (
            "trainer_state.json",
            lambda file: file.write_bytes(b"x" * file.stat().st_size),
            "trainer_state.json is damaged",
        ),
        (WHOLE, lambda file: file.write_text("[]"), f"{WHOLE} is damaged"),
        (WHOLE, lambda file: file.write_text("{"), f"{WHOLE} is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_older_whole_one_taken(stopped, run, caplog, name, damage, fault):
    folder = Path(run.output_dir)
    damage(folder / "checkpoint-4" / name)
    with caplog.at_level(logging.WARNING):
        train(run)
    assert f"{folder / 'checkpoint-4'} is not used: " in caplog.text and "goes on from checkpoint-2" in caplog.text
    assert re.search(fault, caplog.text)
    assert losses(folder) == losses(Path(stopped.output_dir))


def test_a_run_without_a_whole_checkpoint_is_not_begun_again_in_silence(run):
    for step in (2, 4):
        (Path(run.output_dir) / f"checkpoint-{step}" / "optimizer.pt").unlink()
    with pytest.raises(ValueError, match=r"No checkpoint in .* is whole \(the newest: optimizer\.pt is missing\)"):
        train(run)


@pytest.mark.parametrize("room", [20_000, 40_000], ids=["no weights", "no optimizer"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(base, data, tmp_path, room):
    resource = pytest.importorskip("resource", reason="a limit on the size of files acts as a full disk")
    recipe = short_recipe(base, data, tmp_path / "run", max_steps=2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"The checkpoint of update 2 could not be written to .*: the disk may be full"
        ):
            train(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    train(recipe)
    assert (tmp_path / "run" / "training.json").is_file()


# --------------------------------------------------------------------------------------------------- data and processes


def test_data_that_were_exchanged_are_noticed_before_the_run_goes_on(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    moved = override(run, {"data": str(tmp_path / "data")})
    (Path(run.output_dir) / "recipe.yaml").unlink()  # the same data at another place are the same
    train(override(moved, {"output_dir": str(shutil.copytree(run.output_dir, tmp_path / "again"))}))
    shutil.rmtree(tmp_path / "data")
    tiny_data(tmp_path / "data", train=25)
    with pytest.raises(ValueError, match=r"The training data changed since '.*checkpoint-4' was written"):
        train(moved)


def test_a_second_run_in_the_same_folder_is_refused(run):
    with (
        filelock.FileLock(Path(run.output_dir) / "train.lock"),
        pytest.raises(ValueError, match="Another process is training in"),
    ):
        train(run)
    train(run)  # the lock is free again
