"""
One denoising step: which codes to propose, which positions to reveal first, how many of them, and when to stop.

Pure functions of logits, tested on hand-made ones. Independent of models, caches and whole sequences.

    logits ─► propose ─► Proposal ─► remasking rule: priorities ─► acceptance rule: revealed positions
           ─► DenoisingOutput: the blocks, the confidence, which blocks are finished
CONTRIBUTING.md describes how to add a rule.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.generation import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

from .configuration_ttt import TttMarkers

Generators = Sequence[torch.Generator | None]  # one per sequence; `None` is torch's global generator

# ------------------------------------------------------------------------------------------------------------ schedules


def reveal_schedule(num_masks: int, num_steps: int, shape: str = "linear") -> list[int]:
    """
    Spread the positions of a block over its denoising steps.

    Args:
        num_masks (`int`): Positions to reveal.
        num_steps (`int`): Denoising steps; more steps than positions count as one per position.
        shape (`str`, *optional*, defaults to `"linear"`): `"linear"`, as evenly as integers allow, the larger shares
            first (paper, section 3.4), or `"cosine"`, few at first and many at last (MaskGIT, arXiv 2202.04200),
            because the first choices have the least context.

    Returns:
        `list[int]`: How many positions each step reveals, at least one each.
    """
    num_steps = min(num_steps, num_masks)
    if num_steps == 0:
        return []
    if shape == "cosine":
        revealed = [0]
        for step in range(1, num_steps + 1):
            wanted = num_masks - math.floor(num_masks * math.cos(math.pi / 2 * step / num_steps))
            revealed.append(min(max(wanted, revealed[-1] + 1), num_masks - (num_steps - step)))
        return [after - before for before, after in itertools.pairwise(revealed)]
    share, remainder = divmod(num_masks, num_steps)
    return [share + (step < remainder) for step in range(num_steps)]


REVEAL_SCHEDULES = ("linear", "cosine")

# ------------------------------------------------------------------------------------------------------------ proposals


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Draw `shape` uniform numbers on the generator's device: a CPU generator gives the same ones on every device."""
    return torch.rand(shape, generator=generator, device=generator.device if generator is not None else device).to(
        device
    )


def audio_warpers(top_k: int | None, top_p: float | None) -> LogitsProcessorList:
    """Restrict sampling to the most probable codes, by transformers' own top-k and top-p."""
    warpers = LogitsProcessorList()
    if top_k is not None:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p is not None:
        warpers.append(TopPLogitsWarper(top_p))
    return warpers


@dataclass
class Proposal:
    """
    What a denoising step decides by. Blocks are padded to the longest.

    Args:
        is_masked (`torch.BoolTensor` of shape `(sequences, block)`): The positions that may be revealed.
        proposed (`torch.LongTensor` of shape `(sequences, block)`): The token id that each position would get, as a
            column of `log_probs`.
        log_probs (`torch.FloatTensor` of shape `(sequences, block, ids)`): Log-probabilities of all eligible token
            ids, without temperature or noise.
        lengths (`Sequence[int]`): Length of each block without padding.
        generators (`Sequence`): Source of randomness of each sequence.
        log_prior (`torch.FloatTensor` of shape `(sequences, ids)`, *optional*): Log-probabilities of the token ids
            without context.
    """

    is_masked: torch.Tensor
    proposed: torch.Tensor
    log_probs: torch.Tensor
    lengths: Sequence[int]
    generators: Generators
    log_prior: torch.Tensor | None = None

    @cached_property
    def proposed_log_probs(self) -> torch.Tensor:
        """Log-probabilities of the proposed token ids `(sequences, block)`."""
        return self.log_probs.gather(-1, self.proposed[..., None])[..., 0]

    @cached_property
    def confidence(self) -> torch.Tensor:
        """Probabilities of the proposed token ids `(sequences, block)`."""
        return self.proposed_log_probs.exp()

    @cached_property
    def entropy(self) -> torch.Tensor:
        """Entropy of each position `(sequences, block)`, in nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


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


# --------------------------------------------------------------------------------------------- which positions go first


class RemaskingRule(Protocol):
    """From a proposal to priorities `(sequences, block)`; the positions with the highest are revealed first."""

    needs_prior: bool

    def __call__(self, proposal: Proposal) -> torch.Tensor: ...


class LowConfidence:
    """The most probable proposals first: those of low confidence are masked again (paper, section 3.4)."""

    needs_prior = False

    def __call__(self, proposal: Proposal) -> torch.Tensor:
        return proposal.confidence


class RandomOrder:
    """In random order."""

    needs_prior = False

    def __call__(self, proposal: Proposal) -> torch.Tensor:
        priority = torch.zeros_like(proposal.confidence)
        for index, (length, generator) in enumerate(zip(proposal.lengths, proposal.generators, strict=True)):
            priority[index, :length] = uniform((length,), generator, priority.device)
        return priority


class Calibrated:
    """
    The proposals first whose log-probability is the highest relative to the log prior of their code.

    Confidence alone favours the few frequent codes of speech (Chatterbox-Flash, arXiv 2605.30748).
    """

    needs_prior = True

    def __call__(self, proposal: Proposal) -> torch.Tensor:
        if proposal.log_prior is None:
            raise ValueError("The calibrated rule needs `log_prior`.")
        return proposal.proposed_log_probs - proposal.log_prior.gather(-1, proposal.proposed)


class LowEntropy:
    """The positions of lowest entropy first."""

    needs_prior = False

    def __call__(self, proposal: Proposal) -> torch.Tensor:
        return -proposal.entropy


class WideMargin:
    """The positions first whose best code is the furthest ahead of the second best, in probability."""

    needs_prior = False

    def __call__(self, proposal: Proposal) -> torch.Tensor:
        best, second = proposal.log_probs.topk(2, dim=-1).values.exp().unbind(-1)
        return best - second


REMASKING_RULES: dict[str, RemaskingRule] = {
    "low_confidence": LowConfidence(),
    "random": RandomOrder(),
    "calibrated": Calibrated(),
    "entropy": LowEntropy(),
    "margin": WideMargin(),
}

# --------------------------------------------------------------------------------------------------- how many in a step


class AcceptanceRule(Protocol):
    """From a proposal, its priorities and counts `(sequences,)` to the positions to reveal `(sequences, block)`."""

    def __call__(self, proposal: Proposal, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor: ...


class FixedSchedule:
    """Reveal as many positions as the schedule has for this step."""

    def __call__(self, proposal: Proposal, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return choose_revealed(priority, proposal.is_masked, counts)


@dataclass
class ConfidenceThreshold:
    """
    Reveal the positions whose proposal is at least as probable as `threshold`, and the first by priority in any case
    (Fast-dLLM, arXiv 2505.22618).
    """

    threshold: float

    def __call__(self, proposal: Proposal, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        first = choose_revealed(priority, proposal.is_masked, torch.ones_like(counts))
        return first | (proposal.is_masked & (proposal.confidence >= self.threshold))


@dataclass
class EntropyBound:
    """
    Reveal positions by priority while the sum of their entropies minus the largest stays within `bound` nats, and the
    first in any case. The sum bounds the mutual information that is lost (entropy-bounded unmasking, arXiv 2505.24857,
    which leaves the order open too).
    """

    bound: float

    def __call__(self, proposal: Proposal, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        order = by_priority(priority, proposal.is_masked)
        entropy = proposal.entropy.masked_fill(~proposal.is_masked, 0.0).gather(1, order)
        fits = entropy.cumsum(-1) - entropy.cummax(-1).values <= self.bound  # monotonic: a prefix fits
        return proposal.is_masked & torch.zeros_like(fits).scatter_(1, order, fits)


def acceptance_rule(confidence_threshold: float | None, entropy_bound: float | None) -> AcceptanceRule:
    """Choose how many positions a step reveals: by a threshold, by a bound, or else by the schedule."""
    if confidence_threshold is not None:
        return ConfidenceThreshold(confidence_threshold)
    if entropy_bound is not None:
        return EntropyBound(entropy_bound)
    return FixedSchedule()


def choose_revealed(priority: torch.Tensor, is_masked: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """
    Choose the positions that a step reveals.

    Args:
        priority (`torch.FloatTensor` of shape `(sequences, block)`): Highest first; ties go to the lower position.
        is_masked (`torch.BoolTensor` of shape `(sequences, block)`): The positions that may be revealed.
        counts (`torch.LongTensor` of shape `(sequences,)`): How many to reveal.

    Returns:
        `torch.BoolTensor` of shape `(sequences, block)`: The positions to reveal.
    """
    rank = by_priority(priority, is_masked).argsort(dim=-1)
    return is_masked & (rank < counts[:, None])


def by_priority(priority: torch.Tensor, is_masked: torch.Tensor) -> torch.Tensor:
    """
    Order the positions `(sequences, block)` of each block: highest priority first, ties left to right, unmasked last.
    """
    return priority.masked_fill(~is_masked, -torch.inf).argsort(dim=-1, descending=True, stable=True)


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
