"""
What the model predicts for a block without its context: for classifier-free guidance, and the prior of the codes.

Depends on the model, token ids and `masking_ttt`. Independent of the cache: everything around the block is masked or
missing, so nothing in the cache can be used.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .configuration_ttt import TttConfig
from .masking_ttt import attention_span_ids, modality_aware_mask


class ScoringModel(Protocol):
    """What decoding needs of [`TttForConditionalGeneration`]."""

    config: TttConfig
    model: PreTrainedModel  # the backbone

    @property
    def execution_device(self) -> torch.device: ...  # noqa: D102 - as there
    def get_input_embeddings(self) -> nn.Module: ...  # noqa: D102
    def text_logits(self, hidden_states: torch.Tensor) -> torch.Tensor: ...  # noqa: D102
    def audio_logits(self, hidden_states: torch.Tensor) -> torch.Tensor: ...  # noqa: D102
    def eligible_audio_ids(self) -> torch.Tensor: ...  # noqa: D102


class UnconditionalBranch:
    """
    Runs blocks apart from the sequences that are being decoded.

    Args:
        model (`TttForConditionalGeneration`): Scores token ids.
        block_length (`int`): Masks from which the prior is computed.

    Attributes:
        num_forwards (`int`): Forward passes so far.
    """

    def __init__(self, model: ScoringModel, block_length: int):
        self.model = model
        self.markers = model.config.markers()
        self.block_length = block_length
        self.num_forwards = 0
        self._log_priors: dict[int, torch.Tensor] = {}  # by begin marker

    def masked_context(self, blocks: Sequence[torch.Tensor], num_before: Sequence[int]) -> list[torch.Tensor]:
        """
        Run blocks with everything before them masked, as published.

        Args:
            blocks (`Sequence[torch.LongTensor]`): Token ids of each block `(block,)`.
            num_before (`Sequence[int]`): How many positions come before each block.

        Returns:
            `list[torch.FloatTensor]`: Hidden states of each block `(block, hidden)`.
        """
        sequences = [
            torch.cat([block.new_full((before,), self.markers.mask_token_id), block])
            for block, before in zip(blocks, num_before, strict=True)
        ]
        hidden_states = self._forward(sequences)
        return [
            states[before : len(token_ids)]
            for states, before, token_ids in zip(hidden_states, num_before, sequences, strict=True)
        ]

    def log_prior(self, begin_marker: int) -> torch.Tensor:
        """
        Score the eligible token ids without context: their mean probability in a block of masks after a begin marker.

        It depends on nothing else, so that a whole `generate` needs one forward for each begin marker in use.

        Args:
            begin_marker (`int`): Token id that opens the span.

        Returns:
            `torch.FloatTensor` of shape `(ids,)`: Log-probabilities.
        """
        if begin_marker not in self._log_priors:
            masks = [self.markers.mask_token_id] * self.block_length
            token_ids = torch.tensor([begin_marker, *masks], device=self.model.execution_device)
            logits = self.model.audio_logits(self._forward([token_ids])[0][1:]).float()
            self._log_priors[begin_marker] = logits.log_softmax(-1).logsumexp(0) - math.log(len(masks))
        return self._log_priors[begin_marker]

    def _forward(self, sequences: list[torch.Tensor]) -> torch.Tensor:
        """Run whole sequences of token ids, `(sequences, longest, hidden)`."""
        token_ids = pad_sequence(sequences, batch_first=True)
        lengths = torch.tensor([len(sequence) for sequence in sequences], device=token_ids.device)[:, None]
        is_real = torch.arange(token_ids.shape[1], device=token_ids.device) < lengths
        span_ids = attention_span_ids(
            token_ids, self.markers.audio_token_start_id, self.model.config.span_block_length
        ).masked_fill(~is_real, -1)
        backbone = self.model.model
        inputs_embeds = self.model.get_input_embeddings()(token_ids)
        mask = modality_aware_mask(backbone.config, inputs_embeds, span_ids, is_real)
        self.num_forwards += 1
        return backbone(inputs_embeds=inputs_embeds, attention_mask=mask, use_cache=False).last_hidden_state


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
    """
    Apply classifier-free guidance: `u + (scale + 1)(c - u)`, so that a scale of 0 changes nothing.

    Args:
        conditional (`torch.FloatTensor`): Logits of the block in its sequence, c.
        unconditional (`torch.FloatTensor` of the same shape): Logits of the block without its context, u.
        scale (`float`): 0.1 in the paper.

    Returns:
        `torch.FloatTensor` of the same shape: Guided logits.
    """
    return unconditional + (scale + 1) * (conditional - unconditional)


__all__ = ["ScoringModel", "UnconditionalBranch", "guide"]
