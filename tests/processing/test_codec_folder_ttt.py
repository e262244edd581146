"""What is copied when a processor is saved: the codec's own files, whatever folder or link a checkpoint names."""

import json
import logging
import os

import pytest
from codec_fixtures import narrow_codec, processor_for
from transformers import AutoProcessor


@pytest.fixture
def checkpoint(tmp_path):
    """A saved processor with its codec, whose weights are not loaded again by saving it."""
    processor_for(narrow_codec()).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def name_codec(checkpoint, name):
    file = checkpoint / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"codec_name_or_path": name}))


def copied(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_of_the_users_that_is_no_codec_is_not_copied(checkpoint, tmp_path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "notes.md").write_text("mine")
    name_codec(checkpoint, str(private))
    for config in (None, '{"model_type": "qwen2"}', '{"mine": true}', "[]", "{"):
        if config is not None:
            (private / "config.json").write_text(config)
        with pytest.raises((OSError, ValueError), match=r"cannot be loaded|cannot be used"):
            AutoProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path / "published")
    assert "notes.md" not in " ".join(copied(tmp_path / "published"))


@pytest.mark.parametrize("name", ["../../private", "/private", "~/private"])
def test_a_codec_outside_of_the_checkpoint_is_named_in_a_warning(checkpoint, caplog, name):
    name_codec(checkpoint, name)
    with caplog.at_level(logging.WARNING):
        AutoProcessor.from_pretrained(checkpoint)
    assert f"names a codec outside of its folder, {name!r}" in caplog.text
    caplog.clear()
    AutoProcessor.from_pretrained(checkpoint, codec_name_or_path=name)  # the caller's own choice
    assert not caplog.text


@pytest.mark.parametrize("name", [None, 3, "", ["./codec"]])
def test_a_codec_name_that_is_no_name_is_refused(checkpoint, name):
    name_codec(checkpoint, name)
    with pytest.raises(ValueError, match=r"`codec_name_or_path` is .*: give './codec', a folder, or a Hub id"):
        AutoProcessor.from_pretrained(checkpoint)


def test_a_link_that_leaves_the_codec_is_not_copied(checkpoint, tmp_path):
    (tmp_path / "secret.json").write_text("mine")
    os.symlink(tmp_path / "secret.json", checkpoint / "codec" / "extra.json")
    with pytest.raises(OSError, match=r"extra\.json' is a link to a file outside of the codec's folder"):
        AutoProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path / "published")
    assert "codec/extra.json" not in copied(tmp_path / "published")


def test_a_linked_folder_in_the_codec_is_not_copied(checkpoint, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret.json").write_text("mine")
    os.symlink(tmp_path / "private", checkpoint / "codec" / "more")
    AutoProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path / "published")
    assert not [name for name in copied(tmp_path / "published") if "secret" in name]


def test_links_within_the_hubs_cache_are_copied_as_files(checkpoint, tmp_path):
    repository = tmp_path / "models--somebody--ttt"
    snapshot = repository / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    checkpoint.rename(snapshot)
    blob = repository / "blobs" / "456"
    blob.parent.mkdir()
    weights = snapshot / "codec" / "model.safetensors"
    weights.rename(blob)
    os.symlink(os.path.relpath(blob, weights.parent), weights)
    AutoProcessor.from_pretrained(snapshot).save_pretrained(tmp_path / "again")
    saved = tmp_path / "again" / "codec" / "model.safetensors"
    assert not saved.is_symlink() and saved.read_bytes() == blob.read_bytes()
