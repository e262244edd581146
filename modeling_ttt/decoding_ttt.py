"""
Decoding: text token by token, sound block by block, in one loop over one exact cache.

Knows the model and a batch of rows. Knows no waveform, no text and no options of `generate`.

    prefill ─► ┌────────────────────── one forward ──────────────────────┐
               │ rows that write: their last id (after a span: the span) │ ─► next text id ─► begin marker? open a block
               │ rows that speak: open span + block, not kept            │ ─► reveal ─► none left? cut, close, go on
               └─────────────────────────────────────────────────────────┘ ◄─ until every row ends

Nothing before a span attends into it, so keys and values up to its begin marker are final. A denoising step runs the
open span alone against them and takes its own keys and values back; the closed span is run once more as it is, and
kept: its last position gives the next text id. Under block-causal attention the same holds block by block, and a
finished block is kept as soon as the next one is run. Without a cache this is the published procedure, the whole
sequence at every step, by the same code with nothing ever kept.

Rows advance on their own: in the same forward one may write and another speak. The cache's slots are shared, so a row
that keeps less than another gets holes, which the attention mask hides; positions count only the row's own ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.utils import ModelOutput

from .cache_ttt import CACHE_NAME, Query, RowCache, StaticRowCache, has_windows
from .denoising_ttt import BlockDenoiser
from .rows_ttt import DecodingPlan, DecodingRow, open_rows
from .samplers_ttt import Generators, guide, next_text_ids
from .unconditional_ttt import Unconditional


@dataclass
class TttGenerateOutput(ModelOutput):
    """
    Output of `generate(..., return_dict_in_generate=True)`.

    Args:
        sequences (`torch.LongTensor` of shape `(batch, length)`): Prompt and reply, right-padded after a row's end.
        attention_mask (`torch.LongTensor` of shape `(batch, length)`): 1 where `sequences` holds an id of the row.
        num_forwards (`int`): Forward passes of the model, prefill included.
        tokens_per_forward (`torch.FloatTensor` of shape `(batch,)`): New ids of each row per forward pass until its
            end.
        cache (`Cache`, *optional*): Keys and values of the first columns of `sequences`, under the first columns of
            `attention_mask`: as many columns as are final in every row.
    """

    sequences: torch.Tensor
    attention_mask: torch.Tensor | None = None
    num_forwards: int | None = None
    tokens_per_forward: torch.Tensor | None = None
    cache: Cache | None = None

    @property
    def past_key_values(self) -> Cache | None:
        """The cache, by its name before transformers 5.24."""
        return self.cache


class BlockDecoder:
    """
    Decodes one batch.

    Args:
        model (`TttForConditionalGeneration`): Scores ids.
        input_ids (`torch.LongTensor` of shape `(batch, prompt)`): Prompts, left-padded.
        logits_processor (`LogitsProcessorList`): Acts on the scores of text ids.
        stopping_criteria (`StoppingCriteriaList`): Asked after each text id and each block.
        generation_config (`GenerationConfig`): Checked options, see `generation_ttt.py`.
        streamer (`BaseStreamer`, *optional*): Told of each text id, each block and each appended end marker.
        attention_mask (`torch.LongTensor` of shape `(batch, prompt)`, *optional*): 0 marks padding.
        cache (`DynamicCache`, *optional*): `None` decodes without a cache.
        generator (`torch.Generator` or a list of one per row, *optional*): Source of all randomness.
        static_cache (`StaticRowCache`, *optional*): Instead of `cache`.
        backbone (`Callable`, *optional*): The model's backbone, compiled for the shapes that `static_cache` leaves;
            runs all but the prefill.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        streamer: BaseStreamer | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: DynamicCache | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        static_cache: StaticRowCache | None = None,
        backbone: Callable[..., Any] | None = None,
    ):
        self.model = model
        self.backbone = backbone or model.model
        self.logits_processor = logits_processor
        self.stopping_criteria = stopping_criteria
        self.options = generation_config
        self.streamer = streamer
        self.prompt_ids = input_ids.to(model.execution_device)
        is_real = (
            torch.ones_like(self.prompt_ids) if attention_mask is None else attention_mask.to(model.execution_device)
        )
        self.prompt_is_real = is_real.bool()
        self.generators = _one_per_row(generator, len(input_ids))
        self.denoiser = BlockDenoiser(model.config, generation_config, model.eligible_audio_ids())
        self.unconditional = Unconditional(model, generation_config.block_length)
        self.priors_taken: set[tuple[int, int]] = set()  # (row, begin marker)
        self.guides_apart = self._guides("none")
        self.guides_masked = self._guides("masked")
        self.num_forwards = 0
        self._layout: list[tuple[int, int, int, bool]] | None = None  # of the last query and its mask
        self._query: Query | None = None
        self._buffer_rows: torch.Tensor | None = None  # (running rows, 1)
        self._mask: Any = None

        self.cache = static_cache or RowCache(cache, self.prompt_is_real)  # of the running rows
        self.buffer, self.rows = self._open_rows()
        self.row_forwards = [0] * len(self.rows)
        self.running = list(range(len(self.rows)))
        for index in self.running:
            self._go_on_speaking(index)

    def _open_rows(self) -> tuple[torch.Tensor, list[DecodingRow]]:
        prompt_length = self.prompt_ids.shape[1]
        cached = self.cache.slots.shape[1] if isinstance(self.cache, RowCache) else 0
        if not prompt_length:
            raise ValueError("`generate` needs `input_ids`: embeddings alone do not say which positions are sound.")
        if not self.prompt_is_real.any(-1).all():
            raise ValueError("A prompt is empty: every row of `attention_mask` needs at least one 1.")
        if not self.prompt_is_real[:, cached:].any(-1).all():
            raise ValueError(
                f"`cache` holds {cached} positions, `input_ids` only {prompt_length} with nothing new in some row: "
                "pass the whole sequence, cached part included."
            )
        if len(self.prompt_ids) > 1 and self.cache.cache is not None and has_windows(self.model.config.text_config):
            raise ValueError(
                "This backbone attends in windows, which count cache slots; decode its batches with `use_cache=False`, "
                "or row by row."
            )
        context = getattr(self.model.config.text_config, "max_position_embeddings", None)
        needed = int(self.prompt_is_real.sum(-1).max()) + self.options.max_length - prompt_length
        if context is not None and needed > context:
            raise ValueError(
                f"A prompt of {needed - self.options.max_length + prompt_length} ids and "
                f"{self.options.max_length - prompt_length} new ones need {needed} positions, this model has "
                f"{context}: lower `max_new_tokens`, or shorten the conversation."
            )
        plan = DecodingPlan(
            max_new_tokens=self.options.max_length - prompt_length,
            block_length=self.options.block_length,
            denoising_steps=self.options.denoising_steps,
            max_span_length=self.options.max_span_length,
            reveal_schedule=self.options.reveal_schedule,
            first_block_length=self.options.first_block_length,
            span_block_length=self.model.config.span_block_length,
        )
        prompts = [ids[is_real] for ids, is_real in zip(self.prompt_ids, self.prompt_is_real, strict=True)]
        buffer, rows = open_rows(prompts, self.cache.num_committed(), self.model.config, plan)
        if any(row.num_to_commit < 0 or not row.begins_with_a_block for row in rows):
            raise ValueError(
                "`cache` reaches into a span that is still open; pass a cache that ends before its begin marker."
            )
        return buffer, rows

    def _guides(self, context: str) -> bool:
        return bool(self.options.audio_guidance_scale) and self.options.audio_guidance_context == context

    @property
    def is_finished(self) -> bool:
        """Whether every row has ended."""
        return all(row.finished for row in self.rows)

    def step(self) -> None:
        """Run one forward, and let every row take what it needs from it."""
        writing = [i for i in self.running if not self.rows[i].finished and self.rows[i].span_start is None]
        speaking = [i for i in self.running if not self.rows[i].finished and self.rows[i].span_start is not None]
        ends = {i: self.rows[i].end - self.rows[i].committed for i in self.running}  # of the row's queries
        hidden_states = dict(zip(self.running, self._forward(), strict=True))  # row -> (queries, hidden)
        if writing:
            self._write(writing, torch.stack([hidden_states[i][ends[i] - 1] for i in writing]))
        if speaking:
            lengths = {i: self.rows[i].block_length for i in speaking}
            blocks = [hidden_states[i][ends[i] - lengths[i] : ends[i]] for i in speaking]
            unconditional = self._masked_context(speaking) if self.guides_masked else None
            if self.guides_apart:
                unconditional = [hidden_states[i][ends[i] : ends[i] + lengths[i]] for i in speaking]
            self._speak(speaking, _padded(blocks), _padded(unconditional) if unconditional else None)
        self._drop_finished_rows()

    # One forward

    def _gather_query(self) -> Query:
        """Gather what the next forward runs; between the denoising steps of a block only the ids change."""
        layout = [(row.committed, row.length, row.end, row.finished) for row in (self.rows[i] for i in self.running)]
        if self._query is None or layout != self._layout:
            self._layout, self._query, self._mask = layout, self._lay_out_query(), None
            self._buffer_rows = torch.tensor(self.running, device=self.buffer.device)[:, None]
        self._query.ids = self.buffer[self._buffer_rows, self._query.position_ids]
        return self._query

    def _lay_out_query(self) -> Query:
        device = self.buffer.device

        def column(numbers: list[int]) -> torch.Tensor:
            return torch.tensor(numbers, device=device)[:, None]

        rows = [self.rows[i] for i in self.running]
        counts = [0 if row.finished else row.end - row.committed for row in rows]
        copies = [row.block_length if self.guides_apart and not row.finished else 0 for row in rows]
        num_queries = max(map(sum, zip(counts, copies, strict=True)))
        columns = torch.arange(self.cache.num_columns(num_queries) if self.num_forwards else num_queries, device=device)
        is_real = columns < column(counts) + column(copies)
        is_apart = is_real & (columns >= column(counts))
        position_ids = columns + column([row.committed for row in rows]) - is_apart * column(copies)
        position_ids = position_ids.where(is_real, 0)
        return Query(torch.zeros_like(position_ids), is_real, position_ids, is_apart if self.guides_apart else None)

    @torch.inference_mode()  # spares each of the many small operations some bookkeeping
    def _forward(self) -> torch.Tensor:
        """Run the open ends of all running rows, `(running rows, queries, hidden)`, and keep what is final."""
        query = self._gather_query()
        inputs_embeds = self.model.get_input_embeddings()(query.ids)
        if self._mask is None:
            self._mask = self.cache.attention_mask(self.model, query, inputs_embeds)
        backbone = self.backbone if self.num_forwards else self.model.model  # a prompt may have any length
        outputs = backbone(
            inputs_embeds=inputs_embeds,
            attention_mask=self._mask,
            position_ids=query.position_ids,
            **{CACHE_NAME: self.cache.cache},
            use_cache=self.cache.cache is not None,
        )
        self.num_forwards += 1
        for i in self.running:
            self.row_forwards[i] += not self.rows[i].finished
        self._keep(query.ids.shape[1])
        return outputs.last_hidden_state

    def _masked_context(self, speaking: list[int]) -> list[torch.Tensor]:
        """Run the blocks once more, as guidance was published."""
        rows = [self.rows[i] for i in speaking]
        for i in speaking:
            self.row_forwards[i] += 1
        blocks = [row.buffer[row.length : row.end] for row in rows]
        return self.unconditional.masked_context(blocks, [row.length for row in rows])

    def _keep(self, num_queries: int) -> None:
        rows = [self.rows[i] for i in self.running]
        counts = [0 if row.finished else row.num_to_commit for row in rows]
        self.cache.keep(num_queries, counts)
        if self.cache.cache is not None:
            for row, count in zip(rows, counts, strict=True):
                row.committed += count

    # What rows take from it

    def _write(self, writing: list[int], hidden_states: torch.Tensor) -> None:
        """Give the writing rows their next text id, from the hidden states `(rows, hidden)` of their last position."""
        scores = self._process(writing, self.model.text_logits(hidden_states).float())
        token_ids = next_text_ids(scores, self.options.do_sample, [self.generators[i] for i in writing])
        for i, token_id, row_scores in zip(writing, token_ids.tolist(), scores, strict=True):
            self.rows[i].write(token_id)
            self._tell([[token_id]])
            self._ask_to_stop(i, row_scores[None])
            self._go_on_speaking(i)

    def _process(self, writing: list[int], scores: torch.Tensor) -> torch.Tensor:
        """Let the logits processors see each row's own ids; rows of one length share a call."""
        processed = scores.clone()
        lengths = [self.rows[i].num_new_tokens for i in writing]
        for length in set(lengths):
            members = [n for n, other in enumerate(lengths) if other == length]
            ids = torch.stack([self._padded_ids(writing[n]) for n in members])
            processed[members] = self.logits_processor(ids, scores[members])
        return processed

    def _speak(self, speaking: list[int], hidden_states: torch.Tensor, unconditional: torch.Tensor | None) -> None:
        """Reveal some masks of the rows that speak, from the hidden states `(rows, block, hidden)` of their blocks."""
        rows = [self.rows[i] for i in speaking]
        logits = self.model.audio_logits(hidden_states)  # (rows, block, codes and end markers)
        if unconditional is not None:
            logits = guide(logits, self.model.audio_logits(unconditional), self.options.audio_guidance_scale)
        log_prior = self._log_prior(speaking) if self.denoiser.rule.needs_prior else None
        self.denoiser.step(rows, logits, [self.generators[i] for i in speaking], log_prior)
        for i, row in zip(speaking, rows, strict=True):
            self._show_draft(row)
            if not row.schedule:
                self._tell(row.close_block())
                self._ask_to_stop(i)
                self._go_on_speaking(i)

    def _log_prior(self, speaking: list[int]) -> torch.Tensor:
        """Score the ids unconditionally, `(rows, ids)`; each row counts the forward that took it once."""
        markers = [self.rows[i].begin_marker for i in speaking]
        for taken in set(zip(speaking, markers, strict=True)) - self.priors_taken:
            self.priors_taken.add(taken)
            self.row_forwards[taken[0]] += 1
        return torch.stack([self.unconditional.log_prior(marker) for marker in markers])

    def _go_on_speaking(self, index: int) -> None:
        """Open the next block of a row inside a span."""
        row = self.rows[index]
        if row.finished or row.span_start is None:
            return
        row.open_block()
        if not row.block_length:  # the prompt's open span leaves no room for another block
            self._tell(row.close_block())
            self._ask_to_stop(index)

    def _tell(self, news: Sequence[list[int]]) -> None:
        if self.streamer is not None:
            for token_ids in news:
                self.streamer.put(torch.tensor(token_ids))

    def _show_draft(self, row: DecodingRow) -> None:
        put_draft = getattr(self.streamer, "put_draft", None)
        if put_draft is not None:
            put_draft(row.buffer[row.length : row.end].clone(), row.confidence)

    def _ask_to_stop(self, index: int, scores: torch.Tensor | None = None) -> None:
        row = self.rows[index]
        row.finished = bool(self.stopping_criteria(self._padded_ids(index)[None], scores).all())

    def _drop_finished_rows(self) -> None:
        """Let finished rows leave the batch, unless the cache is handed back with all its rows."""
        left = [n for n, i in enumerate(self.running) if not self.rows[i].finished]
        if self.returns_cache or len(left) == len(self.running) or not isinstance(self.cache, RowCache):
            return
        self.running = [self.running[n] for n in left]
        self.cache.select(left)

    # What comes back

    @property
    def returns_cache(self) -> bool:
        """Whether the cache outlives decoding: in the output, or because it is the caller's own."""
        if self.cache.cache is None:
            return False
        return bool(self.options.return_dict_in_generate) or getattr(self.cache.cache, "_is_user_defined", False)

    def _new_ids(self, index: int) -> torch.Tensor:
        row = self.rows[index]
        return row.buffer[row.prompt_length : row.length]

    def _padded_ids(self, index: int) -> torch.Tensor:
        return torch.cat([self.prompt_ids[index], self._new_ids(index)])

    def sequences(self) -> torch.Tensor:
        """Give prompts and replies `(batch, length)`, right-padded after a row's end."""
        pad = self.options._pad_token_tensor
        replies = [self._new_ids(i) for i in range(len(self.rows))]
        padded = torch.nn.utils.rnn.pad_sequence(
            replies, batch_first=True, padding_value=int(pad) if pad is not None else 0
        )
        return torch.cat([self.prompt_ids, padded], dim=1)

    def output(self) -> TttGenerateOutput:
        """Give the sequences with what it took, and the cache aligned to them."""
        sequences = self.sequences()
        counts = torch.tensor([row.num_new_tokens for row in self.rows], device=sequences.device)
        columns = torch.arange(sequences.shape[1] - self.prompt_ids.shape[1], device=sequences.device)
        is_real = torch.cat([self.prompt_is_real, columns < counts[:, None]], dim=1)
        forwards = torch.tensor(self.row_forwards, device=sequences.device).clamp(min=1)
        return TttGenerateOutput(
            sequences=sequences,
            attention_mask=is_real.long(),
            num_forwards=self.num_forwards + self.unconditional.num_forwards,
            tokens_per_forward=counts / forwards,
            cache=self.cache.align(is_real),
        )


def _padded(blocks: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(blocks, batch_first=True)


def _one_per_row(generator: torch.Generator | list[torch.Generator] | None, num_rows: int) -> Generators:
    if not isinstance(generator, list | tuple):
        return [generator] * num_rows
    if len(generator) != num_rows:
        raise ValueError(f"`generator` has {len(generator)} generators for {num_rows} rows; pass one, or one per row.")
    return generator
