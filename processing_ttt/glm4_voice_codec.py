"""
GLM-4-Voice as a codec of Text-to-Talk: 16 kHz in, 22.05 kHz out, 12.5 codes per second from one codebook of 16384.

Joins the speech tokenizer and the decoder behind the contract of `codec_interface_ttt`. Independent of token ids and
text.
"""

import os
from typing import Any

import torch
from huggingface_hub import CommitInfo, ModelCard
from transformers import AutoConfig, AutoModel, AutoModelForAudioTokenization
from transformers.modeling_utils import PreTrainedAudioTokenizerBase

from .codec_interface_ttt import TttCodecOutput
from .glm4_voice_configuration import Glm4VoiceCodecConfig
from .glm4_voice_decoder import Glm4VoiceDecoderModel
from .glm4_voice_licence import WEIGHTS_LICENCE, weights_card, write_notice
from .glm4_voice_streaming import Glm4VoiceDecoderStream, Glm4VoiceTokenizerStream
from .glm4_voice_tokenizer import Glm4VoiceTokenizerModel
from .hub_ttt import codec_card, push_with_card


class Glm4VoiceCodec(PreTrainedAudioTokenizerBase):
    """
    The codec of GLM-4-Voice: its speech tokenizer and its decoder.

    `ttt convert-codec` makes a folder of the released files; it loads by `from_pretrained`.

    Args:
        config ([`Glm4VoiceCodecConfig`]): Configuration.

    Example:
        ```python
        codec = Glm4VoiceCodec.from_pretrained("glm4-voice-codec")
        codes = codec.encode(waveform[None, None]).audio_codes  # (1, 1, ceil(samples / 1280))
        audio = codec.decode(codes).audio_values  # (1, 1, codes * 441 // 64 * 256)
        ```
    """

    config_class = Glm4VoiceCodecConfig
    base_model_prefix = "codec"
    main_input_name = "input_values"
    input_modalities = "audio"
    _supports_sdpa = True

    def __init__(self, config: Glm4VoiceCodecConfig):
        super().__init__(config)
        self.tokenizer = Glm4VoiceTokenizerModel(config.tokenizer_config)
        self.decoder = Glm4VoiceDecoderModel(config.decoder_config)
        self.post_init()

    def encode(self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None) -> TttCodecOutput:
        """
        Encode audio. See [`Glm4VoiceTokenizerModel.encode`].

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Audio at `config.sampling_rate`.
            padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for audio, 0 for padding *after*
                the audio of a shorter row.

        Returns:
            [`TttCodecOutput`] with `audio_codes` of shape `(batch, 1, ceil(samples / 1280))`; -1 after the end
            of a shorter row.
        """
        return TttCodecOutput(audio_codes=self.tokenizer.encode(input_values, padding_mask).audio_codes)

    def decode(self, audio_codes: torch.Tensor, **kwargs: Any) -> TttCodecOutput:
        """
        Decode codes. See [`Glm4VoiceDecoderModel.decode`].

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 only after the end of a shorter
                row.
            kwargs: `num_inference_steps`, `guidance_scale`, `generator`, `speaker_embedding`, ... of the decoder.

        Returns:
            [`TttCodecOutput`] with `audio_values` of shape `(batch, 1, samples)`, float32; a shorter row is
            followed by zeros.
        """
        return TttCodecOutput(audio_values=self.decoder.decode(audio_codes, **kwargs).audio_values)

    def encode_stream(self) -> Glm4VoiceTokenizerStream:
        """
        Encode one audio signal while it arrives.

        Returns:
            [`Glm4VoiceTokenizerStream`]: `push(samples)` and `finish()` give codes.
        """
        return Glm4VoiceTokenizerStream(self.tokenizer)

    def decode_stream(self, **kwargs: Any) -> Glm4VoiceDecoderStream:
        """
        Decode one audio signal while its codes arrive.

        Args:
            kwargs: Options of [`Glm4VoiceDecoderStream`].

        Returns:
            [`Glm4VoiceDecoderStream`]: `push(codes)` and `finish()` give samples.
        """
        return Glm4VoiceDecoderStream(self.decoder, **kwargs)

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
        self.config.auto_map = {"AutoModelForAudioTokenization": "glm4_voice_codec.Glm4VoiceCodec"}
        super().save_pretrained(save_directory, *args, **kwargs)
        if self.config.weights_license == WEIGHTS_LICENCE:
            write_notice(save_directory)

    def push_to_hub(self, repo_id: str, *, card: ModelCard | None = None, **kwargs: Any) -> CommitInfo:
        """
        Upload the codec with its code, a card and, where the weights are under one, the notice of their licence, in
        one commit.

        Args:
            repo_id (`str`): Repository, made if needed.
            card (`huggingface_hub.ModelCard`, *optional*): From `codec_card`, with licence and measured numbers. By
                default the repository's own stays, and a repository without one gets a plain one.
            kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`.

        Returns:
            `huggingface_hub.CommitInfo`: The commit.
        """
        kwargs["commit_message"] = kwargs.get("commit_message") or "Upload codec"
        is_released = self.config.weights_license == WEIGHTS_LICENCE
        plain = weights_card(repo_id, self.config) if is_released else codec_card(repo_id, self.config)
        return push_with_card(self, repo_id, card, plain, **kwargs)


AutoConfig.register(Glm4VoiceCodecConfig.model_type, Glm4VoiceCodecConfig, exist_ok=True)
for auto_class in (AutoModel, AutoModelForAudioTokenization):
    auto_class.register(Glm4VoiceCodecConfig, Glm4VoiceCodec, exist_ok=True)
Glm4VoiceCodec.register_for_auto_class()
Glm4VoiceCodecConfig.register_for_auto_class()

__all__ = ["Glm4VoiceCodec"]
