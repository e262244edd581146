"""
`generate`: the options of decoding, their defaults and checks, and what comes back.

Knows transformers' generation machinery, whose hooks it overrides, and leaves the loop itself to `decoding_ttt.py`.
Knows no waveform and no text.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
from transformers import CompileConfig, GenerationConfig, GenerationMixin
from transformers.cache_utils import DynamicCache
from transformers.generation import GenerationMode, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from .cache_ttt import RoomyLayer, StaticRowCache, has_windows
from .decoding_ttt import BlockDecoder, TttGenerateOutput
from .samplers_ttt import REMASKING_RULES, REVEAL_SCHEDULES

# Our own generation parameters live in a plain GenerationConfig, beside transformers' own; these hold when neither it
# nor the caller says.
GENERATION_DEFAULTS: dict[str, Any] = {
    "block_length": 32,
    "first_block_length": None,
    "denoising_steps": 10,
    "reveal_schedule": "linear",
    "remasking": "low_confidence",
    "confidence_threshold": None,
    "entropy_bound": None,
    "block_early_stop": False,
    "audio_temperature": 0.0,
    "audio_top_k": None,
    "audio_top_p": None,
    "audio_guidance_scale": None,
    "audio_guidance_context": "masked",
    "max_span_length": None,
}
CHOICES: dict[str, tuple[str, ...]] = {
    "remasking": tuple(REMASKING_RULES),
    "reveal_schedule": REVEAL_SCHEDULES,
    "audio_guidance_context": ("masked", "none"),
}
ACCEPTANCE_OPTIONS = ("confidence_threshold", "entropy_bound")  # each instead of `reveal_schedule`
STATIC_CACHE_STEP = (
    256  # positions: a few more do not change the shape of a static cache, and nothing is compiled again
)
UNSUPPORTED_OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


class TttGenerationMixin(GenerationMixin):
    """`generate` for models that write text and speak in spans of audio tokens."""

    def generate(
        self, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor | TttGenerateOutput:
        """
        Continue a conversation in text and sound.

        An option that is not passed is the checkpoint's (`generation_config.json`), or else has the default below;
        `None` switches off what can be off. Besides transformers' own options, which act on the text:

        Args:
            inputs (`torch.LongTensor` of shape `(batch, length)`, *optional*): Prompts, left-padded; also as
                `input_ids`.
            block_length (`int`, *optional*, defaults to 32): Masks of a block of sound.
            first_block_length (`int`, *optional*): Masks of the first block of a reply, if other: a shorter one is
                heard sooner.
            denoising_steps (`int`, *optional*, defaults to 10): Forward passes over a block; at most, under a
                threshold or a bound.
            reveal_schedule (`str`, *optional*, defaults to `"linear"`): How the masks are spread over the steps, or
                `"cosine"`: few at first. Passing it switches off a threshold or a bound of the checkpoint.
            remasking (`str`, *optional*, defaults to `"low_confidence"`): Which positions a step reveals:
                `"low_confidence"` the surest ones, `"random"` any, `"calibrated"` the surest against the prior of
                their code (one more forward for each begin marker in use), `"entropy"` those of the most decided
                distributions, `"margin"` those furthest before their rival.
            confidence_threshold (`float`, *optional*): Reveal all positions that are at least this probable, and one
                in any case, instead of a fixed number; after `denoising_steps` all that is left. Passing it switches
                off a bound of the checkpoint.
            entropy_bound (`float`, *optional*): The same with as many positions, in the order of `remasking`, as have
                entropies that sum to at most this many nats, but for the largest. Passing it switches off a threshold
                of the checkpoint.
            block_early_stop (`bool`, *optional*, defaults to `False`): End a block once everything before its first
                end marker is revealed. What follows is cut anyway, so ids stay the same and forwards are saved; draws
                of later blocks change.
            audio_temperature (`float`, *optional*, defaults to 0.0): 0 takes the best code; above, codes are drawn ...
            audio_top_k (`int`, *optional*): ... from this many best ones only ...
            audio_top_p (`float`, *optional*): ... and from those that together are this probable.
            audio_guidance_scale (`float`, *optional*): Classifier-free guidance of the sound, 0.1 in the paper.
            audio_guidance_context (`str`, *optional*, defaults to `"masked"`): What the unconditional branch sees:
                `"masked"` the whole sequence with everything around the block masked, as published, at a second,
                uncached forward per step; `"none"` the block alone, as more queries of the same forward.
            max_span_length (`int`, *optional*): Generated ids of a span, after which it is closed. No limit but
                `max_new_tokens` by default.
            use_cache (`bool`, *optional*, defaults to `True`): `False` runs the whole sequence again at every step,
                with the same result.
            cache_implementation (`str`, *optional*, defaults to `"dynamic"`): `"static"` keeps all shapes of a step
                the same and, on a GPU or with a `compile_config`, compiles them: one for a text id, one for a block.
                Same ids; the first call takes long.
            generator (`torch.Generator` or a list of one per row, *optional*): Source of all randomness; torch's
                global generator by default.
            streamer (`BaseStreamer`, *optional*): Is given the prompt, each text id, each block after cutting, and
                appended end markers; and where it has the attribute: `put_draft(ids, confidence)` a block after each
                denoising step, masks included, and how probable the ids are that the step proposed for its positions;
                `fail(error)` an exception before it is raised; `is_cancelled` is asked before each forward, and ends
                decoding with what there is.
            return_dict_in_generate (`bool`, *optional*, defaults to `False`): Return a [`TttGenerateOutput`].
            kwargs: As in `GenerationMixin.generate`.

        Returns:
            `torch.LongTensor` of shape `(batch, length)`, prompt and reply, right-padded, or [`TttGenerateOutput`].

        Raises:
            ValueError: for options out of their range or not supported (beam search, assisted decoding, ...), for a
            prompt without its axis
                of rows, for a streamer with more than one row, and for models whose config lacks the markers of sound.
        """
        streamer = kwargs.get("streamer")
        prompt = inputs if inputs is not None else kwargs.get("input_ids")
        if streamer is None:
            _check_prompt(prompt)
            return super().generate(inputs, *args, **kwargs)
        try:
            _check_prompt(prompt)
            if prompt is not None and len(prompt) > 1:
                raise ValueError(
                    f"A streamer follows one row, got a batch of {len(prompt)}; generate row by row, or without a "
                    "streamer."
                )
            return super().generate(inputs, *args, **kwargs)
        except Exception as error:
            if hasattr(streamer, "fail"):
                streamer.fail(error)
            raise
        finally:
            streamer.end()  # a consumer that waits in another thread must not wait for ever

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[GenerationConfig, dict]:
        kwargs.pop("generation_mode", None)  # the any-to-any pipeline passes it on
        asked = _asked_options(
            generation_config, {name: kwargs.pop(name) for name in GENERATION_DEFAULTS if name in kwargs}
        )
        generation_config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        defaults = GENERATION_DEFAULTS | {
            "block_length": self.config.span_block_length or GENERATION_DEFAULTS["block_length"]
        }
        for name, default in defaults.items():
            if name in asked:
                setattr(generation_config, name, asked[name])
            elif getattr(generation_config, name, None) is None:
                setattr(generation_config, name, default)
        _check_generation_config(generation_config)
        self._check_blocks(generation_config)
        return generation_config, model_kwargs

    def _validate_generation_mode(
        self, generation_mode: GenerationMode, generation_config: GenerationConfig, generation_mode_kwargs: dict
    ) -> None:
        if generation_mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            raise ValueError(
                f"Text-to-Talk decodes greedily or by sampling, not by {generation_mode.value.replace('_', ' ')}."
            )
        if "streamer" in generation_mode_kwargs and (generation_config.num_return_sequences or 1) > 1:
            raise ValueError(
                f"A streamer follows one row, `num_return_sequences` asks for {generation_config.num_return_sequences}."
            )
        if generation_mode_kwargs.get("synced_gpus"):
            raise ValueError("`synced_gpus=True` is not supported: gather the model on each device before `generate`.")
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> None:
        if generation_config.cache_implementation == "static":
            if generation_config.use_cache is False or model_kwargs.get("cache") is not None:
                raise ValueError(
                    '`cache_implementation="static"` makes a cache of its own: pass neither `cache` nor '
                    "`use_cache=False`."
                )
            self._check_static_cache()
            return
        if generation_config.cache_implementation not in (None, "dynamic"):
            raise ValueError(
                f'`cache_implementation` must be "dynamic" or "static", got {generation_config.cache_implementation!r}.'
            )
        if "past_key_values" in model_kwargs:  # its name before transformers 5.24
            model_kwargs["cache"] = model_kwargs.pop("past_key_values")
        cache = model_kwargs.get("cache")
        if cache is None and generation_config.use_cache is not False:
            # Layers that keep everything, also for sliding windows (the mask narrows those): a draft can then always
            # be taken back.
            model_kwargs["cache"] = DynamicCache()
            model_kwargs["cache"].layer_class_to_replicate = RoomyLayer
        elif cache is not None and (type(cache) is not DynamicCache or any(cache.is_sliding)):
            raise ValueError("`cache` must be a `DynamicCache()` made without a config, as `generate` returns it.")
        elif cache is not None:
            cache._is_user_defined = True  # as transformers marks it: the caller goes on with it

    def _sample(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: BaseStreamer | None = None,
        **model_kwargs: Any,
    ) -> torch.Tensor | TttGenerateOutput:
        """Decode a batch (called by `generate`, greedy or sampling)."""
        self._check_markers()
        is_static = generation_config.cache_implementation == "static"
        # The rest of `model_kwargs` is not needed: the decoder makes its own position ids and masks.
        decoder = BlockDecoder(
            self,
            input_ids,
            logits_processor,
            stopping_criteria,
            generation_config,
            streamer,
            attention_mask=model_kwargs.get("attention_mask"),
            cache=model_kwargs.get("cache"),
            generator=model_kwargs.get("generator"),
            static_cache=self._take_static_cache(input_ids, generation_config) if is_static else None,
            backbone=self._compiled_backbone(generation_config) if is_static else None,
        )
        while not decoder.is_finished and not getattr(streamer, "is_cancelled", False):
            decoder.step()
        if is_static:
            self.__dict__["_static_cache"] = decoder.cache
        if not decoder.returns_cache and not generation_config.return_dict_in_generate:
            return decoder.sequences()
        output = decoder.output()  # also aligns a cache that the caller passed
        return output if generation_config.return_dict_in_generate else output.sequences

    def _check_static_cache(self) -> None:
        attention = self.config.text_config._attn_implementation
        if attention not in ("sdpa", "eager"):
            raise ValueError(
                f'A static cache needs attn_implementation "sdpa" or "eager", this model has {attention!r}.'
            )
        if has_windows(self.config.text_config):
            raise ValueError('A static cache needs attention without windows; use `cache_implementation="dynamic"`.')

    def _take_static_cache(self, input_ids: torch.Tensor, generation_config: GenerationConfig) -> StaticRowCache:
        """Take the cache of the last call if it fits, as compiled code is bound to it; other threads make their own."""
        longest = generation_config.max_length + generation_config.block_length  # the copy of a block lies behind it
        max_length = -(-longest // STATIC_CACHE_STEP) * STATIC_CACHE_STEP
        num_layers = self.config.text_config.num_hidden_layers
        cache = self.__dict__.pop("_static_cache", None)
        if cache is not None and cache.fits(len(input_ids), max_length, generation_config.block_length, self):
            cache.clear()
            return cache
        return StaticRowCache(num_layers, len(input_ids), max_length, generation_config.block_length)

    def _compiled_backbone(self, generation_config: GenerationConfig) -> Callable[..., Any] | None:
        """Compile the backbone, by default on GPUs only: on CPUs it rarely pays (`benchmarks/decode.py`)."""
        config = generation_config.compile_config
        if generation_config.disable_compile or (config is None and self.device.type != "cuda"):
            return None
        options = (config or CompileConfig(dynamic=False)).to_dict()
        known, backbone = self.__dict__.get("_last_compiled_backbone", (None, None))
        if known != options:
            backbone = torch.compile(self.model.forward, **options)
            self.__dict__["_last_compiled_backbone"] = (options, backbone)
        return backbone

    def _check_blocks(self, generation_config: GenerationConfig) -> None:
        """Under block-causal attention, refuse blocks other than those of training."""
        length = self.config.span_block_length
        if length is None:
            return
        for name in ("block_length", "first_block_length"):
            if getattr(generation_config, name) not in (length, None):
                raise ValueError(
                    f"This model was trained on blocks of {length} (`config.span_block_length`), `{name}` is "
                    f"{getattr(generation_config, name)}; leave it out."
                )
        if generation_config.audio_guidance_scale and generation_config.audio_guidance_context == "masked":
            raise ValueError(
                'Guidance against a masked sequence needs `config.span_attention="full"`; pass '
                '`audio_guidance_context="none"`.'
            )

    def _check_markers(self) -> None:
        names = (
            "audio_token_start_id",
            "mask_token_id",
            "begin_audio_token_id",
            "begin_last_audio_token_id",
            "end_audio_token_id",
            "end_last_audio_token_id",
        )
        missing = [name for name in names if getattr(self.config, name) is None]
        if missing:
            raise ValueError(
                f"The config lacks {', '.join(missing)}: run `ttt convert` on the checkpoint, or set them to the "
                "tokenizer's ids."
            )


def _asked_options(generation_config: GenerationConfig | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """
    Gather what a caller asks for, which goes before the checkpoint's `generation_config.json`: arguments of
    `generate`, then a config that is passed. An argument `None` switches off what can be off, as with transformers'
    own options, and says nothing of the rest; one way to say how much a step reveals switches off the checkpoint's
    other one.
    """
    asked = {name: getattr(generation_config, name, None) for name in GENERATION_DEFAULTS}
    if any(arguments.get(name) is not None for name in ("reveal_schedule", *ACCEPTANCE_OPTIONS)):
        asked |= dict.fromkeys(ACCEPTANCE_OPTIONS)
    asked |= arguments
    asked = {
        name: value
        for name, value in asked.items()
        if value is not None or (name in arguments and GENERATION_DEFAULTS[name] is None)
    }
    if any(asked.get(name) is not None for name in ("reveal_schedule", *ACCEPTANCE_OPTIONS)):
        asked = dict.fromkeys(ACCEPTANCE_OPTIONS) | asked
    return asked


def _check_prompt(input_ids: torch.Tensor | None) -> None:
    if input_ids is not None and input_ids.ndim != 2:
        raise ValueError(
            f"`input_ids` is (batch, length), got the shape {tuple(input_ids.shape)}: of one row, pass input_ids[None]."
        )


def _check_generation_config(config: GenerationConfig) -> None:
    for name in ("block_length", "denoising_steps"):
        if not _is_count(getattr(config, name)):
            raise ValueError(f"`{name}` must be an integer of at least 1, got {getattr(config, name)!r}.")
    for name in ("first_block_length", "max_span_length", "audio_top_k"):
        value = getattr(config, name)
        if value is not None and not _is_count(value):
            raise ValueError(f"`{name}` must be an integer of at least 1 or None, got {value!r}.")
    for name in ("audio_temperature", "audio_guidance_scale"):
        value = getattr(config, name)
        if value is not None and not (_is_number(value) and value >= 0):
            raise ValueError(f"`{name}` must be a number that is not negative, got {value!r}.")
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {getattr(config, name)!r}.")
    for name, upper in (("confidence_threshold", 1.0), ("audio_top_p", 1.0), ("entropy_bound", float("inf"))):
        value = getattr(config, name)
        if value is not None and not (_is_number(value) and 0 <= value <= upper):
            raise ValueError(f"`{name}` must be a number between 0 and {upper:g}, got {value!r}.")
    if config.confidence_threshold is not None and config.entropy_bound is not None:
        raise ValueError(
            "`confidence_threshold` and `entropy_bound` both say how much a step reveals; pass one of them, or set the "
            "other to None."
        )
    if config.guidance_scale not in (None, 1):
        raise ValueError(
            "`guidance_scale` is not supported: its unconditional pass follows text id by id and misses the sound; "
            "leave it out."
        )
    for name in UNSUPPORTED_OUTPUTS:
        if getattr(config, name):
            raise ValueError(f"`{name}` is not supported: text and sound are scored over different ids; leave it out.")


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not math.isnan(value)


__all__ = ["GENERATION_DEFAULTS", "TttGenerateOutput", "TttGenerationMixin"]
