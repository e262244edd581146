"""
The speech tokenizer of GLM-4-Voice: audio at 16 kHz -> 12.5 codes per second.

    samples -> segments of 30 s -> log-mel -> two causal convolutions -> block-causal Whisper layers
            -> mean of 4 frames -> nearest code

The network is described in "GLM-4-Voice" (Zeng et al., 2024); it is the lower half of the encoder of
Whisper-large-v3, on transformers' layers. Both published key layouts load. Independent of decoding, token ids and
files.
"""

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, DynamicCache, PreTrainedModel, WhisperFeatureExtractor
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer, sinusoids
from transformers.utils import ModelOutput

from .codec_interface_ttt import PADDING_CODE, audio_lengths
from .glm4_voice_configuration import Glm4VoiceTokenizerConfig

# Mel frames before a block on which its convolutions depend, and the encoder frames that they give.
CONTEXT_MEL_FRAMES, CONTEXT_FRAMES = 4, 2
# What transformers calls a cache among its arguments: up to 5.23 `past_key_values`.
CACHE_NAME = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"


@dataclass
class Glm4VoiceTokenizerOutput(ModelOutput):
    """
    What the speech tokenizer returns; a field that was not computed is `None`.

    Args:
        audio_codes (`torch.LongTensor` of shape `(batch, 1, frames)`): Codes; -1 after the end of a shorter row.
        last_hidden_state (`torch.FloatTensor` of shape `(batch, frames, hidden_size)`): The vectors of the codes with
            their positions, which is what the layers above the codebook were trained on.
    """

    audio_codes: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None


class Glm4VoiceTokenizerModel(PreTrainedModel):
    """
    The speech tokenizer of GLM-4-Voice. A published folder loads by `from_pretrained`, with bare keys or with the
    prefix `model.encoder.`.

    Args:
        config ([`Glm4VoiceTokenizerConfig`]): Configuration.

    Example:
        ```python
        tokenizer = Glm4VoiceTokenizerModel.from_pretrained("THUDM/glm-4-voice-tokenizer")
        codes = tokenizer.encode(waveform[None, None]).audio_codes  # (1, 1, ceil(samples / 1280))
        ```
    """

    config_class = Glm4VoiceTokenizerConfig
    base_model_prefix = "glm4_voice_tokenizer"
    main_input_name = "input_features"
    input_modalities = "audio"
    _no_split_modules = ["WhisperEncoderLayer"]  # noqa: RUF012 - as in transformers
    _supports_sdpa = True
    _supports_flex_attn = True
    _keep_in_fp32_modules_strict = ["codebook"]  # noqa: RUF012 - the nearest code is a comparison of close distances

    def __init__(self, config: Glm4VoiceTokenizerConfig):
        super().__init__(config)
        width, positions = config.d_model, config.max_source_positions
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, kernel_size=3)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2)
        self.embed_positions = nn.Embedding(positions, width)
        layers = [WhisperEncoderLayer(config) for _ in range(config.quantize_position)]
        for index, layer in enumerate(layers):
            layer.self_attn.layer_idx = index  # where a cache keeps the layer's keys and values
        self.layers = nn.ModuleList(layers)
        self.codebook = nn.Embedding(config.quantize_vocab_size, width)
        self.embed_positions2 = nn.Embedding(positions // config.pooling_kernel_size, width)
        # Statistics of the codebook's training, and the layers above it in a whole encoder.
        above = "|".join(str(index) for index in range(config.quantize_position, 100))
        self._keys_to_ignore_on_load_unexpected = [r"^(model\.)?ema_", rf"^layers\.({above})\.", r"^layer_norm\."]
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "Glm4VoiceTokenizerModel":
        """
        Load a published or a saved folder. See [`~PreTrainedModel.from_pretrained`].

        Args:
            args, kwargs: As there.

        Returns:
            [`Glm4VoiceTokenizerModel`]: The model, in evaluation mode.
        """
        kwargs.setdefault("key_mapping", {r"^model\.encoder\.": ""})
        return super().from_pretrained(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Glm4VoiceTokenizerModel):
            for table in (module.embed_positions, module.embed_positions2):
                init.copy_(table.weight, sinusoids(*table.weight.shape))

    @cached_property
    def feature_extractor(self) -> WhisperFeatureExtractor:
        """The log-mel features of Whisper, as the published preprocessor configuration has them."""
        config = self.config
        return WhisperFeatureExtractor(
            feature_size=config.num_mel_bins,
            sampling_rate=config.sampling_rate,
            hop_length=config.hop_length,
        )

    # --------------------------------------------------------------------------------------------------------- encoding

    @torch.no_grad()
    def encode(
        self, input_values: torch.Tensor, padding_mask: torch.Tensor | None = None, segments_per_batch: int = 16
    ) -> Glm4VoiceTokenizerOutput:
        """
        Encode audio in independent segments of 30 s; segments of all rows are encoded together.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, 1, samples)`): Audio at `config.sampling_rate`.
            padding_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for audio, 0 for padding *after*
                the audio of a shorter row.
            segments_per_batch (`int`, defaults to 16): Segments that go through the network together; a bound of
                memory.

        Returns:
            [`Glm4VoiceTokenizerOutput`] with `audio_codes` of shape `(batch, 1, ceil(samples / 1280))`. A row of n
            samples has ceil(n / 1280) codes, the same as alone, followed by -1.

        Raises:
            ValueError: If the input is not one channel of finite float samples, is empty, or the mask does not fit.
        """
        lengths = audio_lengths(input_values, padding_mask).tolist()
        rows = [row[0, :length].float().cpu() for row, length in zip(input_values, lengths, strict=True)]
        segments = [segment for row in rows for segment in row.split(self.config.max_segment_samples)]
        codes: list[torch.Tensor] = [torch.empty(0)] * len(segments)
        longest_first = sorted(range(len(segments)), key=lambda index: -len(segments[index]))
        for start in range(0, len(segments), segments_per_batch):
            chosen = longest_first[start : start + segments_per_batch]
            for index, segment_codes in zip(chosen, self._encode_segments([segments[i] for i in chosen]), strict=True):
                codes[index] = segment_codes
        return Glm4VoiceTokenizerOutput(audio_codes=self._join(codes, [len(row) for row in rows]))

    def features(self, segment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Log-mel features of one segment, and which of its frames are audio.

        Args:
            segment (`torch.FloatTensor` of shape `(samples,)`): At most 30 s of audio.

        Returns:
            `torch.FloatTensor` of shape `(mel, frames)` and `torch.LongTensor` of shape `(frames,)`; whole codes, 8
            frames each.
        """
        # One segment at a time: the features of a segment's end depend on what it is padded to.
        features = self.feature_extractor(
            segment.numpy(),
            sampling_rate=self.config.sampling_rate,
            truncation=False,
            padding="longest",
            pad_to_multiple_of=self.config.samples_per_code,
            return_attention_mask=True,
            return_tensors="pt",
            device=str(self.device),
        )
        return features["input_features"][0], features["attention_mask"][0]

    def _encode_segments(self, segments: list[torch.Tensor]) -> list[torch.Tensor]:
        features, masks = zip(*(self.features(segment) for segment in segments), strict=True)
        frames = max(mask.shape[0] for mask in masks)
        input_features = torch.stack([F.pad(feature, (0, frames - feature.shape[1])) for feature in features])
        attention_mask = torch.stack([F.pad(mask, (0, frames - mask.shape[0])) for mask in masks])
        codes = self(input_features.to(self.device), attention_mask.to(self.device)).audio_codes[:, 0]
        return [row[row != PADDING_CODE] for row in codes]

    def _join(self, segment_codes: list[torch.Tensor], row_samples: list[int]) -> torch.Tensor:
        """Codes of segments, in order, as rows `(batch, 1, frames)`."""
        remaining, rows = list(segment_codes), []
        for samples in row_samples:
            count = -(-samples // self.config.max_segment_samples)
            rows.append(torch.cat(remaining[:count]))
            del remaining[:count]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING_CODE)[:, None]

    # ------------------------------------------------------------------------------------------------------ the network

    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> Glm4VoiceTokenizerOutput:
        """
        Features of segments to codes.

        Args:
            input_features (`torch.FloatTensor` of shape `(batch, mel, mel_frames)`): Log-mel features.
            attention_mask (`torch.LongTensor` of shape `(batch, mel_frames)`, *optional*): 1 for audio, 0 for padding
                after it.

        Returns:
            [`Glm4VoiceTokenizerOutput`] with both fields.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_features[:, 0], dtype=torch.long)
        mask = attention_mask[:, ::2]
        hidden_states = self._run_layers(self._embed(input_features), mask)
        codes = self._nearest_codes(hidden_states)
        positions = self.embed_positions2.weight[: codes.shape[1]]
        return Glm4VoiceTokenizerOutput(
            audio_codes=codes.masked_fill(mask[:, :: self.config.pooling_kernel_size] == 0, PADDING_CODE)[:, None],
            last_hidden_state=self.codebook(codes) + positions,
        )

    @torch.no_grad()
    def encode_block(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor, start: int, cache: DynamicCache
    ) -> torch.Tensor:
        """
        Codes of one attention block, or of the open part of one, after blocks that were encoded before.

        Args:
            input_features (`torch.FloatTensor` of shape `(1, mel, context + mel_frames)`): Features of the block and,
                unless it is the first one, of the `CONTEXT_MEL_FRAMES` before it.
            attention_mask (`torch.LongTensor` of shape `(1, all_mel_frames)`): 1 for audio, from the segment's
                beginning to the block's end.
            start (`int`): First encoder frame of the block; a multiple of the block size.
            cache (`DynamicCache`): Keys and values of the blocks before; those of this block are added.

        Returns:
            `torch.LongTensor` of shape `(codes,)`.
        """
        return self._nearest_codes(self._run_layers(self._embed(input_features, start), attention_mask[:, ::2], cache))[
            0
        ]

    def _run_layers(
        self, hidden_states: torch.Tensor, mask: torch.Tensor, cache: DynamicCache | None = None
    ) -> torch.Tensor:
        """Encoder frames `(batch, frames, hidden)` after what is in the cache; the mask covers both."""
        blocks = torch.arange(mask.shape[1], device=mask.device) // self.config.quantize_causal_block_size
        block_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=mask,
            **{CACHE_NAME: cache},
            block_sequence_ids=blocks.expand_as(mask),
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, block_mask, **{CACHE_NAME: cache})
        return hidden_states

    def _embed(self, input_features: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Mel frames to encoder frames with their positions; context of frames before `start` is used up."""
        hidden_states = input_features.to(self.conv1.weight.dtype)
        for conv in (self.conv1, self.conv2):
            hidden_states = F.gelu(conv(F.pad(hidden_states, (2, 0))))  # (batch, hidden, frames)
        hidden_states = hidden_states.transpose(1, 2)[:, CONTEXT_FRAMES if start else 0 :]
        return hidden_states + self.embed_positions.weight[start : start + hidden_states.shape[1]]

    def _nearest_codes(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Encoder frames `(batch, frames, hidden)` -> nearest code of each mean, `(batch, codes)`, found in float32."""
        pool = self.config.pooling_kernel_size
        padded = F.pad(hidden_states, (0, 0, 0, -hidden_states.shape[1] % pool))
        with torch.autocast(hidden_states.device.type, enabled=False):
            pooled = F.avg_pool1d(padded.float().transpose(1, 2), pool).transpose(1, 2)
            codebook = self.codebook.weight.float()
            squares = codebook.square().sum(-1)
            # Row by row: all distances of a batch at once would be gigabytes.
            return torch.stack([(squares - 2 * row @ codebook.T).argmin(-1) for row in pooled])


AutoConfig.register(Glm4VoiceTokenizerConfig.model_type, Glm4VoiceTokenizerConfig, exist_ok=True)
AutoModel.register(Glm4VoiceTokenizerConfig, Glm4VoiceTokenizerModel, exist_ok=True)
Glm4VoiceTokenizerModel.register_for_auto_class("AutoModel")
Glm4VoiceTokenizerConfig.register_for_auto_class()

__all__ = ["Glm4VoiceTokenizerModel", "Glm4VoiceTokenizerOutput"]
