"""A processor and its codec: loaded, saved, copied, shared by threads, and refused where they do not fit."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import torch
from clean_process import NOT_INSTALLED
from codec_fixtures import narrow_codec
from transformers import AutoModel, AutoProcessor, AutoTokenizer

from processing_ttt import (
    TttProcessor,
)

RATE = 16000


def tone(seconds=0.3, rate=RATE, hz=300):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_a_processor_without_a_checkpoint_says_how_to_get_a_codec(processor):
    processor = TttProcessor(processor.tokenizer)
    with pytest.raises(ValueError, match=r"set `processor\.codec`"):
        processor.encode_audio((tone(), RATE))


def test_a_codec_of_another_size_is_refused(processor):
    with pytest.raises(ValueError, match="has 8 codes, but the tokenizer's audio alphabet has 16"):
        processor.codec = narrow_codec([4, 2])


def test_a_checkpoint_without_a_codec_is_named(saved):
    (saved / "codec" / "config.json").unlink()
    processor = AutoProcessor.from_pretrained(saved)
    with pytest.raises(OSError, match=r"The codec '.*checkpoint/codec' cannot be loaded"):
        processor.encode_audio((tone(), RATE))


def test_threads_load_the_codec_once(saved, monkeypatch):
    processor = AutoProcessor.from_pretrained(saved)
    loads = []
    load = AutoModel.from_pretrained
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    codecs = []
    threads = [threading.Thread(target=lambda: codecs.append(processor.codec)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len(set(map(id, codecs))) == 1


def test_representation_settings_and_copies_leave_the_weights_alone(processor, codec):
    assert processor.to_dict() == {
        "codec_name_or_path": "./codec",
        "text_tokens": 3,
        "audio_tokens": 4,
        "max_audio_seconds": 600.0,
        "processor_class": "TttProcessor",
    }
    assert "TttProcessor" in repr(processor)
    assert copy.deepcopy(processor).codec is codec


def test_a_pickled_processor_loads_its_codec_again(saved):
    processor = AutoProcessor.from_pretrained(saved)
    unloaded = len(pickle.dumps(processor))
    codes = processor.encode_audio((tone(), RATE))
    assert len(pickle.dumps(processor)) < unloaded + 10_000
    assert pickle.loads(pickle.dumps(processor)).encode_audio((tone(), RATE)) == codes


# --------------------------------------------------------------------------------------------------- loading and saving


def test_a_saved_processor_loads_with_its_settings_and_codec(saved, processor):
    loaded = AutoProcessor.from_pretrained(saved)
    assert type(loaded) is TttProcessor
    assert loaded.to_dict() == {**processor.to_dict(), "processor_class": "TttProcessor"}
    assert loaded.vocabulary == processor.vocabulary and loaded.layout == processor.layout
    assert loaded.chat_template == processor.chat_template
    assert loaded.encode_audio((tone(), RATE)) == processor.encode_audio((tone(), RATE))
    assert AutoTokenizer.from_pretrained(saved).chat_template == processor.chat_template
    assert AutoProcessor.from_pretrained(saved, max_audio_seconds=0.1).max_audio_seconds == 0.1


def test_the_length_limit_is_the_processors(processor):
    processor.max_audio_seconds = 0.1
    with pytest.raises(ValueError, match=r"longer than 0\.1 s"):
        processor.prepare(processor.messages("asr", audio=(tone(), RATE)))


def test_the_codecs_folder_is_copied_even_if_it_was_never_loaded(saved, tmp_path):
    (saved / "codec" / "NOTICE").write_text("kept")
    AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "again")
    weights = [(folder / "codec" / "model.safetensors").read_bytes() for folder in (saved, tmp_path / "again")]
    assert weights[0] == weights[1]
    assert (tmp_path / "again" / "codec" / "NOTICE").read_text() == "kept"


def test_only_what_belongs_to_a_codec_is_copied_from_the_folder_that_a_checkpoint_names(saved, tmp_path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret.txt").write_text("mine")
    config = json.loads((saved / "processor_config.json").read_text())
    for name, message in ((str(private), "cannot be loaded"), ("./../private", "outside of its checkpoint")):
        (saved / "processor_config.json").write_text(json.dumps(config | {"codec_name_or_path": name}))
        with pytest.raises((OSError, ValueError), match=message):
            AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "published")
    (saved / "processor_config.json").write_text(json.dumps(config))
    (saved / "codec" / "secret.txt").write_text("mine")
    (saved / "codec" / ".env").write_text("mine")
    AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "published")
    assert not [path for path in (tmp_path / "published").rglob("*") if path.name in ("secret.txt", ".env")]


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b""])
def test_weights_that_are_damaged_or_only_a_pointer_are_named(saved, content):
    (saved / "codec" / "model.safetensors").write_bytes(content)
    with pytest.raises(
        OSError, match=r"The weights of '.*codec' are damaged, or Git LFS pointers instead of the files"
    ):
        AutoProcessor.from_pretrained(saved).encode_audio((tone(), RATE))


def test_a_batch_of_ids_is_no_reply(processor):
    with pytest.raises(ValueError, match="use `batch_decode_reply`"):
        processor.decode_reply(torch.zeros(1, 4, dtype=torch.long))


def test_a_codec_from_another_folder_moves_in_when_the_processor_is_saved(processor, codec, tmp_path):
    codec.save_pretrained(tmp_path / "elsewhere")
    other = TttProcessor(processor.tokenizer, codec_name_or_path=str(tmp_path / "elsewhere"))
    other.save_pretrained(tmp_path / "checkpoint")
    assert other.codec_name_or_path == str(tmp_path / "elsewhere")
    loaded = AutoProcessor.from_pretrained(tmp_path / "checkpoint")
    assert loaded.codec_name_or_path == "./codec"
    assert loaded.encode_audio((tone(), RATE)) == other.encode_audio((tone(), RATE))


def test_a_codec_with_a_hub_id_of_its_own_is_saved_by_name(processor, tmp_path):
    other = TttProcessor(processor.tokenizer, codec_name_or_path="somebody/codec")
    other.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["codec_name_or_path"] == "somebody/codec"
    assert not (tmp_path / "codec").exists()


def test_a_checkpoint_on_the_hub_has_its_codec_beside_it_at_the_same_revision(saved, processor, tmp_path):
    commit = "0123456789012345678901234567890123456789"  # a downloaded repository, as the Hub's cache keeps it
    repository = tmp_path / "cache" / "models--somebody--ttt"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(commit)
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "snapshots" / commit / "config.json").write_text('{"model_type": "ttt"}')
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True, "revision": "v1"}
    loaded = AutoProcessor.from_pretrained("somebody/ttt", **options)
    loaded.save_pretrained(tmp_path / "never_loaded")
    assert loaded.encode_audio((tone(), RATE)) == processor.encode_audio((tone(), RATE))
    copied = AutoProcessor.from_pretrained(tmp_path / "never_loaded")
    assert copied.encode_audio((tone(), RATE)) == processor.encode_audio((tone(), RATE))


def test_saving_over_the_folder_it_came_from_keeps_the_codec(saved):
    AutoProcessor.from_pretrained(saved).save_pretrained(saved)
    assert (saved / "codec" / "model.safetensors").stat().st_size > 0


def test_a_saved_processor_runs_where_the_packages_are_not_installed(saved, processor, tmp_path):
    AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "again")  # saved again from the installed package
    soundfile.write(tmp_path / "question.wav", tone(), RATE, subtype="FLOAT")
    script = f"""
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained({str(tmp_path / "again")!r}, trust_remote_code=True)
inputs = processor.apply_chat_template(
    processor.conversation("asr", audio={str(tmp_path / "question.wav")!r}),
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
reply = processor.decode_reply(inputs["input_ids"][0])
processor.save_pretrained({str(tmp_path / "third")!r})
print(processor.decode_reply(processor.layout.build_reply([1], [1, 2])).audio.shape, inputs["input_ids"].tolist())
"""
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    result = subprocess.run(
        [sys.executable, "-I", "-c", NOT_INSTALLED + script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    expected = processor.prepare(processor.messages("asr", audio=(tone(), RATE)))["input_ids"].tolist()
    assert result.stdout.strip() == f"(1280,) {expected}"
    assert (tmp_path / "third" / "processing_ttt.py").is_file()
    assert (tmp_path / "third" / "codec" / "model.safetensors").is_file()


def test_the_tokenizer_is_used_by_one_thread_at_a_time(processor, monkeypatch):
    """Its settings change from call to call: how it pads, and whether markers are markers."""
    inside, overlaps, encode = [], [], processor.tokenizer._encode_plus

    def watched(*args, **kwargs):
        inside.append(None)
        time.sleep(0.01)
        overlaps.append(len(inside) > 1)
        try:
            return encode(*args, **kwargs)
        finally:
            inside.pop()

    monkeypatch.setattr(processor.tokenizer, "_encode_plus", watched)
    threads = [threading.Thread(target=processor, args=("Hello",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 4
