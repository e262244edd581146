"""
The Text-to-Talk model: any decoder-only backbone under modality-aware attention, with one output projection for text
and audio.

Depends on `masking_ttt` for the mask and on `objective_ttt` for the losses; `generation_ttt` adds `generate`.
Independent of waveforms, text and file formats.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_ttt import TttConfig
from .generation_ttt import GENERATION_DEFAULTS, TttGenerationMixin
from .initialization_ttt import build_from_language_model
from .masking_ttt import (
    CACHE_NAME,
    attention_span_ids,
    copies_mask,
    modality_aware_mask,
    number_copies,
    positions_in_samples,
)
from .noising_ttt import draw_noise
from .objective_ttt import JointLoss, Targets, find_targets
from .pretrained_ttt import TttPreTrainedModel
from .two_streams_ttt import find_copy_targets


@dataclass
class TttOutput(ModelOutput):
    """
    Output of [`TttForConditionalGeneration`].

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, returned with `labels`): `text_loss + audio_loss`.
        logits (`torch.FloatTensor` of shape `(batch, length, vocab_size)`, *optional*, left out by `skip_logits`):
            Scores of the next text token id or, at a masked position, of its own.
        text_loss (`torch.FloatTensor` of shape `()`, *optional*, returned with `labels`): Next-token loss on text, in
            nats.
        audio_loss (`torch.FloatTensor` of shape `()`, *optional*, returned with `labels`): Weighted loss at masked
            positions, in nats.
        cache (`Cache`, *optional*): Keys and values of all positions so far.
        hidden_states (`tuple[torch.Tensor]`, *optional*): Of the backbone.
        attentions (`tuple[torch.Tensor]`, *optional*): Of the backbone.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text_loss: torch.Tensor | None = None
    audio_loss: torch.Tensor | None = None
    cache: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None

    @property
    def past_key_values(self) -> Cache | None:
        """The cache, by its name before transformers 5.24."""
        return self.cache


class TttForConditionalGeneration(TttPreTrainedModel, TttGenerationMixin):
    """
    Text-to-Talk: generates text token by token, and audio by denoising blocks of audio tokens.

    Query i sees key j if and only if j <= i or both are in the same audio span (paper, section 3.2).
    """

    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012 - as in transformers
    accepts_loss_kwargs = False  # the loss is a mean over samples, not over tokens

    def __init__(self, config: TttConfig):
        super().__init__(config)
        self.model = AutoModel.from_config(config.text_config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.vocab_size, bias=False)
        embedding = self.model.get_input_embeddings().weight
        name = next(name for name, parameter in self.model.named_parameters() if parameter is embedding)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}"}
        self.post_init()

    @classmethod
    def from_language_model(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        audio_codebook_size: int,
        tokenizer: PreTrainedTokenizerBase | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> "TttForConditionalGeneration":
        """
        Start a new Text-to-Talk model from a causal language model: its weights, and new embedding rows for the
        markers and audio tokens.

        Logits of text token ids after text are the language model's own. The new ones get very little probability,
        because new embedding rows are the mean of the text rows with a little noise (`initialise_new_rows`).

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id of any causal language model of
                transformers.
            audio_codebook_size (`int`): Number of codes of the codec.
            tokenizer (`PreTrainedTokenizerBase`, *optional*): The language model's tokenizer, which is extended
                in place; loaded by default. `processing_ttt.add_ttt_tokens` extends one in the same way.
            generator (`torch.Generator`, *optional*): Source of the noise in the new embedding rows; torch's
                global one by default.
            kwargs: As for `AutoModelForCausalLM.from_pretrained`: `dtype`, `revision`, `token`, ...

        Returns:
            [`TttForConditionalGeneration`]: A model in eval mode, with the paper's generation settings.

        Raises:
            ValueError: if the tokenizer has audio tokens already, or the model is not a decoder with a plain linear
                output projection.
        """
        return build_from_language_model(
            cls, pretrained_model_name_or_path, audio_codebook_size, tokenizer, generator, **kwargs
        )

    def text_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        Score the text token ids as the next token.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(..., hidden_size)`): Output of the backbone.

        Returns:
            `torch.FloatTensor` of shape `(..., vocab_size)`: Logits, -inf from `audio_token_start_id` on.
        """
        logits = self._project(hidden_states, slice(self.audio_token_start_id))
        return F.pad(logits, (0, self.config.vocab_size - logits.shape[-1]), value=-torch.inf)

    def audio_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        Score the token ids that a denoising step may reveal: the codes and the two end markers, in the order of
        `eligible_audio_ids`.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(..., hidden_size)`): Output of the backbone at masked
                positions.

        Returns:
            `torch.FloatTensor` of shape `(..., audio_codebook_size + 2)`: Logits.
        """
        markers = self.config.markers()
        codes = slice(markers.codes.start, markers.codes.stop)
        return self._project(hidden_states, codes, list(markers.end_token_ids))

    def eligible_audio_ids(self) -> torch.Tensor:
        """Give the token ids of the columns of `audio_logits`, `(audio_codebook_size + 2,)`."""
        markers = self.config.markers()
        return torch.tensor([*markers.codes, *markers.end_token_ids], device=self.execution_device)

    @property
    def execution_device(self) -> torch.device:
        """The device for inputs: that of the weights or, where accelerate offloads them, the one it moves them to."""
        if self.device.type != "meta":
            return self.device
        hook = getattr(self.get_input_embeddings(), "_hf_hook", None)
        device = getattr(hook, "execution_device", None)
        return torch.device("cpu" if device is None else device)

    def _project(self, hidden_states: torch.Tensor, *columns: slice | list[int]) -> torch.Tensor:
        """Score some token ids of the vocabulary, without computing the others."""
        is_plain = type(self.lm_head) is nn.Linear and type(self.lm_head.weight) is nn.Parameter
        if is_plain and not hasattr(self.lm_head, "_hf_hook"):
            hidden_states = hidden_states.to(self.lm_head.weight.device)
            logits = [F.linear(hidden_states, self.lm_head.weight[part]) for part in columns]
        else:  # a quantized, adapted, sharded or offloaded projection can only be computed as a whole
            scores = self.lm_head(hidden_states)
            logits = [scores[..., part] for part in columns]
        return self._scale_logits(torch.cat(logits, dim=-1))

    def _scale_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Scale logits as the backbone's own language model does (gemma caps, granite divides, cohere multiplies)."""
        config = self.config.text_config
        if getattr(config, "logits_scaling", None) is not None:
            logits = logits / config.logits_scaling
        if getattr(config, "logit_scale", None) is not None:
            logits = logits * config.logit_scale
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        mask_prob: torch.Tensor | None = None,
        sample_ids: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: Cache | None = None,
        skip_logits: bool = False,
        copy_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TttOutput:
        """
        Score sequences of text and audio, and compute the losses where there are labels.

        With `labels` alone the model masks audio itself, as `config.objective` has it: in `input_ids`, or in copies
        that it appends to them; in train mode drawn from `generator` (torch's global one by default), in eval mode from
        a fixed seed. With `audio_mask` and `mask_prob`, `input_ids` are masked already; with `copy_ids` they hold
        copies already.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids.
            attention_mask (`torch.Tensor` of shape `(batch, cached + length)`, *optional*):
                0 hides a position. A mask made by `masking_ttt.modality_aware_mask` passes through.
            position_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                Positions; in packed rows they start again with every sample, without an `attention_mask`.
            cache (`Cache`, *optional*): Keys and values of the positions before; audio spans must not begin in them.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, length, hidden_size)`, *optional*):
                Instead of `input_ids`, for text only: embeddings do not show which positions are audio.
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*): Clean token
                ids, -100 where nothing is learnt.
            audio_mask (`torch.BoolTensor` of shape `(batch, length)`, *optional*): Masked positions, if the caller
                masked them.
            mask_prob (`torch.FloatTensor` of shape `(batch,)` or `(batch, length)`, *optional*): Probability with
                which the caller masked.
            sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                Sample of each position: 0, 1, ... in each packed row, -1 for padding. Losses are means over samples.
            generator (`torch.Generator`, *optional*): Source of the random masks in train mode.
            use_cache (`bool`, *optional*): Return `cache`.
            logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0): Score only the last positions (0:
                all), or these ones.
            past_key_values (`Cache`, *optional*): `cache`, by its name before transformers 5.24.
            skip_logits (`bool`, *optional*, defaults to `False`): With `labels`: score only the positions that the
                losses need, and return no logits. The losses are the same, in less time and memory.
            copy_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): 0 for clean sequences, 1, 2, ... for
                their copies (`two_streams_ttt`), whose labels are those of their masks; with `position_ids` and
                `sample_ids`. Nothing is cached.
            kwargs: For the backbone.

        Returns:
            [`TttOutput`].

        Raises:
            ValueError: if only one of `audio_mask` and `mask_prob` is given, or neither or both of `input_ids` and
                `inputs_embeds`, or `labels` without `input_ids` or with `logits_to_keep`, or `skip_logits` without
                `labels`, or `copy_ids` without `position_ids` and `sample_ids` or with `audio_mask`.
        """
        _check_arguments(
            input_ids, position_ids, labels, audio_mask, mask_prob, sample_ids, copy_ids, logits_to_keep, skip_logits
        )
        length = None  # of what is scored
        if labels is not None and input_ids is not None and audio_mask is None and copy_ids is None:
            length = input_ids.shape[1]
            noised = draw_noise(
                self.config,
                self.block_length,
                input_ids,
                labels,
                attention_mask,
                position_ids,
                sample_ids,
                generator,
                is_fixed=not self.training,
            )
            input_ids, labels, position_ids = noised.input_ids, noised.labels, noised.position_ids
            sample_ids, copy_ids = noised.sample_ids, noised.copy_ids
            audio_mask, mask_prob = noised.audio_mask, noised.mask_prob

        if sample_ids is not None:
            # Position ids mark where samples begin and -1 what is padding; with a 2-D mask the backbone ignores the
            # former.
            position_ids = positions_in_samples(sample_ids) if position_ids is None else position_ids
            attention_mask = None if _is_padding_mask(attention_mask) else attention_mask
        cache = past_key_values if cache is None else cache
        apart = sample_ids if sample_ids is None or copy_ids is None else number_copies(sample_ids, copy_ids)
        inputs_embeds, span_ids = self._embed(input_ids, inputs_embeds, apart)
        if copy_ids is not None and position_ids is not None and sample_ids is not None:
            use_cache = False
            attention_mask = copies_mask(self.model.config, inputs_embeds, span_ids, position_ids, sample_ids, copy_ids)
        elif attention_mask is None or _is_padding_mask(attention_mask):
            attention_mask = modality_aware_mask(
                self.model.config, inputs_embeds, span_ids, attention_mask, cache, position_ids
            )

        outputs = self.model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE_NAME: cache},
            use_cache=use_cache,
            **kwargs,
        )
        targets = None
        if labels is not None and copy_ids is not None and sample_ids is not None:
            targets = find_copy_targets(labels, copy_ids, self.audio_token_start_id, sample_ids)
        elif labels is not None and audio_mask is not None and mask_prob is not None:
            targets = find_targets(labels, audio_mask, mask_prob, self.audio_token_start_id, sample_ids)
        logits, losses = self._score(outputs.last_hidden_state, targets, logits_to_keep, skip_logits)
        return TttOutput(
            loss=losses.loss if losses else None,
            logits=logits if logits is None else logits[:, :length],
            text_loss=losses.text_loss if losses else None,
            audio_loss=losses.audio_loss if losses else None,
            cache=getattr(outputs, CACHE_NAME),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @property
    def block_length(self) -> int:
        """Masks of a block in decoding, where `generate` is not asked for others."""
        asked = getattr(self.generation_config, "block_length", None)
        return self.config.span_block_length or asked or GENERATION_DEFAULTS["block_length"]

    @property
    def audio_token_start_id(self) -> int:
        """First id of the audio part of the vocabulary; a `ValueError` if it is not set."""
        if self.config.audio_token_start_id is None:
            raise ValueError(
                "`config.audio_token_start_id` is not set, so text and audio cannot be distinguished; set it to the "
                "first audio id."
            )
        return self.config.audio_token_start_id

    def _embed(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, sample_ids: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give embeddings `(batch, length, hidden_size)` and span ids `(batch, length)`; bare embeddings are text."""
        if input_ids is not None and inputs_embeds is None:
            span_ids = attention_span_ids(
                input_ids, self.audio_token_start_id, self.config.span_block_length, sample_ids
            )
            return self.model.get_input_embeddings()(input_ids), span_ids
        if inputs_embeds is not None and input_ids is None:
            return inputs_embeds, torch.full(inputs_embeds.shape[:2], -1, device=inputs_embeds.device)
        raise ValueError("Pass exactly one of `input_ids` and `inputs_embeds`.")

    def _score(
        self,
        hidden_states: torch.Tensor,
        targets: Targets | None,
        logits_to_keep: int | torch.Tensor,
        skip_logits: bool,
    ) -> tuple[torch.Tensor | None, JointLoss | None]:
        """Give the logits unless they are skipped, and the losses if there are targets."""
        if (
            targets is not None and skip_logits
        ):  # as a batch of one: sharded and adapted projections expect 3 dimensions
            return None, targets.loss(self._scale_logits(self.lm_head(targets.gather(hidden_states)[None]))[0])
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self._scale_logits(self.lm_head(hidden_states[:, kept]))
        return logits, targets.loss(targets.gather(logits)) if targets is not None else None


def _check_arguments(
    input_ids: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    labels: torch.Tensor | None,
    audio_mask: torch.Tensor | None,
    mask_prob: torch.Tensor | None,
    sample_ids: torch.Tensor | None,
    copy_ids: torch.Tensor | None,
    logits_to_keep: int | torch.Tensor,
    skip_logits: bool,
) -> None:
    """Refuse arguments of `forward` that do not go together."""
    if (audio_mask is None) != (mask_prob is None):
        raise ValueError(
            "`audio_mask` and `mask_prob` belong together: pass both, or neither and let the model mask the audio."
        )
    if labels is not None and (input_ids is None or not _keeps_all(logits_to_keep)):
        raise ValueError(
            "`labels` need `input_ids` and the logits of every position; leave out `inputs_embeds` and "
            "`logits_to_keep`."
        )
    if skip_logits and labels is None:
        raise ValueError("`skip_logits` leaves nothing to return without `labels`: pass labels, or leave it out.")
    if copy_ids is not None and (position_ids is None or sample_ids is None or audio_mask is not None):
        raise ValueError(
            "`copy_ids` need `position_ids` and `sample_ids`, and have their masks in `labels`: leave out "
            "`audio_mask` and `mask_prob`."
        )


def _is_padding_mask(attention_mask: object) -> bool:
    return isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2


def _keeps_all(logits_to_keep: int | torch.Tensor) -> bool:
    return isinstance(logits_to_keep, int) and logits_to_keep == 0


__all__ = ["TttForConditionalGeneration", "TttOutput", "TttPreTrainedModel"]
