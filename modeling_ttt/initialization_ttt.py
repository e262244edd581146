"""
A new Text-to-Talk model from any causal language model of transformers.

Extends the tokenizer by markers and audio tokens, and initialises their rows in the embedding and in the output
projection. All other weights stay the language model's.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .configuration_ttt import TttConfig
from .released_configuration_ttt import AUDIO_CODE, MARKERS, PAPER_GENERATION

# In standard deviations of the text rows: enough to distinguish codes, too little to change the scores of text (see
# `initialise_new_rows`).
ROW_NOISE = 0.1

_TEXT_SIDE = ("<|begin_of_audio|>", "<|end_of_audio|>", "<|begin_of_quad|>")
_AFTER_THE_CODES = ("<|mask_token|>", "<|end_of_audio_new|>", "<|end_of_audio_span_last|>")
_DOWNLOAD_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
)


@dataclass(frozen=True)
class JointVocabulary:
    """
    The vocabulary of an extended tokenizer.

    Args:
        first_new_id (`int`): Smaller token ids are the language model's own, the others are new.
        size (`int`): One more than the highest token id.
        config_fields (`dict[str, int]`): The fields of a `TttConfig` that follow.
    """

    first_new_id: int
    size: int
    config_fields: dict[str, int]


def build_from_language_model(
    model_class: type[PreTrainedModel],
    folder_or_hub_id: str | os.PathLike,
    audio_codebook_size: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    generator: torch.Generator | None = None,
    **kwargs: Any,
) -> PreTrainedModel:
    """Implement `TttForConditionalGeneration.from_language_model`; arguments and errors are described there."""
    kwargs.setdefault("trust_remote_code", False)  # by default transformers asks on standard input
    if tokenizer is None:
        options = {name: kwargs[name] for name in _DOWNLOAD_OPTIONS if name in kwargs}
        tokenizer = AutoTokenizer.from_pretrained(folder_or_hub_id, **options)
    vocabulary = extend_tokenizer(tokenizer, audio_codebook_size)
    language_model, found = AutoModelForCausalLM.from_pretrained(folder_or_hub_id, output_loading_info=True, **kwargs)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"The weights of {str(folder_or_hub_id)!r} lack {len(missing)} tensors, {missing[0]} among them: download "
            "the language model again."
        )
    head = language_model.get_output_embeddings()
    if language_model.config.model_type == TttConfig.model_type:
        raise ValueError(
            f"{str(folder_or_hub_id)!r} is a Text-to-Talk checkpoint already: load it with `from_pretrained`."
        )
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ValueError(
            f"{str(folder_or_hub_id)!r} ({language_model.config.model_type}) does not end in a linear output "
            "projection without bias, as a Text-to-Talk model does; start from another language model."
        )
    _add_rows(language_model, vocabulary, generator)
    return _transplant(model_class, language_model, vocabulary)


def extend_tokenizer(tokenizer: PreTrainedTokenizerBase, audio_codebook_size: int) -> JointVocabulary:
    """
    Add the markers and audio tokens to a language model's tokenizer, in place, as `processing_ttt.add_ttt_tokens`
    does.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tokenizer without any of them; its own token ids do not change.
        audio_codebook_size (`int`): Number of codes of the codec.

    Returns:
        [`JointVocabulary`]: The extended vocabulary.

    Raises:
        ValueError: if the tokenizer has audio tokens already, or the codebook is empty.
    """
    if audio_codebook_size < 1:
        raise ValueError(f"`audio_codebook_size` must be at least 1, got {audio_codebook_size}.")
    vocab = tokenizer.get_vocab()
    audio_side = [
        MARKERS["audio_token_start_id"],
        *map(AUDIO_CODE.format, range(audio_codebook_size)),
        *_AFTER_THE_CODES,
    ]
    present = [token for token in (*_TEXT_SIDE, *audio_side) if token in vocab]
    if present:
        raise ValueError(
            f"The tokenizer has {present[0]} already, so it is not a plain language model's: load a Text-to-Talk "
            "checkpoint with `from_pretrained`, or start from a tokenizer without audio tokens."
        )
    named = {"eos_token": MARKERS["eos_token_id"]}
    if tokenizer.pad_token is None:
        named["pad_token"] = (
            tokenizer.eos_token if tokenizer.eos_token not in (None, *named.values()) else "<|endoftext|>"
        )
    tokens = dict.fromkeys(["<|im_start|>", *named.values(), *_TEXT_SIDE, *audio_side])  # in order, each once
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    tokenizer.add_special_tokens(named)

    extended = tokenizer.get_vocab()
    return JointVocabulary(
        first_new_id=min(extended[token] for token in tokens if token not in vocab),
        size=max(extended.values()) + 1,
        config_fields={name: extended[token] for name, token in MARKERS.items()}
        | {"audio_codebook_size": audio_codebook_size, "pad_token_id": tokenizer.pad_token_id},
    )


@torch.no_grad()
def initialise_new_rows(weight: torch.Tensor, first_new_id: int, generator: torch.Generator | None = None) -> None:
    """
    Initialise the rows of new token ids as the mean of the text rows plus a little noise, so that text stays as it was.

    For a hidden state `h`, the score of a new id is then the mean score of the text ids plus noise. By Jensen's
    inequality `exp(mean score) <= mean of exp(score)`: n such ids take at most n / (n + V) of the probability, V
    being the number of text ids, and in practice far less (Hewitt 2021, "Initializing new word embeddings for
    pretrained language models"). Independently drawn rows can take nearly all of it. The noise, a tenth of the text
    rows' standard deviation in each dimension, distinguishes the codes.

    Args:
        weight (`torch.FloatTensor` of shape `(vocab_size, hidden_size)`): Embedding or output projection, changed in
            place.
        first_new_id (`int`): First new row.
        generator (`torch.Generator`, *optional*): Source of the noise; torch's global one by default.
    """
    std, mean = torch.std_mean(weight[:first_new_id].float(), dim=0)
    device = torch.device("cpu") if generator is None else generator.device
    noise = torch.randn(weight.shape[0] - first_new_id, weight.shape[1], generator=generator, device=device).to(
        weight.device
    )
    weight[first_new_id:] = (mean + ROW_NOISE * std * noise).to(weight.dtype)


def _add_rows(language_model: PreTrainedModel, vocabulary: JointVocabulary, generator: torch.Generator | None) -> None:
    """Add rows for the new token ids; unused rows of a checkpoint (Qwen has some hundreds) are used first."""
    num_rows = max(vocabulary.size, language_model.get_input_embeddings().weight.shape[0])
    with torch.random.fork_rng(devices=[]):  # the drawn values are overwritten
        language_model.resize_token_embeddings(num_rows, mean_resizing=False)
    embedding = language_model.get_input_embeddings().weight
    projection = language_model.get_output_embeddings().weight
    for weight in (embedding,) if projection is embedding else (embedding, projection):
        initialise_new_rows(weight, vocabulary.first_new_id, generator)


def _transplant(
    model_class: type[PreTrainedModel], language_model: PreTrainedModel, vocabulary: JointVocabulary
) -> PreTrainedModel:
    """Move the language model's decoder and output projection into a Text-to-Talk model."""
    decoder, head = language_model.get_decoder(), language_model.get_output_embeddings()
    config = TttConfig(
        text_config=decoder.config,
        tie_word_embeddings=head.weight is decoder.get_input_embeddings().weight,
        bos_token_id=decoder.config.bos_token_id,
        **vocabulary.config_fields,
    )
    with torch.device("meta"):
        model = model_class(config)
    if type(decoder) is not type(model.model):
        raise ValueError(
            f"The backbone of {language_model.config.model_type!r} is a {type(decoder).__name__}, but its config makes "
            f"a {type(model.model).__name__}: such a model could not be loaded again; start from another language "
            "model."
        )
    model.model, model.lm_head = decoder, head
    context = getattr(decoder.config, "max_position_embeddings", None)
    longest = PAPER_GENERATION["max_new_tokens"]
    for name, value in {
        **PAPER_GENERATION,
        "max_new_tokens": longest if context is None else min(longest, context // 2),  # leave room for a prompt
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }.items():
        setattr(model.generation_config, name, value)
    return model.eval()


__all__ = ["JointVocabulary", "build_from_language_model", "extend_tokenizer", "initialise_new_rows"]
