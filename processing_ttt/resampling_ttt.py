"""Change the sampling rate of a waveform. Independent of files, codecs and token ids."""

import math

import numpy as np
import torch

ZERO_CROSSINGS = 6  # of the sinc function, on each side of a sample
ROLLOFF = 0.99  # cutoff frequency as a share of the lower of the two Nyquist frequencies


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """
    Resample by a sinc filter under a Hann window: the filter of `torchaudio.functional.resample`, value for value.

    Codecs and recognisers were trained on audio that came through this filter, and torchaudio is not needed for it.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): The waveform.
        rate (`int`): Its rate, in Hz.
        target_rate (`int`): The rate of the result, in Hz. The filter has as many rows as the rate has parts of the
            greatest common divisor of both: rates without one take much memory.

    Returns:
        `np.ndarray` of shape `(ceil(samples * target_rate / rate),)`, float32.
    """
    waveform = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    divisor = math.gcd(rate, target_rate)
    rate, target_rate = rate // divisor, target_rate // divisor
    if rate == target_rate:
        return waveform.numpy()
    filters, reach = _filters(rate, target_rate)
    padded = torch.nn.functional.pad(waveform, (reach, reach + rate))
    groups = torch.nn.functional.conv1d(padded[None], filters[:, None], stride=rate)  # (target_rate, groups)
    return groups.T.flatten()[: math.ceil(target_rate * len(waveform) / rate)].numpy()


class ResamplingStream:
    """
    `resample` of a waveform that arrives piece by piece: the joined pieces are the whole waveform resampled.

    Args:
        rate (`int`): Rate of the waveform, in Hz.
        target_rate (`int`): The rate of the result, in Hz.
    """

    def __init__(self, rate: int, target_rate: int):
        divisor = math.gcd(rate, target_rate)
        self.rate, self.target_rate = rate // divisor, target_rate // divisor
        self._filters, self._reach = _filters(self.rate, self.target_rate)
        self._waiting = np.zeros(self._reach, dtype=np.float32)  # silence before the first sample
        self._num_in = self._num_out = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """
        Take the next samples.

        Args:
            samples (`np.ndarray` of shape `(samples,)`): The next part of the waveform.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32: What became final: all but the last filter and, at most,
                as many samples as the rate has parts of the greatest common divisor of both.
        """
        if self.rate == self.target_rate:
            return np.asarray(samples, dtype=np.float32)
        self._num_in += len(samples)
        return self._filtered(samples)

    def finish(self) -> np.ndarray:
        """End the waveform, and return the rest."""
        if self.rate == self.target_rate:
            return np.zeros(0, dtype=np.float32)
        length = math.ceil(self.target_rate * self._num_in / self.rate)
        rest = length - self._num_out
        return self._filtered(np.zeros(self._reach + self.rate, dtype=np.float32))[:rest]

    def _filtered(self, samples: np.ndarray) -> np.ndarray:
        waiting = np.concatenate([self._waiting, np.asarray(samples, dtype=np.float32)])
        num_groups = (len(waiting) - 2 * self._reach) // self.rate
        self._waiting = waiting[max(0, num_groups) * self.rate :]
        if num_groups < 1:
            return np.zeros(0, dtype=np.float32)
        read = torch.from_numpy(waiting[: num_groups * self.rate + 2 * self._reach])
        groups = torch.nn.functional.conv1d(read[None], self._filters[:, None], stride=self.rate)
        self._num_out += groups.numel()
        return groups.T.flatten().numpy()


def _filters(rate: int, target_rate: int) -> tuple[torch.Tensor, int]:
    """Filters, one for each output sample of a group of `rate` input samples; how many samples they reach beyond it."""
    cutoff = ROLLOFF * min(rate, target_rate)
    reach = math.ceil(ZERO_CROSSINGS * rate / cutoff)
    inputs = torch.arange(-reach, reach + rate, dtype=torch.float32) / rate
    outputs = torch.arange(target_rate, dtype=torch.float32) / target_rate
    angles = ((inputs - outputs[:, None]) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS) * math.pi
    sinc = torch.where(angles == 0, 1.0, angles.sin() / angles)
    window = torch.cos(angles / ZERO_CROSSINGS / 2) ** 2
    return sinc * (window * (cutoff / rate)), reach  # (target_rate, reach + rate + reach)
