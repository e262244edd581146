"""
The decoder of GLM-4-Voice: codes -> log-mel frames -> samples at 22.05 kHz.

Joins the flow and the vocoder, and draws the noise of both. Decodes all codes at once; `glm4_voice_streaming` decodes
them as they arrive. Independent of encoding, token ids and files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .codec_interface_ttt import PADDING_CODE, checked_codes
from .glm4_voice_configuration import Glm4VoiceDecoderConfig
from .glm4_voice_flow import FlowAttention, Glm4VoiceFlow
from .glm4_voice_hift import Glm4VoiceVocoder, Snake

DEFAULT_SEED = 42
Generators = torch.Generator | Sequence[torch.Generator] | None


@dataclass
class Glm4VoiceDecoderOutput(ModelOutput):
    """
    What the decoder returns.

    Args:
        audio_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Samples in [-1, 1]; 0 after the end of a
            shorter row.
        mel (`torch.FloatTensor` of shape `(batch, mel, frames)`): The log-mel frames of which they were made, likewise.
    """

    audio_values: torch.Tensor | None = None
    mel: torch.Tensor | None = None


class DecodingNoise:
    """
    The randomness of one reply, drawn frame by frame: a frame has the same noise however long the reply is and in
    whatever pieces it is made.

    Args:
        config ([`Glm4VoiceDecoderConfig`]): Configuration.
        generator (`torch.Generator`, *optional*): Gives one seed; without it every reply has the same.
    """

    def __init__(self, config: Glm4VoiceDecoderConfig, generator: torch.Generator | None = None):
        seed = DEFAULT_SEED
        if generator is not None:
            seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        self._mel = torch.Generator().manual_seed(seed)
        self._source = torch.Generator().manual_seed(seed + 1)
        vocoder = config.vocoder_config
        self._mel_shape = (config.flow_config.num_mel_bins,)
        self._source_shape = (vocoder.hop_length, vocoder.num_harmonics + 1)
        phase = torch.rand(self._source_shape[1], 1, generator=self._source) * 2 - 1
        self.phase = phase * torch.pi  # (harmonics, 1)

    def mel(self, frames: int) -> torch.Tensor:
        """Where the flow starts for the next frames, `(mel, frames)`."""
        return torch.stack([torch.randn(self._mel_shape, generator=self._mel) for _ in range(frames)], dim=1)

    def source(self, frames: int) -> torch.Tensor:
        """The source's noise for the next frames, `(harmonics, samples)`."""
        drawn = [torch.randn(self._source_shape, generator=self._source) for _ in range(frames)]
        return torch.cat(drawn).T


class Glm4VoiceDecoderModel(PreTrainedModel):
    """
    The decoder of GLM-4-Voice: 12.5 codes per second to audio at 22.05 kHz.

    The released files are another layout: `ttt convert-codec` (or `glm4_voice_convert`) writes them as a folder that
    loads here.

    Args:
        config ([`Glm4VoiceDecoderConfig`]): Configuration.

    Example:
        ```python
        audio = decoder.decode(codes).audio_values  # (1, 1, samples), codes of shape (1, 1, frames)
        other = decoder.decode(codes, generator=torch.Generator().manual_seed(1)).audio_values
        ```
    """

    config_class = Glm4VoiceDecoderConfig
    base_model_prefix = "glm4_voice_decoder"
    main_input_name = "audio_codes"
    _keep_in_fp32_modules_strict = ["vocoder"]  # noqa: RUF012 - pitch, phase and inverse STFT do not bear less

    def __init__(self, config: Glm4VoiceDecoderConfig):
        super().__init__(config)
        self.flow = Glm4VoiceFlow(config.flow_config)
        self.vocoder = Glm4VoiceVocoder(config.vocoder_config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Snake):
            init.ones_(module.alpha)
        elif isinstance(module, FlowAttention):
            init.zeros_(module.pos_bias_u)
            init.zeros_(module.pos_bias_v)

    def forward(self, audio_codes: torch.Tensor, **kwargs: Any) -> Glm4VoiceDecoderOutput:
        """As `decode`."""
        return self.decode(audio_codes, **kwargs)

    @torch.no_grad()
    def decode(
        self,
        audio_codes: torch.Tensor,
        speaker_embedding: torch.Tensor | None = None,
        prompt_codes: torch.Tensor | None = None,
        prompt_mel: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
        noise: torch.Tensor | None = None,
        phase: torch.Tensor | None = None,
        source_noise: torch.Tensor | None = None,
    ) -> Glm4VoiceDecoderOutput:
        """
        Decode codes. A row of a batch gives the same as alone.

        The released weights have one voice; `speaker_embedding` has little effect on them.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 only after the end of a shorter
                row.
            speaker_embedding (`torch.FloatTensor` of shape `(batch, 192)`, *optional*, defaults to zeros): The voice.
            prompt_codes (`torch.LongTensor` of shape `(batch, 1, prompt_codes)`, *optional*): Codes before the others,
                the same number in each row; with `prompt_mel`.
            prompt_mel (`torch.FloatTensor` of shape `(batch, mel, prompt_frames)`, *optional*): The log-mel frames of
                the audio of `prompt_codes`, which is not returned.
            num_inference_steps (`int`, *optional*, defaults to the configuration's 10): Euler steps of the flow.
            guidance_scale (`float`, *optional*, defaults to the configuration's 0.7): Classifier-free guidance; 0 is
                none, at half the cost.
            generator (`torch.Generator` or one for each row, *optional*): Gives each row a seed; without it all have
                the same one.
            noise (`torch.FloatTensor` of shape `(batch, mel, prompt_frames + frames)`, *optional*): Where the flow
                starts.
            phase (`torch.FloatTensor` of shape `(batch, harmonics, 1)`, *optional*): First phases of the source, in
                radians.
            source_noise (`torch.FloatTensor` of shape `(batch, harmonics, samples)`, *optional*): Noise of the source.

        Returns:
            [`Glm4VoiceDecoderOutput`]: 256 samples per frame, and `codes * 441 // 64` frames.

        Raises:
            ValueError: If codes, prompt, generators or noise do not fit.
        """
        codes = checked_codes(audio_codes, self.config.codebook_size)
        if prompt_codes is not None or prompt_mel is not None:
            prompt_codes = self._checked_prompt(prompt_codes, prompt_mel, len(codes))
        draws = self._draws(len(codes), generator)
        mel, num_frames = self._generate_mel(
            codes, prompt_codes, prompt_mel, draws, noise, speaker_embedding, num_inference_steps, guidance_scale
        )
        if phase is None:
            phase = torch.stack([draw.phase for draw in draws])
        if source_noise is None:
            rows = [draw.source(frames).T for draw, frames in zip(draws, num_frames, strict=True)]
            source_noise = nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)
        return Glm4VoiceDecoderOutput(audio_values=self._vocode(mel, num_frames, phase, source_noise), mel=mel)

    def _generate_mel(
        self,
        codes: torch.Tensor,
        prompt_codes: torch.Tensor | None,
        prompt_mel: torch.Tensor | None,
        draws: list[DecodingNoise],
        noise: torch.Tensor | None,
        *options: Any,
    ) -> tuple[torch.Tensor, list[int]]:
        """Frames of the codes, without those of the prompt, and their number in each row."""
        speaker_embedding, num_inference_steps, guidance_scale = options
        if prompt_codes is not None:
            codes = torch.cat([prompt_codes, codes], dim=1)
        num_codes = (codes != PADDING_CODE).sum(1).tolist()
        num_frames = [self.config.flow_config.num_frames(count) for count in num_codes]
        mean = self.flow.mean(codes.to(self.device), num_codes)
        skipped = 0 if prompt_mel is None else prompt_mel.shape[-1]
        if skipped >= min(num_frames):
            raise ValueError(
                f"The prompt has {skipped} frames, but prompt and codes together only {min(num_frames)}: give more "
                "codes, and with prompt_mel the prompt_codes that belong to it."
            )
        wanted = (len(codes), self.config.flow_config.num_mel_bins, max(num_frames))
        if noise is not None and tuple(noise.shape) != wanted:
            raise ValueError(f"`noise` must have the shape (batch, mel, frames) = {wanted}, got {tuple(noise.shape)}.")
        if noise is None:
            rows = [draw.mel(frames).T for draw, frames in zip(draws, num_frames, strict=True)]
            noise = nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)
        mel = self.flow.sample(
            mean,
            num_frames,
            noise.to(self.device),
            speaker_embedding=speaker_embedding,
            prompt_mel=None if prompt_mel is None else prompt_mel.to(self.device),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
        return mel[..., skipped:], [frames - skipped for frames in num_frames]

    def _checked_prompt(
        self, prompt_codes: torch.Tensor | None, prompt_mel: torch.Tensor | None, batch_size: int
    ) -> torch.Tensor:
        """The prompt's codes `(batch, prompt_codes)`, after both halves of the prompt were compared with the batch."""
        if prompt_codes is None or prompt_mel is None:
            raise ValueError(
                "`prompt_codes` and `prompt_mel` go together: the codes before, and the frames of their audio."
            )
        codes = checked_codes(prompt_codes, self.config.codebook_size)
        if (codes == PADDING_CODE).any():
            raise ValueError(
                "`prompt_codes` must be as many in each row: there is no room for padding before the codes."
            )
        expected = (batch_size, self.config.flow_config.num_mel_bins)
        if len(codes) != batch_size or tuple(prompt_mel.shape[:2]) != expected:
            raise ValueError(
                f"The prompt must have the batch's {batch_size} rows, and prompt_mel the shape (batch, mel, frames) = "
                f"{(*expected, '...')}; got {len(codes)} rows of codes and {tuple(prompt_mel.shape)}."
            )
        return codes

    def _vocode(
        self, mel: torch.Tensor, num_frames: list[int], phase: torch.Tensor, source_noise: torch.Tensor
    ) -> torch.Tensor:
        """Samples `(batch, 1, samples)`. Rows of one length go together: the edges depend on where a row ends."""
        hop = self.config.vocoder_config.hop_length
        values = mel.new_zeros(len(mel), max(num_frames) * hop)
        for frames in set(num_frames):
            rows = [row for row, count in enumerate(num_frames) if count == frames]
            noise = source_noise[rows, :, : frames * hop].to(self.device)
            values[rows, : frames * hop] = self.vocoder(mel[rows, :, :frames], phase[rows].to(self.device), noise)
        return values[:, None]

    def _draws(self, count: int, generator: Generators) -> list[DecodingNoise]:
        generators = [generator] * count if generator is None or isinstance(generator, torch.Generator) else generator
        if len(generators) != count:
            raise ValueError(f"Give one generator, or one for each of the {count} rows; {len(generators)} came.")
        return [DecodingNoise(self.config, one) for one in generators]


AutoConfig.register(Glm4VoiceDecoderConfig.model_type, Glm4VoiceDecoderConfig, exist_ok=True)
AutoModel.register(Glm4VoiceDecoderConfig, Glm4VoiceDecoderModel, exist_ok=True)
Glm4VoiceDecoderModel.register_for_auto_class("AutoModel")
Glm4VoiceDecoderConfig.register_for_auto_class()

__all__ = ["DecodingNoise", "Glm4VoiceDecoderModel", "Glm4VoiceDecoderOutput"]
