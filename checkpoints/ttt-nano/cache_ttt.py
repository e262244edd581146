"""
The keys and values of rows that advance on their own.

Knows transformers' cache and how many positions of each row are final. Knows no ids and no model.

The slots of a cache are shared by all rows, so where a row keeps less of a forward than another, its slots are holes, which the attention
mask hides:

    row 0   k k k k k k k .        a slot for each final position, in order
    row 1   . k k . k k . .        padding of the prompt; less text than row 0; less text again
"""

import torch
from transformers.cache_utils import DynamicCache


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
        columns = torch.arange(num_slots, device=self.slots.device)
        self.slots = torch.cat([self.slots, columns < torch.tensor(counts, device=self.slots.device)[:, None]], dim=1)

    def select(self, rows: list[int]) -> None:
        """Let all but these rows leave."""
        self.slots = self.slots[rows]
        if self.cache is not None and rows:
            self.cache.batch_select_indices(torch.tensor(rows, device=self.slots.device))

    def align(self, is_real: torch.Tensor) -> DynamicCache | None:
        """
        Move every row's keys and values to the columns of its ids, and cut at the first column that is not final in some row.

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
