"""The shipped configurations for many GPUs: what can be said of them without one, and what a GPU shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from checkout import ROOT
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe

from finetune.training.recipe import read_recipe

CONFIGS = ROOT / "finetune" / "accelerate"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ddp", DistributedType.MULTI_GPU), ("fsdp2", DistributedType.FSDP), ("zero3", DistributedType.DEEPSPEED)],
)
def test_accelerate_reads_them_as_what_they_are_called(name, kind):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.distributed_type == kind and config.mixed_precision == "bf16"
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert set(written) <= set(vars(config)), "accelerate knows every key"


def test_the_settings_of_fsdp2_are_known_to_its_plugin():
    settings = yaml.safe_load((CONFIGS / "fsdp2.yaml").read_text())["fsdp_config"]
    fields = set(FullyShardedDataParallelPlugin.__dataclass_fields__)
    names = {name.removeprefix("fsdp_") for name in settings}
    renamed = {"offload_params": "cpu_offload", "version": "fsdp_version"}
    assert {renamed.get(name, name) for name in names} <= fields
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", state_dict_type="FULL_STATE_DICT"
    )
    assert plugin.fsdp_version == 2


def test_the_settings_of_zero3_make_the_plugin_that_transformers_fills_in():
    settings = yaml.safe_load((CONFIGS / "zero3.yaml").read_text())["deepspeed_config"]
    assert settings["zero_stage"] == 3
    assert set(settings) <= set(DeepSpeedPlugin.__dataclass_fields__) | {"deepspeed_config_file"}
    pytest.importorskip("deepspeed")
    plugin = DeepSpeedPlugin(zero_stage=3, gradient_clipping="auto", zero3_save_16bit_model=True)
    assert plugin.deepspeed_config["zero_optimization"]["stage"] == 3


@pytest.mark.parametrize("name", ["low_resource_lora", "nano_lora_cpu", "full_sft", "from_llm", "voice_lora"])
def test_every_shipped_recipe_is_one(name):
    recipe = read_recipe(ROOT / "finetune" / "recipes" / f"{name}.yaml")
    assert [stage.method for _, stage in recipe.stage_recipes()] == {
        "low_resource_lora": ["lora"], "full_sft": ["full"], "from_llm": ["rows", "lora", "full"],
        "voice_lora": ["lora"], "nano_lora_cpu": ["lora"],
    }[name]  # fmt: skip


def test_the_full_recipe_is_the_papers():
    recipe = read_recipe(ROOT / "finetune" / "recipes" / "full_sft.yaml")
    assert (recipe.learning_rate, recipe.warmup_ratio, recipe.weight_decay, recipe.adam_beta2, recipe.max_length) == (
        2e-5,
        0.01,
        0.01,
        0.95,
        2048,
    )
    assert (recipe.clean_audio_prob, recipe.prefix_preservation_prob, recipe.span_truncation_prob) == (0.3, 0.3, 0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fsdp2", "zero3"])
def test_a_sharded_run_saves_and_goes_on_with_the_same_losses(tmp_path, name):
    """One card is enough: the weights are wrapped, sharded to one and saved as on many."""
    if name == "zero3":
        pytest.importorskip("deepspeed")
    recipe = tiny_recipe(
        tiny_checkpoint(tmp_path / "base"),
        tiny_data(tmp_path / "data"),
        tmp_path / "straight",
        method="full",
        max_steps=4,
        bf16=True,
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(vars(recipe)))

    def launch(output_dir: Path, *more: str) -> list[float]:
        command = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            str(CONFIGS / f"{name}.yaml"),
            "--num_processes",
            "1",
        ]
        command += ["-m", "finetune.train", str(tmp_path / "recipe.yaml"), "--set", f"output_dir={output_dir}", *more]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=900,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        last = max(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        return [
            point["loss"]
            for point in json.loads((last / "trainer_state.json").read_text())["log_history"]
            if "loss" in point
        ]

    straight = launch(tmp_path / "straight")
    launch(tmp_path / "resumed")
    for path in (tmp_path / "resumed" / "checkpoint-4", tmp_path / "resumed" / "training.json"):
        subprocess.run(["rm", "-r", str(path)], check=True)  # as if it had been killed after update 2
    torch.testing.assert_close(torch.tensor(launch(tmp_path / "resumed")), torch.tensor(straight), atol=1e-3, rtol=1e-3)
