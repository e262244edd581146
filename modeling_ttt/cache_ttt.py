"""
The keys and values of rows that advance on their own, and what their queries may see of them.

Knows transformers' caches, how many positions of each row are final, and which queries see each other. Knows no ids.

The slots of a `DynamicCache` are shared by all rows, so where a row keeps less of a forward than another, its slots
are holes, which the attention mask hides. A static cache, whose shapes never change so that a compiled forward can be
used again, has a slot for each position:

    RowCache         k k k k k k k            StaticRowCache   k k k k k k k . . .
                     . k k . k k .                             k k k k . . . . . .
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, StaticLayer
from transformers.masking_utils import create_masks_for_generate

# What transformers calls a cache among its arguments and outputs: up to 5.23 `past_key_values`. Ours take both names,
# always.
CACHE_NAME = "cache" if "cache" in inspect.signature(create_masks_for_generate).parameters else "past_key_values"


@dataclass
class Query:
    """
    What one forward runs, each `(rows, queries)`; rows are left-aligned and padded to the longest.

    Args:
        ids (`torch.LongTensor`): Token ids.
        is_real (`torch.BoolTensor`): Where the ids are not padding.
        position_ids (`torch.LongTensor`): Positions.
        is_apart (`torch.BoolTensor`, *optional*):
            A second copy of a row's block, which sees nothing but itself: the unconditional branch of guidance.
    """

    ids: torch.Tensor
    is_real: torch.Tensor
    position_ids: torch.Tensor
    is_apart: torch.Tensor | None = None


class RoomyLayer(DynamicLayer):
    """A `DynamicLayer` with spare capacity: new keys and values are written in place instead of concatenated."""

    keys: torch.Tensor
    values: torch.Tensor
    _key_memory: torch.Tensor | None = None
    _value_memory: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new states `(rows, heads, queries, size)` behind the old ones; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._key_memory, self.keys = _append(self._key_memory, self.keys, key_states)
        self._value_memory, self.values = _append(self._value_memory, self.values, value_states)
        return self.keys, self.values


def _append(memory: torch.Tensor | None, states: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put `new` behind `states`, mostly the first positions of `memory`; return the memory and all that is in it."""
    length = states.shape[-2] if states.numel() else 0
    end = length + new.shape[-2]
    lies_there = memory is not None and states.data_ptr() == memory.data_ptr() and len(memory) == len(new)
    if memory is None or not lies_there or end > memory.shape[-2]:
        with torch.inference_mode(False):  # the cache outlives decoding
            memory = new.new_empty(*new.shape[:2], 2 * end, new.shape[-1])
        if length:
            memory[:, :, :length] = states
    memory[:, :, length:end] = new
    return memory, memory[:, :, :end]


class RowCache:
    """
    A cache with holes, or none at all.

    Args:
        cache (`DynamicCache`, *optional*): Holds the first columns of the prompts already; `None` keeps nothing.
        is_real (`torch.BoolTensor` of shape `(rows, prompt)`): Where the prompts are not padding.

    Attributes:
        slots (`torch.BoolTensor` of shape `(rows, slots)`): Which slots hold a key of the row.
    """

    def __init__(self, cache: DynamicCache | None, is_real: torch.Tensor):
        self.cache = cache
        self.slots = is_real[:, : cache.get_seq_length() if cache is not None else 0]

    def num_committed(self) -> list[int]:
        """Positions of each row that are final."""
        return self.slots.sum(-1).tolist()

    def num_columns(self, num_queries: int) -> int:
        """How many columns a forward of so many queries should have."""
        return num_queries

    def attention_mask(self, model: PreTrainedModel, query: Query, inputs_embeds: torch.Tensor) -> Any:
        """
        Build the mask of a forward, as the backbone takes it.

        Args:
            model (`TttForConditionalGeneration`): Says which queries see each other whole.
            query (`Query`): What is run.
            inputs_embeds (`torch.FloatTensor` of shape `(rows, queries, hidden_size)`): Its embeddings.
        """
        return model.modality_aware_mask(
            inputs_embeds,
            _span_ids(model, query),
            torch.cat([self.slots, query.is_real], dim=1),
            self.cache,
            is_apart=query.is_apart,
        )

    def keep(self, num_queries: int, counts: list[int]) -> None:
        """
        Leave in the cache what is final of the last forward, and take the drafts back.

        Args:
            num_queries (`int`): Positions that the forward ran.
            counts (`list[int]`): How many of the first of them each row keeps.
        """
        if self.cache is None:
            return
        num_slots = max(counts)
        self.cache.crop(num_slots - num_queries)
        if not num_slots:
            return
        columns = torch.arange(num_slots, device=self.slots.device)
        self.slots = torch.cat([self.slots, columns < torch.tensor(counts, device=self.slots.device)[:, None]], dim=1)

    def select(self, rows: list[int]) -> None:
        """Let all but these rows leave."""
        self.slots = self.slots[rows]
        if self.cache is not None and rows:
            self.cache.batch_select_indices(torch.tensor(rows, device=self.slots.device))

    def align(self, is_real: torch.Tensor) -> DynamicCache | None:
        """
        Move every row's keys and values to the columns of its ids, and cut at the first column that is not final in
        some row.

        Args:
            is_real (`torch.BoolTensor` of shape `(rows, length)`): Where prompts and replies are not padding.

        Returns:
            `DynamicCache`: The cache, its columns those of `is_real`.
        """
        if self.cache is None:
            return None
        open_columns = [row.nonzero()[count:, 0] for row, count in zip(is_real, self.num_committed(), strict=True)]
        width = min(int(columns[0]) if len(columns) else is_real.shape[1] for columns in open_columns)
        source = torch.zeros(len(is_real), width, dtype=torch.long, device=is_real.device)
        for row, slots in enumerate(self.slots):
            columns = is_real[row, :width].nonzero()[:, 0]
            source[row, columns] = slots.nonzero()[: len(columns), 0]
        for layer in self.cache.layers:
            index = source[:, None, :, None].expand(-1, layer.keys.shape[1], -1, -1)
            layer.keys = layer.keys.gather(2, index.expand(-1, -1, -1, layer.keys.shape[-1]))
            layer.values = layer.values.gather(2, index.expand(-1, -1, -1, layer.values.shape[-1]))
        return self.cache


class _SlotLayer(StaticLayer):
    """Keys and values at the slots named by `slot_ids` `(rows, queries)`, not behind those of the last forward."""

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
        return 0  # rows differ; positions and masks come from outside


class StaticRowCache:
    """
    A cache of fixed shape, in which position i of a row lies in slot i.

    Rows stay until the last one ends: leaving would change the shape.

    Args:
        num_layers (`int`): Layers of the backbone.
        num_rows (`int`): Rows of the batch.
        max_length (`int`): Positions that a row can reach, drafts and copies included.
        block_length (`int`): Forwards have 1 column, or 1 more than a multiple of this, so that few shapes are
            compiled.
    """

    def __init__(self, num_layers: int, num_rows: int, max_length: int, block_length: int):
        self.cache = Cache(layers=[_SlotLayer(max_cache_len=max_length + 1) for _ in range(num_layers)])
        self.max_length = max_length  # the slot behind it takes what padding writes
        self.block_length = block_length
        self.committed = [0] * num_rows

    def fits(self, num_rows: int, max_length: int, block_length: int, model: PreTrainedModel) -> bool:
        """Say whether the cache can be used again for such a batch."""
        layer = self.cache.layers[0]
        shapes_fit = (len(self.committed), self.max_length, self.block_length) == (num_rows, max_length, block_length)
        return shapes_fit and (
            not layer.is_initialized or (layer.keys.device, layer.keys.dtype) == (model.execution_device, model.dtype)
        )

    def clear(self) -> None:
        """Forget all rows. What lies in the slots is not seen before it is overwritten."""
        self.committed = [0] * len(self.committed)

    def num_committed(self) -> list[int]:
        """Positions of each row that are final."""
        return self.committed

    def num_columns(self, num_queries: int) -> int:
        """How many columns a forward of so many queries should have."""
        return 1 + -(-(num_queries - 1) // self.block_length) * self.block_length

    def attention_mask(self, model: PreTrainedModel, query: Query, inputs_embeds: torch.Tensor) -> Any:
        """Build the mask of a forward, and set the slots of its keys and values; see `RowCache.attention_mask`."""
        committed = torch.tensor(self.committed, device=query.ids.device)[:, None]
        slots = torch.arange(self.max_length + 1, device=query.ids.device)
        query_slots = committed + torch.arange(query.ids.shape[1], device=query.ids.device)
        for layer in self.cache.layers:
            layer.slot_ids = torch.where(query.is_real, query_slots, self.max_length)

        span_ids = _span_ids(model, query)
        columns = slots - committed  # (rows, slots): which query wrote the slot
        is_written_now = (columns >= 0) & (columns < query.ids.shape[1])
        written = span_ids.gather(1, columns.clamp(0, query.ids.shape[1] - 1)).masked_fill(~is_written_now, -1)
        sees_span = (span_ids[:, :, None] >= 0) & (span_ids[:, :, None] == written[:, None])
        sees_before = slots <= query_slots[:, :, None]
        if query.is_apart is not None:
            sees_before &= ~query.is_apart[:, :, None]
        mask = (sees_before | sees_span)[:, None]  # (rows, 1, queries, slots)
        if model.config.text_config._attn_implementation == "eager":
            mask = torch.zeros_like(mask, dtype=inputs_embeds.dtype).masked_fill(
                ~mask, torch.finfo(inputs_embeds.dtype).min
            )
        return model.modality_aware_mask(inputs_embeds, span_ids, mask)

    def keep(self, num_queries: int, counts: list[int]) -> None:
        """Count what is final of the last forward; drafts are overwritten by the next one."""
        self.committed = [before + count for before, count in zip(self.committed, counts, strict=True)]

    def align(self, is_real: torch.Tensor) -> DynamicCache:
        """Give a cache that grows, its columns those of `is_real`; see `RowCache.align`."""
        slots = is_real.cumsum(-1) - 1
        width = min(int((row < count).sum()) for row, count in zip(slots, self.committed, strict=True))
        index = slots[:, None, :width, None].clamp(min=0)
        aligned = DynamicCache()
        # layers know no shapes before their first forward
        for number, layer in enumerate(self.cache.layers if width else []):
            shape = (-1, layer.num_heads, -1)
            keys = layer.keys.gather(2, index.expand(*shape, layer.keys.shape[-1]))
            values = layer.values.gather(2, index.expand(*shape, layer.values.shape[-1]))
            aligned.update(keys, values, number)
        return aligned


def has_windows(config: Any) -> bool:
    """Say whether a backbone attends in windows, which count slots of the cache and not positions of a row."""
    layer_types = getattr(config, "layer_types", None)
    if layer_types is not None:
        return set(layer_types) != {"full_attention"}
    return any(getattr(config, name, None) is not None for name in ("sliding_window", "attention_chunk_size"))


def _span_ids(model: PreTrainedModel, query: Query) -> torch.Tensor:
    span_ids = model.attention_span_ids(query.ids).masked_fill(~query.is_real, -1)
    if query.is_apart is None:
        return span_ids
    return span_ids.masked_fill(query.is_apart, query.ids.shape[1] ** 2)  # the copy of a block is a span of its own
