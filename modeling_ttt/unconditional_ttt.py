"""
What the model says of a block without its context: the unconditional branch of published guidance, and the prior of
the codes.

Knows the model and ids. Knows no cache: everything is masked or missing around the block, so nothing that was kept
can help.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence


class Unconditional:
    """
    Runs blocks apart from the sequences that are being decoded.

    Args:
        model (`TttForConditionalGeneration`): Scores ids.
        block_length (`int`): Masks from which the prior is taken.

    Attributes:
        num_forwards (`int`): Forward passes so far.
    """

    def __init__(self, model: Any, block_length: int):
        self.model = model
        self.block_length = block_length
        self.num_forwards = 0
        self.log_priors: dict[int, torch.Tensor] = {}  # by begin marker

    def masked_context(self, blocks: Sequence[torch.Tensor], num_before: Sequence[int]) -> list[torch.Tensor]:
        """
        Run blocks with everything before them masked, as published.

        Args:
            blocks (`Sequence[torch.LongTensor]`): Ids of each block `(block,)`.
            num_before (`Sequence[int]`): How many ids stand before each.

        Returns:
            `list[torch.FloatTensor]`: Hidden states of each block `(block, hidden)`.
        """
        mask_id = self.model.config.mask_token_id
        sequences = [
            torch.cat([block.new_full((before,), mask_id), block])
            for block, before in zip(blocks, num_before, strict=True)
        ]
        return [
            states[before : len(ids)]
            for states, before, ids in zip(self._forward(sequences), num_before, sequences, strict=True)
        ]

    def log_prior(self, begin_marker: int) -> torch.Tensor:
        """
        Score the ids where nothing is known, `(ids,)`: their mean probability in a block of masks behind a begin
        marker alone.

        It depends on nothing else, so one forward for each of the two markers is all it costs a whole `generate`.
        """
        if begin_marker not in self.log_priors:
            block = [self.model.config.mask_token_id] * self.block_length
            ids = torch.tensor([begin_marker, *block], device=self.model.execution_device)
            logits = self.model.audio_logits(self._forward([ids])[0][1:]).float()
            self.log_priors[begin_marker] = logits.log_softmax(-1).logsumexp(0) - math.log(len(block))
        return self.log_priors[begin_marker]

    def _forward(self, sequences: list[torch.Tensor]) -> torch.Tensor:
        """Run whole sequences of ids, `(sequences, longest, hidden)`."""
        ids = pad_sequence(sequences, batch_first=True)
        lengths = torch.tensor([len(sequence) for sequence in sequences], device=ids.device)[:, None]
        is_real = torch.arange(ids.shape[1], device=ids.device) < lengths
        inputs_embeds = self.model.get_input_embeddings()(ids)
        span_ids = self.model.attention_span_ids(ids).masked_fill(~is_real, -1)
        mask = self.model.modality_aware_mask(inputs_embeds, span_ids, is_real)
        self.num_forwards += 1
        return self.model.model(inputs_embeds=inputs_embeds, attention_mask=mask, use_cache=False).last_hidden_state
