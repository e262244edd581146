"""
Which positions are one audio span, and which of them see each other: the one place that says so.

Knows ids only. The modality-aware attention, the objective and the decoder all ask here.
"""

import torch


def audio_span_ids(
    input_ids: torch.Tensor,
    audio_token_start_id: int,
    sample_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Number the audio spans of each row: the modality-aware attention lets a position see its own span whole.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids; an id >= `audio_token_start_id` is an
            audio position.
        audio_token_start_id (`int`): First id of the audio alphabet.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
            Which sample of a packed row a position belongs to. A span never reaches over the border of two samples.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: 0, 1, ... for the positions of the first, second, ... span of
        the row, -1 for text. The numbers go on across packed samples, so they are unique in the row.
    """
    is_audio = input_ids >= audio_token_start_id
    continues = torch.zeros_like(is_audio)
    continues[:, 1:] = is_audio[:, :-1]
    if sample_ids is not None:
        continues[:, 1:] &= sample_ids[:, 1:] == sample_ids[:, :-1]
    opens = is_audio & ~continues
    return torch.where(is_audio, opens.cumsum(-1) - 1, -1)


def positions_in_samples(sample_ids: torch.Tensor) -> torch.Tensor:
    """
    Count the positions of packed samples, each from 0 on.

    Args:
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): 0, 1, ... for the samples of a row, a negative
            number for padding.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: Position ids, by which the backbone keeps samples apart.
    """
    index = torch.arange(sample_ids.shape[1], device=sample_ids.device).expand_as(sample_ids)
    is_first = torch.ones_like(sample_ids, dtype=torch.bool)
    is_first[:, 1:] = sample_ids[:, 1:] != sample_ids[:, :-1]
    return index - torch.where(is_first, index, 0).cummax(-1).values


def split_spans(span_ids: torch.Tensor, block_length: int) -> torch.Tensor:
    """
    Number the blocks of the spans instead of the spans, for attention that sees a block whole and the future not at
    all.

    Args:
        span_ids (`torch.LongTensor` of shape `(batch, length)`): From `audio_span_ids`. Where a row begins inside a
            span, it begins with a block.
        block_length (`int`): Positions of a block, counted from the span's first one.

    Returns:
        `torch.LongTensor` of shape `(batch, length)`: A number for each block, unique in the row; -1 for text.
    """
    length = span_ids.shape[-1]
    columns = torch.arange(length, device=span_ids.device)
    opens = torch.ones_like(span_ids, dtype=torch.bool)
    opens[:, 1:] = span_ids[:, 1:] != span_ids[:, :-1]
    first_columns = torch.where(opens, columns, 0).cummax(-1).values
    block_ids = span_ids * length + (columns - first_columns) // block_length
    return torch.where(span_ids >= 0, block_ids, -1)
