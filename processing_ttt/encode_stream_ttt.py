"""
Encode audio as it arrives: checked, resampled and given to a codec's own stream, or kept until it is complete.

    audio at any rate ── push ──► resampled ──► codec's stream ──► codes that are final
                          finish: the rest

Depends on a codec's stream or a function that encodes whole audio. Independent of codecs, token ids and threads.
"""

import copy
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .audio_input_ttt import check_audible, check_length, peak_of
from .codec_interface_ttt import EncodeStream
from .resampling_ttt import ResamplingStream

NAME = "the audio"  # in errors


class PiecewiseEncodeStream:
    """
    A stream of a codec that encodes audio while it arrives; an [`EncodeStream`] for audio at another rate.

    Args:
        stream ([`EncodeStream`]): The codec's.
        sampling_rate (`int`): Rate of the audio, in Hz.
        codec_rate (`int`): Rate that the codec encodes, in Hz.
        max_seconds (`float`, *optional*): Longest audio.
    """

    is_piecewise = True

    def __init__(self, stream: EncodeStream, sampling_rate: int, codec_rate: int, max_seconds: float | None = None):
        self.sampling_rate = sampling_rate
        self.max_seconds = max_seconds
        self._stream = stream
        self._resampling = ResamplingStream(sampling_rate, codec_rate)
        self._peak = 0.0
        self._num_samples = 0

    def __copy__(self) -> "PiecewiseEncodeStream":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._stream, other._resampling = copy.copy(self._stream), copy.copy(self._resampling)
        return other

    def push(self, samples: np.ndarray) -> list[int]:
        """
        See [`EncodeStream`].

        Raises:
            ValueError: If the samples are not one axis of finite floats.
            AudioInputError: If the audio is too long now.
        """
        _check(samples)
        self._num_samples += len(samples)
        check_length(self._num_samples, self.sampling_rate, NAME, self.max_seconds)
        self._peak = max(self._peak, peak_of(samples))
        return self._stream.push(self._resampling.push(samples))

    def finish(self) -> list[int]:
        """
        See [`EncodeStream`].

        Raises:
            AudioInputError: If all of the audio is silent.
        """
        check_audible(self._peak, NAME)
        return self._stream.push(self._resampling.finish()) + self._stream.finish()


class WholeEncodeStream:
    """
    A stream of a codec that needs all audio at once: everything at the end.

    Args:
        encode (`Callable`): Turns samples of shape `(samples,)` into codes.
    """

    is_piecewise = False

    def __init__(self, encode: Callable[[np.ndarray], list[int]]):
        self.encode = encode
        self._pieces: tuple[np.ndarray, ...] = (np.zeros(0, dtype=np.float32),)

    def push(self, samples: np.ndarray) -> list[int]:
        """
        See [`EncodeStream`]: any code may still change.

        Raises:
            ValueError: If the samples are not one axis of finite floats.
        """
        _check(samples)
        self._pieces = (*self._pieces, samples)
        return []

    def finish(self) -> list[int]:
        """See [`EncodeStream`]: all codes."""
        return self.encode(np.concatenate(self._pieces))


def _check(samples: np.ndarray) -> None:
    """Refuse what would be encoded as other audio: integers are scaled differently, and a piece has one channel."""
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise ValueError(
            f"A stream takes finite float samples in [-1, 1] of one channel, (samples,), got {samples.dtype} of the "
            f"shape {samples.shape}; divide integer samples by their full scale."
        )


AudioEncodeStream: TypeAlias = PiecewiseEncodeStream | WholeEncodeStream

__all__ = ["AudioEncodeStream", "PiecewiseEncodeStream", "WholeEncodeStream"]
