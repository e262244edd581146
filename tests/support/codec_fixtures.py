"""Small random codecs, of transformers and of this package, and a processor that uses one."""

import torch
from processing_fixtures import tiny_tokenizer
from transformers import DacConfig, DacModel

from processing_ttt import TttProcessor, add_ttt_tokens
from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel

RATE = 16000
WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48, "num_mel_bins": 80}


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


def processor_for(codec, codebook_size=16, **settings):
    """A processor with the byte-level tokenizer and a codec."""
    tokenizer = tiny_tokenizer()
    add_ttt_tokens(tokenizer, codebook_size)
    processor = TttProcessor(tokenizer, **settings)
    processor.codec = codec
    return processor


def narrow_codec(fsq_levels=(4, 4)):
    """A random codec with the default layers, in a sixteenth of the width; it has 16 codes."""
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "vocoder_hidden_size", "vocoder_intermediate_size"), 16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TttCodecModel(TttCodecConfig(**sizes, fsq_levels=list(fsq_levels))).eval()


def small_codec(**changes):
    """A random codec of this package whose receptive field is small enough to count by hand."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TttCodecConfig(
            **{
                "hidden_size": 16,
                "intermediate_size": 32,
                "vocoder_hidden_size": 16,
                "vocoder_intermediate_size": 32,
                "kernel_size": 3,
                "encoder_code_layers": 1,
                "decoder_code_lookaheads": [1, 0],
                "decoder_mel_lookaheads": [1],
                "vocoder_lookaheads": [0, 2],
                "layer_scale_init_value": 1.0,
            }
            | changes
        )
        return TttCodecModel(config).eval().requires_grad_(False)


def whisper_codec():
    """A small codec on an untrained Whisper encoder, of 1024 codes."""
    return small_codec(kernel_size=7, vocoder_lookaheads=[0, 1], whisper_config=WHISPER)
