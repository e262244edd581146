"""
The contract of a codec: what its configuration and its methods give, in which shapes, and the checks of its inputs.

    audio `(batch, 1, samples)` -- encode --> codes `(batch, 1, frames)` -- decode --> audio `(batch, 1, samples)`

A codec has one codebook. The rows of a batch may have different lengths: `padding_mask` marks where audio ends, and
-1 follows the codes of a shorter row. A row gives the same result alone and in a batch.

Depends on tensors. Independent of any codec, of token ids and of files.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from transformers.utils import ModelOutput

PADDING_CODE = -1
CODEC_FIELDS = ("sampling_rate", "output_sampling_rate", "frame_rate", "codebook_size")


class CodecConfig(Protocol):
    """
    What a processor reads from a codec's configuration.

    A codec that streams also has `decode_context` and `decode_lookahead`: the numbers of codes before and after code i
    on which the samples of code i depend. Without them, a stream decodes when the reply is complete.
    """

    @property
    def model_type(self) -> str:
        """Name of the architecture."""

    @property
    def sampling_rate(self) -> int:
        """Rate of the audio to encode, in Hz."""

    @property
    def output_sampling_rate(self) -> int:
        """Rate of decoded audio, in Hz."""

    @property
    def frame_rate(self) -> float:
        """Codes per second."""

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""


@dataclass
class TttCodecOutput(ModelOutput):
    """
    Output of a codec; a field that was not computed is `None`.

    Args:
        audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes, 0 .. codebook_size - 1; -1 after the end
            of a shorter row.
        audio_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Samples in [-1, 1] at
            `config.output_sampling_rate`; 0 after the end of a shorter row.
    """

    audio_codes: torch.Tensor | None = None
    audio_values: torch.Tensor | None = None


class Codec(Protocol):
    """
    What a processor calls of a codec.

    A codec that can encode audio while it arrives also has a method `encode_stream()`, which gives an
    [`EncodeStream`]. Without it, audio is encoded when it is complete.
    """

    @property
    def config(self) -> CodecConfig:
        """The configuration."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def encode(self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None) -> TttCodecOutput:
        """
        Encode audio.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Audio at `config.sampling_rate`.
            padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for audio, 0 for padding *after*
                the audio of a shorter row.

        Returns:
            [`TttCodecOutput`] or an output like it, with `audio_codes` of shape `(batch, 1, frames)`.
        """

    def decode(self, audio_codes: torch.Tensor) -> TttCodecOutput:
        """
        Decode codes.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 only after the end of a shorter
                row.

        Returns:
            [`TttCodecOutput`] or an output like it, with `audio_values` of shape `(batch, 1, samples)`.
        """

    def save_pretrained(self, folder: str, /) -> object:
        """Write the codec to a folder."""


class CodecStream(Protocol):
    """
    Decodes one audio signal while its codes arrive.

    The joined pieces equal the result of decoding all codes at once, except for GLM-4-Voice, which cross-fades
    windows.
    """

    def push(self, codes: list[int]) -> np.ndarray:
        """
        Take the next codes.

        Args:
            codes (`list[int]`): Codes, any number of them.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32: The samples that became final; often none.
        """

    def finish(self) -> np.ndarray:
        """
        End the stream.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32: The remaining samples.
        """


class EncodeStream(Protocol):
    """
    Encodes one audio signal while it arrives.

    The joined pieces equal the result of encoding all audio at once, except for GLM-4-Voice before a much louder place.
    `copy.copy` gives a stream at the same place: what one of the two takes does not change the other.
    """

    def push(self, samples: np.ndarray) -> list[int]:
        """
        Take the next samples.

        Args:
            samples (`np.ndarray` of shape `(samples,)`, float32): Audio, of any length.

        Returns:
            `list[int]`: The codes that became final; often none.
        """

    def finish(self) -> list[int]:
        """
        End the audio.

        Returns:
            `list[int]`: The remaining codes.
        """


def audio_lengths(input_values: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
    """
    Check audio that is to be encoded, and count the samples of each row.

    Args:
        input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Audio.
        padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for audio, 0 for padding after it.

    Returns:
        `torch.LongTensor` of shape `(batch,)`: Samples of each row.

    Raises:
        ValueError: If the audio is not one channel of finite float samples, is empty, or the mask does not fit.
    """
    shape = tuple(input_values.shape)
    if input_values.ndim != 3 or shape[1] != 1:
        raise ValueError(
            f"A codec encodes one channel: input_values must have the shape (batch, 1, samples), got {shape}. "
            "Average the channels and add the missing dimension."
        )
    if 0 in shape:
        raise ValueError(f"There is no audio to encode: input_values has the shape {shape}.")
    if not input_values.is_floating_point():
        raise ValueError(
            f"input_values must be floating point samples in [-1, 1], got {input_values.dtype}; "
            "divide integer samples by their full scale."
        )
    if not torch.isfinite(input_values).all():
        raise ValueError("input_values contains NaN or infinite samples: the audio is damaged.")
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
        raise ValueError(f"A codec has one codebook: audio_codes must have the shape (batch, 1, frames), got {shape}.")
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
        raise ValueError("A code of -1 marks padding and may come only after the end of a row.")
    return codes


__all__ = [
    "CODEC_FIELDS",
    "PADDING_CODE",
    "Codec",
    "CodecConfig",
    "CodecStream",
    "EncodeStream",
    "TttCodecOutput",
    "audio_lengths",
    "checked_codes",
]
