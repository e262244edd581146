"""
Speech codecs of transformers in the shape of `TttCodecModel`: one codebook, `encode` from samples, `decode` to samples.

Covers DAC and EnCodec (their first codebooks), X-Codec 2 and NeuCodec. Independent of token ids, files and text.
"""

import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from .codec_interface_ttt import CODEC_FIELDS, PADDING_CODE, TttCodecOutput, audio_lengths, checked_codes

FEATURE_CODECS = ("xcodec2", "neucodec")  # these encode features of their own extractor
ADAPTED_CODECS = ("dac", "encodec", *FEATURE_CODECS)


@dataclass(frozen=True)
class AdaptedCodecConfig:
    """
    The fields of [`CodecConfig`] for a codec of transformers.

    Args:
        model_type (`str`): The codec's own type.
        sampling_rate (`int`): Rate of the audio to encode, in Hz.
        output_sampling_rate (`int`): Rate of decoded audio, in Hz.
        frame_rate (`float`): Codes per second.
        codebook_size (`int`): Number of codes.
    """

    model_type: str
    sampling_rate: int
    output_sampling_rate: int
    frame_rate: float
    codebook_size: int


class CodecAdapter:
    """
    A codec of transformers behind the interface of `TttCodecModel`.

    Rows of a batch are computed one by one, because padding would change the result of these codecs. None of them
    declares on how many codes a sample depends, so a stream decodes when the reply is complete.

    Args:
        model (`PreTrainedModel`): A DAC, EnCodec, X-Codec 2 or NeuCodec model.
        feature_extractor (`FeatureExtractionMixin`, *optional*): X-Codec 2 and NeuCodec need theirs.
    """

    def __init__(self, model: Any, feature_extractor: Any = None):
        self.model = model
        self.feature_extractor = feature_extractor
        self.config = adapted_config(model.config)
        if self.config.model_type in FEATURE_CODECS and feature_extractor is None:
            raise ValueError(
                f"A {self.config.model_type} codec encodes features of its extractor: give `CodecAdapter(model, "
                "feature_extractor)`."
            )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    def to(self, *args: Any, **kwargs: Any) -> "CodecAdapter":
        """Move the codec as `torch.nn.Module.to` does."""
        self.model.to(*args, **kwargs)
        return self

    def eval(self) -> "CodecAdapter":
        """Put the codec into evaluation mode."""
        self.model.eval()
        return self

    def encode(self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None) -> TttCodecOutput:
        """
        Encode audio.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Audio at `config.sampling_rate`.
            padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for audio, 0 for padding *after*
                the audio of a shorter row.

        Returns:
            [`TttCodecOutput`] with `audio_codes`.

        Raises:
            ValueError: If the input is not one channel of finite float samples, is empty, or the mask does not fit.
        """
        lengths = audio_lengths(input_values, padding_mask).tolist()
        rows = [self._encode_row(row[None, :, :length]) for row, length in zip(input_values, lengths, strict=True)]
        return TttCodecOutput(audio_codes=pad_sequence(rows, batch_first=True, padding_value=PADDING_CODE)[:, None])

    def decode(self, audio_codes: torch.Tensor) -> TttCodecOutput:
        """
        Decode codes.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 only after the end of a shorter
                row.

        Returns:
            [`TttCodecOutput`] with `audio_values`.

        Raises:
            ValueError: If the codes have another shape or type, are empty, or are out of range.
        """
        codes = checked_codes(audio_codes, self.config.codebook_size)
        rows = [self._decode_row(row[row != PADDING_CODE][None, None]) for row in codes]
        return TttCodecOutput(audio_values=pad_sequence(rows, batch_first=True)[:, None])

    def _encode_row(self, audio: torch.Tensor) -> torch.Tensor:
        """Samples `(1, 1, samples)` -> codes `(frames,)`."""
        if self.config.model_type == "dac":
            hop = math.prod(self.model.config.downsampling_ratios)
            codes = self.model.encode(F.pad(audio, (0, -audio.shape[-1] % hop)), n_quantizers=1).audio_codes
        elif self.config.model_type == "encodec":
            # (chunks, batch, codebooks, frames): the first codebook of one chunk, at the smallest bandwidth
            codes = self.model.encode(audio).audio_codes[0, :, :1]
        else:
            features = self.feature_extractor(
                audio[0, 0].cpu().numpy(), sampling_rate=self.config.sampling_rate, return_tensors="pt"
            )
            codes = self.model.encode(**features.to(self.device)).audio_codes
        return codes.reshape(-1).long()

    def _decode_row(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes `(1, 1, frames)` -> samples `(samples,)`."""
        if self.config.model_type == "encodec":
            return self.model.decode(codes[None], audio_scales=[None]).audio_values.reshape(-1)
        return self.model.decode(audio_codes=codes).audio_values.reshape(-1)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the codec, and its feature extractor if it has one, to a folder."""
        self.model.save_pretrained(folder)
        if self.feature_extractor is not None:
            self.feature_extractor.save_pretrained(folder)


def adapted_config(config: Any) -> Any:
    """
    Read the fields of [`CodecConfig`] from the configuration of any supported codec.

    Args:
        config (`PreTrainedConfig`): A codec's configuration.

    Returns:
        The configuration itself if it has these fields, else an [`AdaptedCodecConfig`].

    Raises:
        ValueError: If the codec neither has these fields nor an adapter.
    """
    if isinstance(config, AdaptedCodecConfig):
        return config
    if config.model_type == "dac":
        rate, hop = config.sampling_rate, math.prod(config.downsampling_ratios)
        return AdaptedCodecConfig("dac", rate, rate, rate / hop, config.codebook_size)
    if config.model_type == "encodec":
        one_stream = {"audio_channels": 1, "normalize": False, "chunk_length_s": None}
        wrong = [name for name, value in one_stream.items() if getattr(config, name) != value]
        if wrong:
            raise ValueError(
                f"This EnCodec needs more than codes to decode ({', '.join(wrong)}): use the mono one at 24 kHz, whose "
                f"configuration has {one_stream}."
            )
        rate = config.sampling_rate
        return AdaptedCodecConfig("encodec", rate, rate, rate / config.hop_length, config.codebook_size)
    if config.model_type in FEATURE_CODECS:
        rate_in = config.sampling_rate if config.model_type == "xcodec2" else config.input_sampling_rate
        rate_out = config.sampling_rate if config.model_type == "xcodec2" else config.output_sampling_rate
        frame_rate = rate_in / math.prod(config.downsampling_ratios)
        return AdaptedCodecConfig(
            config.model_type, rate_in, rate_out, frame_rate, math.prod(config.quantization_levels)
        )
    missing = [name for name in CODEC_FIELDS if getattr(config, name, None) is None]
    if missing:
        raise ValueError(
            f"A codec of type {config.model_type!r} cannot be used: its configuration lacks {', '.join(missing)}. Use "
            f"a TttCodecModel, one of {', '.join(ADAPTED_CODECS)}, or a codec with one codebook and these fields."
        )
    return config
