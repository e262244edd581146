"""
One denoising step: which codes to propose, which positions to reveal by the rules in `denoising_rules_ttt`, and when to
stop; and the next token id of text.

Pure functions of logits. Independent of models, caches and whole sequences.

    logits ─► propose ─► Proposal ─► remasking rule: priorities ─► acceptance rule: revealed positions
           ─► DenoisingOutput: the blocks, the confidence, which blocks are finished
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.generation import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

from .configuration_ttt import TttMarkers
from .denoising_rules_ttt import (
    REMASKING_RULES,
    AcceptanceRule,
    FixedSchedule,
    Generators,
    Proposal,
    RemaskingRule,
    acceptance_rule,
    uniform,
)

# ------------------------------------------------------------------------------------------------------------ schedules


def reveal_schedule(num_masks: int, num_steps: int) -> list[int]:
    """
    Spread the positions of a block over its denoising steps, as evenly as integers allow, the larger shares first
    (paper, section 3.4).

    Args:
        num_masks (`int`): Positions to reveal.
        num_steps (`int`): Denoising steps; more steps than positions count as one per position.

    Returns:
        `list[int]`: How many positions each step reveals, at least one each.
    """
    num_steps = min(num_steps, num_masks)
    if num_steps == 0:
        return []
    share, remainder = divmod(num_masks, num_steps)
    return [share + (step < remainder) for step in range(num_steps)]


# ------------------------------------------------------------------------------------------------------------ proposals


def audio_warpers(top_k: int | None, top_p: float | None) -> LogitsProcessorList:
    """Restrict sampling to the most probable codes, by transformers' own top-k and top-p."""
    warpers = LogitsProcessorList()
    if top_k is not None:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p is not None:
        warpers.append(TopPLogitsWarper(top_p))
    return warpers


def propose(
    logits: torch.Tensor,
    lengths: Sequence[int],
    temperature: float,
    generators: Generators,
    warpers: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """
    Propose a token id for every position of every block.

    Args:
        logits (`torch.FloatTensor` of shape `(sequences, block, ids)`): Scores of the eligible token ids; blocks are
            padded to the longest.
        lengths (`Sequence[int]`): Length of each block without padding.
        temperature (`float`): 0 takes the most probable token id; above, they are drawn from the softmax at this
            temperature (Gumbel-max).
        generators (`Sequence`): Source of randomness of each sequence.
        warpers (`Callable`, *optional*): Restricts the scores `(positions, ids)`, after the temperature.

    Returns:
        `torch.LongTensor` of shape `(sequences, block)`: Columns of `logits`.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scores = logits.float() / temperature
    if warpers:
        scores = warpers(scores.new_zeros(0, dtype=torch.long), scores.flatten(0, 1)).view_as(scores)
    noisy = scores.clone()
    for index, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
        noise = uniform((length, logits.shape[-1]), generator, logits.device).clamp_min(torch.finfo(torch.float32).tiny)
        noisy[index, :length] -= torch.log(-torch.log(noise))
    return noisy.argmax(-1)


def is_settled(blocks: torch.Tensor, mask_token_id: int, end_token_ids: Sequence[int]) -> torch.Tensor:
    """
    Find the blocks without a mask before their first end marker: what follows it is cut.

    Args:
        blocks (`torch.LongTensor` of shape `(sequences, block)`): Token ids, masks included; padding counts as
            revealed.
        mask_token_id (`int`): The mask.
        end_token_ids (`Sequence[int]`): The end markers.

    Returns:
        `torch.BoolTensor` of shape `(sequences,)`: Whether the block is settled.
    """
    is_end = torch.isin(blocks, torch.tensor(list(end_token_ids), device=blocks.device))
    is_before_end = is_end.long().cumsum(-1) == 0
    return ~((blocks == mask_token_id) & is_before_end).any(-1)


# ------------------------------------------------------------------------------------------------------------- the step


@dataclass(frozen=True)
class DenoisingOutput:
    """
    Result of a denoising step. Blocks are padded to the longest.

    Args:
        blocks (`torch.LongTensor` of shape `(sequences, block)`): Token ids, remaining masks included; -1 for padding.
        confidence (`torch.FloatTensor` of shape `(sequences, block)`): Probability of each position's proposal.
        is_finished (`list[bool]`): Whether no further step can change what is kept of the block.
    """

    blocks: torch.Tensor
    confidence: torch.Tensor
    is_finished: list[bool]


@dataclass(frozen=True)
class DenoisingStep:
    """
    Reveals some masks of the blocks of several sequences.

    Args:
        markers ([`TttMarkers`]): The mask and the end markers.
        eligible_ids (`torch.LongTensor` of shape `(ids,)`): The token ids that may be revealed, in the order of the
            logits.
        rule (`RemaskingRule`): Which positions are revealed first.
        acceptance (`AcceptanceRule`): How many in a step.
        temperature (`float`): 0 takes the most probable codes; above, they are drawn.
        warpers (`Callable`): Restrict drawing, see `audio_warpers`.
        stops_early (`bool`): Whether a block is finished once it is settled, see `is_settled`.
    """

    markers: TttMarkers
    eligible_ids: torch.Tensor
    rule: RemaskingRule
    acceptance: AcceptanceRule
    temperature: float
    warpers: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    stops_early: bool

    @classmethod
    def from_options(
        cls, options: GenerationConfig, markers: TttMarkers, eligible_ids: torch.Tensor
    ) -> "DenoisingStep":
        """Choose the rules that checked options of `generate` name."""
        return cls(
            markers,
            eligible_ids,
            rule=REMASKING_RULES[options.remasking],
            acceptance=acceptance_rule(options.confidence_threshold, options.entropy_bound),
            temperature=options.audio_temperature,
            warpers=audio_warpers(options.audio_top_k, options.audio_top_p),
            stops_early=options.block_early_stop,
        )

    def step(
        self,
        logits: torch.Tensor,
        blocks: Sequence[torch.Tensor],
        counts: Sequence[int],
        generators: Generators,
        log_prior: torch.Tensor | None = None,
    ) -> DenoisingOutput:
        """
        Reveal some masks of each block.

        Args:
            logits (`torch.FloatTensor` of shape `(sequences, longest block, ids)`): Scores of the eligible token ids.
            blocks (`Sequence[torch.LongTensor]`): Token ids of each block `(block,)`, masks included.
            counts (`Sequence[int]`): Positions that the schedule reveals; the block's length in the last step, which
                reveals all masks under any rule.
            generators (`Sequence`): Source of randomness of each sequence.
            log_prior (`torch.FloatTensor` of shape `(sequences, ids)`, *optional*): For rules with `needs_prior`.

        Returns:
            [`DenoisingOutput`].
        """
        logits = logits.float()
        lengths = [len(block) for block in blocks]
        padded = pad_sequence(list(blocks), batch_first=True, padding_value=-1)
        proposal = Proposal(
            is_masked=padded == self.markers.mask_token_id,
            proposed=propose(logits, lengths, self.temperature, generators, self.warpers),
            log_probs=logits.log_softmax(-1),
            lengths=lengths,
            generators=generators,
            log_prior=log_prior,
        )
        is_last_step = [count >= length for count, length in zip(counts, lengths, strict=True)]
        device = padded.device
        revealed = self.acceptance(proposal, self.rule(proposal), torch.tensor(counts, device=device))
        revealed |= proposal.is_masked & torch.tensor(is_last_step, device=device)[:, None]
        padded = torch.where(revealed, self.eligible_ids[proposal.proposed], padded)
        return DenoisingOutput(padded, proposal.confidence, self._is_finished(padded, is_last_step))

    def _is_finished(self, blocks: torch.Tensor, is_last_step: list[bool]) -> list[bool]:
        if self.stops_early:
            return is_settled(blocks, self.markers.mask_token_id, self.markers.end_token_ids).tolist()
        if isinstance(self.acceptance, FixedSchedule):
            return is_last_step  # known without waiting for a GPU
        return (blocks != self.markers.mask_token_id).all(-1).tolist()


# ----------------------------------------------------------------------------------------------------------------- text


def next_text_ids(scores: torch.Tensor, do_sample: bool, generators: Generators) -> torch.Tensor:
    """
    Choose the next text token id of every sequence.

    Args:
        scores (`torch.FloatTensor` of shape `(sequences, vocab_size)`): Processed scores, -inf where not eligible.
        do_sample (`bool`): Draw from the softmax instead of taking the most probable token id.
        generators (`Sequence`): Source of randomness of each sequence.

    Returns:
        `torch.LongTensor` of shape `(sequences,)`: Token ids.
    """
    if not do_sample:
        return scores.argmax(-1)
    drawn = []
    for probs, generator in zip(scores.softmax(-1), generators, strict=True):
        drawn.append(torch.multinomial(probs.to(generator.device) if generator else probs, 1, generator=generator))
    return torch.cat(drawn).to(scores.device)
