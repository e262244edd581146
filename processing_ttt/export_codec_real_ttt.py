"""
The small codec without complex numbers, for runtimes that have none: Fourier transforms are products with matrices.

Depends on the codec's layers. Independent of runtimes.
"""

import copy

import torch
import torch.nn.functional as F

from .codec_configuration_ttt import TttCodecConfig
from .codec_layers_ttt import TttCodecVocoder
from .codec_ttt import TttCodecModel
from .codec_whisper_ttt import HOP_LENGTH, N_FFT, TttCodecWhisper


def real_codec(codec: TttCodecModel) -> TttCodecModel:
    """
    Copy a codec, with Fourier transforms by matrices.

    Args:
        codec ([`TttCodecModel`]): With Whisper's encoder.

    Returns:
        [`TttCodecModel`]: Its samples differ by rounding only.
    """
    real = copy.deepcopy(codec)
    for owner, name, kind in ((real, "vocoder", RealVocoder), (real.encoder, "whisper", RealWhisper)):
        part = kind(codec.config)
        part.load_state_dict(getattr(owner, name).state_dict())
        setattr(owner, name, part)
    for module in real.modules():
        module._non_persistent_buffers_set.clear()  # ExecuTorch's lowering finds persistent buffers only
    return real.eval()


class RealVocoder(TttCodecVocoder):
    """The vocoder, whose inverse transform is a product with its values for unit spectra."""

    basis: torch.Tensor

    def __init__(self, config: TttCodecConfig):
        super().__init__(config)
        unit = torch.eye(config.n_fft // 2 + 1)
        zeros = torch.zeros_like(unit)
        basis = torch.cat([TttCodecVocoder.inverse(self, *parts) for parts in ((unit, zeros), (zeros, unit))])
        self.register_buffer("basis", basis, persistent=False)

    def inverse(self, real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
        """See `TttCodecVocoder`."""
        return torch.cat([real, imaginary], dim=-1) @ self.basis


class RealWhisper(TttCodecWhisper):
    """Whisper's encoder, whose windowed transform is a convolution with cosines and sines."""

    kernels: torch.Tensor

    def __init__(self, config: TttCodecConfig):
        super().__init__(config)
        waves = torch.fft.rfft(torch.eye(N_FFT, dtype=torch.float64)).T * torch.hann_window(N_FFT, dtype=torch.float64)
        self.register_buffer("kernels", torch.cat([waves.real, waves.imag])[:, None].float(), persistent=False)

    def power(self, samples: torch.Tensor) -> torch.Tensor:
        """See `TttCodecWhisper`."""
        padded = F.pad(samples[:, None], (N_FFT // 2, N_FFT // 2), mode="reflect")
        spectrum = F.conv1d(padded, self.kernels, stride=HOP_LENGTH)[..., :-1]
        real, imaginary = spectrum.chunk(2, dim=1)
        return real.square() + imaginary.square()


__all__ = ["RealVocoder", "RealWhisper", "real_codec"]
