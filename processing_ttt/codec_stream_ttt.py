"""
Decode codes as they arrive: the samples of decoding all codes at once, piece by piece.

    codes   | dropped | context, done | final now | look-ahead |  not there yet
                      └────────────── decoded ─────────────┘

Depends on a function that decodes codes and its receptive field. Independent of codecs, token ids and threads.
"""

from collections.abc import Callable

import numpy as np

Decode = Callable[[list[int]], np.ndarray]


class WindowedCodecStream:
    """
    A stream of a codec with a limited receptive field, which is decoded again with each piece.

    A piece costs the decoding of its own codes and of `context + lookahead` codes around them, at any total length.
    Samples equal those of decoding everything at once but for floating point rounding, which depends on the length of
    what is decoded: 4e-7 of full scale with the codec of nano in float32 on a CPU.

    Args:
        decode (`Callable`): Turns codes into float32 samples of shape `(samples,)`, `samples_per_code` of them for
            each.
        context (`int`): Codes before code i on which its samples depend.
        lookahead (`int`): Codes after code i on which its samples depend.
        samples_per_code (`int`): Samples of one code.
    """

    def __init__(self, decode: Decode, context: int, lookahead: int, samples_per_code: int):
        self.decode = decode
        self.context = context
        self.lookahead = lookahead
        self.samples_per_code = samples_per_code
        self._codes: list[int] = []  # context, and codes whose samples were not returned yet
        self._num_done = 0  # of these

    def push(self, codes: list[int]) -> np.ndarray:
        """See [`CodecStream`]: up to the last code whose look-ahead is complete."""
        self._codes += codes
        return self._decode_until(len(self._codes) - self.lookahead)

    def finish(self) -> np.ndarray:
        """See [`CodecStream`]: nothing follows the last code."""
        return self._decode_until(len(self._codes))

    def _decode_until(self, end: int) -> np.ndarray:
        start = self._num_done
        if end <= start:
            return np.zeros(0, dtype=np.float32)
        samples = self.decode(self._codes)[start * self.samples_per_code : end * self.samples_per_code]
        num_dropped = max(0, end - self.context)
        del self._codes[:num_dropped]
        self._num_done = end - num_dropped
        return samples


class WholeCodecStream:
    """
    A stream of a codec with an unknown receptive field: exact, and everything at the end.

    Args:
        decode (`Callable`): Turns codes into float32 samples of shape `(samples,)`.
    """

    def __init__(self, decode: Decode):
        self.decode = decode
        self._codes: list[int] = []

    def push(self, codes: list[int]) -> np.ndarray:
        """See [`CodecStream`]: any sample may still change."""
        self._codes += codes
        return np.zeros(0, dtype=np.float32)

    def finish(self) -> np.ndarray:
        """See [`CodecStream`]: all of it."""
        codes, self._codes = self._codes, []
        return self.decode(codes) if codes else np.zeros(0, dtype=np.float32)
