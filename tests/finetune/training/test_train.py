"""Training runs on a tiny model: what resumes, what is kept."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import types

import pytest
import soundfile
import torch
import yaml
from finetune_fixtures import history, recordings, tiny_checkpoint, tiny_data, tiny_info, tiny_recipe
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from finetune.adapters.loading import load_model, load_processor
from finetune.data.schema import make_record, save_prepared
from finetune.evaluation.batched_model import Answer
from finetune.training.recipe import override
from finetune.training.resume import WHOLE, CheckpointMarker, last_complete_checkpoint
from finetune.training.train import load_trainable, train, training_arguments
from finetune.training.trainer import TttTrainer
from finetune.training.training_data import check_codec_of_model
from finetune.training.validation import TrackerAudio, Validation
from processing_ttt import TttProcessor


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("train") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("train") / "data")


# ------------------------------------------------------------------------------------------------------- going on after


def kill(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(recipe, moment):
    """In a process of its own: train, and die without a word at a moment."""
    torch.set_num_threads(1)
    calls = {"update": 0}

    def count(self, *args, **kwargs):
        calls["update"] += 1
        if calls["update"] == 4:
            kill()
        return original(self, *args, **kwargs)

    original = TttTrainer.training_step
    if moment == "in the fourth update":
        TttTrainer.training_step = count
    elif moment == "while a checkpoint is written":
        TttTrainer._save_rng_state = kill
    elif moment == "before a checkpoint is marked":
        CheckpointMarker.on_save = kill
    elif moment == "while the result is written":
        TttTrainer.save_model = lambda self, folder=None, _internal_call=False: (
            super(TttTrainer, self).save_model(folder, _internal_call) if _internal_call else kill()
        )
    train(recipe)


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("lora", "paper"),
        pytest.param("full", "paper", marks=pytest.mark.slow),
        pytest.param("lora", "two_stream", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_losses(base, data, tmp_path, method, form):
    keys = {"method": method, "lora_dropout": 0.2 if method == "lora" else 0.0, "objective": form}
    straight = tiny_recipe(base, data, tmp_path / "straight", **keys)
    train(straight)
    killed = override(straight, {"output_dir": str(tmp_path / "killed")})
    moments = [
        "while a checkpoint is written",
        "in the fourth update",
        "before a checkpoint is marked",
        "while the result is written",
    ]
    for moment in moments:
        process = multiprocessing.get_context("fork").Process(target=train_until_killed, args=(killed, moment))
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, moment
        assert not (tmp_path / "killed" / "training.json").exists()
    train(killed)
    names = ("loss", "text_loss", "audio_loss", "grad_norm", "learning_rate", "tokens")
    assert history(tmp_path / "killed", *names) == history(tmp_path / "straight", *names)
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    first, second = (load_file(tmp_path / name / file) for name in ("straight", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    spent = json.loads((tmp_path / "killed" / "training.json").read_text())
    assert spent["updates"] == 6 and spent["seconds"] >= spent["cpu_seconds"] * 0.5 > 0


@pytest.mark.parametrize("info", [tiny_info("0123"), tiny_info("4567", codebook_size=4096)])
def test_data_of_another_codec_is_refused(base, tmp_path, info):
    save_prepared(tmp_path / "data", {"train": recordings(2)}, info)
    with pytest.raises(ValueError, match=r"another codec than that of .*: prepare it anew with `ttt prepare --model "):
        train(tiny_recipe(base, tmp_path / "data", tmp_path / "run"))


def test_a_model_whose_codec_is_not_there_is_trained_with_a_warning(base, data, tmp_path, caplog):
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    shutil.rmtree(bare / "codec")
    check_codec_of_model(tiny_recipe(bare, data, tmp_path / "run"), TttProcessor.from_pretrained(bare))
    assert "is not checked: it cannot be loaded" in caplog.text


def test_only_whole_checkpoints_count_and_halves_are_removed(tmp_path):
    for step, whole in ((2, True), (4, True), (10, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / WHOLE).write_text("{}")
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-4"
    assert not (tmp_path / "checkpoint-10").exists() and (tmp_path / "checkpoint-best").exists()
    assert last_complete_checkpoint(tmp_path / "nothing") is None


# --------------------------------------------------------------------------------------------------------- what is kept


def test_the_best_adapter_is_kept_and_a_run_that_gets_no_better_ends(base, data, tmp_path):
    recipe = tiny_recipe(
        base,
        data,
        tmp_path,
        max_steps=40,
        eval_steps=2,
        metric_for_best_model="loss",
        early_stopping_patience=2,
        learning_rate=0.3,
    )
    train(recipe)
    result = json.loads((tmp_path / "training.json").read_text())
    losses = history(tmp_path, "eval_loss")
    best_step, best = min(losses, key=lambda point: point[1])
    assert result["updates"] == losses[-1][0] < 40, "stopped early"
    assert result["best_update"] == best_step and result["best_metric"]["loss"] == pytest.approx(best)
    kept = load_file(tmp_path / f"checkpoint-{best_step}" / "adapter_model.safetensors")
    written = load_file(tmp_path / "adapter_model.safetensors")
    assert all(torch.equal(written[name], kept[name]) for name in kept)


def test_curves_go_where_a_person_looks(base, data, tmp_path):
    train(tiny_recipe(base, data, tmp_path, report_to="tensorboard"))
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    scalars = {"train/loss", "train/text_loss", "train/audio_loss", "eval/wer", "eval/cer", "eval/tts_cer", "eval/loss"}
    assert scalars <= set(events.Tags()["scalars"])
    epochs = [point.value for point in events.Scalars("train/epoch")]
    assert epochs == sorted(epochs) and 0 < epochs[-1] < 1, "epochs are those of the data"


def test_what_is_said_in_validation_is_written_and_sent_to_the_curves(base, tmp_path):
    writer = SummaryWriter(str(tmp_path / "curves"))
    validation = Validation(load_processor(str(base)), recordings(2), 2, tmp_path / "samples", [writer])
    validation._keep([Answer("ciao", [1, 2, 3, 4], True), Answer("silent", [], True), Answer("", [5] * 9, False)], 40)
    writer.close()
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step-40-1.wav", "step-40-3.wav"]
    assert sorted(events.Tags()["audio"]) == ["speech/1", "speech/3"]
    assert soundfile.info(tmp_path / "samples" / "step-40-3.wav").duration == pytest.approx(9 / 25, abs=0.01)


def test_a_run_that_only_reads_aloud_is_listened_to_as_well(base, data, tmp_path):
    train(tiny_recipe(base, data, tmp_path, tasks="tts", metric_for_best_model="loss", validation_texts=4, max_steps=2))
    assert {"eval_wer", "eval_tts_cer"} <= set(
        json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())["log_history"][-1]
    )
    assert json.loads((tmp_path / "training.json").read_text())["examples"] == 24, "one task, half of the examples"


def test_a_machine_without_bfloat16_is_named_before_the_work_begins(base, data, tmp_path, monkeypatch, caplog):
    class Begun(Exception):
        """The model is asked for."""

    def begin(recipe):
        raise Begun

    monkeypatch.setattr("finetune.training.train.load_trainable", begin)
    for fast, bf16, warned in ((False, True, True), (True, True, False), (False, False, False)):
        monkeypatch.setattr("finetune.training.train.computes_bfloat16", lambda fast=fast: fast)
        caplog.clear()
        with pytest.raises(Begun):
            train(tiny_recipe(base, data, tmp_path / f"{fast} {bf16}", bf16=bf16))
        assert ("--set bf16=false" in caplog.text) == warned


def test_wandb_and_trackio_get_audio_as_they_log_them(monkeypatch):
    """
    Both take `log({name: Audio(samples, sample_rate=...)})`; neither is installed here, so this is a stand-in for that
    interface.
    """
    logged = []
    tracker = types.ModuleType("trackio")
    tracker.Audio = lambda samples, sample_rate: (samples, sample_rate)
    tracker.log = logged.append
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    TrackerAudio("trackio").add_audio("speech/1", [0.0], 40, sample_rate=16_000)
    assert logged == [{"speech/1": ([0.0], 16_000), "train/global_step": 40}]


def test_the_same_command_leaves_a_finished_run_alone_and_another_recipe_is_refused(base, data, tmp_path):
    recipe = tiny_recipe(base, data, tmp_path, max_steps=1, eval_steps=5)
    train(recipe)
    before = (tmp_path / "training.json").read_text()
    train(override(recipe, {"report_to": "none", "dataloader_num_workers": 0}))
    assert (tmp_path / "training.json").read_text() == before
    with pytest.raises(ValueError, match=r"another recipe \(learning_rate differ\)"):
        train(override(recipe, {"learning_rate": 0.5}))


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder_to_the_mended_recipe(base, data, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises((ValueError, FileNotFoundError)):
        train(tiny_recipe(base, tmp_path / "typo", folder))
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["data"] == str(tmp_path / "typo")
    (folder / "base").mkdir()
    (folder / "base" / "processor_config.json").write_text("what another recipe started from")
    train(tiny_recipe(base, data, folder, max_steps=1))
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["data"] == str(data)
    assert (folder / "training.json").is_file() and not (folder / "base").exists()


def test_a_checkpoint_keeps_its_folder_from_another_recipe(base, data, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError)):
        train(tiny_recipe(base, tmp_path / "typo", tmp_path / "run"))
    (tmp_path / "run" / "checkpoint-2").mkdir()
    with pytest.raises(ValueError, match=r"another recipe \(data differ\)"):
        train(tiny_recipe(base, data, tmp_path / "run"))


def test_stages_follow_each_other_from_new_rows_to_the_whole_model(base, data, tmp_path):
    stages = [
        {"name": "rows", "method": "rows"},
        {"name": "adapter", "method": "lora"},
        {"name": "whole", "method": "full"},
    ]
    recipe = override(tiny_recipe(base, data, tmp_path, max_steps=2, eval_steps=5, warmup_ratio=0), {"stages": stages})
    assert train(recipe) == tmp_path / "whole"
    vocabulary = load_processor(str(base)).vocabulary
    after_rows, start = load_model(str(tmp_path / "rows")), load_model(str(tmp_path / "adapter" / "base"))
    assert torch.equal(after_rows.lm_head.weight, start.lm_head.weight), (
        "the second stage starts from what the first left"
    )
    assert not torch.equal(start.lm_head.weight, load_model(str(base)).lm_head.weight)
    whole = load_model(str(tmp_path / "whole"))
    text = slice(5, vocabulary.begin_audio_token_id)
    assert not torch.equal(whole.lm_head.weight[text], start.lm_head.weight[text]), "full training moves text rows too"
    assert load_processor(str(tmp_path / "whole")).vocabulary == vocabulary


# --------------------------------------------------------------------------------------------------------------- errors


def test_data_without_recordings_needs_another_metric(base, tmp_path):
    texts = [make_record(f"{i}", "text", text="uno", answer_text="due") for i in range(4)]
    save_prepared(tmp_path / "data", {"train": texts, "validation": texts[:2]}, tiny_info())
    recipe = tiny_recipe(base, tmp_path / "data", tmp_path / "run", max_steps=1)
    with pytest.raises(ValueError, match="metric_for_best_model=loss"):
        train(recipe)
    train(override(recipe, {"metric_for_best_model": "loss", "output_dir": str(tmp_path / "other")}))
    assert "loss" in json.loads((tmp_path / "other" / "training.json").read_text())["best_metric"]


def test_examples_that_are_too_long_are_left_out_and_counted_and_if_all_are_it_is_an_error(base, tmp_path):
    rows = recordings(6)
    rows[0]["codes"] = [1] * 500
    save_prepared(tmp_path / "data", {"train": rows}, tiny_info())
    recipe = tiny_recipe(base, tmp_path / "data", tmp_path / "run", max_steps=1, max_length=256)
    train(recipe)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["examples_left_out"] == 2, "one row, two tasks"
    with pytest.raises(ValueError, match="longer than max_length=8"):
        train(override(recipe, {"max_length": 8, "output_dir": str(tmp_path / "none")}))


def test_weights_in_four_bits_take_an_adapter_that_fits_the_whole_ones(data, tmp_path):
    pytest.importorskip("bitsandbytes")
    base = tiny_checkpoint(tmp_path / "base", hidden_size=64)
    recipe = tiny_recipe(base, data, tmp_path / "run", method="qlora", max_steps=3, eval_steps=10)
    model, _ = load_trainable(recipe)
    assert "4bit" in type(model.get_base_model().model.layers[0].mlp.up_proj.base_layer).__name__
    train(recipe)
    assert not torch.equal(
        load_model(str(tmp_path / "run")).model.layers[0].mlp.up_proj.weight,
        load_model(str(base)).model.layers[0].mlp.up_proj.weight,
    )


def test_a_run_of_an_earlier_version_goes_on_though_its_recipe_lacks_new_keys(base, data, tmp_path):
    recipe = tiny_recipe(base, data, tmp_path, max_steps=1, eval_steps=5)
    train(recipe)
    written = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    for name in ("compile_layers", "replaced_prompt_codes"):
        del written[name]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(written))
    (tmp_path / "training.json").unlink()
    train(override(recipe, {"compile_layers": True}))  # finishes, and may do so compiled
    assert (tmp_path / "training.json").is_file()


@pytest.mark.parametrize("form", ["paper", pytest.param("two_stream", marks=pytest.mark.slow)])
def test_compiled_layers_are_compiled_once_and_train_alike(base, data, tmp_path, monkeypatch, form):
    plain = torch.nn.Module.compile
    # Traced, and no more.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: plain(module, backend="eager"))
    for compiles in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        recipe = tiny_recipe(base, data, tmp_path / str(compiles), packing=True, max_steps=4, eval_steps=2)
        train(override(recipe, {"compile_layers": compiles, "max_length": 256, "method": "full", "objective": form}))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    eager, compiled = (load_file(tmp_path / f"{compiles}" / "model.safetensors") for compiles in (False, True))
    assert eager.keys() == compiled.keys()
    torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=1e-4)


def test_what_was_logged_is_in_the_file_while_training_runs(base, data, tmp_path, monkeypatch):
    log = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(log))  # as a file, with a buffer of some thousand characters
    train(tiny_recipe(base, data, tmp_path / "run", max_steps=2, logging_steps=1))
    assert b"'loss'" in log.getvalue() and b"'train_runtime'" in log.getvalue()


def test_a_recipe_says_the_same_to_transformers(base, data, tmp_path):
    recipe = tiny_recipe(base, data, tmp_path, gradient_checkpointing=True, warmup_ratio=0.1, max_steps=50)
    arguments = training_arguments(recipe, validates=True, transcribes=True)
    assert arguments.get_warmup_steps(50) == 5
    assert (
        arguments.load_best_model_at_end
        and arguments.metric_for_best_model == "wer"
        and not arguments.greater_is_better
    )
    assert (arguments.eval_steps, arguments.save_steps) == (2, 2)


def test_every_id_is_counted_and_validations_may_be_a_share_of_the_run(base, data, tmp_path):
    """Seven updates, a validation after each third of them: no window of the curves ends where a checkpoint does."""
    results = {}
    for logging_steps in (1, 4):
        recipe = tiny_recipe(
            base, data, tmp_path / str(logging_steps), max_steps=7, logging_steps=logging_steps, eval_steps=0.4
        )
        results[logging_steps] = json.loads((train(recipe) / "training.json").read_text())
    assert results[4]["tokens"] == results[1]["tokens"] > 0
    history = json.loads((tmp_path / "4" / "checkpoint-7" / "trainer_state.json").read_text())["log_history"]
    assert [point["step"] for point in history if "tokens" in point] == [3, 4, 6, 7]
    assert [point["step"] for point in history if "eval_cer" in point] == [3, 6, 7]
