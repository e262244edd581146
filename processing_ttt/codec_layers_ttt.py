"""
The layers of the small speech codec: convolutions with a stated lookahead, ConvNeXt blocks, finite scalar quantisation
and the inverse-STFT head.

A mask is applied after every layer that would write into padding, so a row gives the same alone and in a padded batch.

Depends on tensors of shape `(batch, time, channels)` and masks of shape `(batch, time, 1)`. Independent of files, of
padding masks of samples and of token ids.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank

from .codec_configuration_ttt import TttCodecConfig


class TttCodecConv(nn.Conv1d):
    """
    A convolution over time that keeps the length and sees exactly `lookahead` steps ahead (and `kernel_size - 1 -
    lookahead` back).

    Args:
        in_channels (`int`): Channels in.
        out_channels (`int`): Channels out.
        kernel_size (`int`): Width, in steps.
        lookahead (`int`): Steps after the present one that it sees.
        groups (`int`, *optional*, defaults to 1): Groups of channels; equal to the channels for a depthwise
            convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, lookahead: int, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, groups=groups)
        self.time_padding = (kernel_size - 1 - lookahead, lookahead)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, time, in_channels)` -> `(batch, time, out_channels)`."""
        padded = F.pad(hidden_states.transpose(1, 2), self.time_padding)
        return super().forward(padded).transpose(1, 2)


class TttCodecBlock(nn.Module):
    """
    A ConvNeXt block over time: depthwise convolution, norm, two linear layers, scaled residual.

    Args:
        hidden_size (`int`): Channels.
        intermediate_size (`int`): Channels between the linear layers.
        kernel_size (`int`): Width of the convolution, in steps.
        lookahead (`int`): Steps after the present one that it sees.
        layer_scale_init_value (`float`): Initial scale of the residual branch.
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, kernel_size: int, lookahead: int, layer_scale_init_value: float
    ):
        super().__init__()
        self.depthwise = TttCodecConv(hidden_size, hidden_size, kernel_size, lookahead, groups=hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.up_proj = nn.Linear(hidden_size, intermediate_size)
        self.down_proj = nn.Linear(intermediate_size, hidden_size)
        self.layer_scale = nn.Parameter(torch.full((hidden_size,), layer_scale_init_value))
        self.layer_scale_init_value = layer_scale_init_value

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The hidden states after the block, zero where `mask` is."""
        branch = self.down_proj(F.gelu(self.up_proj(self.norm(self.depthwise(hidden_states)))))
        hidden_states = hidden_states + self.layer_scale * branch
        return hidden_states if mask is None else hidden_states * mask


class TttCodecLogMel(nn.Module):
    """
    Samples `(batch, samples)`, a whole number of codes long, -> normalised log-mel frames `(batch, mel_frames, mel)`,
    float32.

    Frame m is centred on its own hop; beyond the ends there is silence.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("filters", self.mel_filters(), persistent=False)

    def mel_filters(self) -> torch.Tensor:
        """Triangular mel filters of shape `(n_fft/2 + 1, mel)`, each with a peak of 1."""
        config = self.config
        filters = mel_filter_bank(
            config.n_fft // 2 + 1,
            config.num_mel_bins,
            0.0,
            config.sampling_rate / 2,
            config.sampling_rate,
            mel_scale="slaney",
        )
        return torch.from_numpy(filters).float()

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Compute log-mel frames; see the class for shapes."""
        config = self.config
        padded = F.pad(samples.float(), (config.window_overhang, config.window_overhang))
        spectrum = torch.stft(
            padded, config.n_fft, config.hop_length, window=self.window.float(), center=False, return_complex=True
        )
        mel = spectrum.abs().transpose(1, 2) @ self.filters.float()
        return (mel.clamp(min=config.mel_floor).log() - config.mel_mean) / config.mel_std


class TttCodecEncoder(nn.Module):
    """
    Normalised log-mel frames `(batch, frames * mel_frames_per_code, mel)` -> latents `(batch, frames, dims)`, not
    causal.
    """

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        size, kernel, ratio = config.hidden_size, config.kernel_size, config.mel_frames_per_code
        block = (size, config.intermediate_size, kernel, kernel // 2, config.layer_scale_init_value)
        self.ratio = ratio
        self.log_mel = TttCodecLogMel(config)
        self.quantizer = TttCodecQuantizer(config.fsq_levels)
        self.input_conv = TttCodecConv(config.num_mel_bins, size, kernel, kernel // 2)
        self.mel_layers = nn.ModuleList(TttCodecBlock(*block) for _ in range(config.encoder_mel_layers))
        self.downsample = nn.Linear(size * ratio, size)
        self.code_layers = nn.ModuleList(TttCodecBlock(*block) for _ in range(config.encoder_code_layers))
        self.norm = nn.LayerNorm(size)
        self.output_proj = nn.Linear(size, len(config.fsq_levels))

    def forward(self, mel: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See the class for shapes; `mask` is 0 on padded frames."""
        mel_mask = None if mask is None else mask.repeat_interleave(self.ratio, dim=1)
        hidden_states = self.input_conv(mel if mel_mask is None else mel * mel_mask)
        hidden_states = hidden_states if mel_mask is None else hidden_states * mel_mask
        for layer in self.mel_layers:
            hidden_states = layer(hidden_states, mel_mask)
        hidden_states = self.downsample(hidden_states.reshape(mel.shape[0], -1, self.downsample.in_features))
        hidden_states = hidden_states if mask is None else hidden_states * mask  # (batch, frames, hidden)
        for layer in self.code_layers:
            hidden_states = layer(hidden_states, mask)
        return self.output_proj(self.norm(hidden_states))

    def bins(self, samples: torch.Tensor, row_frames: torch.Tensor) -> torch.Tensor:
        """As [`TttCodecModel.bins`], for audio of one segment."""
        mel = self.log_mel(samples).to(self.output_proj.weight.dtype)
        mask = frame_mask(row_frames, mel.shape[1] // self.ratio).to(mel.dtype)[..., None]
        return self.quantizer.bins(self(mel, mask))


def frame_mask(row_frames: torch.Tensor, frames: int) -> torch.Tensor:
    """True at the codes of each row: lengths `(batch,)` -> `(batch, frames)`."""
    return torch.arange(frames, device=row_frames.device) < row_frames[:, None]


class TttCodecQuantizer(nn.Module):
    """
    Finite scalar quantisation (Mentzer et al., 2023) with bins of equal width.

    Each latent is squashed to (-1, 1) by `2 * sigmoid(1.6 x) - 1`, which makes a normal latent nearly uniform, cut into
    `levels` equal bins and replaced by the centre of its bin; the gradient passes straight through. A code is the
    number whose mixed-radix digits are the bins, the first dimension lowest.

    Args:
        levels (`list[int]`): Bins of each dimension.
    """

    def __init__(self, levels: list[int] | tuple[int, ...]):
        super().__init__()
        self.levels = tuple(levels)

    def bins(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `(batch, frames, dims)` -> bins of the same shape, 0 .. levels - 1."""
        levels = torch.tensor(self.levels, device=latents.device)
        bins = (torch.sigmoid(1.6 * latents.float()) * levels).floor().long()
        return torch.minimum(bins, levels - 1)

    def centres(self, bins: torch.Tensor) -> torch.Tensor:
        """Bins `(batch, frames, dims)` -> their centres in (-1, 1), float32."""
        levels = torch.tensor(self.levels, device=bins.device)
        return (2 * bins + 1).float() / levels - 1

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents -> quantised latents with the gradient of the squashed ones, float32."""
        squashed = 2 * torch.sigmoid(1.6 * latents.float()) - 1
        return squashed + (self.centres(self.bins(latents)) - squashed).detach()

    def codes(self, bins: torch.Tensor) -> torch.Tensor:
        """Bins `(batch, frames, dims)` -> codes `(batch, frames)`."""
        codes, place = torch.zeros_like(bins[..., 0]), 1
        for dimension, levels in enumerate(self.levels):
            codes, place = codes + bins[..., dimension] * place, place * levels
        return codes

    def from_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes `(batch, frames)` -> quantised latents `(batch, frames, dims)`, float32."""
        bins = []
        for levels in self.levels:
            bins.append(codes % levels)
            codes = codes // levels
        return self.centres(torch.stack(bins, dim=-1))


class TttCodecDecoder(nn.Module):
    """Quantised latents `(batch, frames, dims)` -> log-mel frames `(batch, frames * mel_frames_per_code, mel)`."""

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        size, kernel, ratio = config.hidden_size, config.kernel_size, config.mel_frames_per_code
        self.ratio = ratio
        input_lookahead, *code_lookaheads = config.decoder_code_lookaheads

        def blocks(lookaheads: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(
                TttCodecBlock(size, config.intermediate_size, kernel, lookahead, config.layer_scale_init_value)
                for lookahead in lookaheads
            )

        self.input_conv = TttCodecConv(len(config.fsq_levels), size, kernel, input_lookahead)
        self.code_layers = blocks(code_lookaheads)
        self.upsample = nn.Linear(size, size * ratio)
        self.mel_layers = blocks(config.decoder_mel_lookaheads)
        self.norm = nn.LayerNorm(size)
        self.output_proj = nn.Linear(size, config.num_mel_bins)

    def forward(self, latents: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See the class for shapes; `mask` is 0 on padded frames."""
        hidden_states = self.input_conv(latents if mask is None else latents * mask)
        hidden_states = hidden_states if mask is None else hidden_states * mask
        for layer in self.code_layers:
            hidden_states = layer(hidden_states, mask)
        batch, frames, size = hidden_states.shape
        hidden_states = self.upsample(hidden_states).reshape(batch, frames * self.ratio, size)
        mel_mask = None if mask is None else mask.repeat_interleave(self.ratio, dim=1)
        hidden_states = hidden_states if mel_mask is None else hidden_states * mel_mask
        for layer in self.mel_layers:
            hidden_states = layer(hidden_states, mel_mask)
        return self.output_proj(self.norm(hidden_states))


class TttCodecVocoder(nn.Module):
    """
    Normalised log-mel frames `(batch, mel_frames, mel)` -> samples `(batch, mel_frames * hop_length)`: ConvNeXt blocks
    that predict magnitude and phase of each frame's spectrum, and an inverse STFT with overlap-add (Siuzdak, 2023,
    "Vocos").
    """

    window: torch.Tensor

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        size, kernel = config.vocoder_hidden_size, config.kernel_size
        input_lookahead, *lookaheads = config.vocoder_lookaheads
        self.n_fft, self.hop_length, self.overhang = config.n_fft, config.hop_length, config.window_overhang
        self.input_conv = TttCodecConv(config.num_mel_bins, size, kernel, input_lookahead)
        self.layers = nn.ModuleList(
            TttCodecBlock(size, config.vocoder_intermediate_size, kernel, lookahead, config.layer_scale_init_value)
            for lookahead in lookaheads
        )
        self.norm = nn.LayerNorm(size)
        self.output_proj = nn.Linear(size, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, mel: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """See the class for shapes; `mask` is 0 on padded frames."""
        hidden_states = self.input_conv(mel if mask is None else mel * mask)
        hidden_states = hidden_states if mask is None else hidden_states * mask
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        log_magnitude, phase = self.output_proj(self.norm(hidden_states)).float().chunk(2, dim=-1)
        magnitude = log_magnitude.clamp(max=5.0).exp()
        return self.overlap_add(self.inverse(magnitude * phase.cos(), magnitude * phase.sin()), mask)

    def inverse(self, real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
        """Parts of spectra `(batch, mel_frames, n_fft/2 + 1)` -> frames `(batch, mel_frames, n_fft)`."""
        return torch.fft.irfft(torch.complex(real, imaginary), n=self.n_fft)

    def overlap_add(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """
        Frames `(batch, mel_frames, n_fft)` -> samples `(batch, mel_frames * hop_length)`; frame m is centred on its own
        hop.
        """
        window = self.window.float()
        frames = frames * window
        weights = window.square().expand(1, frames.shape[1], -1)
        if mask is not None:
            frames, weights = frames * mask, weights * mask
        samples = self._add_hops(frames) / self._add_hops(weights).clamp(min=1e-3)
        return samples[:, self.overhang : self.overhang + frames.shape[1] * self.hop_length]

    def _add_hops(self, frames: torch.Tensor) -> torch.Tensor:
        hops = self.n_fft // self.hop_length
        batch, length, _ = frames.shape
        pieces = frames.reshape(batch, length, hops, self.hop_length)
        padded = [F.pad(pieces[:, :, hop], (0, 0, hop, hops - 1 - hop)) for hop in range(hops)]
        return torch.stack(padded).sum(0).flatten(1)  # (batch, (length + hops - 1) * hop_length)


__all__ = [
    "TttCodecBlock",
    "TttCodecConv",
    "TttCodecDecoder",
    "TttCodecEncoder",
    "TttCodecLogMel",
    "TttCodecQuantizer",
    "TttCodecVocoder",
    "frame_mask",
]
