"""
What `generate` returns beside token ids.

Depends on nothing of the model. Independent of how it was decoded.
"""

from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput


class BatchCount(int):
    """A count of a whole batch: any of its sequences has the same, because pipelines index each field of an output."""

    def __getitem__(self, index: int) -> "BatchCount":
        return self


@dataclass
class TttGenerateOutput(ModelOutput):
    """
    Output of `generate(..., return_dict_in_generate=True)`.

    Args:
        sequences (`torch.LongTensor` of shape `(batch, length)`): Prompts and replies, right-padded.
        attention_mask (`torch.LongTensor` of shape `(batch, length)`): 1 where `sequences` is not padding.
        num_forwards (`int`): Forward passes of the model over the whole batch, prefill included.
        tokens_per_forward (`torch.FloatTensor` of shape `(batch,)`): New token ids of each sequence per forward pass
            until its end.
        cache (`Cache`, *optional*): Keys and values of the first columns of `sequences`, under the first columns of
            `attention_mask`: as many columns as are final in every sequence.
    """

    sequences: torch.Tensor
    attention_mask: torch.Tensor | None = None
    num_forwards: int | None = None
    tokens_per_forward: torch.Tensor | None = None
    cache: Cache | None = None

    @property
    def past_key_values(self) -> Cache | None:
        """The cache, by its name before transformers 5.24."""
        return self.cache


__all__ = ["BatchCount", "TttGenerateOutput"]
