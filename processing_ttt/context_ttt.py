"""
Whether a prompt with audio fits into a model's context, in seconds: `generate` itself counts token ids.

Depends on the vocabulary, the codec's frame rate and the configuration of the model. Independent of waveforms.
"""

import math
from typing import Any

import torch

from .processing_ttt import TttProcessor


def check_audio_fits(model: Any, processor: TttProcessor, input_ids: torch.Tensor, **options: Any) -> None:
    """
    Refuse a prompt whose audio leaves no room for the reply. Other prompts that are too long are left to `generate`.

    Args:
        model (`TttForConditionalGeneration` or `PeftModel`): The model.
        processor ([`TttProcessor`]): Processor of the same checkpoint.
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Prompts.
        options: Arguments of the `generate` call.

    Raises:
        ValueError: If the audio is too long, with the seconds that there is room for.
    """
    text_config = getattr(getattr(model, "config", None), "text_config", None)
    context = getattr(text_config, "max_position_embeddings", None)
    config = options.get("generation_config") or getattr(model, "generation_config", None)
    num_new = options.get("max_new_tokens") or getattr(config, "max_new_tokens", None)
    if context is None or num_new is None:
        return
    vocabulary, frame_rate = processor.vocabulary, processor.codec_config.frame_rate
    num_ids = (input_ids != vocabulary.pad_token_id).sum(-1)
    num_codes = (input_ids >= vocabulary.audio_token_start_id).sum(-1)
    for ids, codes in zip(num_ids.tolist(), num_codes.tolist(), strict=True):
        room = codes - (ids + num_new - context)
        if 0 < room < codes:
            seconds, most = codes / frame_rate, math.floor(10 * room / frame_rate) / 10
            raise ValueError(
                f"The prompt has {seconds:.1f} s of audio, and this model has room for {most} s beside a reply of up "
                f"to {num_new} token ids: shorten the audio, or lower `max_new_tokens`."
            )
