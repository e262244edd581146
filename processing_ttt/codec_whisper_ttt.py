"""
The encoding half of the small codec, on Whisper's encoder: samples -> logits of each digit of each code.

    samples -> log-mel -> Whisper's encoder (50 frames per second) -> two frames a code -> ConvNeXt blocks -> digits

Whisper (Radford et al., 2022) was trained to transcribe many speakers, so its features carry words and little of the
voice. The encoder runs on the true length of the audio and some silence after it, not on thirty seconds. A row gives
the same alone and in a padded batch.

Depends on tensors of shape `(batch, time, channels)`. Independent of token ids, files and decoding.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import WhisperFeatureExtractor
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from .codec_configuration_ttt import TttCodecConfig
from .codec_layers_ttt import TttCodecBlock, frame_mask

MEL_FRAMES_PER_FRAME = 2  # the second convolution of Whisper halves the rate
N_FFT, HOP_LENGTH = 400, 160  # samples at 16 kHz


class TttCodecWhisper(nn.Module):
    """
    Whisper's encoder on audio of any length up to 30 s: samples `(batch, samples)` -> features `(batch, frames,
    d_model)`, 50 per second.

    Parameter names are those of transformers' `WhisperEncoder`.

    Args:
        config ([`TttCodecConfig`]): Its `whisper_config` is that of the encoder.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        self.config = config.whisper_config
        width = self.config.d_model
        self.conv1 = nn.Conv1d(self.config.num_mel_bins, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=MEL_FRAMES_PER_FRAME, padding=1)
        self.embed_positions = nn.Embedding(self.config.max_source_positions, width)
        self.layers = nn.ModuleList(WhisperEncoderLayer(self.config) for _ in range(self.config.encoder_layers))
        self.layer_norm = nn.LayerNorm(width)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("filters", self.mel_filters(), persistent=False)

    def mel_filters(self) -> torch.Tensor:
        """Whisper's mel filters, `(mel, n_fft / 2 + 1)`."""
        return torch.from_numpy(WhisperFeatureExtractor(feature_size=self.config.num_mel_bins).mel_filters.T).float()

    def log_mel(self, samples: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """
        Log-mel frames as Whisper's feature extractor gives them for each row alone.

        Args:
            samples (`torch.FloatTensor` of shape `(batch, samples)`): Audio at 16 kHz, zeros after the end of a
                shorter row; whole encoder frames.
            frames (`torch.LongTensor` of shape `(batch,)`): Mel frames of each row.

        Returns:
            `torch.FloatTensor` of shape `(batch, mel, mel_frames)`: Zero after the end of a shorter row, as
            convolutions pad.
        """
        mel = (self.filters.float() @ self.power(samples.float())).clamp(min=1e-10).log10()
        mel = (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4
        return mel.masked_fill(torch.arange(mel.shape[-1], device=mel.device) >= frames[:, None, None], 0.0)

    def power(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples `(batch, samples)` -> power spectra `(batch, n_fft / 2 + 1, mel_frames)`."""
        spectrum = torch.stft(samples, N_FFT, HOP_LENGTH, window=self.window.float(), return_complex=True)
        return (spectrum[..., :-1].abs() ** 2).contiguous()

    def forward(self, samples: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """
        Encode audio.

        Args:
            samples (`torch.FloatTensor` of shape `(batch, frames * 320)`): Audio at 16 kHz, zeros after the end of a
                shorter row.
            frames (`torch.LongTensor` of shape `(batch,)`): Encoder frames of each row.

        Returns:
            `torch.FloatTensor` of shape `(batch, frames, d_model)`: Without meaning after the end of a shorter row.
        """
        mel = self.log_mel(samples, frames * MEL_FRAMES_PER_FRAME).to(self.conv1.weight.dtype)
        within = torch.arange(mel.shape[-1], device=mel.device) < frames[:, None] * MEL_FRAMES_PER_FRAME
        hidden_states = F.gelu(self.conv1(mel)) * within[:, None]
        hidden_states = F.gelu(self.conv2(hidden_states)).transpose(1, 2)  # (batch, frames, d_model)
        hidden_states = hidden_states + self.embed_positions.weight[: hidden_states.shape[1]]
        mask = create_bidirectional_mask(self.config, hidden_states, within[:, ::MEL_FRAMES_PER_FRAME].long())
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return self.layer_norm(hidden_states)


class TttCodecWhisperEncoder(nn.Module):
    """
    Samples at the standard level -> logits of the digits of each code.

    Args:
        config ([`TttCodecConfig`]): Configuration with a `whisper_config`.
    """

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        size, kernel = config.hidden_size, config.kernel_size
        block = (size, config.intermediate_size, kernel, kernel // 2, config.layer_scale_init_value)
        self.levels = tuple(config.fsq_levels)
        self.ratio = config.whisper_frames_per_code
        self.silent_frames = config.whisper_silent_frames
        self.whisper = TttCodecWhisper(config)
        self.input_norm = nn.LayerNorm(config.whisper_config.d_model)
        self.downsample = nn.Linear(self.ratio * config.whisper_config.d_model, size)
        self.code_layers = nn.ModuleList(TttCodecBlock(*block) for _ in range(config.encoder_code_layers))
        self.norm = nn.LayerNorm(size)
        self.output_proj = nn.Linear(size, sum(config.fsq_levels))

    def forward(self, samples: torch.Tensor, row_frames: torch.Tensor) -> torch.Tensor:
        """
        Compute the logits of the digits of each code.

        Args:
            samples (`torch.FloatTensor` of shape `(batch, codes * samples_per_code)`): Audio, zeros after the end of
                a shorter row.
            row_frames (`torch.LongTensor` of shape `(batch,)`): Codes of each row.

        Returns:
            `torch.FloatTensor` of shape `(batch, codes, sum(fsq_levels))`: Logits, the levels of the first digit first.
        """
        return self.head(self.features(samples, row_frames), row_frames)

    def features(self, samples: torch.Tensor, row_frames: torch.Tensor) -> torch.Tensor:
        """Whisper's features of the audio, `(batch, codes * ratio, d_model)`; arguments as for `forward`."""
        padded = F.pad(samples, (0, self.silent_frames * HOP_LENGTH * MEL_FRAMES_PER_FRAME))
        frames = row_frames * self.ratio + self.silent_frames
        return self.whisper(padded, frames)[:, : -self.silent_frames]

    def head(self, features: torch.Tensor, row_frames: torch.Tensor) -> torch.Tensor:
        """Features `(batch, codes * ratio, d_model)` -> logits `(batch, codes, sum(fsq_levels))`."""
        hidden_states = self.input_norm(features)
        hidden_states = self.downsample(hidden_states.reshape(features.shape[0], -1, self.downsample.in_features))
        mask = frame_mask(row_frames, hidden_states.shape[1]).to(hidden_states.dtype)[..., None]
        hidden_states = hidden_states * mask
        for layer in self.code_layers:
            hidden_states = layer(hidden_states, mask)
        return self.output_proj(self.norm(hidden_states))

    def bins(self, samples: torch.Tensor, row_frames: torch.Tensor) -> torch.Tensor:
        """As [`TttCodecModel.bins`], for audio of one segment: the most probable digits."""
        logits = self(samples, row_frames)
        return torch.stack([digit.argmax(-1) for digit in logits.split(self.levels, dim=-1)], dim=-1)


__all__ = ["TttCodecWhisper", "TttCodecWhisperEncoder"]
