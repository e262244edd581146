"""
The small speech codec of Text-to-Talk: waveforms <-> one stream of codes.

    samples -> standard level -> encoder (log-mel and convolutions, or Whisper's) -> finite scalar quantisation -> codes
    codes -> decoder -> log-mel -> vocoder (magnitude and phase, inverse STFT) -> samples

`encode` needs the whole utterance, over which its level is measured. `decode` has a short, exactly known receptive
field (`config.decode_context` codes before, `config.decode_lookahead` after), so audio can be decoded while codes
arrive.

Implements the contract of `codec_interface_ttt`. Independent of token ids, text, files and resampling.
"""

import os
from typing import Any

import torch
from huggingface_hub import CommitInfo, ModelCard
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForAudioTokenization
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.models.whisper.modeling_whisper import sinusoids
from transformers.utils import can_return_tuple

from .codec_configuration_ttt import TttCodecConfig
from .codec_interface_ttt import PADDING_CODE, TttCodecOutput, audio_lengths, checked_codes
from .codec_layers_ttt import (
    TttCodecBlock,
    TttCodecDecoder,
    TttCodecEncoder,
    TttCodecLogMel,
    TttCodecQuantizer,
    TttCodecVocoder,
    frame_mask,
)
from .codec_whisper_ttt import N_FFT, TttCodecWhisper, TttCodecWhisperEncoder
from .hub_ttt import codec_card, push_with_card


class TttCodecModel(PreTrainedAudioTokenizerBase):
    """
    A speech codec with one codebook: 16 kHz audio to 25 codes per second and back, with the default configuration.

    Args:
        config ([`TttCodecConfig`]): Configuration.

    Example:
        ```python
        codec = AutoModel.from_pretrained("checkpoints/ttt-nano/codec")
        codes = codec.encode(waveform[None, None]).audio_codes  # (1, 1, ceil(samples / 640))
        audio = codec.decode(codes).audio_values  # (1, 1, frames * 640)
        ```
    """

    config_class = TttCodecConfig
    base_model_prefix = "codec"
    main_input_name = "input_values"
    input_modalities = "audio"
    _supports_sdpa = True

    def __init__(self, config: TttCodecConfig):
        super().__init__(config)
        self.log_mel = TttCodecLogMel(config)
        if config.whisper_config is not None:  # its layers are no model of their own, which would have set this
            config.whisper_config._attn_implementation = config._attn_implementation
        self.encoder = TttCodecEncoder(config) if config.whisper_config is None else TttCodecWhisperEncoder(config)
        self.quantizer = TttCodecQuantizer(config.fsq_levels)
        self.decoder = TttCodecDecoder(config)
        self.vocoder = TttCodecVocoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            fan_in = module.weight[0].numel()
            init.normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, TttCodecBlock):
            init.constant_(module.layer_scale, module.layer_scale_init_value)
        elif isinstance(module, TttCodecLogMel):
            # Not stored, so `from_pretrained` leaves them uninitialised: computed again here.
            init.copy_(module.window, torch.hann_window(self.config.n_fft))
            init.copy_(module.filters, module.mel_filters())
        elif isinstance(module, TttCodecVocoder):
            init.copy_(module.window, torch.hann_window(self.config.n_fft))
        elif isinstance(module, TttCodecWhisper):
            init.copy_(module.embed_positions.weight, sinusoids(*module.embed_positions.weight.shape))
            init.copy_(module.window, torch.hann_window(N_FFT))
            init.copy_(module.filters, module.mel_filters())

    def encode(self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None) -> TttCodecOutput:
        """
        Encode audio. Its level has no effect: each row is brought to the standard level first. With Whisper's encoder,
        audio of more than `config.max_segment_frames` codes (29.48 s) is cut into segments that are encoded
        independently.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Audio at `config.sampling_rate`.
            padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for audio, 0 for padding *after*
                the audio of a shorter row.

        Returns:
            [`TttCodecOutput`] with `audio_codes` of shape `(batch, 1, ceil(samples / samples_per_code))`. A row of n
            samples has ceil(n / samples_per_code) codes, the same as alone, followed by -1.

        Raises:
            ValueError: If the input is not one channel of finite float samples, is empty, or the mask does not fit.
        """
        lengths = audio_lengths(input_values, padding_mask)
        config = self.config
        frames = -(-input_values.shape[-1] // config.samples_per_code)
        samples = F.pad(input_values[:, 0].float(), (0, frames * config.samples_per_code - input_values.shape[-1]))
        row_frames = -(-lengths // config.samples_per_code)
        mask = frame_mask(row_frames, frames)
        samples = samples.masked_fill(torch.arange(samples.shape[1], device=samples.device) >= lengths[:, None], 0.0)
        bins = self.bins(self.standard_level(samples), row_frames)
        return TttCodecOutput(audio_codes=self.quantizer.codes(bins).masked_fill(~mask, PADDING_CODE)[:, None])

    def bins(self, samples: torch.Tensor, row_frames: torch.Tensor) -> torch.Tensor:
        """
        Encode audio to the digits of its codes.

        Args:
            samples (`torch.FloatTensor` of shape `(batch, frames * samples_per_code)`): Audio at the standard level,
                zeros after the end of a shorter row.
            row_frames (`torch.LongTensor` of shape `(batch,)`): Codes of each row.

        Returns:
            `torch.LongTensor` of shape `(batch, frames, dims)`: Bins of the quantiser; without meaning after the end of
            a shorter row.
        """
        longest = self.config.max_segment_frames or samples.shape[1] // self.config.samples_per_code
        segments = samples.split(longest * self.config.samples_per_code, dim=1)
        frames = [(row_frames - number * longest).clamp(0, longest) for number in range(len(segments))]
        return torch.cat([self.encoder.bins(*segment) for segment in zip(segments, frames, strict=True)], dim=1)

    def decode(self, audio_codes: torch.Tensor) -> TttCodecOutput:
        """
        Decode codes, to audio at the standard level.

        The samples of code i, `[i, i + 1) * samples_per_code`, depend on the codes i - `config.decode_context`
        .. i + `config.decode_lookahead` and no others.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 only after the end of a shorter
                row.

        Returns:
            [`TttCodecOutput`] with `audio_values` of shape `(batch, 1, frames * samples_per_code)`, float32; a shorter
            row is followed by zeros.

        Raises:
            ValueError: If the codes have another shape or type, are empty, or are out of range.
        """
        codes = checked_codes(audio_codes, self.config.codebook_size)
        valid = codes != PADDING_CODE
        mask = None if valid.all() else valid.to(self.dtype)[..., None]
        mel = self.decoder(self.quantizer.from_codes(codes.clamp(min=0)).to(self.dtype), mask)
        mel_mask = None if mask is None else mask.repeat_interleave(self.config.mel_frames_per_code, dim=1)
        samples = self.vocoder(mel, mel_mask).clamp(-1.0, 1.0)
        if not valid.all():
            samples = samples * valid.repeat_interleave(self.config.samples_per_code, dim=1)
        return TttCodecOutput(audio_values=samples[:, None])

    @can_return_tuple
    def forward(self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None) -> TttCodecOutput:
        """
        Encode and decode audio.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): As for `encode`.
            padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): As for `encode`.

        Returns:
            [`TttCodecOutput`] with both fields.
        """
        codes = self.encode(input_values, padding_mask)["audio_codes"]
        return TttCodecOutput(audio_codes=codes, audio_values=self.decode(codes).audio_values)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """
        Save weights, configuration and the code of the codec, so that the folder loads where this package is missing.

        Args:
            save_directory (`str` or `os.PathLike`): Folder.
            args, kwargs: As for [`~PreTrainedModel.save_pretrained`].
        """
        # The library writes the one Auto class that a model is registered for; the codec has two.
        self.config.auto_map = {"AutoModelForAudioTokenization": "codec_ttt.TttCodecModel"}
        super().save_pretrained(save_directory, *args, **kwargs)

    def standard_level(self, samples: torch.Tensor) -> torch.Tensor:
        """
        Bring each row to the standard level of active speech.

        The level is the mean power of those code-length segments that are at most 30 dB weaker than the strongest one,
        so pauses do not count.

        Args:
            samples (`torch.FloatTensor` of shape `(batch, frames * samples_per_code)`): Audio, zeros after the end of a
                shorter row.

        Returns:
            `torch.FloatTensor` of the same shape.
        """
        return samples * self.level_gain(samples)

    def level_gain(self, samples: torch.Tensor) -> torch.Tensor:
        """The factor of shape `(batch, 1)` that `standard_level` applies."""
        config = self.config
        power = samples.reshape(samples.shape[0], -1, config.samples_per_code).square().mean(-1)  # (batch, frames)
        active = power >= power.amax(-1, keepdim=True) * 1e-3
        level = (power * active).sum(-1, keepdim=True) / active.sum(-1, keepdim=True)
        gain = (10 ** (config.active_level_db / 10) / level.clamp(min=1e-20)).sqrt()
        return gain.clamp(max=10 ** (config.max_gain_db / 20))

    def push_to_hub(self, repo_id: str, *, card: ModelCard | None = None, **kwargs: Any) -> CommitInfo:
        """
        Upload the codec with its code and a card, in one commit.

        Args:
            repo_id (`str`): Repository, made if needed.
            card (`huggingface_hub.ModelCard`, *optional*): From `codec_card`, with licence and measured numbers. By
                default the repository's own stays, and a repository without one gets a plain one.
            kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`.

        Returns:
            `huggingface_hub.CommitInfo`: The commit.
        """
        kwargs["commit_message"] = kwargs.get("commit_message") or "Upload codec"
        return push_with_card(self, repo_id, card, codec_card(repo_id, self.config), **kwargs)


AutoConfig.register(TttCodecConfig.model_type, TttCodecConfig, exist_ok=True)
for auto_class in (AutoModel, AutoModelForAudioTokenization):
    auto_class.register(TttCodecConfig, TttCodecModel, exist_ok=True)
TttCodecModel.register_for_auto_class()
TttCodecConfig.register_for_auto_class()

__all__ = ["TttCodecConfig", "TttCodecModel", "TttCodecOutput"]
