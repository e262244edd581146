"""
The network of the flow of GLM-4-Voice: a 1-D U-Net over mel frames, with Transformer blocks at each level.

Noisy frames, their conditions and the time of the flow -> velocity. It is Matcha-TTS's decoder (Mehta et al., 2024)
in the form of CosyVoice (Du et al., 2024). Rows of a batch may have different lengths: convolutions see zeros after a
row's end, attention and normalisation nothing, so each row gives the same as alone. Independent of codes and solvers.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .glm4_voice_configuration import Glm4VoiceFlowConfig

TIME_SCALE = 1000.0  # the flow's time runs from 0 to 1, the sinusoids expect diffusion steps
NORM_GROUPS = 8


class MaskedGroupNorm(nn.GroupNorm):
    """Group normalisation over channels and time that leaves padding out."""

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`(batch, channels, time)` and where it is no padding, `(batch, time)` -> `(batch, channels, time)`."""
        if mask is None:
            return super().forward(hidden_states)
        groups = hidden_states.float().unflatten(1, (self.num_groups, -1))  # (batch, groups, channels / groups, time)
        valid = mask[:, None, None].to(groups.dtype)
        count = valid.sum((2, 3), keepdim=True) * groups.shape[2]
        mean = (groups * valid).sum((2, 3), keepdim=True) / count
        variance = ((groups - mean).square() * valid).sum((2, 3), keepdim=True) / count
        normed = ((groups - mean) * (variance + self.eps).rsqrt()).flatten(1, 2).to(hidden_states.dtype)
        return normed * self.weight[:, None] + self.bias[:, None]


def zero_padding(hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Zeros after each row's end: what a convolution would see there if the row were alone."""
    return hidden_states if mask is None else hidden_states * mask[:, None].to(hidden_states.dtype)


class UNetTimeEmbedding(nn.Module):
    """The flow's time `(batch,)` as a vector `(batch, out_features)`."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.in_features = in_features
        self.linear_1 = nn.Linear(in_features, out_features)
        self.linear_2 = nn.Linear(out_features, out_features)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        half = self.in_features // 2
        exponents = torch.arange(half, device=time.device, dtype=torch.float32) * (-math.log(10000) / (half - 1))
        angles = TIME_SCALE * time.float()[:, None] * exponents.exp()
        sinusoids = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.linear_2(F.silu(self.linear_1(sinusoids.to(self.linear_1.weight.dtype))))


class UNetResidualBlock(nn.Module):
    """Two normalised convolutions beside a 1x1 one; the time is added between them."""

    def __init__(self, in_channels: int, out_channels: int, time_features: int):
        super().__init__()
        self.time_projection = nn.Linear(time_features, out_channels)
        self.conv1 = nn.Conv1d(in_channels, out_channels, 3, padding=1)
        self.norm1 = MaskedGroupNorm(NORM_GROUPS, out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, 3, padding=1)
        self.norm2 = MaskedGroupNorm(NORM_GROUPS, out_channels)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, hidden_states: torch.Tensor, time: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        residual = self.shortcut(hidden_states)
        hidden_states = F.mish(self.norm1(self.conv1(hidden_states), mask))
        hidden_states = hidden_states + self.time_projection(F.mish(time))[..., None]
        hidden_states = F.mish(self.norm2(self.conv2(zero_padding(hidden_states, mask)), mask))
        return zero_padding(hidden_states + residual, mask)


class UNetTransformerBlock(nn.Module):
    """Self-attention over all frames of a row, then a feed-forward layer; `(batch, time, channels)`."""

    def __init__(self, channels: int, num_heads: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.attention_norm = nn.LayerNorm(channels)
        self.q_proj = nn.Linear(channels, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(channels, num_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(channels, num_heads * head_dim, bias=False)
        self.out_proj = nn.Linear(num_heads * head_dim, channels)
        self.feed_forward_norm = nn.LayerNorm(channels)
        self.up_proj = nn.Linear(channels, 4 * channels)
        self.down_proj = nn.Linear(4 * channels, channels)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        normed = self.attention_norm(hidden_states)
        queries, keys, values = (
            projection(normed).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads, time, head_dim)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = None if mask is None else mask[:, None, None]
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        hidden_states = hidden_states + self.out_proj(attended.transpose(1, 2).flatten(2))
        return hidden_states + self.down_proj(F.gelu(self.up_proj(self.feed_forward_norm(hidden_states))))


class UNetStage(nn.Module):
    """A residual block, Transformer blocks, and a convolution that may change the number of frames."""

    def __init__(
        self, config: Glm4VoiceFlowConfig, in_channels: int, out_channels: int, time_features: int, resample: nn.Module
    ):
        super().__init__()
        self.resnet = UNetResidualBlock(in_channels, out_channels, time_features)
        self.transformers = nn.ModuleList(
            UNetTransformerBlock(out_channels, config.unet_attention_heads, config.unet_head_dim)
            for _ in range(config.unet_num_blocks)
        )
        self.resample = resample

    def forward(
        self, hidden_states: torch.Tensor, time: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        frames = self.resnet(hidden_states, time, mask).transpose(1, 2)
        for transformer in self.transformers:
            frames = transformer(frames, mask)
        hidden_states = zero_padding(frames.transpose(1, 2), mask)
        return hidden_states, self.resample(hidden_states)  # at the level's own rate, and at that of the next one


class Glm4VoiceUNet(nn.Module):
    """
    The velocity of the flow.

    Args:
        config ([`Glm4VoiceFlowConfig`]): Configuration.
    """

    def __init__(self, config: Glm4VoiceFlowConfig):
        super().__init__()
        mel, channels = config.num_mel_bins, tuple(config.unet_channels)
        in_channels = 4 * mel  # noisy frames, mean, speaker, frames that are given
        time_features = 4 * channels[0]
        self.time_embedding = UNetTimeEmbedding(in_channels, time_features)
        inputs, last = (in_channels, *channels[:-1]), len(channels) - 1
        self.down_blocks = nn.ModuleList(
            UNetStage(config, inputs[level], width, time_features, _resample(width, width, level < last, up=False))
            for level, width in enumerate(channels)
        )
        self.mid_blocks = nn.ModuleList(
            UNetStage(config, channels[-1], channels[-1], time_features, nn.Identity())
            for _ in range(config.unet_num_mid_blocks)
        )
        widths = (*channels[::-1], channels[0])
        self.up_blocks = nn.ModuleList(
            UNetStage(config, 2 * widths[step], width, time_features, _resample(width, width, step < last, up=True))
            for step, width in enumerate(widths[1:])
        )
        self.final_conv = nn.Conv1d(channels[0], channels[0], 3, padding=1)
        self.final_norm = MaskedGroupNorm(NORM_GROUPS, channels[0])
        self.final_proj = nn.Conv1d(channels[0], mel, 1)

    def forward(self, frames: torch.Tensor, time: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Velocity of noisy frames.

        Args:
            frames (`torch.FloatTensor` of shape `(batch, 4 * mel, time)`): Noisy frames, mean, speaker and given
                frames, one on the other; zeros after the end of a shorter row.
            time (`torch.FloatTensor` of shape `(batch,)`): Time of the flow, 0 .. 1.
            mask (`torch.BoolTensor` of shape `(batch, time)`, *optional*): Where a row has frames.

        Returns:
            `torch.FloatTensor` of shape `(batch, mel, time)`.
        """
        embedded = self.time_embedding(time)
        hidden_states, skips = frames, []
        for stage in self.down_blocks:
            skip, hidden_states = stage(hidden_states, embedded, mask)
            skips.append((skip, mask))
            if mask is not None and hidden_states.shape[-1] != skip.shape[-1]:
                mask = mask[:, ::2]
            hidden_states = zero_padding(hidden_states, mask)
        for stage in self.mid_blocks:
            _, hidden_states = stage(hidden_states, embedded, mask)
        for stage in self.up_blocks:
            skip, mask = skips.pop()
            hidden_states = zero_padding(hidden_states[..., : skip.shape[-1]], mask)  # an odd row came back even
            _, hidden_states = stage(torch.cat([hidden_states, skip], dim=1), embedded, mask)
        hidden_states = F.mish(self.final_norm(self.final_conv(zero_padding(hidden_states, mask)), mask))
        return zero_padding(self.final_proj(hidden_states), mask)


def _resample(in_channels: int, out_channels: int, changes_rate: bool, up: bool) -> nn.Module:
    """The convolution at a stage's end: half or twice the frames, or as many at the innermost and outermost level."""
    if not changes_rate:
        return nn.Conv1d(in_channels, out_channels, 3, padding=1)
    if up:
        return nn.ConvTranspose1d(in_channels, out_channels, 4, stride=2, padding=1)
    return nn.Conv1d(in_channels, out_channels, 3, stride=2, padding=1)


__all__ = ["Glm4VoiceUNet", "MaskedGroupNorm", "zero_padding"]
