"""
What a codec is given: checks of sound and of codes, with errors that say what was expected, what came, and the way out.

Knows the shapes of the codec interface: sound `(batch, 1, samples)`, codes `(batch, 1, frames)` with -1 after the end
of a shorter row.
"""

import torch

PADDING_CODE = -1


def sound_lengths(input_values: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
    """
    Check sound that is to be encoded, and count the samples of each row.

    Args:
        input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Sound.
        padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for sound, 0 for padding after it.

    Returns:
        `torch.LongTensor` of shape `(batch,)`: Samples of each row.

    Raises:
        ValueError: If the sound is not one channel of finite float samples, is empty, or the mask does not fit.
    """
    shape = tuple(input_values.shape)
    if input_values.ndim != 3 or shape[1] != 1:
        raise ValueError(
            f"The codec hears one channel: input_values must have the shape (batch, 1, samples), got {shape}. "
            "Average the channels and add the missing dimension."
        )
    if 0 in shape:
        raise ValueError(f"There is no sound to encode: input_values has the shape {shape}.")
    if not input_values.is_floating_point():
        raise ValueError(
            f"input_values must be floating point samples in [-1, 1], got {input_values.dtype}; "
            "divide integer samples by their full scale."
        )
    if not torch.isfinite(input_values).all():
        raise ValueError("input_values holds NaN or infinite samples; the sound is damaged.")
    if padding_mask is None:
        return torch.full((shape[0],), shape[2], device=input_values.device)
    if tuple(padding_mask.shape) != (shape[0], shape[2]):
        raise ValueError(
            f"padding_mask must have the shape (batch, samples) = {(shape[0], shape[2])}, got "
            f"{tuple(padding_mask.shape)}."
        )
    valid = padding_mask.to(device=input_values.device, dtype=torch.bool)
    if not valid[:, 0].all() or (valid[:, 1:] & ~valid[:, :-1]).any():
        raise ValueError(
            "padding_mask must be ones followed by zeros in every row: pad on the right, and no row may be empty."
        )
    return valid.sum(-1)


def checked_codes(audio_codes: torch.Tensor, codebook_size: int) -> torch.Tensor:
    """
    Check codes that are to be decoded.

    Args:
        audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 only after the end of a shorter row.
        codebook_size (`int`): Number of codes.

    Returns:
        `torch.LongTensor` of shape `(batch, frames)`: The codes.

    Raises:
        ValueError: If the codes have another shape or type, are empty, or are out of range.
    """
    shape = tuple(audio_codes.shape)
    if audio_codes.ndim != 3 or shape[1] != 1:
        raise ValueError(
            f"The codec has one codebook: audio_codes must have the shape (batch, 1, frames), got {shape}."
        )
    if 0 in shape:
        raise ValueError(f"There are no codes to decode: audio_codes has the shape {shape}.")
    if audio_codes.dtype not in (torch.int64, torch.int32, torch.int16):
        raise ValueError(f"audio_codes must be integers (int16, int32 or int64), got {audio_codes.dtype}.")
    codes = audio_codes[:, 0].long()
    outside = (codes < PADDING_CODE) | (codes >= codebook_size)
    if outside.any():
        raise ValueError(
            f"audio_codes must lie in 0..{codebook_size - 1}, got {int(codes[outside][0])}; "
            "subtract the vocabulary's offset of code 0 from token ids."
        )
    padding = codes == PADDING_CODE
    if padding[:, 0].any() or (padding[:, :-1] & ~padding[:, 1:]).any():
        raise ValueError("A code of -1 marks padding and may stand only after the end of a row.")
    return codes


__all__ = ["PADDING_CODE", "checked_codes", "sound_lengths"]
