"""A small processor with a codec, alone and saved, and what the model of a test's talker computes."""

import pytest
from codec_fixtures import narrow_codec, processor_for
from modeling_fixtures import query_lengths


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


@pytest.fixture
def queries(talker):
    """The query length of every forward of the backbone."""
    return query_lengths(talker.model)
