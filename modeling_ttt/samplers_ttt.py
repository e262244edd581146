"""
Denoising one block: which ids to propose, which positions to reveal first, how many in a step, and when to stop.

Pure functions of logits: they know neither a model nor a sequence, and are tested on hand-made logits.

    logits ─► propose ─► Draft ─► remasking rule: priorities ─► acceptance: revealed positions
           ─► is_settled: stop early?

To add a rule of order, write one class from a `Draft` to priorities and name it in `REMASKING_RULES`; to add a rule
of number, one class from a `Draft` and its priorities to revealed positions, and choose it in `acceptance_rule`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from transformers.generation import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

Generators = Sequence[torch.Generator | None]  # one per row; `None` is torch's global generator

# ------------------------------------------------------------------------------------------------------------ schedules


def reveal_schedule(num_masks: int, num_steps: int, shape: str = "linear") -> list[int]:
    """
    Spread the positions of a block over its denoising steps.

    Args:
        num_masks (`int`): Positions to reveal.
        num_steps (`int`): Denoising steps; more steps than positions count as one per position.
        shape (`str`, *optional*, defaults to `"linear"`): `"linear"`, as evenly as integers allow, the larger shares
            first (paper, section 3.4), or `"cosine"`, few at first and many at last (MaskGIT, arXiv 2202.04200): the
            first choices are made with the least context.

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


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
    """
    Push logits away from what the model says without its context: `u + (scale + 1)(c - u)`, so that 0 changes nothing.

    Args:
        conditional (`torch.FloatTensor`): Logits of the block in its sequence, c.
        unconditional (`torch.FloatTensor`): Logits of the block alone, u; same shape.
        scale (`float`): The paper's guidance scale (0.1 there).

    Returns:
        `torch.FloatTensor`: Guided logits.
    """
    return unconditional + (scale + 1) * (conditional - unconditional)


def audio_warpers(top_k: int | None, top_p: float | None) -> LogitsProcessorList:
    """Give what narrows the ids a draw may choose from: transformers' own top-k and top-p."""
    warpers = LogitsProcessorList()
    if top_k is not None:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p is not None:
        warpers.append(TopPLogitsWarper(top_p))
    return warpers


@dataclass
class Draft:
    """
    What a denoising step knows when it decides what to reveal. Rows are padded to the longest block.

    Args:
        is_masked (`torch.BoolTensor` of shape `(rows, block)`): The positions that may still be revealed.
        proposed (`torch.LongTensor` of shape `(rows, block)`): The id each position would take, as a column of
            `log_probs`.
        log_probs (`torch.FloatTensor` of shape `(rows, block, ids)`): Of all eligible ids, without temperature or
            noise.
        lengths (`Sequence[int]`): True block length of each row.
        generators (`Sequence`): Source of randomness of each row.
        log_prior (`torch.FloatTensor` of shape `(rows, ids)`, *optional*): How likely each id is where nothing is
            known of it.
    """

    is_masked: torch.Tensor
    proposed: torch.Tensor
    log_probs: torch.Tensor
    lengths: Sequence[int]
    generators: Generators
    log_prior: torch.Tensor | None = None

    @cached_property
    def proposed_log_probs(self) -> torch.Tensor:
        """Log-probability of the proposed ids `(rows, block)`."""
        return self.log_probs.gather(-1, self.proposed[..., None])[..., 0]

    @cached_property
    def confidence(self) -> torch.Tensor:
        """Probability of the proposed ids `(rows, block)`."""
        return self.proposed_log_probs.exp()

    @cached_property
    def entropy(self) -> torch.Tensor:
        """Entropy of each position `(rows, block)`, in nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


def propose(
    logits: torch.Tensor,
    lengths: Sequence[int],
    temperature: float,
    generators: Generators,
    warpers: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """
    Propose an id for every position of every block.

    Args:
        logits (`torch.FloatTensor` of shape `(rows, block, ids)`): Scores of the eligible ids; rows are padded to the
            longest block.
        lengths (`Sequence[int]`): True block length of each row.
        temperature (`float`): 0 takes the best id; above, ids are drawn from the softmax at this temperature
            (Gumbel-max).
        generators (`Sequence`): Source of randomness of each row.
        warpers (`Callable`, *optional*): Narrows the scores `(positions, ids)` at the temperature, before an id is
            drawn.

    Returns:
        `torch.LongTensor` of shape `(rows, block)`: Columns of `logits`.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scores = logits.float() / temperature
    if warpers:
        scores = warpers(scores.new_zeros(0, dtype=torch.long), scores.flatten(0, 1)).view_as(scores)
    noisy = scores.clone()
    for row, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
        noise = uniform((length, logits.shape[-1]), generator, logits.device).clamp_min(torch.finfo(torch.float32).tiny)
        noisy[row, :length] -= torch.log(-torch.log(noise))
    return noisy.argmax(-1)


# --------------------------------------------------------------------------------------------- which positions go first


class RemaskingRule(Protocol):
    """From a draft to priorities `(rows, block)`; what has a higher one is revealed first."""

    needs_prior: bool

    def __call__(self, draft: Draft) -> torch.Tensor: ...


class LowConfidence:
    """Keep masked what the model is least sure of (paper, section 3.4): the most probable proposals go first."""

    needs_prior = False

    def __call__(self, draft: Draft) -> torch.Tensor:
        return draft.confidence


class RandomOrder:
    """Reveal in random order."""

    needs_prior = False

    def __call__(self, draft: Draft) -> torch.Tensor:
        priority = torch.zeros_like(draft.confidence)
        for row, (length, generator) in enumerate(zip(draft.lengths, draft.generators, strict=True)):
            priority[row, :length] = uniform((length,), generator, priority.device)
        return priority


class Calibrated:
    """
    First what the context makes likely, not what is likely anywhere: log-probability minus log prior of the proposed
    id.

    Top confidence alone favours the few frequent codes of speech (Chatterbox-Flash, arXiv 2605.30748).
    """

    needs_prior = True

    def __call__(self, draft: Draft) -> torch.Tensor:
        if draft.log_prior is None:
            raise ValueError("The calibrated rule needs the prior of the ids.")
        return draft.proposed_log_probs - draft.log_prior.gather(-1, draft.proposed)


class LowEntropy:
    """First the positions whose whole distribution is the most decided."""

    needs_prior = False

    def __call__(self, draft: Draft) -> torch.Tensor:
        return -draft.entropy


class WideMargin:
    """First the positions whose best id is furthest before its rival, in probability."""

    needs_prior = False

    def __call__(self, draft: Draft) -> torch.Tensor:
        best, second = draft.log_probs.topk(2, dim=-1).values.exp().unbind(-1)
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
    """From a draft, its priorities and the schedule's counts `(rows,)` to the positions to reveal `(rows, block)`."""

    def __call__(self, draft: Draft, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor: ...


class FixedSchedule:
    """Reveal as many as the schedule says."""

    def __call__(self, draft: Draft, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return choose_revealed(priority, draft.is_masked, counts)


@dataclass
class ConfidenceThreshold:
    """
    Reveal everything that is at least as probable as `threshold`, and the first by priority in any case (Fast-dLLM,
    arXiv 2505.22618).
    """

    threshold: float

    def __call__(self, draft: Draft, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        first = choose_revealed(priority, draft.is_masked, torch.ones_like(counts))
        return first | (draft.is_masked & (draft.confidence >= self.threshold))


@dataclass
class EntropyBound:
    """
    Reveal positions by priority as long as their entropies, but for the largest, sum to at most `bound` nats: what
    they may then have told each other (entropy-bounded unmasking, arXiv 2505.24857, which leaves the order open too).
    The first goes in any case.
    """

    bound: float

    def __call__(self, draft: Draft, priority: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        order = by_priority(priority, draft.is_masked)
        entropy = draft.entropy.masked_fill(~draft.is_masked, 0.0).gather(1, order)
        fits = entropy.cumsum(-1) - entropy.cummax(-1).values <= self.bound  # never falls: the fitting ones come first
        return draft.is_masked & torch.zeros_like(fits).scatter_(1, order, fits)


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
        priority (`torch.FloatTensor` of shape `(rows, block)`): Higher goes first; ties go to the lower position.
        is_masked (`torch.BoolTensor` of shape `(rows, block)`): The positions that may still be revealed.
        counts (`torch.LongTensor` of shape `(rows,)`): How many to reveal.

    Returns:
        `torch.BoolTensor` of shape `(rows, block)`.
    """
    rank = by_priority(priority, is_masked).argsort(dim=-1)
    return is_masked & (rank < counts[:, None])


def by_priority(priority: torch.Tensor, is_masked: torch.Tensor) -> torch.Tensor:
    """Order the positions `(rows, block)` of each row: higher priority first, ties left to right, unmasked last."""
    return priority.masked_fill(~is_masked, -torch.inf).argsort(dim=-1, descending=True, stable=True)


def is_settled(blocks: torch.Tensor, mask_token_id: int, end_token_ids: Sequence[int]) -> torch.Tensor:
    """
    Say which blocks cannot change any more where it counts: no mask is left, or none before the first end marker,
    behind which the block is cut.

    Args:
        blocks (`torch.LongTensor` of shape `(rows, block)`): Ids, masks included; padding counts as revealed.
        mask_token_id (`int`): The mask.
        end_token_ids (`Sequence[int]`): The end markers.

    Returns:
        `torch.BoolTensor` of shape `(rows,)`.
    """
    is_end = torch.isin(blocks, torch.tensor(list(end_token_ids), device=blocks.device))
    is_before_end = is_end.long().cumsum(-1) == 0
    return ~((blocks == mask_token_id) & is_before_end).any(-1)


# ----------------------------------------------------------------------------------------------------------------- text


def next_text_ids(scores: torch.Tensor, do_sample: bool, generators: Generators) -> torch.Tensor:
    """
    Choose the next text id of every row.

    Args:
        scores (`torch.FloatTensor` of shape `(rows, vocab_size)`): Processed scores; ids that are not eligible are
            -inf.
        do_sample (`bool`): Draw from the softmax instead of taking the best id.
        generators (`Sequence`): Source of randomness of each row.

    Returns:
        `torch.LongTensor` of shape `(rows,)`.
    """
    if not do_sample:
        return scores.argmax(-1)
    drawn = []
    for probs, generator in zip(scores.softmax(-1), generators, strict=True):
        drawn.append(torch.multinomial(probs.to(generator.device) if generator else probs, 1, generator=generator))
    return torch.cat(drawn).to(scores.device)
