"""
The vocoder of GLM-4-Voice (HiFT): log-mel frames -> samples at 22.05 kHz.

    log-mel -> pitch -> nine harmonics and noise (the source)
    log-mel -> upsampling, at each stage joined by the STFT of the source -> magnitude and phase
            -> inverse STFT -> samples

Random phases and noise are arguments. Independent of codes. It is HiFTNet (Li et al., 2023) over HiFi-GAN (Kong et
al., 2020) with the source of NSF (Wang et al., 2019), in CosyVoice's form. Computed in float32, the pitch in float64.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .glm4_voice_configuration import Glm4VoiceVocoderConfig

MAX_MAGNITUDE = 100.0


class F0Predictor(nn.Module):
    """
    The pitch of each frame, in Hz: `(batch, mel, frames)` -> `(batch, frames)`.

    Computed in float64 (it is a hundredth of the vocoder): the phase adds every rounding of the pitch up, so that in
    float32 a reply made in pieces would drift away from the same reply made at once.
    """

    def __init__(self, config: Glm4VoiceVocoderConfig):
        super().__init__()
        self.config = config
        inputs = [config.num_mel_bins] + [config.f0_channels] * (config.f0_context_frames - 1)
        self.convs = nn.ModuleList(nn.Conv1d(channels, config.f0_channels, 3, padding=1) for channels in inputs)
        self.classifier = nn.Linear(config.f0_channels, 1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        in_float32 = self.config.float32_source or mel.device.type == "mps"  # which has no float64
        dtype = torch.float32 if in_float32 else torch.float64
        hidden_states = mel.to(dtype)
        for conv in self.convs:
            weight, bias = (parameter.to(dtype) for parameter in conv.parameters())
            hidden_states = F.elu(F.conv1d(hidden_states, weight, bias, padding=1))
        weight, bias = (parameter.to(dtype) for parameter in self.classifier.parameters())
        return F.linear(hidden_states.transpose(1, 2), weight, bias)[..., 0].abs().float()


class HarmonicSource(nn.Module):
    """The excitation of the vocoder: harmonics of the pitch where there is one, noise elsewhere."""

    def __init__(self, config: Glm4VoiceVocoderConfig):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.num_harmonics + 1, 1)

    def forward(
        self, f0: torch.Tensor, phase: torch.Tensor, noise: torch.Tensor, cycles: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Source of some frames.

        Args:
            f0 (`torch.FloatTensor` of shape `(batch, frames)`): Pitch in Hz.
            phase (`torch.FloatTensor` of shape `(batch, harmonics, 1)`): Phase of each harmonic at the very
                beginning, in radians; that of the fundamental is always 0.
            noise (`torch.FloatTensor` of shape `(batch, harmonics, samples)`): Standard normal.
            cycles (`torch.DoubleTensor` of shape `(batch,)`, *optional*): Cycles of the fundamental before these
                frames, modulo 1.

        Returns:
            `torch.FloatTensor` of shape `(batch, 1, samples)`, and the cycles before the next frame.
        """
        config = self.config
        orders = torch.arange(1, config.num_harmonics + 2, device=f0.device, dtype=torch.float32)[:, None]
        samples = f0.repeat_interleave(config.hop_length, dim=1)[:, None]  # (batch, 1, samples)
        turns, cycles = self._turns(f0, orders, cycles)
        starts = torch.cat([torch.zeros_like(phase[:, :1]), phase[:, 1:]], dim=1)
        voiced = (samples > config.voiced_threshold).float()
        noise_level = voiced * config.noise_std + (1 - voiced) * (config.sine_amplitude / 3)
        sines = config.sine_amplitude * torch.sin(2 * torch.pi * turns + starts)
        excitation = sines * voiced + noise_level * noise
        return torch.tanh(self.linear(excitation.transpose(1, 2))).transpose(1, 2), cycles

    def _turns(
        self, f0: torch.Tensor, orders: torch.Tensor, cycles: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Turns `(batch, harmonics, samples)` of each harmonic at each sample, modulo 1, and the fundamental's before the
        next frame.
        """
        config = self.config
        # Whole frames are summed in float64 and modulo 1, so that the phase is as exact after an hour as at the
        # beginning.
        per_frame = f0.cpu().double() * config.hop_length / config.sampling_rate  # cycles of the fundamental
        before = per_frame.cumsum(1) - per_frame + (0.0 if cycles is None else cycles[:, None])  # (batch, frames)
        after = (before[:, -1] + per_frame[:, -1]) % 1
        if config.float32_source:
            steps = f0.repeat_interleave(config.hop_length, dim=1)[:, None] * orders / config.sampling_rate
            first = (before[:, :1, None] % 1).to(f0.device).float() * orders
            return (first + steps.cumsum(-1)) % 1, after
        starts = ((before[:, None] * orders.cpu().double()) % 1).float().to(f0.device)  # (batch, harmonics, frames)
        within = torch.arange(1, config.hop_length + 1, device=f0.device) / config.sampling_rate
        turns = starts[..., None] + (f0[:, None] * orders)[..., None] * within
        return turns.flatten(2) % 1, after


class Snake(nn.Module):
    """x + sin^2(a x) / a, with one a per channel (Ziyin et al., 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha[:, None]
        return hidden_states + torch.sin(hidden_states * alpha).square() / (alpha + 1e-9)


class HiftResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair beside the identity."""

    def __init__(self, channels: int, kernel_size: int, dilations: list[int]):
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=(kernel_size - 1) * dilation // 2)
            for dilation in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=(kernel_size - 1) // 2) for _ in dilations
        )
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for first, conv1, second, conv2 in zip(
            self.activations1, self.convs1, self.activations2, self.convs2, strict=True
        ):
            hidden_states = hidden_states + conv2(second(conv1(first(hidden_states))))
        return hidden_states


class Glm4VoiceVocoder(nn.Module):
    """
    Log-mel frames to samples.

    Args:
        config ([`Glm4VoiceVocoderConfig`]): Configuration.
    """

    def __init__(self, config: Glm4VoiceVocoderConfig):
        super().__init__()
        self.config = config
        rates, kernels = list(config.upsample_rates), list(config.upsample_kernel_sizes)
        widths = [config.upsample_initial_channel // 2**stage for stage in range(len(rates) + 1)]
        bins = config.istft_n_fft + 2  # real and imaginary parts, or magnitude and phase
        self.f0_predictor = F0Predictor(config)
        self.source = HarmonicSource(config)
        self.conv_pre = nn.Conv1d(config.num_mel_bins, widths[0], 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(widths[stage], widths[stage + 1], kernel, rate, padding=(kernel - rate) // 2)
            for stage, (rate, kernel) in enumerate(zip(rates, kernels, strict=True))
        )
        self.source_downs = nn.ModuleList(
            _source_down(bins, widths[stage + 1], math.prod(rates[stage + 1 :])) for stage in range(len(rates))
        )
        self.source_resblocks = nn.ModuleList(
            HiftResidualBlock(width, kernel, dilations)
            for width, kernel, dilations in zip(
                widths[1:], config.source_resblock_kernel_sizes, config.source_resblock_dilation_sizes, strict=True
            )
        )
        self.resblocks = nn.ModuleList(
            HiftResidualBlock(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = nn.Conv1d(widths[-1], bins, 7, padding=3)

    def forward(self, mel: torch.Tensor, phase: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """
        Decode whole utterances of one length.

        Args:
            mel (`torch.FloatTensor` of shape `(batch, mel, frames)`): Log-mel frames.
            phase (`torch.FloatTensor` of shape `(batch, harmonics, 1)`): First phases of the source, in radians.
            noise (`torch.FloatTensor` of shape `(batch, harmonics, samples)`): Its noise, standard normal.

        Returns:
            `torch.FloatTensor` of shape `(batch, samples)`: `hop_length` samples per frame.
        """
        source, _ = self.source(self.f0(mel), phase, noise)
        return self.synthesise(mel, source)

    def f0(self, mel: torch.Tensor) -> torch.Tensor:
        """Pitch in Hz of each frame: `(batch, mel, frames)` -> `(batch, frames)`."""
        with torch.autocast(mel.device.type, enabled=False):
            return self.f0_predictor(mel.float())

    def synthesise(self, mel: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """
        Decode frames with their source.

        The samples of a frame depend on `config.context_frames` frames on each side and no others.

        Args:
            mel (`torch.FloatTensor` of shape `(batch, mel, frames)`): Log-mel frames.
            source (`torch.FloatTensor` of shape `(batch, 1, samples)`): Source; see `HarmonicSource`.

        Returns:
            `torch.FloatTensor` of shape `(batch, samples)`.
        """
        with torch.autocast(mel.device.type, enabled=False):
            return self._synthesise(mel.float(), source.float())

    def _synthesise(self, mel: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        config = self.config
        n_fft, hop = config.istft_n_fft, config.istft_hop_length
        window = torch.hann_window(n_fft, device=mel.device)
        spectrum = torch.stft(source[:, 0], n_fft, hop, window=window, return_complex=True)
        source_spectrum = torch.cat([spectrum.real, spectrum.imag], dim=1)  # (batch, n_fft + 2, samples / hop + 1)
        hidden_states = self.conv_pre(mel)
        for stage, upsample in enumerate(self.ups):
            hidden_states = upsample(F.leaky_relu(hidden_states, config.leaky_relu_slope))
            if stage == len(self.ups) - 1:  # a centred STFT has one frame more than hops
                hidden_states = F.pad(hidden_states, (1, 0), mode="reflect")
            joined = self.source_resblocks[stage](self.source_downs[stage](source_spectrum))
            hidden_states = self._residual(stage, hidden_states + joined)
        hidden_states = self.conv_post(F.leaky_relu(hidden_states))  # here with PyTorch's own slope
        magnitude, phase = hidden_states.chunk(2, dim=1)
        magnitude = magnitude.exp().clamp(max=MAX_MAGNITUDE)
        # The network's phase is a sine, taken as radians: it covers a third of the circle.
        samples = torch.istft(torch.polar(magnitude, torch.sin(phase)), n_fft, hop, window=window)
        return samples.clamp(-config.audio_limit, config.audio_limit)

    def _residual(self, stage: int, hidden_states: torch.Tensor) -> torch.Tensor:
        """The mean of a stage's parallel residual blocks."""
        count = len(self.config.resblock_kernel_sizes)
        blocks = self.resblocks[stage * count : (stage + 1) * count]
        return sum(block(hidden_states) for block in blocks) / count


def _source_down(in_channels: int, out_channels: int, rate: int) -> nn.Conv1d:
    """From the rate of the source's STFT to that of a stage."""
    if rate == 1:
        return nn.Conv1d(in_channels, out_channels, 1)
    return nn.Conv1d(in_channels, out_channels, 2 * rate, stride=rate, padding=rate // 2)


__all__ = ["Glm4VoiceVocoder"]
