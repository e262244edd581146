"""Small models and ids for every test: no network, no GPU, one thread."""

import pytest
import torch
from transformers import AutoConfig

from modeling_ttt import TttConfig, TttForConditionalGeneration

torch.set_num_threads(1)

# A joint vocabulary small enough that greedy text of a random model runs into its begin markers by itself.
PAD, EOS, BEGIN, BEGIN_LAST, END_USER = 0, 1, 2, 3, 4
AUDIO_START, CODE_0, CODEBOOK_SIZE = 12, 13, 20
MASK, END, END_LAST, VOCAB_SIZE = 33, 34, 35, 36

BACKBONES = ("qwen2", "qwen3", "llama")


def tiny_config(backbone: str = "qwen2", **overrides) -> TttConfig:
    """A Text-to-Talk config over a two-layer backbone of the given family."""
    text_config = AutoConfig.for_model(
        backbone,
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    fields = {
        "audio_token_start_id": AUDIO_START,
        "audio_code_offset": CODE_0,
        "audio_codebook_size": CODEBOOK_SIZE,
        "mask_token_id": MASK,
        "begin_audio_token_id": BEGIN,
        "begin_last_audio_token_id": BEGIN_LAST,
        "end_audio_token_id": END,
        "end_last_audio_token_id": END_LAST,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "initializer_range": 0.5,
    }
    return TttConfig(text_config=text_config, **(fields | overrides))


def tiny_model(backbone: str = "qwen2", seed: int = 0, attn_implementation: str = "sdpa", **overrides):
    """A randomly initialised model in eval mode; large initial weights make its greedy choices vary."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TttForConditionalGeneration._from_config(
            tiny_config(backbone, **overrides), attn_implementation=attn_implementation
        )
    return model.eval()


@pytest.fixture
def model():
    return tiny_model()
