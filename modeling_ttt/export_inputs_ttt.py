"""
What an export is traced with, and compared by: one forward pass over cached positions; and what cannot be exported.

Depends on a model, and on the names of the runtimes' packages. Independent of formats.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from .masking_ttt import CACHE_NAME, has_windows
from .modeling_ttt import TttForConditionalGeneration

NUM_CACHED, NUM_QUERIES, NUM_SEQUENCES = 19, 12, 2
COMPARED = ((0, NUM_QUERIES), (NUM_CACHED, 1), (NUM_CACHED, NUM_QUERIES))  # cached positions and queries
PACKAGES = {  # of each runtime: the extra, and what it brings
    "onnx": ("edge", ("onnx", "onnx_ir", "onnxruntime", "onnxscript")),
    "openvino": ("openvino", ("openvino",)),
    "executorch": ("executorch", ("executorch",)),
}


def check_exportable(model: TttForConditionalGeneration, target: str) -> None:
    """
    Refuse what cannot be exported, before the work.

    Args:
        model ([`TttForConditionalGeneration`]): The model.
        target (`str`): The runtime, of `PACKAGES`.

    Raises:
        ImportError: A package of the runtime is missing.
        ValueError: The backbone has windows, or the model is not on a CPU.
    """
    if has_windows(model.config.text_config):
        raise ValueError("This backbone attends in windows, which the exported mask does not have: use PyTorch.")
    if model.device.type != "cpu":
        raise ValueError(f'The model is exported on a CPU, and is on {model.device}: `model.to("cpu")` moves it.')
    extra, packages = PACKAGES[target]
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f'The export for {target} needs {name}, which is not installed: pip install "text-to-talk[{extra}]".'
            )


@torch.no_grad()
def example_inputs(
    model: TttForConditionalGeneration,
    num_cached: int = NUM_CACHED,
    num_queries: int = NUM_QUERIES,
    num_sequences: int = NUM_SEQUENCES,
) -> dict[str, Any]:
    """
    Make the inputs of a forward pass: random text, then masks that see each other.

    Args:
        model ([`TttForConditionalGeneration`]): Gives keys and values for the cached positions.
        num_cached (`int`, *optional*, defaults to 19): Positions in the cache.
        num_queries (`int`, *optional*, defaults to 12): Positions of the forward pass.
        num_sequences (`int`, *optional*, defaults to 2): Sequences; all but the first end in two positions of padding.

    Returns:
        `dict`: `input_ids` and `position_ids` `(sequences, queries)`, `attention_mask` `(sequences, 1, queries, keys)`,
        the cache, and `use_cache`.
    """
    generator = torch.Generator().manual_seed(0)
    markers = model.config.markers()
    shape = (num_sequences, num_queries)
    ids = torch.randint(0, markers.audio_token_start_id, shape, generator=generator)
    num_masks = num_queries // 2
    ids[:, num_queries - num_masks :] = markers.mask_token_id
    keys = torch.arange(num_cached + num_queries)
    queries = keys[num_cached:, None]
    sees = (keys <= queries) | ((queries >= len(keys) - num_masks) & (keys >= len(keys) - num_masks))
    sees = sees.expand(num_sequences, 1, -1, -1).clone()
    if num_queries > 2:
        sees[1:, :, -2:] = False  # padding
        sees[1:, :, :, -2:] = False
    cache = DynamicCache()
    if num_cached:
        prompt = torch.randint(0, markers.audio_token_start_id, (num_sequences, num_cached), generator=generator)
        model(input_ids=prompt, **{CACHE_NAME: cache}, use_cache=True)
    positions = torch.arange(num_cached, num_cached + num_queries).repeat(num_sequences, 1)
    return {"input_ids": ids, "attention_mask": sees, "position_ids": positions, CACHE_NAME: cache, "use_cache": True}


def dynamic_shapes(
    model: TttForConditionalGeneration, max_queries: int | None = None, max_cached: int | None = None
) -> dict[str, Any]:
    """
    Mark sequences, queries and keys as dynamic, among the inputs of `example_inputs`.

    Args:
        model ([`TttForConditionalGeneration`]): The model.
        max_queries, max_cached (`int`, *optional*): For runtimes that plan their memory ahead: bounds, of one sequence.

    Returns:
        `dict`: For the exporters of transformers.
    """
    queries = cached = keys = torch.export.Dim.AUTO
    if max_queries is not None and max_cached is not None:
        bounds = (max_queries, max_cached, max_queries + max_cached)
        queries, cached, keys = (torch.export.Dim.AUTO(min=1, max=bound) for bound in bounds)
    sequences = {} if max_queries is not None else {0: torch.export.Dim.AUTO}
    ids = sequences | {1: queries}
    return {
        "input_ids": ids,
        "attention_mask": sequences | {2: queries, 3: keys},
        "position_ids": ids,
        CACHE_NAME: [sequences | {2: cached}] * 2 * model.config.text_config.num_hidden_layers,
    }


@torch.no_grad()
def compare(
    model: TttForConditionalGeneration, engine: Callable[..., Any], num_sequences: int = NUM_SEQUENCES
) -> dict[str, float]:
    """
    Compare the logits of two models: of a batch without a cache, and of a text token id and a block behind it.

    Args:
        model ([`TttForConditionalGeneration`]): On PyTorch.
        engine (`Callable`): The same model elsewhere; its output has `logits`.
        num_sequences (`int`, *optional*, defaults to 2): Size of the batch.

    Returns:
        `dict`: `max_difference` of logits, and `equal_best_ids`, the share of positions with the same best id.
    """
    differences, equal = [], []
    for num_cached, num_queries in COMPARED:
        inputs = example_inputs(model, num_cached, num_queries, num_sequences)
        expected, logits = (one(**inputs | {CACHE_NAME: _copy(inputs[CACHE_NAME])}).logits for one in (model, engine))
        is_real = inputs["attention_mask"].any(-1)[:, 0]
        differences.append((expected - logits)[is_real].abs().max())
        equal.append((expected.argmax(-1) == logits.argmax(-1))[is_real].float())
    return {
        "max_difference": float(torch.stack(differences).max()),
        "equal_best_ids": round(float(torch.cat(equal).mean()), 4),
    }


def _copy(cache: DynamicCache) -> DynamicCache:
    copied = DynamicCache()
    for number, layer in enumerate(cache.layers):
        copied.update(layer.keys.clone(), layer.values.clone(), number)
    return copied
