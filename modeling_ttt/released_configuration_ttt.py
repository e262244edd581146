"""
Configurations that are not ours yet: those of the authors' released checkpoints, and of plain language models.

Knows how the release spells its fields, which strings its markers have, and finds their ids in the tokenizer beside
the config. Knows no weights: theirs have the names that ours have.

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
# Field of the config -> its token. The other package has the same strings in `vocabulary_ttt.py`; a test holds the
# two together.
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

# How the paper decodes (section 4): 10 steps for a block of 32, sampled text. Cutting a reply short is not the
# paper's business: 2048 ids are about 100 seconds.
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
    Say whether a `config.json` is that of a released Text-to-Talk checkpoint.

    Args:
        config_dict (`dict[str, Any]`): Its contents.

    Returns:
        `bool`: Whether it has the release's architecture or one of its fields.
    """
    return RELEASED_ARCHITECTURE in (config_dict.get("architectures") or ()) or not RELEASED_FIELDS.keys().isdisjoint(
        config_dict
    )


def is_foreign_layout(config_dict: dict[str, Any]) -> bool:
    """Say whether a `config.json` is a language model's, released Text-to-Talk or plain, and not ours."""
    return "text_config" not in config_dict and config_dict.get("model_type", "ttt") != "ttt"


def nest_language_model(config_dict: dict[str, Any]) -> dict[str, Any]:
    """
    Write the config of a language model, released Text-to-Talk or plain, as one of ours with that model as the
    backbone.

    Args:
        config_dict (`dict[str, Any]`): Contents of its `config.json`.

    Returns:
        `dict[str, Any]`: Fields of `TttConfig`. What only the tokenizer can tell is missing; so are, over a plain
        language model, all ids of sound.

    Raises:
        ValueError: naming the field, if a released one holds no id.
    """
    kept_out = {*RELEASED_FIELDS, *_NOT_THE_BACKBONES}
    nested = {name: config_dict.get(name) for name in _SPECIAL_IDS}
    nested |= {
        "model_type": "ttt",
        "text_config": {name: value for name, value in config_dict.items() if name not in kept_out},
        "dtype": config_dict.get("dtype", config_dict.get("torch_dtype")),
    }
    for theirs, ours in RELEASED_FIELDS.items():
        value = config_dict.get(theirs)
        if value is None:
            continue
        if ours.endswith("_id") and type(value) is not int:
            raise ValueError(f"`{theirs}` of the released config.json must be a token id, got {value!r}.")
        nested[ours] = value
    if is_released_layout(config_dict):
        nested |= _codes_until_the_tokenizer_tells(nested)
    return nested


def resolve_markers(nested: dict[str, Any], folder_or_hub_id: str | os.PathLike, **kwargs: Any) -> dict[str, Any]:
    """
    Complete the config of a released checkpoint with the ids that its tokenizer gives to the markers, and say so in a
    log message.

    Args:
        nested (`dict[str, Any]`): From `nest_language_model`.
        folder_or_hub_id (`str` or `os.PathLike`): Where the tokenizer's files are; without any, nothing is added.
        kwargs: Of these, the options of a download are used: `revision`, `token`, `cache_dir`, ...

    Returns:
        `dict[str, Any]`: Fields of `TttConfig`. A marker that the tokenizer lacks is missing here too.

    Raises:
        ValueError: if config and tokenizer contradict each other, or the codes are not numbered without a gap.
    """
    options = {name: kwargs[name] for name in _DOWNLOAD_OPTIONS if kwargs.get(name) is not None}
    found = read_markers(folder_or_hub_id, **options)
    for theirs, ours in RELEASED_FIELDS.items():
        if ours in found and nested.get(ours) not in (None, found[ours]):
            raise ValueError(
                f"`{theirs}` in config.json of {str(folder_or_hub_id)!r} is {nested[ours]}, but its tokenizer gives "
                f"{MARKERS[ours]} the id {found[ours]}: config and tokenizer do not belong together."
            )
    resolved = {**nested, **found}
    _report(resolved, found, folder_or_hub_id)
    return resolved


def read_markers(folder_or_hub_id: str | os.PathLike, **options: Any) -> dict[str, int]:
    """
    Read what the tokenizer says about a config.

    Args:
        folder_or_hub_id (`str` or `os.PathLike`): Where the tokenizer's files are.
        options: Of a download: `revision`, `token`, `cache_dir`, ...

    Returns:
        `dict[str, int]`: Fields of `TttConfig`, as far as the tokenizer has the tokens; empty if there is no tokenizer.

    Raises:
        ValueError: if the codes are not numbered without a gap.
    """
    files = [
        cached_file(folder_or_hub_id, name, _raise_exceptions_for_missing_entries=False, **options)
        for name in _TOKENIZER_FILES
    ]
    if not any(files):
        return {}
    tokenizer = AutoTokenizer.from_pretrained(folder_or_hub_id, **options)
    vocab = tokenizer.get_vocab()
    found = {name: vocab[token] for name, token in MARKERS.items() if token in vocab}
    if "audio_code_offset" in found:
        found["audio_codebook_size"] = _count_codes(vocab)
    if tokenizer.pad_token_id is not None:
        found["pad_token_id"] = tokenizer.pad_token_id
    return found


def _codes_until_the_tokenizer_tells(nested: dict[str, Any]) -> dict[str, int]:
    """Take the ids between `<|audio|>` and the mask for codes: in the release they are."""
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
        ours: f"{theirs} -> {ours} {resolved[ours]}" for theirs, ours in RELEASED_FIELDS.items() if ours in resolved
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
