"""
Adapters: LoRA, QLoRA and embedding rows of new tokens, and several adapters on one loaded model.

Depends on PEFT and the model's modules. Independent of data and of the training loop.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

import torch

from modeling_ttt import TttForConditionalGeneration
from processing_ttt.loading_faults_ttt import check_adapter, faults_named
from processing_ttt.vocabulary_ttt import TttVocabulary

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

LARGEST_RANK = 4096  # as many as a matrix of a large model has rows: a larger one is a mistake, and fills the memory

logger = logging.getLogger(__name__)


class AdapterRecipe(Protocol):
    """The keys of a recipe that describe its adapter; `finetune.training.recipe.Recipe` documents the values."""

    @property
    def method(self) -> str:
        """`lora`, `qlora` or `rows`."""

    @property
    def lora_r(self) -> int:
        """Rank."""

    @property
    def lora_alpha(self) -> int:
        """Scale: updates are multiplied by alpha / r."""

    @property
    def lora_dropout(self) -> float:
        """Dropout on the adapter's input."""

    @property
    def target_modules(self) -> str:
        """`all-linear`, or names of modules separated by commas."""

    @property
    def train_audio_rows(self) -> bool:
        """Whether embedding rows of markers and audio codes are trained too."""

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are computed again instead of kept."""


def audio_rows(vocabulary: TttVocabulary) -> list[int]:
    """
    List the token ids that are new to a language model: the markers, and the audio part of the vocabulary.

    Args:
        vocabulary (`TttVocabulary`): Of the model's tokenizer.

    Returns:
        `list[int]`: Ascending. `<|im_start|>` and `<|im_end|>` are the language model's own and not among them.
    """
    markers = {
        vocabulary.begin_audio_token_id,
        vocabulary.begin_last_audio_token_id,
        vocabulary.end_user_audio_token_id,
    }
    return sorted(markers | set(range(vocabulary.audio_token_start_id, vocabulary.vocab_size)))


def add_adapter(model: TttForConditionalGeneration, vocabulary: TttVocabulary, recipe: AdapterRecipe) -> "PeftModel":
    """
    Wrap a model so that a recipe's adapter is all that is trained.

    Args:
        model ([`TttForConditionalGeneration`]): The base, changed in place.
        vocabulary (`TttVocabulary`): Names the new tokens.
        recipe ([`AdapterRecipe`]): Its `method` is `lora`, `qlora` or `rows`.

    Returns:
        `peft.PeftModel`: With trainable parameters in float32.
    """
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model, prepare_model_for_kbit_training

    rows = audio_rows(vocabulary)
    tables = _token_tables(model)
    if recipe.method == "rows":
        config = TrainableTokensConfig(token_indices=rows, target_modules=tables)
    else:
        config = LoraConfig(
            r=recipe.lora_r,
            lora_alpha=recipe.lora_alpha,
            lora_dropout=recipe.lora_dropout,
            target_modules=_target_modules(recipe.target_modules),
            trainable_token_indices=dict.fromkeys(tables, rows) if recipe.train_audio_rows else None,
        )
    if recipe.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recipe.gradient_checkpointing)
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # in bfloat16 a small step of a large weight would be no step
            parameter.data = parameter.data.float()
    return adapted


def load_adapters(model: TttForConditionalGeneration, folders: Mapping[str, str | os.PathLike]) -> "PeftModel":
    """
    Put several adapters on one loaded model; `set_adapter(name)` changes between them without loading anything.

    Args:
        model ([`TttForConditionalGeneration`]): The base all of them were trained from.
        folders (`Mapping[str, str]`): Folder or Hub id of each adapter by a name for it; the first one is active.

    Returns:
        `peft.PeftModel`: Generates as the base does.

    Raises:
        ValueError: If there are none, or a name is not an identifier, or an adapter does not fit the model.
    """
    from peft import PeftModel

    if not folders:
        raise ValueError("Name at least one adapter.")
    adapted: Any = None
    for name, folder in folders.items():
        if not name.isidentifier() or hasattr(torch.nn.ModuleDict(), name):  # PEFT keeps adapters in such a dictionary
            raise ValueError(f"An adapter's name is letters, digits and _, and no word of PyTorch's, but is {name!r}.")
        _check_fits(model if adapted is None else adapted.get_base_model(), name, os.fspath(folder))
        with faults_named(f"the adapter {os.fspath(folder)!r}"):
            try:
                if adapted is None:
                    adapted = PeftModel.from_pretrained(model, folder, adapter_name=name)
                else:
                    adapted.load_adapter(folder, adapter_name=name)
            except RuntimeError as error:
                if "size mismatch" not in str(error):
                    raise
                raise ValueError(
                    f"The adapter {name!r} does not fit {model.name_or_path!r}: its matrices have other sizes, so it "
                    "belongs to another model."
                ) from error
            check_adapter(adapted, name, folder)
    adapted.set_adapter(next(iter(folders)))
    return adapted.eval()


def read_adapter_config(adapter: str) -> "PeftConfig":
    """
    Read an adapter's configuration.

    Args:
        adapter (`str`): Folder or Hub id.

    Returns:
        `peft.PeftConfig`

    Raises:
        ValueError: If there is no adapter, or its configuration is damaged.
    """
    from peft import PeftConfig

    with faults_named(f"the adapter {adapter!r}"):
        try:
            config = PeftConfig.from_pretrained(adapter)
        except ValueError as error:
            raise ValueError(f"{adapter!r} holds no adapter: its adapter_config.json is missing or damaged.") from error
    base = config.base_model_name_or_path
    if base is not None and not isinstance(base, str):
        raise ValueError(f"`base_model_name_or_path` of the adapter {adapter!r} is {base!r}: it must name a model.")
    return config


def merge_adapter(model: TttForConditionalGeneration, folder: str | os.PathLike) -> TttForConditionalGeneration:
    """
    Write an adapter into the weights of its base.

    Args:
        model ([`TttForConditionalGeneration`]): The base, changed in place.
        folder (`str`): Folder or Hub id of the adapter.

    Returns:
        [`TttForConditionalGeneration`]: A plain model again, which needs no PEFT.
    """
    adapted = load_adapters(model, {"merged": folder})
    with torch.no_grad():
        return adapted.merge_and_unload(safe_merge=True)


def _token_tables(model: TttForConditionalGeneration) -> list[str]:
    """Name the modules that have a row for each token: the embedding, and the output projection unless it is tied."""
    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding).rpartition(".")[2]
    return [name] if model.lm_head.weight is embedding.weight else [name, "lm_head"]


def _target_modules(given: str) -> str | list[str]:
    return given if given == "all-linear" else [name.strip() for name in given.split(",")]


def _check_fits(model: TttForConditionalGeneration, name: str, folder: str) -> None:
    """Compare an adapter's embedding rows with the model's vocabulary: PEFT would fail obscurely, or not at all."""
    config = read_adapter_config(folder)
    base = config.base_model_name_or_path
    if base and PurePath(base).name != PurePath(model.name_or_path).name:  # the same folder has several paths
        logger.warning(
            "The adapter %r was trained from %r, and is used on %r: it fits only if these are the same weights.",
            name,
            base,
            model.name_or_path,
        )
    with faults_named(f"the adapter {name!r}"):
        _check_sizes(config, name, model.config.vocab_size)


def _check_sizes(config: "PeftConfig", name: str, vocab_size: int) -> None:
    for rank in (getattr(config, "r", 1), *(getattr(config, "rank_pattern", None) or {}).values()):
        if not isinstance(rank, int) or not 1 <= rank <= LARGEST_RANK:
            raise ValueError(f"The adapter {name!r} has the rank {rank!r}: it must be from 1 to {LARGEST_RANK}.")
    rows = getattr(config, "trainable_token_indices", None) or {}
    highest = max((max(ids) for ids in rows.values()), default=-1) if isinstance(rows, dict) else max(rows)
    if highest >= vocab_size:
        raise ValueError(
            f"The adapter {name!r} trains token {highest}, but the model has {vocab_size} tokens: it belongs to "
            "another model."
        )
