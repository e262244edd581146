"""
Few denoising steps, learnt from many: a teacher completes the masks of a batch in its own steps, and what it revealed
takes the place of the recorded codes.

Codes that a step reveals at once are chosen apart from each other. Of recorded speech several codes may be right at
each position, and do not go together; a teacher that reveals them one after the other settles on one of them, and then
a student can reveal them at once. The teacher is the model that training starts from, and does not change.

Needs batches of the objective `two_stream`, whose masks are in copies of blocks as decoding sees them. Depends on the
model and its denoising step. Independent of what is compared.
"""

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from modeling_ttt.generation_options_ttt import GENERATION_DEFAULTS
from modeling_ttt.masking_ttt import number_copies
from modeling_ttt.objective_ttt import IGNORE_INDEX
from modeling_ttt.samplers_ttt import DenoisingStep, reveal_schedule


@torch.no_grad()
def teacher_labels(teacher: Any, batch: dict[str, torch.Tensor], num_steps: int) -> torch.Tensor:
    """
    Let a teacher complete the masked blocks of a batch, the most probable codes first, as the published rule does.

    Args:
        teacher ([`TttForConditionalGeneration`]): In eval mode.
        batch (`dict`): `input_ids`, `labels`, `position_ids`, `sample_ids` and `copy_ids`, each of shape
            `(batch, length)`, see `two_streams_ttt`.
        num_steps (`int`): Steps for a block; more steps than masks count as one for each mask.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: The labels, with what the teacher revealed at the masks.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    is_masked = (batch["copy_ids"] > 0) & (batch["labels"] != IGNORE_INDEX)
    if not is_masked.any():
        return batch["labels"]
    input_ids = batch["input_ids"].clone()
    rows = torch.arange(len(input_ids), device=input_ids.device)[:, None] * input_ids.shape[1]
    numbers = (number_copies(batch["sample_ids"], batch["copy_ids"]) + rows)[is_masked]
    lengths = torch.unique_consecutive(numbers, return_counts=True)[1].tolist()  # masks of each copy
    schedules = [reveal_schedule(length, num_steps) for length in lengths]
    published = GenerationConfig(**GENERATION_DEFAULTS)
    denoising = DenoisingStep.from_options(published, teacher.config.markers(), teacher.eligible_audio_ids())
    for step in range(max(map(len, schedules))):
        hidden_states = teacher(
            **inputs | {"input_ids": input_ids}, use_cache=False, output_hidden_states=True, logits_to_keep=1
        ).hidden_states[-1]
        blocks = input_ids[is_masked].split(lengths)
        counts = [
            schedule[step] if step < len(schedule) - 1 else length
            for schedule, length in zip(schedules, lengths, strict=True)
        ]
        logits = teacher.audio_logits(pad_sequence(hidden_states[is_masked].split(lengths), batch_first=True))
        revealed = denoising.step(logits, blocks, counts, generators=[None] * len(blocks)).blocks
        input_ids[is_masked] = torch.cat([block[:n] for block, n in zip(revealed, lengths, strict=True)])
    return torch.where(is_masked, input_ids, batch["labels"])


__all__ = ["teacher_labels"]
