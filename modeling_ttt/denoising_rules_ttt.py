"""
The rules of a denoising step: which positions of a block are revealed first, and how many of them at once.

Pure functions of a [`Proposal`]. Independent of how token ids are proposed, of models, caches and whole sequences.
CONTRIBUTING.md describes how to add a rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

Generators = Sequence[torch.Generator | None]  # one per sequence; `None` is torch's global generator


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Draw `shape` uniform numbers on the generator's device: a CPU generator gives the same ones on every device."""
    return torch.rand(shape, generator=generator, device=generator.device if generator is not None else device).to(
        device
    )


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


REMASKING_RULES: dict[str, RemaskingRule] = {
    "low_confidence": LowConfidence(),
    "random": RandomOrder(),
    "calibrated": Calibrated(),
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
