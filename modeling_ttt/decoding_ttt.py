"""
The decoding loop: text token by token, audio block by block, over one exact cache.

Depends on the model and a batch of sequences. Independent of waveforms and of how options are chosen. Each pass of
`BlockDecoder.step`, whose numbers these are, is one forward:

    1 lay out   the positions of each sequence that are not cached: in text its last token id, and where the text is
                known what follows it up to the next block; in a span the open span and the block being denoised
    2 forward   hidden states of these positions
    3 keep      in the cache what is final of them
    4 text      the next token id, or proposed ones as far as they are what would have been chosen; a begin marker
                opens a span with a block of masks, which after a proposed one is computed already
    5 denoise   reveal some masks of the block ─► none left? cut it after its end marker; go on in text, or open the
                next block
    6 leave     finished sequences leave the batch, until none is left

Nothing before a span attends to it, so keys and values up to its begin marker are final. A denoising step computes
the open span against them and discards its own; the closed span is computed once more and kept, and its last position
predicts the next text token id. Under block-causal attention the same holds block by block. Without a cache this is
the published procedure, the whole sequence at every step, by the same code.

Sequences advance independently: in one forward one may be in text and another in a span.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.generation import LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.utils import ModelOutput

from .cache_ttt import Query, SequenceCache
from .decoding_state_ttt import DecodingPlan, DecodingState, open_states
from .denoising_rules_ttt import Generators
from .generation_output_ttt import BatchCount, TttGenerateOutput
from .guidance_ttt import ScoringModel, UnconditionalBranch, guide
from .masking_ttt import CACHE_NAME, AttentionMask, attention_span_ids
from .samplers_ttt import DenoisingStep, next_text_ids

HiddenStates = dict[int, torch.Tensor]  # of the sequence with this index, (queries, hidden)


class BlockDecoder:
    """
    Decodes one batch.

    Args:
        model (`TttForConditionalGeneration`): Scores token ids.
        prompt_ids (`torch.LongTensor` of shape `(batch, prompt)`): Prompts, left-padded.
        prompt_is_real (`torch.BoolTensor` of shape `(batch, prompt)`): False for padding.
        cache ([`SequenceCache`]): Keys and values, or none.
        options (`GenerationConfig`): Checked options, see `generation_ttt.py`.
        logits_processor (`LogitsProcessorList`): Acts on the scores of text token ids.
        stopping_criteria (`StoppingCriteriaList`): Called after each text token id and each block.
        streamer (`BaseStreamer`, *optional*): Is given each text token id, each block and each appended end marker.
        generator (`torch.Generator` or a list of one per sequence, *optional*): Source of all randomness.
        backbone (`Callable`, *optional*): The model's backbone, compiled for the shapes of `cache`; runs all forwards
            but the prefill.
        propose (`Callable`, *optional*): From the token ids `(length,)` of a sequence in text to those that probably
            follow, up to the begin marker of a span. They change no result, only the number of forwards.

    Raises:
        ValueError: for a cache that ends inside an open span, and a wrong number of generators.
    """

    def __init__(
        self,
        model: ScoringModel,
        prompt_ids: torch.Tensor,
        prompt_is_real: torch.Tensor,
        cache: SequenceCache,
        options: GenerationConfig,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        streamer: BaseStreamer | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        backbone: Callable[..., ModelOutput] | None = None,
        propose: Callable[[torch.Tensor], list[int]] | None = None,
    ):
        self.model = model
        self.backbone = backbone or model.model
        self.propose = propose
        self.prompt_ids = prompt_ids
        self.prompt_is_real = prompt_is_real
        self.cache = cache
        self.options = options
        self.logits_processor = logits_processor
        self.stopping_criteria = stopping_criteria
        self.streamer = streamer
        self.generators = _one_per_sequence(generator, len(prompt_ids))
        self.markers = model.config.markers()
        self.denoising = DenoisingStep.from_options(options, self.markers, model.eligible_audio_ids())
        self.unconditional = UnconditionalBranch(model, options.block_length)
        self.num_forwards = 0
        self._priors_used: set[tuple[int, int]] = set()  # (index, begin marker)
        self._layout: list[tuple[int, int, int, bool]] | None = None  # of the last query
        self._query: Query | None = None
        self._mask: AttentionMask = None
        self._buffer_rows: torch.Tensor | None = None  # (running sequences, 1)

        self.buffer, self.states = self._open_states()
        self.running = list(self.states)
        for state in self.states:
            self._continue(state)

    def _open_states(self) -> tuple[torch.Tensor, list[DecodingState]]:
        plan = DecodingPlan(
            max_new_tokens=self.options.max_length - self.prompt_ids.shape[1],
            block_length=self.options.block_length,
            denoising_steps=self.options.denoising_steps,
            max_span_length=self.options.max_span_length,
            first_block_length=self.options.first_block_length,
            span_block_length=self.model.config.span_block_length,
        )
        prompts = [ids[is_real] for ids, is_real in zip(self.prompt_ids, self.prompt_is_real, strict=True)]
        buffer, states = open_states(prompts, self.cache.prefilled_lengths(), self.markers, plan)
        if any(state.num_cacheable < 0 or not state.starts_on_block for state in states):
            raise ValueError(
                "`cache` ends inside a span that is still open; pass one that ends before its begin marker."
            )
        return buffer, states

    # -------------------------------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Decode until every sequence is finished, or the streamer cancels."""
        while not all(state.is_finished for state in self.states) and not getattr(self.streamer, "is_cancelled", False):
            self.step()

    def step(self) -> None:
        """Run one forward, and advance every sequence by it; the numbers are those of the drawing above."""
        in_text = [state for state in self.running if not state.is_finished and not state.in_span]
        in_span = [state for state in self.running if not state.is_finished and state.in_span]
        query, token_ids = self._lay_out()  # 1
        hidden_states = self._forward(query, token_ids)  # 2, 3
        if in_text:
            in_span += self._append_text(in_text, hidden_states)  # 4
        if in_span:
            self._denoise(in_span, hidden_states)  # 5
        self._remove_finished()  # 6

    # ------------------------------------------------------------------------------------------------ 1: the next query

    def _lay_out(self) -> tuple[Query, torch.Tensor]:
        """Give the next query and its token ids `(sequences, queries)`; between steps of a block only these change."""
        layout = [
            (state.cached_length, state.final_length, state.draft_end, state.is_finished) for state in self.running
        ]
        if self._query is None or layout != self._layout:
            self._layout, self._mask = layout, None
            self._buffer_rows = self._column([state.index for state in self.running])
            self._query = self._make_query()
        return self._query, self.buffer[self._buffer_rows, self._query.position_ids]

    def _make_query(self) -> Query:
        lengths = [state.query_length for state in self.running]
        num_queries = max(lengths)
        num_columns = self.cache.num_columns(num_queries) if self.num_forwards else num_queries  # prompts: any length
        columns = torch.arange(num_columns, device=self.buffer.device)
        is_real = columns < self._column(lengths)
        cached_lengths = self._column([state.cached_length for state in self.running])
        position_ids = (columns + cached_lengths).where(is_real, 0)
        span_ids = attention_span_ids(
            self.buffer[self._buffer_rows, position_ids],
            self.markers.audio_token_start_id,
            self.model.config.span_block_length,
        ).masked_fill(~is_real, -1)
        return Query(span_ids, is_real, position_ids, cached_lengths)

    def _column(self, numbers: list[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.buffer.device)[:, None]

    # ------------------------------------------------------------------------------------------- 2, 3: forward and keep

    @torch.inference_mode()  # saves bookkeeping in each of the many small operations
    def _forward(self, query: Query, token_ids: torch.Tensor) -> HiddenStates:
        """Compute the hidden states of the running sequences; keep what is final."""
        inputs_embeds = self.model.get_input_embeddings()(token_ids)
        if self._mask is None:
            self._mask = self.cache.prepare(query, inputs_embeds)
        backbone = self.backbone if self.num_forwards else self.model.model
        hidden_states = backbone(
            inputs_embeds=inputs_embeds,
            attention_mask=self._mask,
            position_ids=query.position_ids,
            **{CACHE_NAME: self.cache.cache},
            use_cache=self.cache.cache is not None,
        ).last_hidden_state
        self.num_forwards += 1
        own = {}
        for state, states in zip(self.running, hidden_states, strict=True):
            own[state.index] = states[: state.query_length]
            state.num_forwards += not state.is_finished
        self._keep(token_ids.shape[1])
        return own

    def _keep(self, num_queries: int) -> None:
        counts = [state.num_cacheable for state in self.running]
        self.cache.keep(num_queries, counts)
        if self.cache.cache is not None:
            for state, count in zip(self.running, counts, strict=True):
                state.cached_length += count

    # ---------------------------------------------------------------------------------------------------------- 4: text

    def _append_text(self, states: list[DecodingState], hidden_states: HiddenStates) -> list[DecodingState]:
        """
        Append the next text token id, which the last final position of each sequence predicts, and further ones as long
        as they are the proposed ones.

        Returns:
            `list[DecodingState]`: Sequences whose proposal was right to its end: their next block is computed.
        """
        first = {state.index: -1 - state.draft_length for state in states}
        computed, number = [], 0
        while states:
            last = torch.stack([hidden_states[state.index][first[state.index] + number] for state in states])
            agreed = []
            for state, token_id in zip(states, self._append_next(states, last), strict=True):
                if state.is_finished or token_id not in state.proposal[number : number + 1]:
                    self._continue(state)
                elif state.in_span:
                    state.open_block()
                    computed.append(state)
                else:
                    agreed.append(state)
            states, number = agreed, number + 1
        return computed

    def _append_next(self, states: list[DecodingState], last: torch.Tensor) -> list[int]:
        """Append the text token ids that hidden states `(sequences, hidden)` predict, and give them."""
        scores = self._process(states, self.model.text_logits(last).float())  # (sequences, vocabulary)
        generators = [self.generators[state.index] for state in states]
        token_ids = next_text_ids(scores, self.options.do_sample, generators).tolist()
        for state, token_id, own_scores in zip(states, token_ids, scores, strict=True):
            state.append_text(token_id)
            self._stream([[token_id]])
            self._check_stop(state, own_scores[None])
        return token_ids

    def _process(self, states: list[DecodingState], scores: torch.Tensor) -> torch.Tensor:
        """Apply the logits processors to the token ids of each sequence; sequences of one length share a call."""
        processed = scores.clone()
        lengths = [state.num_new_tokens for state in states]
        for length in set(lengths):
            members = [n for n, other in enumerate(lengths) if other == length]
            token_ids = torch.stack([self._padded_ids(states[n]) for n in members])
            changed = self.logits_processor(token_ids, scores[members])
            if changed.shape != scores[members].shape:
                raise ValueError(
                    f"A logits processor must keep the shape of its scores, {tuple(scores[members].shape)}, but "
                    f"returned {tuple(changed.shape)}."
                )
            processed[members] = changed
        return processed

    # ----------------------------------------------------------------------------------------------------- 5: denoising

    def _denoise(self, states: list[DecodingState], hidden_states: HiddenStates) -> None:
        """Reveal some masks of the blocks, which the last positions of each sequence predict."""
        logits = self._audio_logits([hidden_states[state.index][-state.block_length :] for state in states])
        if self.options.audio_guidance_scale:
            unconditional = self._audio_logits(self._run_masked_context(states))
            logits = guide(logits, unconditional, self.options.audio_guidance_scale)
        output = self.denoising.step(
            logits,
            blocks=[state.block for state in states],
            counts=[state.num_to_reveal for state in states],
            generators=[self.generators[state.index] for state in states],
            log_prior=self._log_prior(states) if self.denoising.rule.needs_prior else None,
        )
        for state, block, confidence, is_finished in zip(
            states, output.blocks, output.confidence, output.is_finished, strict=True
        ):
            state.update_block(block, confidence)
            self._stream_draft(state)
            if is_finished:
                self._close_block(state)
                self._continue(state)

    def _audio_logits(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        """Score blocks of hidden states `(block, hidden)`: `(sequences, longest block, eligible ids)`."""
        return self.model.audio_logits(pad_sequence(blocks, batch_first=True))

    def _run_masked_context(self, states: list[DecodingState]) -> list[torch.Tensor]:
        """Give hidden states of the blocks `(block, hidden)` with everything before them masked."""
        for state in states:
            state.num_forwards += 1
        blocks = [state.block for state in states]
        return self.unconditional.masked_context(blocks, [state.final_length for state in states])

    def _log_prior(self, states: list[DecodingState]) -> torch.Tensor:
        """Score without context `(sequences, eligible ids)`; the forward counts once for each sequence that uses it."""
        for state in states:
            if (state.index, state.begin_marker) not in self._priors_used:
                self._priors_used.add((state.index, state.begin_marker))
                state.num_forwards += 1
        return torch.stack([self.unconditional.log_prior(state.begin_marker) for state in states])

    def _continue(self, state: DecodingState) -> None:
        """Open the next block of a sequence whose span is open; propose the text of one in text, where it is known."""
        if state.is_finished:
            return
        if state.in_span:
            state.open_block()
            if not state.block_length:  # the span that the prompt leaves open has no room for another block
                self._close_block(state)
        elif self.propose is not None:
            state.propose_text(self.propose(self._padded_ids(state)))

    def _close_block(self, state: DecodingState) -> None:
        self._stream(state.close_block())
        self._check_stop(state)

    # ------------------------------------------------------------------------------------ after each token id or block

    def _stream(self, chunks: Sequence[list[int]]) -> None:
        if self.streamer is not None:
            for token_ids in chunks:
                self.streamer.put(torch.tensor(token_ids))

    def _stream_draft(self, state: DecodingState) -> None:
        put_draft = getattr(self.streamer, "put_draft", None)
        if put_draft is not None:
            put_draft(state.block.clone(), state.confidence)

    def _check_stop(self, state: DecodingState, scores: torch.Tensor | None = None) -> None:
        state.is_finished = bool(self.stopping_criteria(self._padded_ids(state)[None], scores).all())

    def _remove_finished(self) -> None:
        """Remove finished sequences from the batch, unless the cache is returned with all of them."""
        left = [n for n, state in enumerate(self.running) if not state.is_finished]
        if len(left) < len(self.running) and self.cache.can_select and not self.returns_cache:
            self.running = [self.running[n] for n in left]
            self.cache.select(left)

    # ---------------------------------------------------------------------------------------------------------- results

    @property
    def returns_cache(self) -> bool:
        """Whether the cache is used after decoding: it is in the output, or the caller's own."""
        if self.cache.cache is None:
            return False
        return bool(self.options.return_dict_in_generate) or getattr(self.cache.cache, "_is_user_defined", False)

    def _padded_ids(self, state: DecodingState) -> torch.Tensor:
        return torch.cat([self.prompt_ids[state.index], state.new_token_ids])

    def sequences(self) -> torch.Tensor:
        """Give prompts and replies `(batch, length)`, right-padded."""
        pad = self.options._pad_token_tensor
        padding_value = int(pad) if pad is not None else 0
        replies = [state.new_token_ids for state in self.states]
        return torch.cat([self.prompt_ids, pad_sequence(replies, batch_first=True, padding_value=padding_value)], dim=1)

    def output(self) -> TttGenerateOutput:
        """Give the sequences, the number of forwards, and the cache aligned to the sequences."""
        sequences = self.sequences()
        device = sequences.device
        counts = torch.tensor([state.num_new_tokens for state in self.states], device=device)
        columns = torch.arange(sequences.shape[1] - self.prompt_ids.shape[1], device=device)
        is_real = torch.cat([self.prompt_is_real, columns < counts[:, None]], dim=1)
        forwards = torch.tensor([state.num_forwards for state in self.states], device=device).clamp(min=1)
        return TttGenerateOutput(
            sequences=sequences,
            attention_mask=is_real.long(),
            num_forwards=BatchCount(self.num_forwards + self.unconditional.num_forwards),
            tokens_per_forward=counts / forwards,
            cache=self.cache.align(is_real, [state.cached_length for state in self.states]),
        )


def _one_per_sequence(generator: torch.Generator | list[torch.Generator] | None, num_sequences: int) -> Generators:
    if not isinstance(generator, list | tuple):
        return [generator] * num_sequences
    if len(generator) != num_sequences:
        raise ValueError(
            f"`generator` has {len(generator)} generators for {num_sequences} sequences; pass one, or one for each."
        )
    return generator


__all__ = ["BlockDecoder"]
