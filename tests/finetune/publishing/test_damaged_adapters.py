"""Damaged adapters, and those of another model, are refused with one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe
from safetensors.torch import load_file, save_file

from finetune.adapters.loading import load_model
from finetune.adapters.lora import load_adapters, read_adapter_config
from finetune.training.train import train
from processing_ttt import TttTalker


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    base, data = tiny_checkpoint(root / "base"), tiny_data(root / "data")
    train(tiny_recipe(base, data, root / "whole", max_steps=1, eval_steps=1, train_audio_rows=False))
    return root


@pytest.fixture
def adapter(root, tmp_path):
    return Path(shutil.copytree(root / "whole", tmp_path / "adapter"))


def rewrite(adapter, change):
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def configure(adapter, **values):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def as_pickle_of_an_object(adapter):
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(Path("/"), adapter / "adapter_model.bin")


FAULTS = {
    "no matching name": (
        lambda a: rewrite(a, lambda weights: {f"other.{name}": weights[name] for name in weights}),
        r"lacks (\d+) of the \1 tensors",
    ),
    "half of the weights": (
        lambda a: rewrite(a, lambda weights: {name: weights[name] for name in sorted(weights)[::2]}),
        r"lacks \d+ of the \d+ tensors",
    ),
    "NaN": (
        lambda a: rewrite(a, lambda weights: {name: weights[name] * torch.nan for name in weights}),
        r"has NaN or infinite values",
    ),
    "cut weights": (lambda a: (a / "adapter_model.safetensors").write_bytes(b"\x08"), r"are damaged"),
    "a pickled object": (as_pickle_of_an_object, r"cannot be loaded"),
    "a configuration that is a list": (lambda a: (a / "adapter_config.json").write_text("[]"), r"cannot be loaded"),
    "a cut configuration": (lambda a: (a / "adapter_config.json").write_text("{"), r"missing or damaged"),
    "a rank in words": (lambda a: configure(a, r="many"), r"has the rank 'many'"),
    "a rank of a billion": (lambda a: configure(a, r=10**9), r"has the rank 1000000000"),
    "a pattern of ranks": (lambda a: configure(a, rank_pattern={"q_proj": 10**9}), r"has the rank 1000000000"),
    "ranks that are a number": (lambda a: configure(a, rank_pattern=3), r"cannot be loaded"),
    "a bad expression": (lambda a: configure(a, target_modules="(("), r"cannot be loaded"),
    "an unknown type": (lambda a: configure(a, peft_type="UNKNOWN"), r"UNKNOWN"),
    "a base that is no name": (lambda a: configure(a, base_model_name_or_path=3), r"must name a model"),
    "rows in words": (lambda a: configure(a, trainable_token_indices={"embed_tokens": "all"}), r"cannot be loaded"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_an_adapter_is_one_sentence(root, adapter, fault):
    damage, message = FAULTS[fault]
    damage(adapter)
    with pytest.raises((OSError, ValueError), match=message):
        load_adapters(load_model(str(root / "base")), {"one": adapter})


@pytest.mark.parametrize("fault", ["no matching name", "NaN", "cut weights"])
def test_the_talker_refuses_the_same_adapters(root, adapter, fault):
    damage, message = FAULTS[fault]
    damage(adapter)
    with pytest.raises(OSError, match=message):
        TttTalker.from_pretrained(root / "base", adapter=adapter)


@pytest.mark.parametrize("name", ["__class__", "keys", "training"])
def test_a_name_that_peft_cannot_keep_is_refused(root, adapter, name):
    with pytest.raises(ValueError, match="no word of PyTorch's"):
        load_adapters(load_model(str(root / "base")), {name: adapter})


def test_a_damaged_configuration_is_named_before_its_base_is_loaded(adapter):
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"holds no adapter: its adapter_config\.json is missing or damaged"):
        read_adapter_config(str(adapter))
