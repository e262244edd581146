"""
Denoising one block: how many positions to reveal in a step, which ids to propose, which positions to reveal first.

Pure functions of logits: they know neither a model nor a sequence, and are tested on hand-made logits. To add a rule for which positions go
first, write one function from confidences to priorities and name it in `REMASKING_RULES`.
"""

from collections.abc import Callable, Sequence

import torch

Generators = Sequence[torch.Generator | None]  # one per row; `None` is torch's global generator


def reveal_schedule(num_masks: int, num_steps: int) -> list[int]:
    """
    Spread the positions of a block over its denoising steps as evenly as integers allow, the larger shares first (paper, section 3.4).

    Args:
        num_masks (`int`): Positions to reveal.
        num_steps (`int`): Denoising steps; more steps than positions count as one per position.

    Returns:
        `list[int]`: How many positions each step reveals.
    """
    num_steps = min(num_steps, num_masks)
    if num_steps == 0:
        return []
    share, remainder = divmod(num_masks, num_steps)
    return [share + (step < remainder) for step in range(num_steps)]


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Draw `shape` uniform numbers where the generator lives, so that a CPU generator gives the same numbers on every device."""
    return torch.rand(shape, generator=generator, device=generator.device if generator is not None else device).to(
        device
    )


def propose(
    logits: torch.Tensor, lengths: Sequence[int], temperature: float, generators: Generators
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Propose an id for every position of every block.

    Args:
        logits (`torch.FloatTensor` of shape `(rows, block, ids)`): Scores of the eligible ids; rows are padded to the longest block.
        lengths (`Sequence[int]`): True block length of each row.
        temperature (`float`): 0 takes the best id; above, ids are drawn from the softmax at this temperature (Gumbel-max).
        generators (`Sequence`): Source of randomness of each row.

    Returns:
        `tuple`: the proposed columns of `logits` `(rows, block)` and their confidence `(rows, block)`: their probability among the eligible
        ids, without temperature or noise.
    """
    logits = logits.float()
    scores = logits
    if temperature > 0:
        scores = logits / temperature
        for row, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
            noise = uniform((length, logits.shape[-1]), generator, logits.device).clamp_min(
                torch.finfo(torch.float32).tiny
            )
            scores[row, :length] -= torch.log(-torch.log(noise))
    proposed = scores.argmax(-1)
    confidence = logits.log_softmax(-1).gather(-1, proposed[..., None])[..., 0].exp()
    return proposed, confidence


def most_confident_first(confidence: torch.Tensor, lengths: Sequence[int], generators: Generators) -> torch.Tensor:
    """Give a position its confidence as priority `(rows, block)`: what the model is surest of is revealed first."""
    return confidence


def random_order(confidence: torch.Tensor, lengths: Sequence[int], generators: Generators) -> torch.Tensor:
    """Give a position a random priority `(rows, block)`."""
    priority = torch.zeros_like(confidence)
    for row, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
        priority[row, :length] = uniform((length,), generator, confidence.device)
    return priority


REMASKING_RULES: dict[str, Callable[[torch.Tensor, Sequence[int], Generators], torch.Tensor]] = {
    "low_confidence": most_confident_first,
    "random": random_order,
}


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
    order = priority.masked_fill(~is_masked, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    return is_masked & (rank < counts[:, None])


def next_text_ids(scores: torch.Tensor, do_sample: bool, generators: Generators) -> torch.Tensor:
    """
    Choose the next text id of every row.

    Args:
        scores (`torch.FloatTensor` of shape `(rows, vocab_size)`): Processed scores; ids that are not eligible are -inf.
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
