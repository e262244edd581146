"""Changed configurations, weights, adapters and recipes are used, or refused with one sentence: never anything else."""

import copy
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe

from finetune.adapters.loading import load_model
from finetune.adapters.lora import load_adapters
from finetune.data.schema import load_prepared
from finetune.training.recipe import read_recipe
from finetune.training.train import train
from processing_ttt import TttTalker

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SECONDS = 8  # for each file
VALUES = [None, True, False, 0, 1, -1, 2, 7, 10**5, -(10**9), 10**30, 0.5, -0.5, 1e300, float("inf"), float("nan")]
VALUES += ["", "x", "../../x", "/", "qwen2", "\ud800", [], [[]], [0], [None], {}, {"x": 1}, {"model_type": "qwen2"}]
MODEL_FILES = ["config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json"]
MODEL_FILES += ["tokenizer.json", "chat_template.jinja", "model.safetensors"]
MODEL_FILES += ["codec/config.json", "codec/model.safetensors"]
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    base, data = tiny_checkpoint(root / "base"), tiny_data(root / "data")
    train(tiny_recipe(base, data, root / "adapter", max_steps=1, eval_steps=1))
    return root


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values in a tree of dictionaries and lists."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, child in children for found in places(child, (*path, key)))]


def with_other_values(tree: Any, rng: random.Random) -> Any:
    """Replace, remove or add one or two values of a tree."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(places(tree))
        if not path:
            if rng.random() < 0.1:
                return rng.choice(VALUES)
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        if rng.random() < 0.2:
            del parent[path[-1]]
        else:
            parent[path[-1]] = rng.choice(VALUES)
    return tree


def with_other_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change some of the first bytes, or cut the end."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(min(len(data), 2000))] = rng.randrange(256)
    return bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))])


def changed(content: bytes, name: str, rng: random.Random) -> bytes:
    if rng.random() < 0.8 and name.endswith(".json"):
        return json.dumps(with_other_values(json.loads(content), rng)).encode()
    if rng.random() < 0.8 and name.endswith(".yaml"):
        return yaml.safe_dump(with_other_values(yaml.safe_load(content), rng)).encode()
    if rng.random() < 0.8 and name.endswith(".safetensors"):
        length = 8 + int.from_bytes(content[:8], "little")
        header = json.dumps(with_other_values(json.loads(content[8:length]), rng)).encode()
        return len(header).to_bytes(8, "little") + header + content[length:]
    return with_other_bytes(content, rng)


def check(file: Path, use, seconds: float = SECONDS) -> None:
    """Use many changed versions of a file; only errors that a user understands may come."""
    whole, rng, end, cases = file.read_bytes(), random.Random(file.name), time.monotonic() + seconds, 0
    use()
    while time.monotonic() < end:
        file.write_bytes(changed(whole, file.name, rng))
        begin = time.monotonic()
        try:
            use()
        except (ValueError, OSError) as error:
            assert type(error) is not UnicodeEncodeError, error
        except Exception as error:
            error.add_note(f"case {cases} of {file.name}: {file.read_bytes()[:600]!r}")
            raise
        assert time.monotonic() - begin < 20, file.read_bytes()[:600]
        cases += 1
    assert cases > 0


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_changed_checkpoint_is_used_or_refused(root, tmp_path, name):
    folder = Path(shutil.copytree(root / "base", tmp_path / "checkpoint"))

    def talk():
        talker = TttTalker.from_pretrained(folder, device="cpu")
        talker.reply(text="Hello.", max_new_tokens=6, generator=torch.Generator().manual_seed(0))
        talker.processor.encode_audio((torch.sin(torch.arange(4000) / 9) / 2, 16000))

    check(folder / name, talk)


@pytest.mark.parametrize("name", ADAPTER_FILES)
def test_a_changed_adapter_is_used_or_refused(root, tmp_path, name):
    folder = Path(shutil.copytree(root / "adapter", tmp_path / "adapter"))
    check(folder / name, lambda: load_adapters(load_model(str(root / "base")), {"one": folder}))


def test_a_changed_recipe_is_used_or_refused(root, tmp_path):
    shutil.copy(root / "adapter" / "recipe.yaml", tmp_path / "recipe.yaml")
    check(tmp_path / "recipe.yaml", lambda: read_recipe(tmp_path / "recipe.yaml"), seconds=10)


def test_a_changed_description_of_data_is_used_or_refused(root, tmp_path):
    folder = Path(shutil.copytree(root / "data", tmp_path / "data"))
    check(folder / "prepared.json", lambda: load_prepared(folder), seconds=5)
