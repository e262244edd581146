"""Nano is stored without sources. Publishing writes them, and the published folder loads without the packages."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from clean_process import NOT_INSTALLED
from transformers import AutoModel, AutoModelForAudioTokenization, AutoModelForMultimodalLM, AutoProcessor

import modeling_ttt
import processing_ttt
from finetune.publishing.publish import write_published
from modeling_ttt import nano_checkpoint

NANO = nano_checkpoint()
PACKAGES = [Path(package.__file__).parent for package in (modeling_ttt, processing_ttt)]
AUDIO = str(NANO / "questions" / "1.wav")
CODEC_SOURCES = {
    "codec_interface_ttt.py",
    "codec_configuration_ttt.py",
    "codec_layers_ttt.py",
    "codec_ttt.py",
    "codec_whisper_ttt.py",
    "hub_ttt.py",
}
CLEAN_PROCESS = """
import json
import torch
from transformers import AutoModel, AutoModelForAudioTokenization, AutoProcessor

torch.set_num_threads(1)
folder, audio = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
codec = AutoModelForAudioTokenization.from_pretrained(folder + "/codec", trust_remote_code=True)
modules = [type(loaded).__module__.partition(".")[0] for loaded in (model, processor, processor.codec, codec)]
print("RESULT" + json.dumps({"modules": modules, "reply": reply_ids_and_samples(model, processor, audio)}))
"""


def reply_ids_and_samples(model, processor, audio):
    inputs = processor.apply_chat_template(
        processor.conversation("chat", audio=audio),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    ids = model.generate(**inputs, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :]
    return [ids.tolist(), len(processor.decode_reply(ids).audio)]


def python_files(folder):
    return {path.name for path in Path(folder).glob("*.py")}


def auto_maps(folder):
    contents = {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.rglob("*.json")}
    return {name: content["auto_map"] for name, content in contents.items() if "auto_map" in content}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Nano, saved by a user who never needed its codec."""
    folder = tmp_path_factory.mktemp("published")
    AutoModel.from_pretrained(NANO).save_pretrained(folder)
    AutoProcessor.from_pretrained(NANO).save_pretrained(folder)
    return folder


def test_the_shipped_folder_names_no_source_files():
    assert auto_maps(NANO) == {}


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}, {"trust_remote_code": False}])
def test_with_the_packages_the_shipped_folder_loads_whether_or_not_remote_code_is_trusted(options):
    for auto_class in (AutoModel, AutoModelForMultimodalLM):
        assert type(auto_class.from_pretrained(NANO, **options)) is modeling_ttt.TttForConditionalGeneration
    processor = AutoProcessor.from_pretrained(NANO, **options)
    assert type(processor) is processing_ttt.TttProcessor
    assert type(processor.codec) is processing_ttt.TttCodecModel
    codec = AutoModelForAudioTokenization.from_pretrained(NANO / "codec", **options)
    assert type(codec) is processing_ttt.TttCodecModel


def test_saving_writes_the_sources_of_model_processor_and_codec(published):
    assert {"modeling_ttt.py", "processing_ttt.py"} | CODEC_SOURCES <= python_files(published)
    assert python_files(published / "codec") == CODEC_SOURCES
    for path in published.rglob("*.py"):
        (original,) = [package / path.name for package in PACKAGES if (package / path.name).is_file()]
        assert path.read_text() == original.read_text(), path


def test_a_copied_codec_is_the_same_as_a_saved_one(published, tmp_path):
    AutoModelForAudioTokenization.from_pretrained(NANO / "codec").save_pretrained(tmp_path)
    saved, copied = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, published / "codec"))
    assert copied["auto_map"] == saved["auto_map"]
    assert copied.keys() == saved.keys()
    assert python_files(published / "codec") == python_files(tmp_path)


def test_ttt_publish_writes_the_same_files(published, tmp_path):
    write_published(str(NANO), tmp_path / "out", name="you/nano")
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (tmp_path / "out", published)]
    assert names[0] - names[1] == {Path("README.md")}
    assert names[1] <= names[0]
    assert auto_maps(tmp_path / "out") == auto_maps(published)


def test_the_published_folder_answers_the_same_where_the_packages_cannot_be_imported(published, tmp_path):
    program = NOT_INSTALLED + inspect.getsource(reply_ids_and_samples) + CLEAN_PROCESS
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(published), AUDIO],
        env={"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT")[1])
    assert result["modules"] == ["transformers_modules"] * 4
    expected = reply_ids_and_samples(AutoModel.from_pretrained(NANO), AutoProcessor.from_pretrained(NANO), AUDIO)
    assert result["reply"] == expected
    assert expected[1] > 0, "part of the reply is audio"
