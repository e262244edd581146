"""
One denoising step on the blocks of all rows that speak: from their logits to revealed ids.

Knows rows, ids and the rules of `samplers_ttt.py`, and which options choose them. Knows no model and no cache.
"""

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from .rows_ttt import DecodingRow
from .samplers_ttt import (
    REMASKING_RULES,
    Draft,
    FixedSchedule,
    Generators,
    acceptance_rule,
    audio_warpers,
    is_settled,
    propose,
)


class BlockDenoiser:
    """
    Reveals masks.

    Args:
        config (`TttConfig`): Names mask and end markers.
        options (`GenerationConfig`): Checked options, see `generation_ttt.py`.
        audio_ids (`torch.LongTensor` of shape `(ids,)`): The eligible ids, in the order of the logits.
    """

    def __init__(self, config: Any, options: GenerationConfig, audio_ids: torch.Tensor):
        self.config = config
        self.audio_ids = audio_ids
        self.temperature = options.audio_temperature
        self.warpers = audio_warpers(options.audio_top_k, options.audio_top_p)
        self.rule = REMASKING_RULES[options.remasking]
        self.acceptance = acceptance_rule(options.confidence_threshold, options.entropy_bound)
        self.stops_early = options.block_early_stop

    def step(
        self,
        rows: list[DecodingRow],
        logits: torch.Tensor,
        generators: Generators,
        log_prior: torch.Tensor | None = None,
    ) -> None:
        """
        Reveal some masks of each row's block and note how sure the model was; where a block is finished, its schedule
        is empty afterwards.

        Args:
            rows (`list[DecodingRow]`): Rows with an open block.
            logits (`torch.FloatTensor` of shape `(rows, longest block, ids)`): Scores of the eligible ids.
            generators (`Sequence`): Source of randomness of each row.
            log_prior (`torch.FloatTensor` of shape `(rows, ids)`, *optional*): For rules that need it.
        """
        blocks = pad_sequence([row.buffer[row.length : row.end] for row in rows], batch_first=True, padding_value=-1)
        lengths = [row.block_length for row in rows]
        logits = logits.float()
        draft = Draft(
            is_masked=blocks == self.config.mask_token_id,
            proposed=propose(logits, lengths, self.temperature, generators, self.warpers),
            log_probs=logits.log_softmax(-1),
            lengths=lengths,
            generators=generators,
            log_prior=log_prior,
        )
        counts = torch.tensor([row.schedule.pop(0) for row in rows], device=blocks.device)
        revealed = self.acceptance(draft, self.rule(draft), counts)
        is_last_step = torch.tensor([not row.schedule for row in rows], device=blocks.device)
        revealed |= draft.is_masked & is_last_step[:, None]
        blocks = torch.where(revealed, self.audio_ids[draft.proposed], blocks)
        for row, block, confidence in zip(rows, blocks, draft.confidence, strict=True):
            row.buffer[row.length : row.end] = block[: row.block_length]
            row.confidence = confidence[: row.block_length]
        for row, is_finished in zip(rows, self._finished(blocks), strict=True):
            if is_finished:
                row.schedule.clear()

    def _finished(self, blocks: torch.Tensor) -> list[bool]:
        if self.stops_early:
            return is_settled(blocks, self.config.mask_token_id, self.config.end_of_span_token_ids).tolist()
        if isinstance(self.acceptance, FixedSchedule):
            return [False] * len(blocks)  # the schedule itself knows, and a GPU need not be waited for
        return (blocks != self.config.mask_token_id).all(-1).tolist()
