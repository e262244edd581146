"""
The rows of the objective `two_stream`: the clean sequence, and copies of its audio blocks as decoding sees them.

    clean    t t t B c c c c c c e t t        text is learnt here, after clean audio
    copy 1         . c M c M                  block 0 of the span, of 4
    copy 2         . c c c c M c M e          block 1, filled behind the end of the span with its end marker

A copy sees the clean sequence before its span, and itself in both directions; nothing sees a copy (`copies_mask` in
`masking_ttt`). Its positions are those of the originals. It holds the span up to the end of one block, of which some
positions are masked and learnt: so the block sees exactly what it sees in a denoising step. Under block-causal
attention a copy is the block alone, because the blocks before it are final and so the same as in the clean sequence.

Pure functions of token ids and labels. Independent of weights, batches and attention implementations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from .configuration_ttt import TttConfig
from .objective_ttt import IGNORE_INDEX, Targets, find_targets

MIN_COPY_MASK_PROB = 0.02
_PADDING = {"input_ids": 0, "labels": IGNORE_INDEX, "position_ids": 0, "sample_ids": -1, "copy_ids": 0}


@dataclass(frozen=True)
class CopyRule:
    """
    What decides the copies of a sequence.

    Args:
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        mask_token_id (`int`): The mask.
        end_token_ids (`tuple[int, int]`): The two audio token ids that close a span.
        block_length (`int`): Masks of a block in decoding.
        is_block_causal (`bool`, *optional*, defaults to `False`): Whether a block sees only the blocks before it.
    """

    audio_token_start_id: int
    mask_token_id: int
    end_token_ids: tuple[int, int]
    block_length: int
    is_block_causal: bool = False

    @classmethod
    def from_config(cls, config: TttConfig, block_length: int) -> "CopyRule":
        """Give the rule of a model that decodes blocks of this length; a `ValueError` names missing markers."""
        markers = config.markers()
        return cls(
            markers.audio_token_start_id,
            markers.mask_token_id,
            markers.end_token_ids,
            config.span_block_length or block_length,
            is_block_causal=config.span_block_length is not None,
        )

    def fill(self, span: Sequence[int]) -> list[int]:
        """Repeat the end marker of a span until its last block is whole; a span without end marker stays as it is."""
        is_closed = span[-1] in self.end_token_ids
        return [*span, *[span[-1]] * (-len(span) % self.block_length if is_closed else 0)]


@dataclass
class Copies:
    """
    The copies of one sequence, one after the other: a value for each of their positions.

    Args:
        input_ids (`list[int]`): Token ids, some of each copy's last block masked.
        labels (`list[int]`): Clean token ids at the masks, -100 elsewhere.
        position_ids (`list[int]`): Positions of the originals in the sequence.
        copy_ids (`list[int]`): 1, 1, ..., 2, 2, ...: which copy the position belongs to.
    """

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    position_ids: list[int] = field(default_factory=list)
    copy_ids: list[int] = field(default_factory=list)


def draw_copies(
    input_ids: Sequence[int],
    labels: Sequence[int],
    rule: CopyRule,
    generator: torch.Generator,
    room: int | None = None,
) -> Copies:
    """
    Draw the copies of one sequence.

    Under block-causal attention every block is copied. Otherwise either the last block of a span is copied, or two
    others that are together as long: so each block is copied equally often, and the copies of a span always have as
    many positions as the span filled to whole blocks.

    The probabilities p of masking a position are spread evenly over the copies: one in each of as many equal parts of
    (0.02, 1) as there are copies. Each copy has a mask.

    Args:
        input_ids (`Sequence[int]`): Clean token ids.
        labels (`Sequence[int]`): -100 where nothing is learnt; copied are spans with labels.
        rule ([`CopyRule`]): Markers and blocks.
        generator (`torch.Generator`): Source of all randomness, on the CPU.
        room (`int`, *optional*): So many positions at most: the copies of some random spans are left out, but for
            single random blocks that fit.

    Returns:
        [`Copies`].
    """
    blocks = []
    for start, stop, chosen in _spans_with_room(input_ids, labels, rule, generator, room):
        span = rule.fill(input_ids[start:stop])
        if chosen is None:
            draw = torch.rand((), generator=generator).item()
            chosen = _blocks_to_copy(_num_blocks(stop - start, rule), rule.is_block_causal, draw)
        blocks += [(start, span, block) for block in chosen]
    probs = spread_mask_probs(len(blocks), generator).tolist()
    noise = torch.rand(len(blocks), rule.block_length, generator=generator).tolist()
    copies = Copies()
    for number, ((start, span, block), prob, draws) in enumerate(zip(blocks, probs, noise, strict=True), 1):
        first = block * rule.block_length
        begin = first if rule.is_block_causal else 0
        context, target = span[begin:first], span[first : first + rule.block_length]
        threshold = max(prob, min(draws[: len(target)]))  # the least draw is a mask in any case
        is_masked = [draw <= threshold for draw in draws[: len(target)]]
        copies.input_ids += context
        copies.input_ids += [rule.mask_token_id if m else i for i, m in zip(target, is_masked, strict=True)]
        copies.labels += [IGNORE_INDEX] * len(context)
        copies.labels += [i if m else IGNORE_INDEX for i, m in zip(target, is_masked, strict=True)]
        copies.position_ids += range(start + begin, start + first + len(target))
        copies.copy_ids += [number] * (len(context) + len(target))
    return copies


def copies_length(input_ids: Sequence[int], labels: Sequence[int], rule: CopyRule) -> int:
    """
    Count the positions of a sequence's copies: the same in every draw, and at most as many where a span lacks its end.

    Args:
        input_ids (`Sequence[int]`): Clean token ids.
        labels (`Sequence[int]`): -100 where nothing is learnt.
        rule ([`CopyRule`]): Markers and blocks.

    Returns:
        `int`: As many as the spans have that are learnt, each filled to whole blocks.
    """
    spans = _learnt_spans(input_ids, labels, rule.audio_token_start_id)
    return sum(_filled_length(stop - start, rule) for start, stop in spans)


def spread_mask_probs(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw `count` probabilities, one in each of as many equal parts of (0.02, 1), in random order."""
    order = torch.randperm(count, generator=generator)
    levels = (order + torch.rand(count, generator=generator)) / max(count, 1)
    return MIN_COPY_MASK_PROB + (1 - MIN_COPY_MASK_PROB) * levels


@dataclass
class TwoStreams:
    """
    Rows with their copies behind them, as the model takes them.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length + copies)`): Clean token ids, then copies, then padding.
        labels (`torch.LongTensor` of shape `(batch, length + copies)`): -100 where nothing is learnt.
        position_ids (`torch.LongTensor` of shape `(batch, length + copies)`): Positions in the sample.
        sample_ids (`torch.LongTensor` of shape `(batch, length + copies)`): Sample of the row, -1 for padding.
        copy_ids (`torch.LongTensor` of shape `(batch, length + copies)`): 0 for the clean sequence, then 1, 2, ...
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    sample_ids: torch.Tensor
    copy_ids: torch.Tensor


def append_copies(
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    sample_ids: torch.Tensor,
    position_ids: torch.Tensor,
    rule: CopyRule,
    seeds: Sequence[int],
) -> TwoStreams:
    """
    Draw copies of all samples of a batch, and put those of each row behind it.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Clean token ids.
        labels (`torch.LongTensor` of shape `(batch, length)`): -100 where nothing is learnt.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): 0, 1, ... for the samples of a row, -1 for padding.
        position_ids (`torch.LongTensor` of shape `(batch, length)`): Positions in the sample.
        rule ([`CopyRule`]): Markers and blocks.
        seeds (`Sequence[int]`): Of each sample of the batch, in the order of `number_samples`.

    Returns:
        [`TwoStreams`].
    """
    rows = []
    left = iter(seeds)
    for ids, row_labels, positions, samples in zip(
        *(tensor.tolist() for tensor in (input_ids, labels, position_ids, sample_ids)), strict=True
    ):
        row: dict[str, list[int]] = {name: [] for name in _PADDING}
        for sample in sorted({number for number in samples if number >= 0}):
            start = samples.index(sample)
            stop = start + samples.count(sample)
            generator = torch.Generator().manual_seed(next(left))
            copies = draw_copies(ids[start:stop], row_labels[start:stop], rule, generator)
            row["input_ids"] += copies.input_ids
            row["labels"] += copies.labels
            row["position_ids"] += [positions[start] + position for position in copies.position_ids]
            row["sample_ids"] += [sample] * len(copies.copy_ids)
            row["copy_ids"] += copies.copy_ids
        rows.append(row)
    longest = max(len(row["copy_ids"]) for row in rows)
    clean = (input_ids, labels, position_ids, sample_ids, torch.zeros_like(input_ids))
    extended = {}
    for (name, padding), tensor in zip(_PADDING.items(), clean, strict=True):
        behind = [row[name] + [padding] * (longest - len(row[name])) for row in rows]
        extended[name] = torch.cat([tensor, torch.tensor(behind, dtype=torch.long, device=tensor.device)], dim=1)
    return TwoStreams(**extended)


def find_copy_targets(
    labels: torch.Tensor, copy_ids: torch.Tensor, audio_token_start_id: int, sample_ids: torch.Tensor
) -> Targets:
    """
    Find the targets of rows with copies: text in the clean sequences, audio at the masks of the copies.

    The audio loss of a sample is the mean over the masks of all its copies, without a weight.

    Args:
        labels (`torch.LongTensor` of shape `(batch, length)`): Clean token ids, -100 where nothing is learnt; those of
            audio in clean sequences are ignored.
        copy_ids (`torch.LongTensor` of shape `(batch, length)`): 0 for a clean sequence, 1, 2, ... for its copies.
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): Sample of each position, -1 for padding.

    Returns:
        [`Targets`].
    """
    is_copy = copy_ids > 0
    labels = labels.masked_fill(~is_copy & (labels >= audio_token_start_id), IGNORE_INDEX)
    is_masked = is_copy & (labels != IGNORE_INDEX)
    return find_targets(
        labels, is_masked, torch.ones(labels.shape, device=labels.device), audio_token_start_id, sample_ids
    )


def _learnt_spans(
    input_ids: Sequence[int], labels: Sequence[int], audio_token_start_id: int
) -> Iterator[tuple[int, int]]:
    """Find the audio spans `(start, stop)` with a label at each position."""
    start = 0
    for position, token_id in enumerate([*input_ids, -1]):
        if token_id >= audio_token_start_id:
            continue
        if position > start and IGNORE_INDEX not in labels[start:position]:
            yield start, position
        start = position + 1


def _spans_with_room(
    input_ids: Sequence[int], labels: Sequence[int], rule: CopyRule, generator: torch.Generator, room: int | None
) -> list[tuple[int, int, list[int] | None]]:
    """
    Find the spans whose copies fit into the room, tried in random order: `(start, stop, None)`, or with some blocks
    instead of `None` where all copies of the span do not fit.
    """
    spans = list(_learnt_spans(input_ids, labels, rule.audio_token_start_id))
    if room is None:
        return [(start, stop, None) for start, stop in spans]
    found: list[tuple[int, int, list[int] | None]] = []
    for number in torch.randperm(len(spans), generator=generator).tolist():
        start, stop = spans[number]
        length = _filled_length(stop - start, rule)
        if length <= room:
            found.append((start, stop, None))
            room -= length
        elif room >= rule.block_length:
            chosen = _some_blocks(_num_blocks(stop - start, rule), rule, generator, room)
            found.append((start, stop, chosen))
            room -= sum(1 if rule.is_block_causal else block + 1 for block in chosen) * rule.block_length
    return sorted(found, key=lambda span: span[0])


def _some_blocks(num_blocks: int, rule: CopyRule, generator: torch.Generator, room: int) -> list[int]:
    """Choose random blocks of a span whose copies do not all fit: one, or as many as fit if they are copied alone."""
    fitting = room // rule.block_length
    if rule.is_block_causal:
        return sorted(torch.randperm(num_blocks, generator=generator)[:fitting].tolist())
    return torch.randint(min(num_blocks, fitting), (1,), generator=generator).tolist()


def _num_blocks(length: int, rule: CopyRule) -> int:
    return -(-length // rule.block_length)


def _filled_length(length: int, rule: CopyRule) -> int:
    return _num_blocks(length, rule) * rule.block_length


def _blocks_to_copy(num_blocks: int, is_block_causal: bool, draw: float) -> list[int]:
    """
    Choose blocks by a uniform number: all, or the last one, or two whose copies, which begin with the span, are
    together as long. Of n blocks each is chosen 2 / (n + 1) times in the mean.
    """
    if is_block_causal:
        return list(range(num_blocks))
    choice = int(draw * (num_blocks + 1))
    last = num_blocks - 1
    return [last] if choice >= last else [choice, last - 1 - choice]


__all__ = [
    "Copies",
    "CopyRule",
    "TwoStreams",
    "append_copies",
    "copies_length",
    "draw_copies",
    "find_copy_targets",
    "spread_mask_probs",
]
