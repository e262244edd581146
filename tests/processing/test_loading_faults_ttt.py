"""Damaged, incomplete and foreign checkpoints are refused with one sentence, and no question on standard input."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from finetune_fixtures import tiny_checkpoint
from safetensors.torch import load_file, save_file

from finetune.adapters.loading import load_model, load_processor
from processing_ttt import TttTalker


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def checkpoint(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


def load(checkpoint):
    """Everything that a reply needs."""
    talker = TttTalker.from_pretrained(checkpoint)
    talker.processor.codec  # noqa: B018 - loads it
    return talker


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_backbone(checkpoint, **values):
    file = checkpoint / "config.json"
    change(file, text_config=json.loads(file.read_text())["text_config"] | values)


def rewrite_weights(folder, rewrite):
    weights = load_file(folder / "model.safetensors")
    save_file(rewrite(weights), folder / "model.safetensors", metadata={"format": "pt"})


def half(weights):
    return {name: weights[name] for name in sorted(weights)[::2]}


def with_nan(weights):
    """One wrong value in the last tensor."""
    last = weights[max(weights)].clone()
    last.view(-1)[-1] = torch.nan
    return weights | {max(weights): last}


def lead_outside(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "other.safetensors")
    names = load_file(checkpoint.parent / "other.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../other.safetensors")}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))


def name_foreign_code(file, *auto_classes, **values):
    (file.parent / "foreign.py").write_text("raise SystemExit('foreign code was run')")
    entry = ["foreign.Class", "foreign.Class"] if "AutoTokenizer" in auto_classes else "foreign.Class"
    change(file, auto_map=dict.fromkeys(auto_classes, entry), **values)


FOREIGN = r"needs Python code of its own, which is not run"
FAULTS = {
    "half of the weights": (lambda c: rewrite_weights(c, half), r"The weights of '.*' lack \d+ tensors"),
    "a value that is no number": (lambda c: rewrite_weights(c, with_nan), r"has NaN or infinite values"),
    "half of the codec": (lambda c: rewrite_weights(c / "codec", half), r"The weights of '.*codec' lack \d+ tensors"),
    "a codec of NaN": (lambda c: rewrite_weights(c / "codec", with_nan), r"'.*codec' are not all numbers"),
    "cut weights": (lambda c: (c / "model.safetensors").write_bytes(b"{"), r"are damaged, or Git LFS pointers"),
    "weights outside": (lead_outside, r"names the file '\.\./other\.safetensors'"),
    "an index that is a list": (lambda c: (c / "model.safetensors.index.json").write_text("[]"), r"is damaged"),
    "no heads": (lambda c: change_backbone(c, num_attention_heads=0), r"num_attention_heads` must be from 1 to"),
    "too many layers": (
        lambda c: change_backbone(c, num_hidden_layers=2000, layer_types=None),
        r"num_hidden_layers` must be from 1",
    ),
    "far larger than its weights": (
        lambda c: change_backbone(c, intermediate_size=10**6, num_hidden_layers=900, layer_types=None),
        r"The configuration of '.*' needs more weights than its files can hold, \d+ at most",
    ),
    "a codec far larger than its weights": (
        lambda c: change(c / "codec/config.json", intermediate_size=10**7),
        r"The configuration of '.*codec' needs more weights than its files can hold",
    ),
    "a size in words": (lambda c: change_backbone(c, vocab_size="many"), r"expected int, got str"),
    "a configuration that is a list": (lambda c: (c / "config.json").write_text("[]"), r"Unrecognized model"),
    "a codec that is a list": (lambda c: (c / "codec/config.json").write_text("[]"), r"codec' cannot be loaded"),
    "a codec at 0 Hz": (lambda c: change(c / "codec/config.json", sampling_rate=0), r"at least 1, got 0"),
    "an empty tokenizer": (lambda c: (c / "tokenizer.json").write_text("{}"), r"The processor of .* cannot be loaded"),
    "no tokenizer": (
        lambda c: [file.unlink() for file in c.glob("tokenizer*")],
        r"\AThe processor of [^\n]* cannot be loaded [^\n]*: one of its files is missing[^\n]*\Z",
    ),
    "generation options that are a list": (lambda c: (c / "generation_config.json").write_text("[]"), r"be loaded"),
    "a foreign model": (
        lambda c: name_foreign_code(c / "config.json", "AutoConfig", "AutoModel", model_type="foreign"),
        FOREIGN,
    ),
    "a foreign processor": (
        lambda c: name_foreign_code(c / "processor_config.json", "AutoProcessor", processor_class="Foreign"),
        FOREIGN,
    ),
    "a foreign tokenizer": (
        lambda c: name_foreign_code(c / "tokenizer_config.json", "AutoTokenizer", tokenizer_class="Foreign"),
        FOREIGN,
    ),
    "a foreign codec": (
        lambda c: name_foreign_code(c / "codec/config.json", "AutoConfig", "AutoModel", model_type="foreign"),
        FOREIGN,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_checkpoint_is_one_sentence(checkpoint, fault):
    damage, message = FAULTS[fault]
    damage(checkpoint)
    with pytest.raises((OSError, ValueError), match=message):
        load(checkpoint)


def test_a_whole_checkpoint_loads(checkpoint):
    assert load(checkpoint)


@pytest.mark.parametrize("fault", ["half of the weights", "a value that is no number", "weights outside", "no heads"])
def test_training_and_evaluation_refuse_the_same_checkpoints(checkpoint, fault):
    damage, message = FAULTS[fault]
    damage(checkpoint)
    with pytest.raises((OSError, ValueError), match=message):
        load_model(str(checkpoint))


@pytest.mark.parametrize("fault", ["an empty tokenizer", "a foreign tokenizer"])
def test_training_and_evaluation_refuse_the_same_processors(checkpoint, fault):
    damage, message = FAULTS[fault]
    damage(checkpoint)
    with pytest.raises((OSError, ValueError), match=message):
        load_processor(str(checkpoint))


def test_a_broken_chat_template_is_named(checkpoint):
    (checkpoint / "chat_template.jinja").write_text("{% if %}")
    talker = TttTalker.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"The chat template cannot be rendered \(TemplateSyntaxError"):
        talker.reply(text="Hello.")


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("processor_config.json", {"max_audio_seconds": "x"}, "`max_audio_seconds` must be a positive number"),
        ("processor_config.json", {"max_audio_seconds": -1}, "`max_audio_seconds` must be a positive number"),
        ("processor_config.json", {"transcription_seconds": None}, "`transcription_seconds` must be a positive"),
        ("processor_config.json", {"spoken_input": "x"}, "`spoken_input` must be true or false"),
        ("processor_config.json", {"system_prompts": "x"}, "`system_prompts` must be prompts by task"),
        ("processor_config.json", {"system_prompts": {"asr": 3}}, "The system prompt of 'asr' must be text"),
        ("tokenizer_config.json", {"pad_token": ""}, "`pad_token` of the tokenizer is ''"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "`model_max_length` of the tokenizer must be a number"),
    ],
)
def test_a_setting_of_another_type_is_named(checkpoint, file, values, message):
    change(checkpoint / file, **values)
    with pytest.raises(ValueError, match=message):
        TttTalker.from_pretrained(checkpoint)
