"""
The noise that a model draws by itself for clean token ids with labels, as `config.objective` has it: masks in the
sequences (`objective_ttt`), or masked copies of their blocks behind them (`two_streams_ttt`).

Depends on the configuration. Independent of weights. Training that draws noise elsewhere, from the position of an
example in its data set, needs none of this.
"""

from dataclasses import dataclass

import torch

from .configuration_ttt import TttConfig
from .masking_ttt import audio_span_ids, positions_in_samples, samples_by_positions, samples_of
from .objective_ttt import corrupt, fixed_noise, fixed_seeds, random_seeds
from .two_streams_ttt import CopyRule, append_copies


@dataclass
class NoisedRows:
    """
    What the model computes of clean token ids: masked ones with `audio_mask` and `mask_prob`, or longer ones with
    `copy_ids`. All fields are of shape `(batch, length)`, and as in the model's `forward`.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor | None = None
    sample_ids: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None
    mask_prob: torch.Tensor | None = None
    copy_ids: torch.Tensor | None = None


def draw_noise(
    config: TttConfig,
    block_length: int,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    sample_ids: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    is_fixed: bool = False,
) -> NoisedRows:
    """
    Draw the noise of a batch.

    Args:
        config ([`TttConfig`]): Names the objective and the markers.
        block_length (`int`): Masks of a block in decoding.
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Clean token ids.
        labels (`torch.LongTensor` of shape `(batch, length)`): -100 where nothing is learnt.
        attention_mask (`torch.Tensor`, *optional*): 0 hides a position, if it is of shape `(batch, length)`.
        position_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Positions.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Packed samples.
        generator (`torch.Generator`, *optional*): Source of all randomness; torch's global generator by default.
        is_fixed (`bool`, *optional*, defaults to `False`): Draw from the token ids of each sample instead, so that
            losses are comparable.

    Returns:
        [`NoisedRows`].

    Raises:
        ValueError: if the configuration lacks a marker that is needed, or copies are to be drawn of sequences whose
            mask has holes or is not of shape `(batch, length)`.
    """
    if config.objective == "two_stream":
        if sample_ids is None:
            sample_ids = _samples(input_ids, attention_mask, position_ids)
        position_ids = positions_in_samples(sample_ids) if position_ids is None else position_ids
        seeds = fixed_seeds(input_ids, labels, sample_ids) if is_fixed else random_seeds(sample_ids, generator)
        rule = CopyRule.from_config(config, block_length)
        return NoisedRows(**vars(append_copies(input_ids, labels, sample_ids, position_ids, rule, seeds)))
    if config.audio_token_start_id is None or config.mask_token_id is None:
        name = "audio_token_start_id" if config.audio_token_start_id is None else "mask_token_id"
        raise ValueError(
            f"`config.{name}` is not set, so audio cannot be masked for training; run `ttt convert` on the checkpoint, "
            "or set it to the tokenizer's id."
        )
    corruption = corrupt(
        input_ids,
        labels,
        audio_span_ids(input_ids, config.audio_token_start_id, sample_ids),
        mask_token_id=config.mask_token_id,
        clean_audio_prob=config.clean_audio_prob,
        prefix_preservation_prob=config.prefix_preservation_prob,
        sample_ids=sample_ids,
        generator=generator,
        noise=fixed_noise(input_ids, labels, sample_ids) if is_fixed else None,
    )
    return NoisedRows(position_ids=position_ids, sample_ids=sample_ids, **vars(corruption))


def _samples(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None
) -> torch.Tensor:
    """Number samples by what `forward` gets: a padding mask, or position ids that start again."""
    if attention_mask is None:
        return samples_of(input_ids, None) if position_ids is None else samples_by_positions(position_ids)
    if attention_mask.ndim != 2:
        raise ValueError(
            'The objective "two_stream" draws copies behind the sequences, for which a mask of four dimensions has no '
            "place: pass packed samples as `sample_ids`."
        )
    sample_ids = samples_of(input_ids, attention_mask)
    is_first = (positions_in_samples(sample_ids) == 0) & (sample_ids == 0)
    if (is_first.sum(-1) > 1).any():
        raise ValueError(
            "The attention mask hides positions between others: pass packed samples as `sample_ids`, or padding at the "
            "ends alone."
        )
    return sample_ids


__all__ = ["NoisedRows", "draw_noise"]
