"""A small processor with a codec, alone and saved."""

import pytest
from codec_fixtures import narrow_codec, processor_for


@pytest.fixture(scope="module")
def codec():
    return narrow_codec()


@pytest.fixture
def processor(codec):
    return processor_for(codec, text_tokens=3, audio_tokens=4)


@pytest.fixture
def saved(processor, tmp_path):
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"
