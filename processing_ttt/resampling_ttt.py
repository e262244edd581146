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
