"""
From examples (token ids and labels) to batches, padded or packed; and changes of an example that belong to the
objective. Noise is drawn in `corruption.py`, or by the model itself.

Depends on token ids, labels and markers. Independent of texts, waveforms and models.
"""

import random
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch

from processing_ttt.vocabulary_ttt import TttVocabulary

IGNORE_INDEX = -100


class Example(TypedDict):
    """One training example: its token ids, and what is learnt of them (`IGNORE_INDEX` where nothing is)."""

    input_ids: list[int]
    labels: list[int]


class NoisedExample(Example):
    """An example with its noise, a value for each token id: which of them are masked, and with which probability."""

    audio_mask: list[bool]
    mask_prob: list[float]


class CopiedExample(Example):
    """An example with noised copies of its blocks behind it: the positions of their originals, and which copy."""

    position_ids: list[int]
    copy_ids: list[int]


# What fills positions without an example. The token ids are filled with the padding id.
_FILL: dict[str, Any] = {"labels": IGNORE_INDEX, "audio_mask": False, "mask_prob": 1.0, "copy_ids": 0}


def pad_batch(examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Stack examples, right-padded.

    Args:
        examples (`Sequence[dict]`): `input_ids` and `labels` each, and `audio_mask` and `mask_prob` if they are noised.
        pad_token_id (`int`): Fills the shorter examples.

    Returns:
        `dict`: The fields of the examples and `attention_mask`, each `(batch, longest example)`.
    """
    longest = max(len(example["input_ids"]) for example in examples)

    def stack(field: str) -> torch.Tensor:
        fill = _FILL.get(field, pad_token_id)
        values = [list(example[field]) for example in examples]  # type: ignore[literal-required]
        return torch.tensor([row + [fill] * (longest - len(row)) for row in values])

    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    attention_mask = (torch.arange(longest) < lengths[:, None]).long()
    return {field: stack(field) for field in examples[0]} | {"attention_mask": attention_mask}


def assign_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """
    Assign examples to packed rows: first fit, longest first.

    Args:
        lengths (`Sequence[int]`): Tokens of each example.
        row_length (`int`): Positions of a packed row.

    Returns:
        `list[list[int]]`: For each packed row, which examples it holds, in order.

    Raises:
        ValueError: If an example is longer than a packed row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for example in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[example]
        if length > row_length:
            raise ValueError(
                f"An example has {length} tokens, a packed row only {row_length}: raise the row length or leave it out."
            )
        index = next((i for i, left in enumerate(room) if left >= length), len(rows))
        if index == len(rows):
            rows.append([])
            room.append(row_length)
        rows[index].append(example)
        room[index] -= length
    return rows


def lay_rows(rows: Sequence[Sequence[Example]], row_length: int, pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Concatenate the examples of each packed row. They do not attend to each other: positions restart with each, unless
    the examples have positions of their own.

    Args:
        rows (`Sequence[Sequence[dict]]`): The examples of each packed row, together no longer than `row_length`.
        row_length (`int`): Positions of a packed row.
        pad_token_id (`int`): Fills the end of a packed row.

    Returns:
        `dict`: The fields of the examples, `position_ids` and `sample_ids` (-1 on padding), each `(rows,
        row_length)`. No attention mask: the positions show the model where an example ends.
    """
    shape = (len(rows), row_length)
    batch = {field: np.full(shape, _FILL.get(field, pad_token_id)) for field in rows[0][0]}
    batch["position_ids"] = np.zeros(shape, np.int64)
    batch["sample_ids"] = np.full(shape, -1)
    for index, row in enumerate(rows):
        start = 0
        for sample, example in enumerate(row):
            here = slice(start, start + len(example["input_ids"]))
            batch["position_ids"][index, here] = np.arange(len(example["input_ids"]))
            for field, values in example.items():
                batch[field][index, here] = values
            batch["sample_ids"][index, here] = sample
            start = here.stop
        batch["position_ids"][index, start:] = np.arange(row_length - start)
    return {
        field: torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
        for field, array in batch.items()
    }


def fill_blocks(example: Example, block_length: int, vocabulary: TttVocabulary) -> Example:
    """
    Repeat the end marker of each reply span until the span fills whole blocks.

    Decoding always denoises whole blocks and cuts after the first end marker. The number of masks would otherwise
    reveal the length of a span of free length, as aligned groups of words have; in filled blocks the model learns from
    content where a span ends.

    Args:
        example (`dict`): `input_ids` and `labels`.
        block_length (`int`): Masks of a block in decoding.
        vocabulary (`TttVocabulary`): Names the end markers.

    Returns:
        `dict`: A new example.
    """
    ends = (vocabulary.end_audio_token_id, vocabulary.end_last_audio_token_id)
    filled: Example = {"input_ids": [], "labels": []}
    span_length = 0
    for token_id, label in zip(example["input_ids"], example["labels"], strict=True):
        span_length = span_length + 1 if vocabulary.is_audio(token_id) else 0
        repeats = 1 + (-span_length % block_length if token_id in ends and label != IGNORE_INDEX else 0)
        filled["input_ids"] += [token_id] * repeats
        filled["labels"] += [label] * repeats
    return filled


def truncate_last_span(example: Example, vocabulary: TttVocabulary, rng: random.Random) -> Example:
    """
    Stochastic span truncation (SST): cut the last span at 30 to 90 % of its codes, and drop its end marker and
    everything after it, so that the end marker is learnt from content and not from position (paper, section 3.3).

    Args:
        example (`dict`): `input_ids` and `labels`.
        vocabulary (`TttVocabulary`): Names the markers.
        rng (`random.Random`): Draws the cut.

    Returns:
        `dict`: A new example, or the same one if its reply has no audio.
    """
    ids, labels = example["input_ids"], example["labels"]
    reply_codes = [i for i, token_id in enumerate(ids) if vocabulary.is_code(token_id) and labels[i] != IGNORE_INDEX]
    if not reply_codes:
        return example
    start = stop = reply_codes[-1] + 1
    while vocabulary.is_code(ids[start - 1]):  # a begin marker precedes every span
        start -= 1
    length = stop - start
    cut = start + max(1, round(rng.uniform(0.3, 0.9) * length))
    return {"input_ids": ids[:cut], "labels": labels[:cut]}
