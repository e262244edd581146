"""
Keys and values of sequences that advance independently.

Depends on transformers' caches and on `masking_ttt`. Independent of token ids, weights and options: the decoder passes
the numbers of positions that are final.

A forward follows one protocol, `SequenceCache`, whatever the memory behind it:

    prepare(query) ─► mask ─► backbone(..., cache.cache) ─► keep(counts): what is not final is discarded

`DynamicSequenceCache` grows. All sequences share its slots: where one keeps less of a forward than another, its
slots stay unused, and the mask hides them. `StaticSequenceCache` has a slot for each position, so that shapes never
change and a compiled forward can be used again:

    dynamic   k k k k k k k            static   k k k k k k k . . .
              . k k . k k .                     k k k k . . . . . .
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, StaticLayer

from .masking_ttt import AttentionMask, modality_aware_mask, slot_mask


@dataclass(frozen=True)
class Query:
    """
    The positions that one forward computes; sequences are left-aligned and padded to the longest.

    Args:
        span_ids (`torch.LongTensor` of shape `(sequences, queries)`): Positions with equal numbers see each other; -1
            for text and padding.
        is_real (`torch.BoolTensor` of shape `(sequences, queries)`): False for padding.
        position_ids (`torch.LongTensor` of shape `(sequences, queries)`): Positions in the sequence, 0 for padding.
        cached_lengths (`torch.LongTensor` of shape `(sequences, 1)`): Positions of each sequence in the cache.
    """

    span_ids: torch.Tensor
    is_real: torch.Tensor
    position_ids: torch.Tensor
    cached_lengths: torch.Tensor


class SequenceCache(Protocol):
    """
    What the decoder needs of a cache.

    Attributes:
        cache (`Cache`, *optional*): As the backbone takes it; `None` decodes without a cache.
        can_select (`bool`): Whether finished sequences may leave.
    """

    @property
    def cache(self) -> Cache | None: ...  # noqa: D102 - above
    @property
    def can_select(self) -> bool: ...  # noqa: D102 - above

    def prefilled_lengths(self) -> list[int]:
        """Positions of each prompt that are in the cache before the first forward."""

    def num_columns(self, num_queries: int) -> int:
        """How many columns a forward of `num_queries` positions should have, padding included."""

    def prepare(self, query: Query, inputs_embeds: torch.Tensor) -> AttentionMask:
        """
        Prepare for forwards of a query, and give their attention mask.

        Args:
            query ([`Query`]): What is computed.
            inputs_embeds (`torch.FloatTensor` of shape `(sequences, queries, hidden_size)`): Its embeddings; only
                their shape, dtype and device count.

        Returns:
            What the backbone takes, see `AttentionMask`.
        """

    def keep(self, num_queries: int, counts: Sequence[int]) -> None:
        """
        Keep what is final of the last forward, and discard the rest.

        Args:
            num_queries (`int`): Columns of the forward.
            counts (`Sequence[int]`): How many of its first positions each sequence keeps.
        """

    def select(self, indices: Sequence[int]) -> None:
        """Remove all sequences but these."""

    def align(self, is_real: torch.Tensor, cached_lengths: Sequence[int]) -> DynamicCache | None:
        """
        Move keys and values to the columns of their token ids, up to the first column that is not cached in some
        sequence.

        Args:
            is_real (`torch.BoolTensor` of shape `(sequences, length)`): False where prompts and replies are padding.
            cached_lengths (`Sequence[int]`): Positions of each sequence in the cache.

        Returns:
            `DynamicCache`: A cache whose columns are the first ones of `is_real`; `None` if there is none.
        """


class BufferedLayer(DynamicLayer):
    """A `DynamicLayer` with spare capacity: new keys and values are written in place instead of concatenated."""

    keys: torch.Tensor
    values: torch.Tensor
    _key_buffer: torch.Tensor | None = None
    _value_buffer: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new states `(sequences, heads, queries, size)` after the old ones; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._key_buffer, self.keys = _append(self._key_buffer, self.keys, key_states)
        self._value_buffer, self.values = _append(self._value_buffer, self.values, value_states)
        return self.keys, self.values


def _append(buffer: torch.Tensor | None, states: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Write `new` after `states`, mostly a view of `buffer`'s first positions; return the buffer and a view of all."""
    length = states.shape[-2] if states.numel() else 0
    end = length + new.shape[-2]
    is_view = buffer is not None and states.data_ptr() == buffer.data_ptr() and len(buffer) == len(new)
    if buffer is None or not is_view or end > buffer.shape[-2]:
        with torch.inference_mode(False):  # the cache is used after decoding, too
            buffer = new.new_empty(*new.shape[:2], 2 * end, new.shape[-1])
        if length:
            buffer[:, :, :length] = states
    buffer[:, :, length:end] = new
    return buffer, buffer[:, :, :end]


class DynamicSequenceCache:
    """
    A [`SequenceCache`] that grows, or keeps nothing.

    Args:
        text_config (`PreTrainedConfig`): Configuration of the backbone.
        cache (`DynamicCache`, *optional*): Holds the first columns of the prompts already; `None` keeps nothing.
        is_real (`torch.BoolTensor` of shape `(sequences, prompt)`): False where the prompts are padding.

    Attributes:
        slots (`torch.BoolTensor` of shape `(sequences, slots)`): Which slots hold a key of the sequence.
    """

    can_select = True

    def __init__(self, text_config: PreTrainedConfig, cache: DynamicCache | None, is_real: torch.Tensor):
        self.text_config = text_config
        self.cache = cache
        self.slots = is_real[:, : cache.get_seq_length() if cache is not None else 0]

    def prefilled_lengths(self) -> list[int]:
        """Positions of each prompt that are in the cache before the first forward."""
        return self.slots.sum(-1).tolist()

    def num_columns(self, num_queries: int) -> int:
        """As many columns as positions."""
        return num_queries

    def prepare(self, query: Query, inputs_embeds: torch.Tensor) -> AttentionMask:
        """Give the attention mask of a query; see [`SequenceCache`]."""
        return modality_aware_mask(
            self.text_config,
            inputs_embeds,
            query.span_ids,
            torch.cat([self.slots, query.is_real], dim=1),
            self.cache,
        )

    def keep(self, num_queries: int, counts: Sequence[int]) -> None:
        """Crop the cache to the longest of `counts`, and mark the slots that are used; see [`SequenceCache`]."""
        if self.cache is None:
            return
        num_slots = max(counts)
        self.cache.crop(num_slots - num_queries)
        if num_slots:
            device = self.slots.device
            used = torch.arange(num_slots, device=device) < torch.tensor(counts, device=device)[:, None]
            self.slots = torch.cat([self.slots, used], dim=1)

    def select(self, indices: Sequence[int]) -> None:
        """Remove all sequences but these."""
        self.slots = self.slots[indices]
        if self.cache is not None and indices:
            self.cache.batch_select_indices(torch.tensor(indices, device=self.slots.device))

    def align(self, is_real: torch.Tensor, cached_lengths: Sequence[int]) -> DynamicCache | None:
        """Move keys and values to the columns of their token ids, in place; see [`SequenceCache`]."""
        if self.cache is None:
            return None
        width = _aligned_width(is_real, cached_lengths)
        source = torch.zeros(len(is_real), width, dtype=torch.long, device=is_real.device)
        for index, slots in enumerate(self.slots):
            columns = is_real[index, :width].nonzero()[:, 0]
            source[index, columns] = slots.nonzero()[: len(columns), 0]
        for layer in self.cache.layers:
            layer.keys = _gather_slots(layer.keys, source)
            layer.values = _gather_slots(layer.values, source)
        return self.cache


class _SlotLayer(StaticLayer):
    """A layer that writes to the slots `slot_ids` `(sequences, queries)`, which differ between sequences."""

    slot_ids: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        slot_ids = self.slot_ids[:, None, :, None]
        self.keys.scatter_(2, slot_ids.expand_as(key_states), key_states)
        self.values.scatter_(2, slot_ids.expand_as(value_states), value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return 0  # sequences differ; positions and masks come from the decoder


class StaticSequenceCache:
    """
    A [`SequenceCache`] of fixed shape, in which position i of a sequence has slot i.

    Sequences stay until the last one is finished: removing one would change the shape. Slots need no clearing between
    two batches, because none is seen before it is written.

    Args:
        text_config (`PreTrainedConfig`): Configuration of the backbone.
        num_sequences (`int`): Sequences of the batch.
        max_length (`int`): Positions that a sequence can reach, masks included.
        block_length (`int`): Forwards have 1 column, or 1 more than a multiple of this, so that few shapes are
            compiled.
    """

    can_select = False

    def __init__(self, text_config: PreTrainedConfig, num_sequences: int, max_length: int, block_length: int):
        self.text_config = text_config
        self.num_slots = max_length + 1  # padding is written to the last one
        num_layers = text_config.num_hidden_layers
        self.cache = Cache(layers=[_SlotLayer(max_cache_len=self.num_slots) for _ in range(num_layers)])
        self.shape = (num_sequences, max_length, block_length)

    def fits(
        self, num_sequences: int, max_length: int, block_length: int, device: torch.device, dtype: torch.dtype
    ) -> bool:
        """Whether the cache can be used again for such a batch."""
        layer = self.cache.layers[0]
        has_right_type = not layer.is_initialized or (layer.keys.device, layer.keys.dtype) == (device, dtype)
        return has_right_type and self.shape == (num_sequences, max_length, block_length)

    def prefilled_lengths(self) -> list[int]:
        """Nothing is in the cache before the first forward."""
        return [0] * self.shape[0]

    def num_columns(self, num_queries: int) -> int:
        """1 column, or 1 more than a multiple of the block length."""
        block_length = self.shape[2]
        return 1 + -(-(num_queries - 1) // block_length) * block_length

    def prepare(self, query: Query, inputs_embeds: torch.Tensor) -> AttentionMask:
        """Choose the slots that the next forwards write to, and give their attention mask; see [`SequenceCache`]."""
        slot_ids = query.cached_lengths + torch.arange(query.is_real.shape[1], device=query.is_real.device)
        for layer in self.cache.layers:
            layer.slot_ids = torch.where(query.is_real, slot_ids, self.num_slots - 1)
        return slot_mask(self.text_config, inputs_embeds, query.span_ids, query.cached_lengths, self.num_slots)

    def keep(self, num_queries: int, counts: Sequence[int]) -> None:
        """Do nothing: what is not final is overwritten by the next forward."""

    def select(self, indices: Sequence[int]) -> None:
        """Refuse: the shape is fixed."""
        raise NotImplementedError("A static cache keeps all sequences of its batch.")

    def align(self, is_real: torch.Tensor, cached_lengths: Sequence[int]) -> DynamicCache:
        """Copy keys and values to a cache that grows, under the columns of `is_real`; see [`SequenceCache`]."""
        width = _aligned_width(is_real, cached_lengths)
        source = (is_real.cumsum(-1) - 1)[:, :width].clamp(min=0)
        aligned = DynamicCache()
        for number, layer in enumerate(self.cache.layers if width else []):  # before a forward layers have no shape
            aligned.update(_gather_slots(layer.keys, source), _gather_slots(layer.values, source), number)
        return aligned


def _aligned_width(is_real: torch.Tensor, cached_lengths: Sequence[int]) -> int:
    """Columns before the first one whose token id is not cached."""
    ends = [row.nonzero()[count:, 0] for row, count in zip(is_real, cached_lengths, strict=True)]
    return min(int(columns[0]) if len(columns) else is_real.shape[1] for columns in ends)


def _gather_slots(states: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Take the `slots` `(sequences, columns)` of `states` `(sequences, heads, slots, size)`."""
    return states.gather(2, slots[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[-1]))


__all__ = ["BufferedLayer", "DynamicSequenceCache", "Query", "SequenceCache", "StaticSequenceCache"]
