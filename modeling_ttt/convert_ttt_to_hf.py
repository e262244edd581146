"""
The model part of `ttt convert`: a released checkpoint folder becomes a folder of this package.

Depends on the folder's config.json, tokenizer and weights. Independent of processor and codec, which the command line
converts. Weights have the same names in both, so their files are copied after a check of their headers: no tensor is
read into memory.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub.utils import tqdm
from safetensors import safe_open
from transformers import GenerationConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .configuration_ttt import TttConfig
from .modeling_ttt import TttForConditionalGeneration
from .pretrained_ttt import AUTO_MAP
from .released_configuration_ttt import MARKERS, PAPER_GENERATION, is_foreign_layout, is_released_layout, read_markers

# The files of a Hub repository that a conversion reads.
SOURCE_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.bin")


def convert_released_model(
    source: str | os.PathLike, output: str | os.PathLike, config: TttConfig | None = None
) -> TttConfig:
    """
    Convert the model of a released checkpoint: weights, config, generation config with the paper's settings, sources.

    Args:
        source (`str` or `os.PathLike`): Folder of a released checkpoint, sharded or not, tied or not.
        output (`str` or `os.PathLike`): Folder to write; made if needed.
        config ([`TttConfig`], *optional*): From `read_released_config`, if it was read before.

    Returns:
        [`TttConfig`]: The configuration that was written.

    Raises:
        ValueError: saying why, if the source is not in the released layout, its tokenizer lacks a marker, its
            vocabulary is too small for the token ids, or its weights are not those of its config. No file is written
            then.
    """
    source, output = Path(source), Path(output)
    config = config or read_released_config(source)
    files = _checked_weights(source, config)
    output.mkdir(parents=True, exist_ok=True)
    if files:
        for name in tqdm(files, desc="Copying weights", unit="file"):
            shutil.copyfile(source / name, output / name)
    else:
        _rewrite_weights(source, output)
    config.auto_map = AUTO_MAP
    config.architectures = [TttForConditionalGeneration.__name__]
    config.save_pretrained(output)
    GenerationConfig(
        **PAPER_GENERATION, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    ).save_pretrained(output)
    custom_object_save(TttForConditionalGeneration, output)
    return config


def read_released_config(source: Path) -> TttConfig:
    """
    Read the configuration of a released checkpoint, with the ids of all markers.

    Args:
        source (`Path`): Its folder.

    Returns:
        [`TttConfig`]: A configuration in which nothing is missing.

    Raises:
        ValueError: saying what is missing or contradictory.
    """
    if not (source / "config.json").is_file():
        raise ValueError(f"{str(source)!r} has no config.json, so it is no checkpoint folder.")
    config_dict, _ = PreTrainedConfig.get_config_dict(source)
    if not is_foreign_layout(config_dict):
        raise ValueError(f"{str(source)!r} is a Text-to-Talk checkpoint already: `from_pretrained` loads it as it is.")
    if not is_released_layout(config_dict):
        raise ValueError(
            f"{str(source)!r} holds a plain {config_dict['model_type']} language model: its config.json has neither "
            "`mask_token` nor `audio_token_id_start`. Start a new Text-to-Talk model from it with `ttt init`."
        )
    found = read_markers(source)
    missing = [token for field, token in MARKERS.items() if field not in found]
    if missing:
        raise ValueError(
            f"The tokenizer of {str(source)!r} has no {', '.join(missing)}: without a marker the model's ids have no "
            "meaning; take the tokenizer files that were released with the weights."
        )
    return TttConfig.from_pretrained(source)


def _checked_weights(source: Path, config: TttConfig) -> list[str]:
    """
    Names of the safetensors files to copy, after their headers were compared with the model that the config makes; none
    for other files.
    """
    files = _weight_files(source)
    stored = {name: shape for file in files for name, shape in _header(source / file)}
    if not stored:
        return []
    with torch.device("meta"):
        model = TttForConditionalGeneration(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    _refuse_other_names(source, expected.keys() - stored.keys() - tied, stored.keys() - expected.keys())
    for name, shape in stored.items():
        if shape != expected[name]:
            raise ValueError(
                f"{name} in {str(source)!r} has shape {shape}, but its config.json makes {expected[name]}: weights and "
                "config do not belong together."
            )
    index = [SAFE_WEIGHTS_INDEX_NAME] if (source / SAFE_WEIGHTS_INDEX_NAME).is_file() else []
    return [*files, *index]


def _weight_files(source: Path) -> list[str]:
    index = source / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        return [SAFE_WEIGHTS_NAME] if (source / SAFE_WEIGHTS_NAME).is_file() else []
    files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in files:
        if Path(name).name != name:
            raise ValueError(f"{SAFE_WEIGHTS_INDEX_NAME} of {str(source)!r} names {name!r}, outside of the folder.")
        if not (source / name).is_file():
            raise ValueError(
                f"{SAFE_WEIGHTS_INDEX_NAME} names {name}, which is not in {str(source)!r}: the download is incomplete."
            )
    return files


def _header(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with safe_open(path, "pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a dictionary
            yield name, tuple(weights.get_slice(name).get_shape())


def _rewrite_weights(source: Path, output: Path) -> None:
    """Pass weights of another format through the model (`pytorch_model.bin` is read without unpickling code)."""
    model, info = TttForConditionalGeneration.from_pretrained(source, output_loading_info=True)
    _refuse_other_names(source, info["missing_keys"], info["unexpected_keys"])
    model.save_pretrained(output, max_shard_size="2GB")


def _refuse_other_names(source: Path, missing: set[str], unexpected: set[str]) -> None:
    for names, what in ((missing, "lacks"), (unexpected, "has")):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(
                f"{str(source)!r} {what} {len(names)} tensor(s) that its config.json does "
                f"{'' if what == 'lacks' else 'not '}call for: {listed}. Weights and config do not belong together."
            )


__all__ = ["SOURCE_PATTERNS", "convert_released_model", "read_released_config"]
