"""
Codes to sound while codes are still coming: the samples of decoding everything at once, piece by piece.

Knows how far a code's sound depends on its neighbours, and what decodes codes. Knows no codec, no tokens and no
threads.

    codes   | dropped | context, spoken | to speak now | lookahead |  not there yet
                      └───────────── decoded again ────────────┘
"""

from collections.abc import Callable

import numpy as np

Decode = Callable[[list[int]], np.ndarray]


class WindowedCodecStream:
    """
    A stream of a codec whose sound depends on a limited stretch of codes: decodes that stretch again with each piece.

    A piece costs the decoding of its own codes and of `context + lookahead` around them, however long the sound is.
    Samples equal those of decoding everything at once but for floating point rounding, which depends on the length of
    what is decoded: 4e-7 of full scale with the codec of nano in float32 on a CPU.

    Args:
        decode (`Callable`): Turns codes into float32 samples of shape `(samples,)`, `samples_per_code` of them for
            each.
        context (`int`): Codes before code i on which its sound depends.
        lookahead (`int`): Codes after code i on which its sound depends.
        samples_per_code (`int`): Samples of one code.
    """

    def __init__(self, decode: Decode, context: int, lookahead: int, samples_per_code: int):
        self.decode = decode
        self.context = context
        self.lookahead = lookahead
        self.samples_per_code = samples_per_code
        self._codes: list[int] = []  # context, and what was not spoken yet
        self._num_spoken = 0  # of these

    def push(self, codes: list[int]) -> np.ndarray:
        """See [`CodecStream`]: speaks up to the code that has its lookahead."""
        self._codes += codes
        return self._speak(len(self._codes) - self.lookahead)

    def finish(self) -> np.ndarray:
        """See [`CodecStream`]: nothing follows the last code."""
        return self._speak(len(self._codes))

    def _speak(self, end: int) -> np.ndarray:
        start = self._num_spoken
        if end <= start:
            return np.zeros(0, dtype=np.float32)
        samples = self.decode(self._codes)[start * self.samples_per_code : end * self.samples_per_code]
        num_dropped = max(0, end - self.context)
        del self._codes[:num_dropped]
        self._num_spoken = end - num_dropped
        return samples


class WholeCodecStream:
    """
    A stream of a codec that does not say on which codes a sample depends: silent until the end, and exact.

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
