"""
Configuration of Text-to-Talk (TtT).

Depends on the backbone's configuration. Independent of weights, text and waveforms.
"""

import os
from dataclasses import dataclass, fields
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .released_configuration_ttt import is_foreign_layout, is_released_layout, nest_language_model, resolve_markers

# Sizes of a backbone, and the largest that a file may ask for: far beyond any model, and built in seconds.
BACKBONE_SIZES = {
    "vocab_size": 2**24,
    "hidden_size": 2**20,
    "intermediate_size": 2**22,
    "num_hidden_layers": 1024,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
}
ALIBI_BACKBONES = ("bloom", "mpt")
OBJECTIVES = ("paper", "two_stream")
# Layers with a running state instead of keys and values cannot attend to a whole span, nor discard a denoising step.
ATTENTION_LAYER_TYPES = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


@dataclass(frozen=True)
class TttMarkers:
    """
    The token ids of a [`TttConfig`] that have a meaning in a sequence, none of them missing.

    Args:
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        audio_code_offset (`int`): Id of code 0.
        audio_codebook_size (`int`): Number of codes.
        mask_token_id (`int`): The mask.
        begin_audio_token_id (`int`): Opens a span.
        begin_last_audio_token_id (`int`): Opens the last span of a reply.
        end_audio_token_id (`int`): Closes a span of a reply.
        end_last_audio_token_id (`int`): Closes the last span of a reply.
    """

    audio_token_start_id: int
    audio_code_offset: int
    audio_codebook_size: int
    mask_token_id: int
    begin_audio_token_id: int
    begin_last_audio_token_id: int
    end_audio_token_id: int
    end_last_audio_token_id: int

    @property
    def begin_token_ids(self) -> tuple[int, int]:
        """The two text token ids that open a span."""
        return self.begin_audio_token_id, self.begin_last_audio_token_id

    @property
    def end_token_ids(self) -> tuple[int, int]:
        """The two audio token ids that close a span."""
        return self.end_audio_token_id, self.end_last_audio_token_id

    @property
    def codes(self) -> range:
        """The token ids of the codes."""
        return range(self.audio_code_offset, self.audio_code_offset + self.audio_codebook_size)

    def end_of(self, begin_marker: int) -> int:
        """The end marker that belongs to a begin marker."""
        is_last = begin_marker == self.begin_last_audio_token_id
        return self.end_last_audio_token_id if is_last else self.end_audio_token_id


@strict
class TttConfig(PreTrainedConfig):
    r"""
    Configuration of [`TttForConditionalGeneration`]: a decoder-only backbone and its joint vocabulary of text and
    audio.

    A token id of at least `audio_token_start_id` is an audio position; a maximal run of them is an audio span.

    Args:
        text_config (`PreTrainedConfig` or `dict`, *optional*, defaults to a Qwen2 config):
            Configuration of the backbone: any decoder-only causal language model of transformers.
        audio_token_start_id (`int`, *optional*): First id of the audio part of the vocabulary. `None` while a released
            layout is not resolved.
        audio_codebook_size (`int`, *optional*, defaults to 16384): Number of codes of the codec's one codebook.
        audio_code_offset (`int`, *optional*, defaults to `audio_token_start_id`): Id of code 0.
        mask_token_id (`int`, *optional*): The mask, the absorbing state of the diffusion; an audio id, never generated.
        begin_audio_token_id (`int`, *optional*): Text id that opens a span.
        begin_last_audio_token_id (`int`, *optional*): Text id that opens the last, free-length span of a reply.
        end_audio_token_id (`int`, *optional*): Audio id that closes a span of a reply.
        end_last_audio_token_id (`int`, *optional*): Audio id that closes the last span of a reply.
        span_attention (`str`, *optional*, defaults to `"full"`):
            What a position of a span sees besides the positions before it: `"full"` its whole span (the paper),
            `"block"` its own block of `span_block_length` positions. Finished blocks are then final and cached, so
            that each block of a long span costs no more than the first.
        span_block_length (`int`, *optional*): Positions of a block with `span_attention="block"`, in training and in
            decoding.
        objective (`str`, *optional*, defaults to `"paper"`):
            How audio is learnt where a model masks it itself: `"paper"` masks the audio of the sequence, `"two_stream"`
            appends noised copies of its blocks as decoding sees them (`two_streams_ttt`), and text always follows clean
            audio.
        clean_audio_prob (`float`, *optional*, defaults to 0.3):
            BANOM: probability that no audio of a training sample is masked, so that text is trained on clean audio.
        prefix_preservation_prob (`float`, *optional*, defaults to 0.3):
            PPM: probability that the spans before a random one of a training sample stay clean. Both belong to
            `objective="paper"`.
        pad_token_id (`int`, *optional*): Padding id.
        eos_token_id (`int` or `list[int]`, *optional*): Id(s) that end a reply.
        bos_token_id (`int`, *optional*): Beginning of sequence, for backbones that have one.
        tie_word_embeddings (`bool`, *optional*, defaults to the backbone's): Share the input embedding with the
            output projection.
        initializer_range (`float`, *optional*, defaults to 0.02): Standard deviation of newly initialised weights.

    Raises:
        ValueError: naming the field, if an id is outside the vocabulary or on the wrong side of
            `audio_token_start_id`, if a marker is also a code, if a probability is not in [0, 1], or if the backbone
            is not made of attention layers.
    """

    model_type = "ttt"
    _auto_class = "AutoConfig"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen2")}  # noqa: RUF012
    keys_to_ignore_at_inference = ["cache", "text_loss", "audio_loss"]  # noqa: RUF012

    text_config: Any = None
    audio_token_start_id: int | None = None
    audio_codebook_size: int = 16384
    audio_code_offset: int | None = None
    mask_token_id: int | None = None
    begin_audio_token_id: int | None = None
    begin_last_audio_token_id: int | None = None
    end_audio_token_id: int | None = None
    end_last_audio_token_id: int | None = None
    span_attention: str = "full"
    span_block_length: int | None = None
    objective: str = "paper"
    clean_audio_prob: float = 0.3
    prefix_preservation_prob: float = 0.3
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the backbone, derive the fields that depend on others, and check that the ids are consistent."""
        super().__post_init__(**kwargs)
        # transformers reads it from the outer config: without this a tied checkpoint gets a random output projection.
        self.tie_word_embeddings = self.tie_word_embeddings or bool(
            getattr(self.text_config, "tie_word_embeddings", False)
        )
        if self.audio_code_offset is None:
            self.audio_code_offset = self.audio_token_start_id
        self._check_backbone()
        self._check_span_attention()
        self._check_objective()
        self._check_vocabulary()

    @property
    def vocab_size(self) -> int:
        """Size of the joint vocabulary, which is the backbone's."""
        return self.text_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        self.text_config.vocab_size = value

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        Read a `config.json`; that of a released checkpoint is completed from the tokenizer beside it.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder, `config.json` or Hub id.
            kwargs: As for `PreTrainedConfig.get_config_dict`.

        Returns:
            `tuple[dict[str, Any], dict[str, Any]]`: Fields of the configuration, and the arguments that were not used.
        """
        config_dict, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not is_foreign_layout(config_dict):
            return config_dict, unused
        nested = nest_language_model(config_dict)
        if is_released_layout(config_dict):
            source = pretrained_model_name_or_path
            if os.path.isfile(source):
                source = os.path.dirname(os.path.abspath(source))
            nested = resolve_markers(nested, source, **kwargs)
        return nested, unused

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "TttConfig":
        """
        Read a configuration from a dictionary, as `from_pretrained` does.

        Args:
            config_dict (`dict[str, Any]`): Contents of a `config.json`; that of a plain language model becomes the
                backbone's.
            kwargs: Fields to change, and arguments of `PreTrainedConfig.from_dict`.

        Returns:
            [`TttConfig`]: The configuration; over a plain language model, one whose audio ids are not set.
        """
        if is_foreign_layout(config_dict):
            config_dict = nest_language_model(config_dict)
        return super().from_dict(config_dict, **kwargs)

    def markers(self) -> TttMarkers:
        """
        Give the token ids that decoding needs.

        Returns:
            [`TttMarkers`]: None of them is missing.

        Raises:
            ValueError: naming the fields that are not set.
        """
        values = {field.name: getattr(self, field.name) for field in fields(TttMarkers)}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise ValueError(
                f"The config lacks {', '.join(missing)}: run `ttt convert` on the checkpoint, or set them to the "
                "tokenizer's ids."
            )
        return TttMarkers(**values)

    def _check_backbone(self) -> None:
        for name, largest in BACKBONE_SIZES.items():
            value = getattr(self.text_config, name, None)
            if isinstance(value, int) and not 1 <= value <= largest:
                raise ValueError(f"`text_config.{name}` must be from 1 to {largest}, got {value}.")
        foreign = set(getattr(self.text_config, "layer_types", None) or ()) - ATTENTION_LAYER_TYPES
        if foreign or self.text_config.is_encoder_decoder:
            is_encoder_decoder = self.text_config.is_encoder_decoder
            fault = "is an encoder-decoder" if is_encoder_decoder else f"has layers of type {sorted(foreign)}"
            raise ValueError(
                "`text_config` must describe a decoder-only attention backbone; model type "
                f"{self.text_config.model_type!r} {fault}."
            )

        if self.text_config.model_type in ALIBI_BACKBONES or getattr(self.text_config, "alibi", False):
            raise ValueError(
                "`text_config` must describe a backbone that accepts an attention mask; model type "
                f"{self.text_config.model_type!r} encodes positions by ALiBi and builds its own: start from one with "
                "rotary positions (qwen2, llama, gemma3, ...)."
            )

    def _check_span_attention(self) -> None:
        if self.span_attention not in ("full", "block"):
            raise ValueError(f'`span_attention` must be "full" or "block", got {self.span_attention!r}.')
        if (self.span_attention == "block") != (self.span_block_length is not None):
            raise ValueError(
                '`span_block_length` is required with `span_attention="block"`, and allowed with nothing else; '
                f"got {self.span_block_length!r} with {self.span_attention!r}."
            )
        if self.span_block_length is not None and self.span_block_length < 1:
            raise ValueError(f"`span_block_length` must be at least 1, got {self.span_block_length}.")

    def _check_objective(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` is one of {', '.join(OBJECTIVES)}, got {self.objective!r}.")
        for name in ("clean_audio_prob", "prefix_preservation_prob"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"`{name}` must be a probability in [0, 1], got {getattr(self, name)}.")

    def _check_vocabulary(self) -> None:
        """Check the ids that are set; `markers` raises for those that are missing (an unresolved released layout)."""
        ids = {name: getattr(self, name) for name in self if name.endswith("_token_id")}
        ids |= {"audio_token_start_id": self.audio_token_start_id, "audio_code_offset": self.audio_code_offset}
        for name, value in ids.items():
            for token_id in value if isinstance(value, list) else [value]:
                if token_id is not None and not 0 <= token_id < self.vocab_size:
                    raise ValueError(f"`{name}` is {token_id}, outside the vocabulary of {self.vocab_size} ids.")
        if self.audio_codebook_size < 1:
            raise ValueError(f"`audio_codebook_size` must be at least 1, got {self.audio_codebook_size}.")
        if self.audio_token_start_id is None or self.audio_code_offset is None:
            return
        if self.audio_code_offset < self.audio_token_start_id:
            raise ValueError(
                f"`audio_code_offset` ({self.audio_code_offset}) must be at least `audio_token_start_id` "
                f"({self.audio_token_start_id})."
            )
        codes = range(self.audio_code_offset, self.audio_code_offset + self.audio_codebook_size)
        if codes[-1] >= self.vocab_size:
            raise ValueError(
                f"`audio_codebook_size` of {self.audio_codebook_size} codes from id {codes[0]} does not fit into a "
                f"vocabulary of {self.vocab_size} ids; resize the embeddings or correct `audio_code_offset`."
            )
        self._check_markers(codes)

    def _check_markers(self, codes: range) -> None:
        for name in ("mask_token_id", "end_audio_token_id", "end_last_audio_token_id"):
            token_id = getattr(self, name)
            if token_id in codes:
                raise ValueError(f"`{name}` ({token_id}) is also a code: codes are {codes[0]} to {codes[-1]}.")
            if token_id is not None and token_id < self.audio_token_start_id:
                raise ValueError(
                    f"`{name}` ({token_id}) must be an audio id, at least `audio_token_start_id` "
                    f"({self.audio_token_start_id})."
                )
        if self.mask_token_id is not None and self.mask_token_id in (
            self.end_audio_token_id,
            self.end_last_audio_token_id,
        ):
            raise ValueError(f"`mask_token_id` ({self.mask_token_id}) must differ from the end markers.")
        for name in (
            "begin_audio_token_id",
            "begin_last_audio_token_id",
            "pad_token_id",
            "bos_token_id",
            "eos_token_id",
        ):
            value = getattr(self, name)
            for token_id in value if isinstance(value, list) else [value]:
                if token_id is not None and token_id >= self.audio_token_start_id:
                    raise ValueError(
                        f"`{name}` ({token_id}) must be a text id, below `audio_token_start_id` "
                        f"({self.audio_token_start_id})."
                    )


__all__ = ["OBJECTIVES", "TttConfig", "TttMarkers"]
