"""
The discriminators of a codec's training ("critics"), which distinguish recorded from decoded speech: small networks
over a waveform's periods and over its spectrum.

Multi-period critics are those of Kong et al. (2020, "HiFi-GAN"), multi-resolution ones those of Jang et al. (2021,
"UnivNet") on log magnitudes, both with an eighth of the published channels or fewer: on a CPU a step of the published
sizes takes half a minute.

Depends on waveforms. Independent of codecs, texts, and of when a critic is trained.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

PERIODS = (2, 3, 5, 7, 11)
RESOLUTIONS = (256, 512, 1024)
PERIOD_CHANNELS = (1, 16, 32, 64, 128)
RESOLUTION_CHANNELS = (1, 16, 16, 16, 32)
SLOPE = 0.1
SMALLEST_MAGNITUDE = 1e-3

Judgement = tuple[torch.Tensor, list[torch.Tensor]]  # scores, and the outputs of the layers before them


class Critic(nn.Module):
    """
    Convolutions over a picture of a waveform, and a score for every place in it.

    Args:
        channels (`Sequence[int]`): Of the picture and of every layer.
        kernel (`tuple[int, int]`): Of the layers.
        stride (`tuple[int, int]`): Of the layers.
    """

    def __init__(self, channels: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.layers = nn.ModuleList(nn.Conv2d(few, many, kernel, stride, padding) for few, many in pairwise(channels))
        self.score = nn.Conv2d(channels[-1], 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def picture(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, samples)` -> `(batch, 1, height, width)`."""
        raise NotImplementedError

    def forward(self, audio: torch.Tensor) -> Judgement:
        """
        Judge waveforms.

        Args:
            audio (`torch.Tensor` of shape `(batch, samples)`): Float32.

        Returns:
            `tuple[torch.Tensor, list[torch.Tensor]]`: Scores, high for recorded speech, and the features of each layer.
        """
        hidden_states, features = self.picture(audio), []
        for layer in self.layers:
            hidden_states = F.leaky_relu(layer(hidden_states), SLOPE)
            features.append(hidden_states)
        return self.score(hidden_states), features


class PeriodCritic(Critic):
    """Sees every `period`-th sample as one column of a picture."""

    def __init__(self, period: int):
        super().__init__(PERIOD_CHANNELS, (5, 1), (3, 1))
        self.period = period

    def picture(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, samples)` -> `(batch, 1, samples / period, period)`; the samples that fill no row are left out."""
        rows = audio.shape[1] // self.period
        return audio[:, : rows * self.period].view(audio.shape[0], 1, rows, self.period)


class ResolutionCritic(Critic):
    """Sees log magnitudes of an STFT with windows of `n_fft` samples, a quarter apart."""

    window: torch.Tensor

    def __init__(self, n_fft: int):
        super().__init__(RESOLUTION_CHANNELS, (3, 9), (1, 2))
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def picture(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, samples)` -> `(batch, 1, frames, n_fft / 2 + 1)`."""
        spectrum = torch.stft(audio, self.n_fft, self.n_fft // 4, window=self.window, return_complex=True)
        return spectrum.abs().clamp(min=SMALLEST_MAGNITUDE).log().transpose(1, 2)[:, None]


def make_critics() -> nn.ModuleDict:
    """Make all critics, by name: `period2`, ... and `resolution256`, ..."""
    periods = {f"period{period}": PeriodCritic(period) for period in PERIODS}
    return nn.ModuleDict({**periods, **{f"resolution{size}": ResolutionCritic(size) for size in RESOLUTIONS}})


def critic_loss(recorded: Judgement, decoded: Judgement) -> torch.Tensor:
    """Hinge loss of a critic: recorded speech should score 1 or more, decoded speech -1 or less."""
    return F.relu(1 - recorded[0]).mean() + F.relu(1 + decoded[0]).mean()


def deception_loss(decoded: Judgement) -> torch.Tensor:
    """Loss of the decoded speech: the lower, the more a critic scores it as recorded."""
    return -decoded[0].mean()


def feature_distance(recorded: Judgement, decoded: Judgement) -> torch.Tensor:
    """Mean absolute difference of a critic's features, each layer relative to their size for recorded speech."""
    pairs = list(zip(recorded[1], decoded[1], strict=True))
    return torch.stack([F.l1_loss(mine, real) / real.abs().mean().clamp(min=1e-3) for real, mine in pairs]).mean()
