"""A small processor with a codec, alone and saved."""

import pytest
import torch
from processing_fixtures import tiny_tokenizer

from processing_ttt import TttCodecConfig, TttCodecModel, TttProcessor, add_ttt_tokens


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    config = TttCodecConfig(
        hidden_size=16, intermediate_size=16, vocoder_hidden_size=16, vocoder_intermediate_size=16, fsq_levels=[4, 4]
    )
    return TttCodecModel(config).eval()


@pytest.fixture
def processor(codec):
    tokenizer = tiny_tokenizer()
    add_ttt_tokens(tokenizer, codec.config.codebook_size)
    processor = TttProcessor(tokenizer, text_tokens=3, audio_tokens=4)
    processor.codec = codec
    return processor


@pytest.fixture
def saved(processor, tmp_path):
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"
