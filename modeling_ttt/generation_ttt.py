"""
`generate`: what is checked and prepared before the loop of `decoding_ttt.py`.

Depends on transformers' `GenerationMixin`, whose hooks are overridden, and on the options in
`generation_options_ttt.py`. Independent of waveforms and text.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import CompileConfig, GenerationConfig, GenerationMixin, PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.generation import GenerationMode, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.utils import ModelOutput

from .cache_ttt import BufferedLayer, DynamicSequenceCache, Query, SequenceCache, StaticSequenceCache
from .decoding_ttt import BlockDecoder
from .exact_text_ttt import READING_INPUTS, ExactTextLogitsProcessor
from .generation_options_ttt import GENERATION_DEFAULTS, asked_options, check_generation_config
from .generation_output_ttt import TttGenerateOutput
from .masking_ttt import CACHE_NAME, attention_span_ids, has_windows

STATIC_CACHE_STEP = 256  # positions; lengths are rounded up to it, so that most calls need no new compilation


class TttGenerationMixin(GenerationMixin):
    """`generate` for models of text and audio spans."""

    cache_layer_class: type[DynamicLayer] = BufferedLayer

    def generate(
        self, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor | TttGenerateOutput:
        """
        Generate replies of text and audio.

        An option that is not passed has the checkpoint's value (`generation_config.json`), or the default below;
        `None` switches an option off. Besides transformers' own options, which act on text:

        Args:
            inputs (`torch.LongTensor` of shape `(batch, length)`, *optional*): Prompts, left-padded; also as
                `input_ids`.
            reply_text_ids (`torch.LongTensor` of shape `(batch, text)`, *optional*): Token ids of the text that each
                reply must have, word for word; the model chooses where audio begins. `processor.prepare(messages,
                reply_texts=...)` makes them.
            reply_text_mask (`torch.LongTensor` of shape `(batch, text)`, *optional*): 1 for a token of
                `reply_text_ids`, 0 for padding.
            reply_word_ends (`torch.LongTensor` of shape `(batch, text)`, *optional*): 1 for a word's last token of
                `reply_text_ids`. It changes no token id: known text is computed with the audio behind it, in fewer
                forwards, where audio begins after a word.
            block_length (`int`, *optional*, defaults to 32): Masks of a block.
            first_block_length (`int`, *optional*): Masks of the first block of a reply, if different: a shorter one
                gives earlier audio.
            denoising_steps (`int`, *optional*, defaults to 10): Forward passes over a block, at most.
            reveal_schedule (`str`, *optional*, defaults to `"linear"`): How the masks are spread over the steps: as
                evenly as integers allow, the only way. Passing it switches off the checkpoint's threshold or bound.
            remasking (`str`, *optional*, defaults to `"low_confidence"`): Which positions a step reveals first:
                those of the most probable proposals; with `"random"` any; with `"calibrated"` those of the most
                probable proposals relative to the prior of their code (one more forward for each begin marker in
                use).
            confidence_threshold (`float`, *optional*): Reveal all positions that are at least this probable, and one
                in any case, instead of a fixed number; in the last step all. Passing it switches off the checkpoint's
                bound.
            entropy_bound (`float`, *optional*): Reveal positions in `remasking` order while the sum of their entropies
                minus the largest stays within this bound, in nats; in the last step all. Passing it switches off the
                checkpoint's threshold.
            block_early_stop (`bool`, *optional*, defaults to `False`): Finish a block once everything before its first
                end marker is revealed. The rest is cut anyway: the same token ids, fewer forwards; with sampling, the
                draws of later blocks change.
            audio_temperature (`float`, *optional*, defaults to 0.0): 0 takes the most probable codes; above, they are
                drawn.
            audio_top_k (`int`, *optional*): Draw from this many of the most probable codes.
            audio_top_p (`float`, *optional*): Draw from the most probable codes that together are this probable.
            audio_guidance_scale (`float`, *optional*): Scale of classifier-free guidance of audio, 0.1 in the paper.
                Its unconditional branch sees the sequence with everything around the block masked, in a second,
                uncached forward per step.
            max_span_length (`int`, *optional*): Generated token ids of a span, after which it is closed. By default
                only `max_new_tokens` limits it.
            use_cache (`bool`, *optional*, defaults to `True`): `False` computes the whole sequence again at every
                step, with the same result.
            cache_implementation (`str`, *optional*, defaults to `"dynamic"`): `"static"` keeps the shapes of a step
                constant and, on a GPU or with a `compile_config`, compiles two: text token id and block. The same
                token ids; the first call is slow.
            generator (`torch.Generator` or a list of one per sequence, *optional*): Source of all randomness; torch's
                global generator by default.
            streamer (`BaseStreamer`, *optional*): Is given the prompt, each text token id, each block after cutting,
                and appended end markers. Optional attributes: `put_draft(ids, confidence)` gets a block after each
                denoising step, masks included, with the probabilities of the step's proposals; `fail(error)` gets an
                exception before it is raised; `is_cancelled` is read before each forward, and ends decoding.
            return_dict_in_generate (`bool`, *optional*, defaults to `False`): Return a [`TttGenerateOutput`].
            kwargs: As in `GenerationMixin.generate`.

        Returns:
            `torch.LongTensor` of shape `(batch, length)`, prompts and replies, right-padded, or [`TttGenerateOutput`].

        Raises:
            ValueError: for options out of their range or not supported (beam search, assisted decoding, ...), for a
                prompt without a batch dimension, for a streamer with several sequences, for texts to be read aloud
                that do not match the prompts, and for models whose config lacks markers.
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
                    f"A streamer follows one sequence, got a batch of {len(prompt)}; generate one at a time, or "
                    "without a streamer."
                )
            return super().generate(inputs, *args, **kwargs)
        except Exception as error:
            if hasattr(streamer, "fail"):
                streamer.fail(error)
            raise
        finally:
            streamer.end()  # otherwise a consumer in another thread waits without end

    @torch.inference_mode()
    def prefill(self, input_ids: torch.Tensor, cache: DynamicCache | None = None) -> DynamicCache:
        """
        Compute keys and values of the beginning of a prompt before the rest of it is known; `generate` takes them as
        its `cache`.

        Args:
            input_ids (`torch.LongTensor` of shape `(1, length)`): The beginning. It ends outside an audio span or,
                under block-causal attention, after whole blocks of one: the positions of a span, or block, see each
                other.
            cache (`DynamicCache`, *optional*): Holds the first positions already, up to such a place; grows in place.

        Returns:
            `DynamicCache`: The cache, of as many positions as there are token ids.
        """
        input_ids = input_ids.to(self.execution_device)
        cache = self._empty_cache() if cache is None else cache
        is_real = torch.ones_like(input_ids, dtype=torch.bool)
        sequences = DynamicSequenceCache(self.model.config, cache, is_real)
        num_cached = cache.get_seq_length()
        new_ids = input_ids[:, num_cached:]
        span_ids = attention_span_ids(
            new_ids, self.config.markers().audio_token_start_id, self.config.span_block_length
        )
        positions = torch.arange(num_cached, input_ids.shape[1], device=input_ids.device)[None]
        query = Query(span_ids, is_real[:, num_cached:], positions, torch.full_like(positions[:, :1], num_cached))
        embeddings = self.get_input_embeddings()(new_ids)
        self.model(
            inputs_embeds=embeddings,
            attention_mask=sequences.prepare(query, embeddings),
            position_ids=positions,
            **{CACHE_NAME: cache},
            use_cache=True,
        )
        return cache

    def _empty_cache(self) -> DynamicCache:
        """
        Make a cache whose layers keep all positions, also under sliding windows (which the mask applies): only then can
        a denoising step be discarded.
        """
        cache = DynamicCache()
        cache.layer_class_to_replicate = self.cache_layer_class
        return cache

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[GenerationConfig, dict]:
        kwargs.pop("generation_mode", None)  # the any-to-any pipeline passes it on
        asked = asked_options(
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
        check_generation_config(generation_config)
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
                f"A streamer follows one sequence, `num_return_sequences` is {generation_config.num_return_sequences}."
            )
        if generation_mode_kwargs.get("synced_gpus"):
            raise ValueError("`synced_gpus=True` is not supported: gather the model on each device before `generate`.")
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in READING_INPUTS})

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
            model_kwargs["cache"] = self._empty_cache()
        elif cache is not None and (type(cache) is not DynamicCache or any(cache.is_sliding)):
            raise ValueError("`cache` must be a `DynamicCache()` made without a config, as `generate` returns it.")
        elif cache is not None:
            cache._is_user_defined = True  # as transformers marks a cache that the caller uses afterwards

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
        # The decoder makes its own position ids and masks: the rest of `model_kwargs` is not needed.
        prompt_ids = input_ids.to(self.execution_device)
        exact_text = self._exact_text(prompt_ids, generation_config, model_kwargs)
        if exact_text is not None:
            logits_processor = LogitsProcessorList([exact_text, *logits_processor])  # before top-k and the like
        attention_mask = model_kwargs.get("attention_mask")
        is_real = torch.ones_like(prompt_ids) if attention_mask is None else attention_mask.to(prompt_ids.device)
        is_real = is_real.bool()
        is_static = generation_config.cache_implementation == "static"
        cache: SequenceCache
        if is_static:
            cache = self._take_static_cache(len(prompt_ids), generation_config)
        else:
            cache = DynamicSequenceCache(self.model.config, model_kwargs.get("cache"), is_real)
        max_new_tokens = generation_config.max_length - prompt_ids.shape[1]
        _check_prompts(self.config.text_config, is_real, cache, max_new_tokens)
        _check_token_ids(prompt_ids[is_real], self.config.vocab_size)
        decoder = BlockDecoder(
            self,
            prompt_ids,
            is_real,
            cache,
            generation_config,
            logits_processor,
            stopping_criteria,
            streamer,
            generator=model_kwargs.get("generator"),
            backbone=self._compiled_backbone(generation_config) if is_static else None,
            propose=exact_text.proposed_ids if exact_text is not None and cache.cache is not None else None,
        )
        decoder.run()
        if is_static:
            self.__dict__["_static_cache"] = cache
        if not decoder.returns_cache and not generation_config.return_dict_in_generate:
            return decoder.sequences()
        output = decoder.output()  # also aligns a cache that the caller passed
        return output if generation_config.return_dict_in_generate else output.sequences

    def _exact_text(
        self, prompt_ids: torch.Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any]
    ) -> ExactTextLogitsProcessor | None:
        """The rule that the replies' texts are the given ones, if there are any."""
        text_ids, text_mask, word_ends = (model_kwargs.get(name) for name in READING_INPUTS)
        if text_ids is None:
            return None
        text_mask = torch.ones_like(text_ids) if text_mask is None else text_mask
        word_ends = torch.zeros_like(text_ids) if word_ends is None else word_ends
        if text_ids.ndim != 2 or not text_ids.shape == text_mask.shape == word_ends.shape:
            raise ValueError(
                "`reply_text_ids`, `reply_text_mask` and `reply_word_ends` must all be (batch, text), got the shapes "
                f"{tuple(text_ids.shape)}, {tuple(text_mask.shape)} and {tuple(word_ends.shape)}."
            )
        end = generation_config.eos_token_id
        if end is None:
            raise ValueError("`reply_text_ids` needs `eos_token_id` in the generation config: a text read aloud ends.")
        end = end[0] if isinstance(end, list) else end
        texts, ends = (
            [row[is_text].tolist() for row, is_text in zip(values, text_mask.bool(), strict=True)]
            for values in (text_ids, word_ends.bool())
        )
        return ExactTextLogitsProcessor(self.config.markers(), end, prompt_ids, texts, ends)

    def _check_static_cache(self) -> None:
        attention = self.config.text_config._attn_implementation
        if attention not in ("sdpa", "eager"):
            raise ValueError(
                f'A static cache needs attn_implementation "sdpa" or "eager", this model has {attention!r}.'
            )
        if has_windows(self.config.text_config):
            raise ValueError('A static cache needs attention without windows; use `cache_implementation="dynamic"`.')

    def _take_static_cache(self, num_sequences: int, generation_config: GenerationConfig) -> StaticSequenceCache:
        """Take the last call's cache if it fits, because compiled code is bound to it; other threads make their own."""
        block_length = generation_config.block_length
        max_length = -(-generation_config.max_length // STATIC_CACHE_STEP) * STATIC_CACHE_STEP
        cache = self.__dict__.pop("_static_cache", None)
        if cache is not None and cache.fits(num_sequences, max_length, block_length, self.execution_device, self.dtype):
            return cache
        return StaticSequenceCache(self.model.config, num_sequences, max_length, block_length)

    def _compiled_backbone(self, generation_config: GenerationConfig) -> Callable[..., ModelOutput] | None:
        """Compile the backbone, by default on GPUs only: on CPUs it is rarely faster (`benchmarks/decode.py`)."""
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
        if generation_config.audio_guidance_scale:
            raise ValueError(
                'Guidance masks everything around a block, which needs `config.span_attention="full"`; leave '
                "`audio_guidance_scale` out."
            )


def _check_prompt(input_ids: torch.Tensor | None) -> None:
    if input_ids is not None and input_ids.ndim != 2:
        raise ValueError(
            f"`input_ids` must be (batch, length), got the shape {tuple(input_ids.shape)}; of one sequence, pass "
            "input_ids[None]."
        )
    if input_ids is not None and (input_ids.is_floating_point() or input_ids.dtype == torch.bool):
        raise ValueError(f"`input_ids` must be integers, got {input_ids.dtype}; embeddings are not taken.")


def _check_token_ids(token_ids: torch.Tensor, vocab_size: int) -> None:
    """Refuse ids outside the vocabulary, which an embedding looks up by an obscure error, or on a GPU by a crash."""
    if token_ids.numel():
        lowest, highest = (int(bound) for bound in torch.aminmax(token_ids))
        if lowest < 0 or highest >= vocab_size:
            raise ValueError(
                f"`input_ids` must be from 0 to {vocab_size - 1}, the model's vocabulary, got "
                f"{lowest if lowest < 0 else highest}; hide padding by `attention_mask`."
            )


def _check_prompts(
    text_config: PreTrainedConfig, is_real: torch.Tensor, cache: SequenceCache, max_new_tokens: int
) -> None:
    if not is_real.shape[1]:
        raise ValueError("`generate` needs `input_ids`: embeddings alone do not show which positions are audio.")
    lengths = is_real.sum(-1).tolist()
    if not all(lengths):
        raise ValueError("A prompt is empty: every sequence of `attention_mask` needs at least one 1.")
    cached_lengths = cache.prefilled_lengths()
    if any(length <= cached for length, cached in zip(lengths, cached_lengths, strict=True)):
        raise ValueError(
            f"`cache` holds {max(cached_lengths)} positions and `input_ids` has nothing after them in some sequence: "
            "pass the whole sequence, cached part included."
        )
    if len(lengths) > 1 and cache.cache is not None and has_windows(text_config):
        raise ValueError(
            "This backbone attends in windows, which count cache slots; decode its batches with `use_cache=False`, or "
            "one sequence at a time."
        )
    context = getattr(text_config, "max_position_embeddings", None)
    if context is not None and max(lengths) + max_new_tokens > context:
        raise ValueError(
            f"A prompt of {max(lengths)} token ids and {max_new_tokens} new ones need {max(lengths) + max_new_tokens} "
            f"positions, this model has {context}: lower `max_new_tokens`, or shorten the prompt."
        )


__all__ = ["GENERATION_DEFAULTS", "TttGenerateOutput", "TttGenerationMixin"]
