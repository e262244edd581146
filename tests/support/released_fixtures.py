"""
Tiny checkpoints in exactly the layout of the authors' release, and tiny language models: written here, so that no test
needs a download.
"""

import json
from pathlib import Path
from typing import Any

import torch
from processing_fixtures import tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CODEBOOK_SIZE = 40
# Qwen's own tokens, then the release's, in the order of its ids.
QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT_MARKERS = ["<|begin_of_audio|>", "<|end_of_audio|>", "<|begin_of_quad|>"]
AFTER_THE_CODES = ["<|mask_token|>", "<|end_of_audio_new|>", "<|end_of_audio_span_last|>"]
AUDIO_ALPHABET = ["<|audio|>", *(f"<|audio_{code}|>" for code in range(CODEBOOK_SIZE)), *AFTER_THE_CODES]

# As transformers 4 wrote a Qwen2.5 config.json, small.
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForARDiffLM"],
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.5,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "max_window_layers": 2,
    "model_type": "qwen2",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "prefix_preservation_ratio": 0.25,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "torch_dtype": "float32",
    "transformers_version": "4.51.3",
    "unmasked_audio_prob": 0.2,
    "use_cache": True,
    "use_sliding_window": False,
}


def released_tokenizer(without: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer in the release's layout; `without` leaves one token out."""
    tokenizer = tiny_tokenizer()
    tokens = [token for token in (*QWEN_TOKENS, *TEXT_MARKERS, *AUDIO_ALPHABET) if token != without]
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    return tokenizer


def write_released(
    folder: Path, tied: bool = False, shard_size: str = "50GB", without: str | None = None, **fields: Any
) -> Qwen2ForCausalLM:
    """
    Write a released checkpoint with random weights and give them as transformers' own language model.

    `without` leaves a token out of the tokenizer; `fields` change the config.json, `None` removes one.
    """
    tokenizer = released_tokenizer(without)
    vocab = tokenizer.get_vocab()
    config = {
        **CONFIG,
        "bos_token_id": vocab["<|endoftext|>"],
        "eos_token_id": vocab["<|endoftext|>"],
        "mask_token": vocab.get("<|mask_token|>"),
        "audio_token_id_start": vocab.get("<|audio|>"),
        "tie_word_embeddings": tied,
        "vocab_size": len(tokenizer) + 7,  # padded, as the release's is
        **fields,
    }
    config = {name: value for name, value in config.items() if value is not None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(**config)).eval()
    model.save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
        "max_new_tokens": 2048,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return model


def write_language_model(folder: Path, family: str, tied: bool = False, spare_rows: int = 5) -> torch.nn.Module:
    """Write a plain language model of a family with a tokenizer of text only, and give it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    fields = {
        "vocab_size": len(tokenizer) + spare_rows,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "bos_token_id": None,
        "pad_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": tied,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
