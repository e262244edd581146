"""From a trained adapter to the Hub and back: cards, merged models, several adapters on one loaded model."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import soundfile
import torch
import transformers
from checkout import ROOT
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe
from huggingface_hub import ModelCard
from loopback_hub import LoopbackHub
from typer.testing import CliRunner

import ttt_cli
from finetune.adapters.loading import base_of, load_model, load_processor, split_model_name
from finetune.adapters.lora import add_adapter, load_adapters, merge_adapter
from finetune.publishing.cards import card_of_adapter
from finetune.publishing.publish import publish, write_published
from finetune.runs import Facts, read_facts
from finetune.training.train import train
from modeling_ttt import nano_checkpoint
from spaces_demo.app import load_service
from ttt_cli.options import Dtype, Engine
from ttt_cli.talker import load


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A base and two adapters trained on it."""
    root = tmp_path_factory.mktemp("publish")
    base, data = tiny_checkpoint(root / "base"), tiny_data(root / "data")
    for name, rate in (("one", 1e-2), ("two", 5e-2)):
        recipe = tiny_recipe(base, data, root / name, learning_rate=rate, max_steps=3, eval_steps=100, seed=len(name))
        train(recipe)
    return root


@pytest.fixture
def ids():
    return torch.tensor([[5, 6, 7, 8, 9, 300, 301, 320, 321, 10]])


@torch.no_grad()
def logits(model, ids):
    return model(ids).logits


def test_adapters_are_changed_on_one_loaded_model_and_each_is_the_same_as_alone(root, ids):
    plain = logits(load_model(str(root / "base")), ids)
    both = load_adapters(load_model(str(root / "base")), {"one": root / "one", "two": root / "two"})
    for name in ("one", "two", "one"):
        both.set_adapter(name)
        alone = load_adapters(load_model(str(root / "base")), {name: root / name})
        torch.testing.assert_close(logits(both, ids), logits(alone, ids))
        assert not torch.allclose(logits(both, ids), plain, atol=1e-3)
    with both.disable_adapter():
        torch.testing.assert_close(logits(both, ids), plain)


def test_a_merged_adapter_is_the_same_model_without_peft(root, ids):
    adapted = load_adapters(load_model(str(root / "base")), {"one": root / "one"})
    merged = merge_adapter(load_model(str(root / "base")), root / "one")
    assert type(merged).__name__ == "TttForConditionalGeneration"
    torch.testing.assert_close(logits(merged, ids), logits(adapted, ids), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits(load_model(str(root / "one")), ids), logits(merged, ids))
    torch.testing.assert_close(logits(load_model(f"{root / 'base'}+{root / 'one'}"), ids), logits(merged, ids))


def test_wrong_adapters_are_named(root, tmp_path):
    base = load_model(str(root / "base"))
    with pytest.raises(ValueError, match="holds no adapter"):
        load_adapters(base, {"one": str(root / "data")})
    with pytest.raises(ValueError, match="letters, digits"):
        load_adapters(base, {"it-IT": str(root / "one")})
    with pytest.raises(ValueError, match="at least one"):
        load_adapters(base, {})
    config = json.loads((root / "one" / "adapter_config.json").read_text())
    config["trainable_token_indices"] = {"embed_tokens": [99_999]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="belongs to another model"):
        load_adapters(base, {"other": str(tmp_path)})


def test_an_adapter_is_published_with_its_card_and_loads_from_the_hub(root, tmp_path, ids):
    results = [{"model": "one", "data": "data", "task": "asr", "wer": 0.25, "cer": 0.125, "count": 4, "threads": 1}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    program = (
        "import sys; from finetune.publishing.publish import publish; from pathlib import Path\n"
        "publish(sys.argv[1], 'you/ttt-it', base_model='you/base', results=Path(sys.argv[2]), label='one',"
        " datasets=['you/voices'], license='cc-by-sa-3.0')\n"
        "from finetune.adapters.lora import load_adapters; from finetune.adapters.loading import load_model, "
        "split_model_name\n"
        "import torch\n"
        "assert split_model_name('you/ttt-it') == ('you/base', 'you/ttt-it')\n"
        "model = load_adapters(load_model(sys.argv[3]), {'it': 'you/ttt-it'})\n"
        "torch.save(model(torch.tensor(eval_ids := [[5, 6, 7, 8, 9, 300, 301, 320, 321, 10]])).logits.detach(), "
        "sys.argv[4])\n"
    )
    with LoopbackHub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", program, str(root / "one"), str(tmp_path / "results.json"), str(root / "base"),
            str(tmp_path / "logits.pt")],
            env=hub.environment(tmp_path / "home", PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        files = hub.files("you/ttt-it")
    expected = logits(load_adapters(load_model(str(root / "base")), {"one": root / "one"}), ids)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt", weights_only=True), expected)
    assert set(files) >= {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "recipe.yaml",
        "training.json",
    }
    assert not any(name.endswith((".bin", ".pt")) or "checkpoint" in name for name in files), "nothing pickled leaves"
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == "you/base" and card.data.license == "cc-by-sa-3.0"
    assert card.data.datasets == ["you/voices"] and card.data.language == ["it"]
    assert "| asr, data, wer (n = 4) | 0.250 |" in card.text
    assert re.search(r"hours of audio, 48 examples", card.text)
    assert "--adapter you/ttt-it --language it --audio question.wav" in card.text
    assert "ttt train --set" in card.text and "ttt evaluate you/ttt-it" in card.text


def measured_on(data, model="one", cer=0.5):
    return {"model": model, "data": data, "task": "asr", "cer": cer, "count": 4}


def test_a_card_measures_one_model_and_tells_sets_of_one_name_apart(tmp_path):
    sets = ["speech/it/tenth", "speech/ru/tenth", "speech/ru/tenth:train", "fleurs-en"]
    results = [measured_on(data, cer=place / 8) for place, data in enumerate(sets)]
    (tmp_path / "results.json").write_text(json.dumps([*results, measured_on(sets[0], "other", 0.9)]))
    with pytest.raises(ValueError, match=r"holds several models \(one, other\): name one of them by --label"):
        read_facts(tmp_path, tmp_path / "results.json")
    card = card_of_adapter("you/ttt-it", read_facts(tmp_path, tmp_path / "results.json", "one"), "you/base", [])
    rows = re.findall(r"\| asr, (.*), cer \(n = 4\) \| (.*) \|", card.text)
    assert rows == [("it/tenth", "0.000"), ("ru/tenth", "0.125"), ("tenth:train", "0.250"), ("fleurs-en", "0.375")]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert len(read_facts(tmp_path, tmp_path / "results.json").results) == 4, "one model needs no label"


@pytest.mark.parametrize(
    ("languages", "recipe", "option"),
    [
        (["it"], {}, " --language it"),
        (["en"], {}, ""),
        (["it"], {"default_language": "it"}, ""),
        (["it", "ru"], {}, ""),
        ([], {}, ""),
    ],
)
def test_a_card_talks_in_the_language_whose_tag_the_adapter_was_trained_with(languages, recipe, option):
    training = {
        "hours": 1.0, "examples": 1, "languages": languages, "method": "lora", "trained_parameters": 1, "updates": 1,
        "epochs": 1,
        "tokens": 1, "seconds": 1, "cpu_seconds": 1, "peak_memory_bytes": 1, "device": "cpu", "processes": 1,
        "best_metric": {},
    }  # fmt: skip
    card = card_of_adapter("you/ttt", Facts(training, recipe), "you/base", [])
    assert f"--adapter you/ttt{option} --audio" in card.text


def test_an_adapter_whose_base_is_a_folder_is_not_published(root):
    with pytest.raises(ValueError, match="--base-model"):
        publish(str(root / "one"), "you/ttt-it")
    with pytest.raises(ValueError, match="--base-model"):
        write_published(str(root / "one"), root / "published")
    assert not (root / "published").exists()
    base = str(root / "base")
    assert split_model_name(str(root / "one")) == (base, str(root / "one"))


def test_a_merged_folder_is_complete(root, tmp_path, ids):
    write_published(str(root / "one"), tmp_path / "merged", merge=True, license="apache-2.0")
    folder = tmp_path / "merged"
    assert not (folder / "adapter_config.json").exists() and (folder / "codec" / "config.json").is_file()
    torch.testing.assert_close(logits(load_model(str(folder)), ids), logits(load_model(str(root / "one")), ids))
    assert len(load_processor(str(folder)).decode_codes([1, 2, 3]))
    assert "## Training" in (folder / "README.md").read_text()
    with pytest.raises(FileExistsError, match="not empty"):
        write_published(str(root / "one"), folder, merge=True)


def test_a_whole_model_is_not_merged(root, tmp_path):
    with pytest.raises(ValueError, match=r"nothing to merge.*--to"):
        write_published(str(root / "base"), tmp_path / "merged", merge=True)
    assert not (tmp_path / "merged").exists()


def test_speak_answers_once_with_each_adapter(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["speak", "--text", "ciao", "--model", str(root / "base"), "--language", "it", "--out", "out.wav"]
    done = CliRunner().invoke(
        ttt_cli.app, [*command, "--adapter", f"one={root / 'one'}", "--adapter", f"two={root / 'two'}"]
    )
    # Three updates teach no model to end a text: a reply that was cut off is the one reason to exit with 1.
    assert done.exit_code == int("the reply was cut off" in done.output), done.output
    assert "one:" in done.output and "two:" in done.output
    spoken = [path for path in ("out-one.wav", "out-two.wav") if (tmp_path / path).exists()]
    assert len(spoken) + done.output.count("no audio") == 2
    assert all(soundfile.info(tmp_path / path).duration > 0 for path in spoken)
    unnamed = CliRunner().invoke(ttt_cli.app, [*command, "--adapter", "a", "--adapter", "b"])
    assert isinstance(unnamed.exception, ValueError) and "each needs a name" in str(unnamed.exception)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("method", ["lora", "rows"])
def test_the_rows_of_markers_and_audio_move_and_text_rows_do_not(tmp_path, tied, method):
    base = tiny_checkpoint(tmp_path / "base", tied)
    recipe = tiny_recipe(base, tiny_data(tmp_path / "data", 12, 0, 0), tmp_path / "run", method=method, max_steps=4)
    train(recipe)
    before, after = load_model(str(base)), load_model(str(tmp_path / "run"))
    vocabulary = load_processor(str(base)).vocabulary
    assert (after.lm_head.weight is after.get_input_embeddings().weight) == tied
    for table in ("embedding", "head"):
        old, new = (
            (model.get_input_embeddings() if table == "embedding" else model.lm_head).weight.detach()
            for model in (before, after)
        )
        moved = (old != new).any(-1)
        text = set(range(vocabulary.audio_token_start_id)) - {
            vocabulary.begin_audio_token_id, vocabulary.begin_last_audio_token_id, vocabulary.end_user_audio_token_id,
        }  # fmt: skip
        assert not moved[sorted(text)].any(), f"text rows of the {table} stay"
        assert (
            moved[vocabulary.audio_code_offset : vocabulary.audio_code_offset + vocabulary.codebook_size].float().mean()
            > 0.9
        )
    layers_moved = any(
        (before.state_dict()[name] != value).any() for name, value in after.state_dict().items() if ".layers." in name
    )
    assert layers_moved == (method == "lora")


def test_what_is_trained_is_float32_over_a_bfloat16_base(tmp_path):
    base = tiny_checkpoint(tmp_path / "base")
    model = load_model(str(base), torch.bfloat16)
    recipe = tiny_recipe(base, tmp_path, tmp_path)
    adapted = add_adapter(model, load_processor(str(base)).vocabulary, recipe)
    kinds = {parameter.requires_grad: parameter.dtype for parameter in adapted.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_an_adapter_talks_on_what_it_was_trained_from_and_is_refused_on_what_it_does_not_fit(root, tmp_path, caplog):
    assert base_of([]) is None
    assert base_of([str(root / "one"), str(root / "two")]) == str(root / "base")
    with pytest.raises(ValueError, match="data' holds no adapter"):
        base_of([str(root / "data")])
    other = tmp_path / "other"
    shutil.copytree(root / "two", other)
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "you/large"}))
    with pytest.raises(ValueError, match=r"different models .*you/large.*--model"):
        base_of([str(root / "one"), str(other)])
    load_adapters(load_model(str(root / "base")), {"other": str(other)})
    assert "trained from 'you/large'" in caplog.text
    wide = tiny_checkpoint(tmp_path / "wide", hidden_size=64)
    with pytest.raises(ValueError, match=r"'one' does not fit .*other sizes"):
        load_adapters(load_model(str(wide)), {"one": str(root / "one")})


def test_programs_and_the_demo_load_what_an_adapter_was_trained_from(root, monkeypatch):
    loaded = []

    class Loaded(OSError):
        pass

    def from_pretrained(source, **_):
        loaded.append(source)
        raise Loaded

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", from_pretrained)
    with pytest.raises(Loaded):
        load("", "cpu", Dtype.auto, Engine.torch, None, [str(root / "one")])
    with pytest.raises(Loaded):
        load_service(adapters={"one": str(root / "one")})
    with pytest.raises(Loaded):
        load_service()
    assert loaded == [str(root / "base")] * 2 + [str(nano_checkpoint())]
