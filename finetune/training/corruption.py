"""
The random changes of an example before it is learnt from: truncation of its last span, filling of blocks, noise on its
audio, replaced codes in its prompt; or, in place of the first three, noised copies of its blocks behind it.

All of it is drawn from (seed, epoch, position) and from nothing else. So the same examples get the same noise however
they are batched, padded, packed or distributed to processes, and a resumed run equals one that was never stopped.

Depends on token ids, labels and markers. Independent of batches and models.
"""

import random
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from modeling_ttt.masking_ttt import audio_span_ids
from modeling_ttt.objective_ttt import corrupt
from modeling_ttt.two_streams_ttt import CopyRule, copies_length, draw_copies
from processing_ttt.vocabulary_ttt import TttVocabulary

from .collate import IGNORE_INDEX, CopiedExample, Example, NoisedExample, fill_blocks, truncate_last_span


@dataclass(frozen=True)
class Objective:
    """
    The strategies of the paper (section 3.3) and how often each is applied, per example; or the rule of copies, with
    which only `replaced_prompt_codes` counts of them.

    Args:
        clean_audio_prob (`float`, defaults to 0.3): BANOM: no audio is noised, only text is learnt.
        prefix_preservation_prob (`float`, defaults to 0.3): PPM: spans before a random one stay clean and are not
            learnt.
        span_truncation_prob (`float`, defaults to 0.5): SST: the last span is cut. A reply without audio, as a
            transcript, is left alone.
        block_fill_prob (`float`, defaults to 0.0): The spans of the reply are filled to whole blocks, see
            `fill_blocks` ...
        block_length (`int`, defaults to 32): ... of this length.
        replaced_prompt_codes (`float`, defaults to 0.0): Largest share of the codes of a prompt that are replaced by
            others, see `replace_prompt_codes`.
        copies (`CopyRule`, *optional*): The objective `two_stream`: blocks are noised in copies behind the example ...
        max_length (`int`, *optional*): ... of which there are as many as fit into this number of tokens.
    """

    clean_audio_prob: float = 0.3
    prefix_preservation_prob: float = 0.3
    span_truncation_prob: float = 0.5
    block_fill_prob: float = 0.0
    block_length: int = 32
    replaced_prompt_codes: float = 0.0
    copies: CopyRule | None = None
    max_length: int | None = None


def corrupt_example(
    example: Example, seed: int, epoch: int, position: int, objective: Objective, vocabulary: TttVocabulary
) -> NoisedExample | CopiedExample:
    """
    Draw one training view of an example.

    Args:
        example (`dict`): Clean `input_ids` and `labels`.
        seed (`int`): Of the run.
        epoch (`int`): How often the example has been seen.
        position (`int`): Of the example in the data set.
        objective (`Objective`): What may happen to it.
        vocabulary (`TttVocabulary`): Names the markers.

    Returns:
        `dict`: Noised `input_ids`, `labels`, `audio_mask` and `mask_prob`, lists of equal length; with copies, see
        `append_copies`.
    """
    rng = random.Random(f"{seed} {epoch} {position}")
    if objective.copies is not None:
        return append_copies(example, objective, objective.copies, vocabulary, rng)
    if rng.random() < objective.span_truncation_prob:
        example = truncate_last_span(example, vocabulary, rng)
    if rng.random() < objective.block_fill_prob:
        example = fill_blocks(example, objective.block_length, vocabulary)
    # By numpy, which reads lists several times as fast.
    input_ids, labels = (
        torch.from_numpy(np.array([values], np.int64)) for values in (example["input_ids"], example["labels"])
    )
    noised = corrupt(
        input_ids,
        labels,
        audio_span_ids(input_ids, vocabulary.audio_token_start_id),
        mask_token_id=vocabulary.mask_token_id,
        clean_audio_prob=objective.clean_audio_prob,
        prefix_preservation_prob=objective.prefix_preservation_prob,
        generator=torch.Generator().manual_seed(rng.getrandbits(63)),
    )
    if objective.replaced_prompt_codes:
        noised.input_ids = replace_prompt_codes(
            noised.input_ids, labels, objective.replaced_prompt_codes, vocabulary, rng
        )
    return cast(NoisedExample, {field: value[0].tolist() for field, value in vars(noised).items()})


def longest_length(example: Example, objective: Objective, vocabulary: TttVocabulary) -> int:
    """
    Count the tokens that an example has at most, with blocks filled or copies behind it.

    Args:
        example (`dict`): Clean `input_ids` and `labels`.
        objective (`Objective`): What may happen to it.
        vocabulary (`TttVocabulary`): Names the markers.

    Returns:
        `int`: Tokens.
    """
    length = len(example["input_ids"])
    if objective.copies is not None:
        copied = copies_length(example["input_ids"], example["labels"], objective.copies)
        return length + (copied if objective.max_length is None else max(0, min(copied, objective.max_length - length)))
    if objective.block_fill_prob:
        return len(fill_blocks(example, objective.block_length, vocabulary)["input_ids"])
    return length


def append_copies(
    example: Example, objective: Objective, rule: CopyRule, vocabulary: TttVocabulary, rng: random.Random
) -> CopiedExample:
    """
    Put noised copies of an example's blocks behind it, as decoding sees them.

    Args:
        example (`dict`): Clean `input_ids` and `labels`.
        objective (`Objective`): How long the example may become, and how many codes of its prompt are replaced.
        rule (`CopyRule`): Markers and blocks.
        vocabulary (`TttVocabulary`): Names the codes.
        rng (`random.Random`): Draws.

    Returns:
        `dict`: `input_ids`, `labels`, `position_ids` and `copy_ids`, lists of equal length.
    """
    input_ids, labels = list(example["input_ids"]), list(example["labels"])
    room = None if objective.max_length is None else objective.max_length - len(input_ids)
    copies = draw_copies(input_ids, labels, rule, torch.Generator().manual_seed(rng.getrandbits(63)), room)
    if objective.replaced_prompt_codes:
        clean = torch.tensor([input_ids]), torch.tensor([labels])
        input_ids = replace_prompt_codes(*clean, objective.replaced_prompt_codes, vocabulary, rng)[0].tolist()
    return {
        "input_ids": input_ids + copies.input_ids,
        "labels": labels + copies.labels,
        "position_ids": [*range(len(input_ids)), *copies.position_ids],
        "copy_ids": [0] * len(input_ids) + copies.copy_ids,
    }


def replace_prompt_codes(
    input_ids: torch.Tensor, labels: torch.Tensor, largest_share: float, vocabulary: TttVocabulary, rng: random.Random
) -> torch.Tensor:
    """
    Replace some codes of the prompt by random ones, so that a recording is never the same twice and cannot be
    memorised.

    The share is drawn from 0 to `largest_share`. Codes that are learnt are never replaced, and neither are markers.

    Args:
        input_ids (`torch.LongTensor` of shape `(1, length)`): Token ids of an example.
        labels (`torch.LongTensor` of shape `(1, length)`): Before any noise: -100 marks the prompt.
        largest_share (`float`): 0 to 1.
        vocabulary (`TttVocabulary`): Names the codes.
        rng (`random.Random`): Draws.

    Returns:
        `torch.LongTensor` of shape `(1, length)`: New token ids.
    """
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    first = vocabulary.audio_code_offset
    in_prompt = (labels == IGNORE_INDEX) & (input_ids >= first) & (input_ids < first + vocabulary.codebook_size)
    share = rng.uniform(0, largest_share)
    replaced = in_prompt & (torch.rand(input_ids.shape, generator=generator) < share)
    others = torch.randint(first, first + vocabulary.codebook_size, input_ids.shape, generator=generator)
    return torch.where(replaced, others, input_ids)
