"""A saved folder is all one needs: with the packages, and, as remote code, without them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clean_process import NOT_INSTALLED
from modeling_fixtures import BEGIN, FIRST_WORD, tiny_config, tiny_model
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForTextToWaveform,
)

import modeling_ttt
from modeling_ttt import TttConfig, TttForConditionalGeneration

AUTO_CLASSES = (AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForTextToWaveform)
MODULES = {
    "cache_ttt.py",
    "configuration_ttt.py",
    "decoding_ttt.py",
    "decoding_state_ttt.py",
    "denoising_rules_ttt.py",
    "exact_text_ttt.py",
    "export_manifest_ttt.py",
    "generation_options_ttt.py",
    "generation_output_ttt.py",
    "generation_ttt.py",
    "guidance_ttt.py",
    "initialization_ttt.py",
    "masking_ttt.py",
    "model_card_ttt.py",
    "onnx_ttt.py",
    "modeling_ttt.py",
    "noising_ttt.py",
    "objective_ttt.py",
    "pretrained_ttt.py",
    "released_configuration_ttt.py",
    "samplers_ttt.py",
    "two_streams_ttt.py",
}
PROMPT = [FIRST_WORD, FIRST_WORD + 1, BEGIN]
OPTIONS = {"max_new_tokens": 25, "block_length": 6, "denoising_steps": 3}


def python_files(folder):
    return {path.name for path in Path(folder).glob("*.py")}


def generated(model):
    return model.generate(torch.tensor([PROMPT]), **OPTIONS)[0].tolist()


def tied_model():
    return tiny_model_of(text_config={"tie_word_embeddings": True})


def tiny_model_of(**config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TttForConditionalGeneration(tiny_config(**config)).eval()


def test_saving_writes_every_source_file_that_the_model_reaches(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert python_files(tmp_path) == MODULES
    for name in MODULES:
        assert (tmp_path / name).read_text() == (Path(modeling_ttt.__file__).parent / name).read_text()


def test_the_saved_config_names_every_auto_class(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "ttt"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_ttt.TttConfig",
        "AutoModel": "modeling_ttt.TttForConditionalGeneration",
        "AutoModelForCausalLM": "modeling_ttt.TttForConditionalGeneration",
        "AutoModelForMultimodalLM": "modeling_ttt.TttForConditionalGeneration",
        "AutoModelForTextToWaveform": "modeling_ttt.TttForConditionalGeneration",
    }


def test_with_the_packages_every_auto_class_loads_it_without_trust(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    expected = generated(model)
    assert type(AutoConfig.from_pretrained(tmp_path)) is TttConfig
    for auto_class in AUTO_CLASSES:
        loaded = auto_class.from_pretrained(tmp_path)
        assert type(loaded) is TttForConditionalGeneration
        assert generated(loaded) == expected


@pytest.mark.parametrize("tied", [False, True])
def test_weights_come_back_exactly_and_tied_ones_are_stored_once_and_tied_again(tmp_path, tied):
    model = tied_model() if tied else tiny_model()
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        assert ("lm_head.weight" in weights.keys()) == (not tied)  # noqa: SIM118
    loaded = TttForConditionalGeneration.from_pretrained(tmp_path)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert generated(loaded) == generated(model)


def test_the_stored_dtype_is_kept_unless_another_is_asked_for(tmp_path):
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert AutoModel.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_generation_options_are_saved_beside_the_model_and_used(tmp_path):
    model = tiny_model()
    expected = generated(model)
    for name, value in OPTIONS.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "generation_config.json").read_text())
    assert OPTIONS.items() <= stored.items()
    assert AutoModel.from_pretrained(tmp_path).generate(torch.tensor([PROMPT]))[0].tolist() == expected


CLEAN_PROCESS = """
import json
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers import AutoModelForMultimodalLM, AutoModelForTextToWaveform

torch.set_num_threads(1)
job = json.loads(sys.argv[1])

def generated(model):
    return model.generate(torch.tensor([job["prompt"]]), **job["options"])[0].tolist()

result = {}
for name, folder in job["folders"].items():
    assert AutoConfig.from_pretrained(folder, trust_remote_code=True).model_type == "ttt"
    classes = (AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForTextToWaveform)
    models = [auto_class.from_pretrained(folder, trust_remote_code=True) for auto_class in classes]
    assert all(type(model).__module__.startswith("transformers_modules.") for model in models)
    result[name] = [generated(model) for model in models]
    if name == "fresh":
        again = Path(job["again"])
        models[0].save_pretrained(again)
        result["files saved again"] = sorted(path.name for path in again.glob("*.py"))
        result["auto_map saved again"] = json.loads((again / "config.json").read_text())["auto_map"]
        result["saved again"] = [generated(AutoModel.from_pretrained(again, trust_remote_code=True))]
print("RESULT" + json.dumps(result))
"""


def test_without_the_packages_the_folder_loads_as_remote_code_and_generates_the_same(tmp_path):
    """Fresh, tied, saved again after loading, and saved once more by the remote code itself."""
    fresh, tied = tiny_model(), tied_model()
    folders = {name: str(tmp_path / name) for name in ("fresh", "tied", "reloaded")}
    fresh.save_pretrained(folders["fresh"])
    tied.save_pretrained(folders["tied"])
    AutoModel.from_pretrained(folders["fresh"]).save_pretrained(folders["reloaded"])
    assert python_files(folders["reloaded"]) == MODULES
    job = {"folders": folders, "prompt": PROMPT, "options": OPTIONS, "again": str(tmp_path / "again")}
    environment = {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", NOT_INSTALLED + CLEAN_PROCESS, json.dumps(job)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT")[1])
    assert result["fresh"] == result["reloaded"] == [generated(fresh)] * 4
    assert result["tied"] == [generated(tied)] * 4
    assert result["saved again"] == [generated(fresh)]
    assert set(result["files saved again"]) == MODULES
    assert len(result["auto_map saved again"]) == 5
