"""A small random codec of transformers, and a processor that uses it."""

import torch
from processing_fixtures import tiny_tokenizer
from transformers import DacConfig, DacModel

from processing_ttt import TttProcessor, add_ttt_tokens

RATE = 16000


def dac():
    torch.manual_seed(0)
    config = DacConfig(
        encoder_hidden_size=8,
        downsampling_ratios=[8, 8, 10],
        decoder_hidden_size=16,
        upsampling_ratios=[10, 8, 8],
        n_codebooks=2,
        codebook_size=16,
        codebook_dim=4,
        hidden_size=64,
        sampling_rate=RATE,
    )
    return DacModel(config).eval()


def processor_for(codec, codebook_size=16):
    tokenizer = tiny_tokenizer()
    add_ttt_tokens(tokenizer, codebook_size)
    processor = TttProcessor(tokenizer)
    processor.codec = codec
    return processor
