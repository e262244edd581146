"""
Audio spans, and the modality-aware attention mask that follows from them.

Pure functions of token ids, span numbers and the backbone's configuration: the model, the objective and the decoder
all ask here. Independent of weights, caches' contents and the text of a token.

    token ids ─► attention_span_ids: -1 -1 0 0 0 -1 1 1 ─► modality_aware_mask: query i sees key j
                                                            if j <= i, or if both have the same number >= 0

Rows with copies of blocks, as the objective `two_stream` has them, get their mask from `copies_mask`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, create_masks_for_generate

# The name of a cache among the arguments and outputs of transformers' models: `past_key_values` up to 5.23. The
# classes of this package take and give both names.
CACHE_NAME = "cache" if "cache" in inspect.signature(create_masks_for_generate).parameters else "past_key_values"

# What a backbone takes as `attention_mask`: a tensor, a `BlockMask`, `None`, or a dict of these by layer type.
AttentionMask = Any
Index = int | torch.Tensor  # of transformers' mask functions


def audio_span_ids(
    input_ids: torch.Tensor, audio_token_start_id: int, sample_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Number the audio spans of each sequence.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids; an id >= `audio_token_start_id` is an
            audio position.
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
            Which sample of a packed row a position belongs to. A span never crosses the border of two samples.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: 0, 1, ... for the positions of the first, second, ... span,
        -1 for text. The numbers go on across packed samples, so they are unique in the packed row.
    """
    is_audio = input_ids >= audio_token_start_id
    continues = torch.zeros_like(is_audio)
    continues[:, 1:] = is_audio[:, :-1]
    if sample_ids is not None:
        continues[:, 1:] &= sample_ids[:, 1:] == sample_ids[:, :-1]
    opens = is_audio & ~continues
    return torch.where(is_audio, opens.cumsum(-1) - 1, -1)


def split_spans(span_ids: torch.Tensor, block_length: int) -> torch.Tensor:
    """
    Number the blocks of the spans instead of the spans, for block-causal attention.

    Args:
        span_ids (`torch.LongTensor` of shape `(batch, length)`): From `audio_span_ids`. Where a sequence begins inside
            a span, it begins with a block.
        block_length (`int`): Positions of a block, counted from the first position of the span.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: A number for each block, unique in the sequence; -1 for text.
    """
    length = span_ids.shape[-1]
    columns = torch.arange(length, device=span_ids.device)
    opens = torch.ones_like(span_ids, dtype=torch.bool)
    opens[:, 1:] = span_ids[:, 1:] != span_ids[:, :-1]
    first_columns = torch.where(opens, columns, 0).cummax(-1).values
    block_ids = span_ids * length + (columns - first_columns) // block_length
    return torch.where(span_ids >= 0, block_ids, -1)


def attention_span_ids(
    input_ids: torch.Tensor,
    audio_token_start_id: int,
    span_block_length: int | None = None,
    sample_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Number the positions that see each other in both directions: whole spans, or their blocks.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids.
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        span_block_length (`int`, *optional*): `config.span_block_length`: under block-causal attention, the
            positions of a block.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Samples of packed rows.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: Numbers unique in the sequence, -1 for text.
    """
    span_ids = audio_span_ids(input_ids, audio_token_start_id, sample_ids)
    return span_ids if span_block_length is None else split_spans(span_ids, span_block_length)


def samples_of(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """
    Give the sample ids `(batch, length)` of sequences of one sample each.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids.
        attention_mask (`torch.Tensor`, *optional*): 0 hides a position, if it is of shape `(batch, length)`.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: 0, and -1 for what is hidden.
    """
    if attention_mask is None or attention_mask.ndim != 2:
        return torch.zeros_like(input_ids)
    return attention_mask.long() - 1


def samples_by_positions(position_ids: torch.Tensor) -> torch.Tensor:
    """
    Number the samples of packed rows whose positions start again with each.

    Args:
        position_ids (`torch.LongTensor` of shape `(batch, length)`): Positions in the samples.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: 0, 1, ... in each row.
    """
    starts = torch.zeros_like(position_ids)
    starts[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
    return starts.cumsum(-1)


def positions_in_samples(sample_ids: torch.Tensor) -> torch.Tensor:
    """
    Count the positions of packed samples, each from 0.

    Args:
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): 0, 1, ... for the samples of a packed row, a
            negative number for padding.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: Position ids, by which the backbone keeps samples apart.
    """
    index = torch.arange(sample_ids.shape[1], device=sample_ids.device).expand_as(sample_ids)
    is_first = torch.ones_like(sample_ids, dtype=torch.bool)
    is_first[:, 1:] = sample_ids[:, 1:] != sample_ids[:, :-1]
    return index - torch.where(is_first, index, 0).cummax(-1).values


def modality_aware_mask(
    text_config: PreTrainedConfig,
    inputs_embeds: torch.Tensor,
    span_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    cache: Cache | None = None,
    position_ids: torch.Tensor | None = None,
) -> AttentionMask:
    """
    Build the mask in which query i sees key j if j <= i or both have the same span number (paper, section 3.2), by
    transformers' own masking utilities.

    Args:
        text_config (`PreTrainedConfig`): Configuration of the backbone, which names its attention implementation.
        inputs_embeds (`torch.FloatTensor` of shape `(batch, queries, hidden_size)`): Only its shape, dtype and device
            count.
        span_ids (`torch.LongTensor` of shape `(batch, queries)`): From `attention_span_ids`.
        attention_mask (`torch.Tensor` of shape `(batch, cached + queries)`, *optional*): 0 hides a position. A 4-D
            mask passes through.
        cache (`Cache`, *optional*): What the queries attend to besides themselves.
        position_ids (`torch.LongTensor` of shape `(batch, queries)`, *optional*): Where they start again at 0, a new
            packed sample begins.

    Returns:
        What the attention implementation takes, see `AttentionMask`.
    """
    num_cached = cache.get_seq_length() if cache is not None else 0
    if isinstance(num_cached, torch.Tensor):  # of a static cache; an export keeps any other length symbolic
        num_cached = int(num_cached)
    return create_masks_for_generate(
        config=text_config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        **{CACHE_NAME: cache},
        position_ids=position_ids,
        block_sequence_ids=F.pad(span_ids, (num_cached, 0), value=-1),
    )


def number_copies(sample_ids: torch.Tensor, copy_ids: torch.Tensor) -> torch.Tensor:
    """
    Number what follows each other in rows with copies (`two_streams_ttt`): clean sequences, copies and padding.

    Args:
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): Sample of each position, -1 for padding.
        copy_ids (`torch.LongTensor` of shape `(batch, length)`): 0 for a clean sequence, 1, 2, ... for its copies.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: 0, 0, ..., 1, 1, ... in each row. Used as sample ids they keep
        the spans of a copy apart from those beside it.
    """
    changes = torch.zeros_like(sample_ids)
    changes[:, 1:] = (sample_ids[:, 1:] != sample_ids[:, :-1]) | (copy_ids[:, 1:] != copy_ids[:, :-1])
    return changes.cumsum(-1)


def copies_mask(
    text_config: PreTrainedConfig,
    inputs_embeds: torch.Tensor,
    span_ids: torch.Tensor,
    position_ids: torch.Tensor,
    sample_ids: torch.Tensor,
    copy_ids: torch.Tensor,
) -> AttentionMask:
    """
    Build the mask of rows with copies. Clean sequences see what they see without copies. A copy sees the positions of
    its clean sequence before its own first one, and its own span. Nothing else sees a copy.

    Windows of the backbone are counted in positions, as in a sequence without copies. The mask is a function of
    indices for transformers' mask interface, so flex attention skips the blocks in which nothing is seen.

    Args:
        text_config (`PreTrainedConfig`): Configuration of the backbone, which names its attention implementation.
        inputs_embeds (`torch.FloatTensor` of shape `(batch, length, hidden_size)`): Only its shape, dtype and device
            count.
        span_ids (`torch.LongTensor` of shape `(batch, length)`): From `attention_span_ids`, with `number_copies` as
            sample ids.
        position_ids (`torch.LongTensor` of shape `(batch, length)`): Positions in the sample.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): Sample of each position, -1 for padding.
        copy_ids (`torch.LongTensor` of shape `(batch, length)`): 0 for a clean sequence, 1, 2, ... for its copies.

    Returns:
        What the attention implementation takes, see `AttentionMask`.
    """
    is_copy = copy_ids > 0
    first = position_ids - positions_in_samples(number_copies(sample_ids, copy_ids))
    context_length = torch.where(is_copy, first, position_ids + 1)
    batch, length = span_ids.shape

    def mask_for(is_near: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None) -> AttentionMask:
        def sees(batch: Index, head: Index, query: Index, key: Index) -> torch.Tensor:
            is_in_sample = (sample_ids[batch, query] == sample_ids[batch, key]) & ~is_copy[batch, key]
            is_before = is_in_sample & (position_ids[batch, key] < context_length[batch, query])
            if is_near is not None:
                is_before = is_before & is_near(position_ids[batch, query], position_ids[batch, key])
            is_own_span = (span_ids[batch, query] == span_ids[batch, key]) & (span_ids[batch, query] >= 0)
            return is_before | is_own_span

        return ALL_MASK_ATTENTION_FUNCTIONS[text_config._attn_implementation](
            batch_size=batch,
            q_length=length,
            kv_length=length,
            mask_function=sees,
            allow_is_causal_skip=False,
            dtype=inputs_embeds.dtype,
            config=text_config,
            device=inputs_embeds.device,
        )

    layer_types = getattr(text_config, "layer_types", None)
    if layer_types is not None:
        return {kind: mask_for(_window(text_config, kind)) for kind in set(layer_types)}
    if getattr(text_config, "sliding_window", None) is not None:
        return mask_for(_window(text_config, "sliding_attention"))
    is_chunked = getattr(text_config, "attention_chunk_size", None) is not None
    return mask_for(_window(text_config, "chunked_attention") if is_chunked else None)


def _window(
    text_config: PreTrainedConfig, layer_type: str
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """Give the rule by which a layer sees keys that are near its query, by their positions; `None` if it sees all."""
    if layer_type == "sliding_attention":
        return lambda query, key: query - key < text_config.sliding_window
    if layer_type == "chunked_attention":
        size = text_config.attention_chunk_size
        return lambda query, key: query // size == key // size
    return None


def slot_mask(
    text_config: PreTrainedConfig,
    inputs_embeds: torch.Tensor,
    span_ids: torch.Tensor,
    first_slots: torch.Tensor,
    num_slots: int,
) -> AttentionMask:
    """
    Build the same mask over a cache in which position i of a sequence has slot i.

    Args:
        text_config (`PreTrainedConfig`): Configuration of the backbone; eager and sdpa attention are supported.
        inputs_embeds (`torch.FloatTensor` of shape `(batch, queries, hidden_size)`): Only its shape, dtype and device
            count.
        span_ids (`torch.LongTensor` of shape `(batch, queries)`): From `attention_span_ids`.
        first_slots (`torch.LongTensor` of shape `(batch, 1)`): Slot of each sequence's first query.
        num_slots (`int`): Slots of the cache.

    Returns:
        What the attention implementation takes, see `AttentionMask`.
    """
    num_queries = span_ids.shape[1]
    slots = torch.arange(num_slots, device=span_ids.device)
    query_slots = first_slots + torch.arange(num_queries, device=span_ids.device)
    columns = slots - first_slots  # (batch, slots): which query is written to the slot
    is_written = (columns >= 0) & (columns < num_queries)
    slot_span_ids = span_ids.gather(1, columns.clamp(0, num_queries - 1)).masked_fill(~is_written, -1)
    sees_span = (span_ids[:, :, None] >= 0) & (span_ids[:, :, None] == slot_span_ids[:, None])
    sees_before = slots <= query_slots[:, :, None]
    mask = (sees_before | sees_span)[:, None]  # (batch, 1, queries, slots)
    if text_config._attn_implementation == "eager":
        lowest = torch.finfo(inputs_embeds.dtype).min
        mask = torch.zeros_like(mask, dtype=inputs_embeds.dtype).masked_fill(~mask, lowest)
    return modality_aware_mask(text_config, inputs_embeds, span_ids, mask)


def has_windows(text_config: PreTrainedConfig) -> bool:
    """Whether a backbone attends in windows, which count slots of the cache instead of positions of a sequence."""
    layer_types = getattr(text_config, "layer_types", None)
    if layer_types is not None:
        return set(layer_types) != {"full_attention"}
    return any(getattr(text_config, name, None) is not None for name in ("sliding_window", "attention_chunk_size"))


__all__ = [
    "CACHE_NAME",
    "attention_span_ids",
    "audio_span_ids",
    "copies_mask",
    "has_windows",
    "modality_aware_mask",
    "number_copies",
    "positions_in_samples",
    "samples_by_positions",
    "samples_of",
    "slot_mask",
    "split_spans",
]
