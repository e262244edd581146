"""
Configurations of the authors' released checkpoints and of plain language models, read as fields of `TttConfig`.

Maps the names of the release's fields, and finds the ids of the markers in the tokenizer beside the config.
Independent of weights, whose names are the same.

A released `config.json` is that of its backbone (`model_type: qwen2`) with `architectures: ["Qwen2ForARDiffLM"]` and
the fields of `RELEASED_FIELDS`; the ids of the markers are in the tokenizer only.
"""

import logging
import os
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import cached_file

logger = logging.getLogger(__name__)

RELEASED_ARCHITECTURE = "Qwen2ForARDiffLM"
RELEASED_FIELDS = {
    "mask_token": "mask_token_id",
    "audio_token_id_start": "audio_token_start_id",
    "unmasked_audio_prob": "clean_audio_prob",
    "prefix_preservation_ratio": "prefix_preservation_prob",
}
# Field of the config -> its token. `vocabulary_ttt.py` of the other package has the same strings, which a test holds.
MARKERS = {
    "begin_audio_token_id": "<|begin_of_audio|>",
    "begin_last_audio_token_id": "<|begin_of_quad|>",
    "audio_token_start_id": "<|audio|>",
    "audio_code_offset": "<|audio_0|>",
    "mask_token_id": "<|mask_token|>",
    "end_audio_token_id": "<|end_of_audio_new|>",
    "end_last_audio_token_id": "<|end_of_audio_span_last|>",
    "eos_token_id": "<|im_end|>",
}
AUDIO_CODE = "<|audio_{}|>"

# The paper's decoding settings (section 4). It does not limit replies; 2048 token ids are about 100 seconds.
PAPER_GENERATION = {
    "do_sample": True,
    "top_k": 10,
    "top_p": 0.95,
    "block_length": 32,
    "denoising_steps": 10,
    "audio_guidance_scale": 0.1,
    "max_new_tokens": 2048,
}

_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
_NOT_THE_BACKBONES = ("architectures", "auto_map", "transformers_version")
_DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def is_released_layout(config_dict: dict[str, Any]) -> bool:
    """
    Whether a `config.json` is that of a released Text-to-Talk checkpoint.

    Args:
        config_dict (`dict[str, Any]`): Its contents.

    Returns:
        `bool`: Whether it has the release's architecture or one of its fields.
    """
    return RELEASED_ARCHITECTURE in (config_dict.get("architectures") or ()) or not RELEASED_FIELDS.keys().isdisjoint(
        config_dict
    )


def is_foreign_layout(config_dict: dict[str, Any]) -> bool:
    """Whether a `config.json` is not a `TttConfig` but a language model's, released Text-to-Talk or plain."""
    return "text_config" not in config_dict and config_dict.get("model_type", "ttt") != "ttt"


def nest_language_model(config_dict: dict[str, Any]) -> dict[str, Any]:
    """
    Turn the config of a language model, released Text-to-Talk or plain, into that of a model with it as the backbone.

    Args:
        config_dict (`dict[str, Any]`): Contents of its `config.json`.

    Returns:
        `dict[str, Any]`: Fields of `TttConfig`, without those that only the tokenizer has and, for a plain language
            model, without all audio ids.

    Raises:
        ValueError: naming the field, if the value of a released one is not a token id.
    """
    kept_out = {*RELEASED_FIELDS, *_NOT_THE_BACKBONES}
    nested = {name: config_dict.get(name) for name in _SPECIAL_IDS}
    nested |= {
        "model_type": "ttt",
        "text_config": {name: value for name, value in config_dict.items() if name not in kept_out},
        "dtype": config_dict.get("dtype", config_dict.get("torch_dtype")),
    }
    for released_name, name in RELEASED_FIELDS.items():
        value = config_dict.get(released_name)
        if value is None:
            continue
        if name.endswith("_id") and type(value) is not int:
            raise ValueError(f"`{released_name}` of the released config.json must be a token id, got {value!r}.")
        nested[name] = value
    if is_released_layout(config_dict):
        nested |= _codes_before_the_mask(nested)
    return nested


def resolve_markers(nested: dict[str, Any], folder_or_hub_id: str | os.PathLike, **kwargs: Any) -> dict[str, Any]:
    """
    Complete the config of a released checkpoint with the markers' token ids in its tokenizer, and log them.

    Args:
        nested (`dict[str, Any]`): From `nest_language_model`.
        folder_or_hub_id (`str` or `os.PathLike`): Folder or repository of the tokenizer; without its files
            nothing is added.
        kwargs: Of these, the options of a download are used: `revision`, `token`, `cache_dir`, ...

    Returns:
        `dict[str, Any]`: Fields of `TttConfig`, without markers that the tokenizer lacks.

    Raises:
        ValueError: if config and tokenizer contradict each other, or the codes are not numbered without a gap.
    """
    options = {name: kwargs[name] for name in _DOWNLOAD_OPTIONS if kwargs.get(name) is not None}
    found = read_markers(folder_or_hub_id, **options)
    for released_name, name in RELEASED_FIELDS.items():
        if name in found and nested.get(name) not in (None, found[name]):
            raise ValueError(
                f"`{released_name}` in config.json of {str(folder_or_hub_id)!r} is {nested[name]}, but its tokenizer "
                f"gives {MARKERS[name]} the id {found[name]}: config and tokenizer do not belong together."
            )
    resolved = {**nested, **found}
    _report(resolved, found, folder_or_hub_id)
    return resolved


def read_markers(folder_or_hub_id: str | os.PathLike, **options: Any) -> dict[str, int]:
    """
    Read fields of a config from the tokenizer.

    Args:
        folder_or_hub_id (`str` or `os.PathLike`): Folder or repository of the tokenizer.
        options: Of a download: `revision`, `token`, `cache_dir`, ...

    Returns:
        `dict[str, int]`: Fields of `TttConfig` whose tokens the tokenizer has; empty without a tokenizer.

    Raises:
        ValueError: if the codes are not numbered without a gap.
    """
    files = [
        cached_file(folder_or_hub_id, name, _raise_exceptions_for_missing_entries=False, **options)
        for name in _TOKENIZER_FILES
    ]
    if not any(files):
        return {}
    tokenizer = AutoTokenizer.from_pretrained(folder_or_hub_id, trust_remote_code=False, **options)
    vocab = tokenizer.get_vocab()
    found = {name: vocab[token] for name, token in MARKERS.items() if token in vocab}
    if "audio_code_offset" in found:
        found["audio_codebook_size"] = _count_codes(vocab)
    if tokenizer.pad_token_id is not None:
        found["pad_token_id"] = tokenizer.pad_token_id
    return found


def _codes_before_the_mask(nested: dict[str, Any]) -> dict[str, int]:
    """Take the ids between `<|audio|>` and the mask as codes, as in the release, until the tokenizer is read."""
    start, mask = nested.get("audio_token_start_id"), nested.get("mask_token_id")
    if start is None or mask is None or mask - start < 2:
        return {}
    return {"audio_code_offset": start + 1, "audio_codebook_size": mask - start - 1}


def _count_codes(vocab: dict[str, int]) -> int:
    size, offset = 0, vocab[AUDIO_CODE.format(0)]
    while (token := AUDIO_CODE.format(size)) in vocab:
        if vocab[token] != offset + size:
            raise ValueError(
                f"The codes of the tokenizer must have ids without a gap, but {token} has {vocab[token]} instead of "
                f"{offset + size}."
            )
        size += 1
    return size


def _report(resolved: dict[str, Any], found: dict[str, int], folder_or_hub_id: str | os.PathLike) -> None:
    mapped = {
        name: f"{released_name} -> {name} {resolved[name]}"
        for released_name, name in RELEASED_FIELDS.items()
        if name in resolved
    }
    added = [f"{name} {value}" for name, value in found.items() if name not in mapped]
    missing = [token for name, token in MARKERS.items() if name not in found]
    logger.warning(
        "%r is read as a released Text-to-Talk checkpoint. From its config.json: %s. From its tokenizer: %s.%s",
        str(folder_or_hub_id),
        ", ".join(mapped.values()) or "nothing",
        ", ".join(added) or "nothing",
        f" Not found: {', '.join(missing)}; `ttt convert` says what is wrong." if missing else "",
    )


__all__ = [
    "AUDIO_CODE",
    "MARKERS",
    "PAPER_GENERATION",
    "is_foreign_layout",
    "is_released_layout",
    "nest_language_model",
    "read_markers",
    "resolve_markers",
]
