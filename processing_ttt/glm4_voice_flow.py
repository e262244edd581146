"""
The flow of GLM-4-Voice: codes -> log-mel frames.

    codes -> block-causal encoder -> mel bands -> length regulator (6.890625 frames per code) -> mean
    noise --- Euler steps along the velocity of the U-Net, given mean, speaker and known frames --> log-mel

Follows CosyVoice (Du et al., 2024), with the block-causal encoder of GLM-4-Voice (Zeng et al., 2024). Noise is an
argument. There is no dropout: this is for inference, not for training. Independent of waveforms.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .glm4_voice_configuration import Glm4VoiceFlowConfig
from .glm4_voice_unet import Glm4VoiceUNet, MaskedGroupNorm, zero_padding


class FlowAttention(nn.Module):
    """Self-attention with relative positions (Dai et al., 2019, in ESPnet's form), `(batch, codes, hidden)`."""

    def __init__(self, config: Glm4VoiceFlowConfig):
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.head_dim = width // heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, self.head_dim))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, self.head_dim))

    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        queries, keys, values, distances = (
            projection(states).unflatten(-1, (-1, self.head_dim)).transpose(-2, -3)  # (..., heads, codes, head_dim)
            for projection, states in (
                (self.linear_q, hidden_states),
                (self.linear_k, hidden_states),
                (self.linear_v, hidden_states),
                (self.linear_pos, positions),
            )
        )
        by_distance = (queries + self.pos_bias_v[:, None]) @ distances.transpose(-1, -2)  # (batch, heads, n, 2n - 1)
        bias = relative_to_absolute(by_distance) / math.sqrt(self.head_dim)
        attended = F.scaled_dot_product_attention(
            queries + self.pos_bias_u[:, None], keys, values, attn_mask=bias.masked_fill(~seen, -torch.inf)
        )
        return self.linear_out(attended.transpose(1, 2).flatten(2))


def relative_to_absolute(scores: torch.Tensor) -> torch.Tensor:
    """
    Scores by relative distance as scores by position.

    Args:
        scores (`torch.FloatTensor` of shape `(..., n, 2n - 1)`): Column c is the distance n - 1 - c of a query to a
            key before it.

    Returns:
        `torch.FloatTensor` of shape `(..., n, n)`: Row i, column j is the score of the distance i - j.
    """
    count = scores.shape[-2]
    place = torch.arange(count, device=scores.device)
    return scores.gather(-1, (count - 1 - place[:, None] + place).expand(*scores.shape[:-1], count))


def relative_positions(count: int, width: int, device: torch.device) -> torch.Tensor:
    """Sinusoids of distances count - 1 .. 1 - count, sine and cosine interleaved, `(2 * count - 1, width)`, float32."""
    distances = torch.arange(count - 1, -count, -1, device=device, dtype=torch.float32)
    rates = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    angles = distances[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class FlowEncoderLayer(nn.Module):
    """A pre-norm Transformer layer."""

    def __init__(self, config: Glm4VoiceFlowConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = FlowAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.attention(self.attention_norm(hidden_states), positions, seen)
        return hidden_states + self.down_proj(F.silu(self.up_proj(self.feed_forward_norm(hidden_states))))


class FlowEncoder(nn.Module):
    """Codes in context: each sees its own block and those before it, so later codes never change complete blocks."""

    def __init__(self, config: Glm4VoiceFlowConfig):
        super().__init__()
        self.block_size = config.block_size
        self.input_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.input_norm = nn.LayerNorm(config.hidden_size)
        self.layers = nn.ModuleList(FlowEncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(batch, codes, hidden)` and which codes there are, `(batch, codes)` -> `(batch, codes, hidden)`."""
        count, width = embedded.shape[1:]
        blocks = torch.arange(count, device=embedded.device) // self.block_size
        seen = (blocks <= blocks[:, None]) & mask[:, None, None]  # (batch, 1, codes, codes)
        positions = relative_positions(count, width, embedded.device).to(embedded.dtype)
        hidden_states = self.input_norm(self.input_projection(embedded)) * math.sqrt(width)
        for layer in self.layers:
            hidden_states = layer(hidden_states, positions, seen)
        return self.final_norm(hidden_states)


class FlowLengthRegulator(nn.Module):
    """From the rate of codes to the rate of mel frames: nearest neighbour, then smoothing convolutions."""

    def __init__(self, config: Glm4VoiceFlowConfig):
        super().__init__()
        mel = config.num_mel_bins
        self.convs = nn.ModuleList(nn.Conv1d(mel, mel, 3, padding=1) for _ in range(config.num_regulator_layers))
        self.norms = nn.ModuleList(MaskedGroupNorm(1, mel) for _ in range(config.num_regulator_layers))
        self.output_projection = nn.Conv1d(mel, mel, 1)

    def forward(self, hidden_states: torch.Tensor, num_codes: list[int], num_frames: list[int]) -> torch.Tensor:
        """`(batch, codes, mel)` -> `(batch, mel, frames)`, zeros after the end of a shorter row."""
        rows = [
            F.interpolate(row[:codes].T[None], size=frames, mode="nearest")[0].T
            for row, codes, frames in zip(hidden_states, num_codes, num_frames, strict=True)
        ]
        regulated = nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)
        mask = frame_mask(num_frames, regulated.device)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            regulated = zero_padding(F.mish(norm(conv(regulated), mask)), mask)
        return zero_padding(self.output_projection(regulated), mask)


def frame_mask(num_frames: list[int], device: torch.device) -> torch.Tensor | None:
    """Where rows of these lengths have frames, `(batch, longest)`; `None` if all are of one length."""
    if len(set(num_frames)) == 1:
        return None
    lengths = torch.tensor(num_frames, device=device)
    return torch.arange(max(num_frames), device=device) < lengths[:, None]


class Glm4VoiceFlow(nn.Module):
    """
    Codes to log-mel frames.

    Args:
        config ([`Glm4VoiceFlowConfig`]): Configuration.
    """

    def __init__(self, config: Glm4VoiceFlowConfig):
        super().__init__()
        self.config = config
        self.input_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder = FlowEncoder(config)
        self.mel_projection = nn.Linear(config.hidden_size, config.num_mel_bins)
        self.length_regulator = FlowLengthRegulator(config)
        self.speaker_projection = nn.Linear(config.speaker_embedding_size, config.num_mel_bins)
        self.estimator = Glm4VoiceUNet(config)

    def mean(self, codes: torch.Tensor, num_codes: list[int]) -> torch.Tensor:
        """
        The mean around which frames are drawn.

        Args:
            codes (`torch.LongTensor` of shape `(batch, codes)`): Codes; anything after the end of a shorter row.
            num_codes (`list[int]`): Codes of each row.

        Returns:
            `torch.FloatTensor` of shape `(batch, mel, frames)`, zeros after the end of a shorter row.
        """
        mask = torch.arange(codes.shape[1], device=codes.device) < torch.tensor(num_codes, device=codes.device)[:, None]
        hidden_states = self.encoder(self.input_embedding(codes * mask) * mask[..., None], mask)
        frames = [self.config.num_frames(count) for count in num_codes]
        return self.length_regulator(self.mel_projection(hidden_states), num_codes, frames)

    def sample(
        self,
        mean: torch.Tensor,
        num_frames: list[int],
        noise: torch.Tensor,
        speaker_embedding: torch.Tensor | None = None,
        prompt_mel: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> torch.Tensor:
        """
        Carry noise to log-mel frames.

        Args:
            mean (`torch.FloatTensor` of shape `(batch, mel, frames)`): See `mean`.
            num_frames (`list[int]`): Frames of each row.
            noise (`torch.FloatTensor` of shape `(batch, mel, frames)`): Standard normal.
            speaker_embedding (`torch.FloatTensor` of shape `(batch, speaker_embedding_size)`, *optional*, defaults to
                zeros): The voice.
            prompt_mel (`torch.FloatTensor` of shape `(batch, mel, prompt_frames)`, *optional*): The first frames,
                where they are known.
            num_inference_steps (`int`, *optional*): Euler steps.
            guidance_scale (`float`, *optional*): Classifier-free guidance; 0 is none, at half the cost.

        Returns:
            `torch.FloatTensor` of shape `(batch, mel, frames)`, float32; those of a prompt come close to it, but are
            drawn too.
        """
        config, dtype = self.config, mean.dtype
        steps = config.num_inference_steps if num_inference_steps is None else num_inference_steps
        scale = config.guidance_scale if guidance_scale is None else guidance_scale
        if steps < 1 or scale < 0:
            raise ValueError(
                f"num_inference_steps must be at least 1 and guidance_scale at least 0, got {steps} and {scale}."
            )
        mask = frame_mask(num_frames, mean.device)
        given = torch.zeros_like(mean)
        if prompt_mel is not None:
            given[..., : prompt_mel.shape[-1]] = prompt_mel.to(dtype)
        speaker = zero_padding(self._speaker(speaker_embedding, mean)[..., None].expand_as(mean), mask)
        conditions = torch.cat([mean, speaker, given], dim=1)
        if scale > 0:  # both branches of the guidance go through the network together
            conditions = torch.cat([conditions, torch.zeros_like(conditions)])
            mask = None if mask is None else mask.repeat(2, 1)
        mel = zero_padding(noise.float(), frame_mask(num_frames, mean.device))
        for time, step in euler_steps(steps):
            noisy = mel.to(dtype).repeat(len(conditions) // len(mel), 1, 1)
            times = torch.full((len(conditions),), time, device=mel.device)
            velocity = self.estimator(torch.cat([noisy, conditions], dim=1), times, mask).float()
            if scale > 0:
                guided, free = velocity.chunk(2)
                velocity = (1 + scale) * guided - scale * free
            mel = mel + step * velocity
        return mel

    def _speaker(self, embedding: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """The speaker as mel bands, `(batch, mel)`; no embedding is one of zeros."""
        if embedding is None:
            embedding = like.new_zeros(len(like), self.config.speaker_embedding_size)
        expected = (len(like), self.config.speaker_embedding_size)
        if tuple(embedding.shape) != expected:
            raise ValueError(f"speaker_embedding must have the shape {expected}, got {tuple(embedding.shape)}.")
        return self.speaker_projection(F.normalize(embedding.to(like), dim=1))


def euler_steps(count: int) -> list[tuple[float, float]]:
    """Times at which the velocity is asked for, and how far it is followed: small steps first, as a cosine rises."""
    times = 1 - torch.cos(torch.linspace(0, 1, count + 1) * (0.5 * math.pi))
    pairs, time = [], times[0]
    for index in range(count):
        step = times[index + 1] - time
        pairs.append((float(time), float(step)))
        time = time + step
    return pairs


__all__ = ["Glm4VoiceFlow", "euler_steps", "frame_mask", "relative_positions", "relative_to_absolute"]
