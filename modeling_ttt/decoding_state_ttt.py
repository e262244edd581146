"""
The state of a sequence while it is decoded: the only place that changes its token ids.

Depends on the markers and the limits of a reply. Independent of weights, logits and randomness: the decoder asks a
state which positions to compute next, and passes what was predicted to it.

The token ids of a sequence are left-aligned in a buffer:

    | prompt and reply, final ............................ | proposed text | block being denoised |
    0              cached_length                  final_length                               draft_end

Text is proposed only where it is known; in an open span there is none.

Positions before `cached_length` have their final keys and values in the cache. In an open span, `cached_length` stays
at `span_start` (after the begin marker): the blocks of a span see each other, so their keys and values are final only
when the span is closed. Under block-causal attention they do not, and finished blocks are cached.
"""

from dataclasses import dataclass, field

import torch

from .configuration_ttt import TttMarkers
from .samplers_ttt import reveal_schedule


@dataclass(frozen=True)
class DecodingPlan:
    """
    The limits of a reply, and how its blocks are cut.

    Args:
        max_new_tokens (`int`): Token ids after the prompt.
        block_length (`int`): Masks of a block.
        denoising_steps (`int`): Forward passes over a block.
        max_span_length (`int`, *optional*): Generated token ids of a span, its generated end marker included.
        first_block_length (`int`, *optional*): Masks of a reply's first block, if different.
        span_block_length (`int`, *optional*): Under block-causal attention, the positions of a block of training.
    """

    max_new_tokens: int
    block_length: int
    denoising_steps: int
    max_span_length: int | None = None
    first_block_length: int | None = None
    span_block_length: int | None = None


@dataclass
class DecodingState:
    """
    One sequence of the batch.

    Args:
        index (`int`): Its place in the batch.
        buffer (`torch.LongTensor` of shape `(prompt + max_new_tokens,)`): Its token ids, a view of the batch's buffer.
        prompt_length (`int`): Token ids of the prompt, without padding.
        markers ([`TttMarkers`]): The token ids with a meaning.
        plan ([`DecodingPlan`]): The limits of the reply.
        cached_length (`int`): Positions in the cache.

    Attributes:
        final_length (`int`): Token ids that do not change any more.
        draft_end (`int`): End of the block being denoised; `final_length` while there is none.
        proposal (`list[int]`): Proposed token ids of text, the last of them a begin marker; a block of masks follows.
        span_start (`int`, *optional*): First position of the open span.
        schedule (`list[int]`): Masks of the block that each denoising step reveals, see `num_to_reveal`.
        confidence (`torch.FloatTensor` of shape `(block,)`, *optional*): Probabilities of the last step's proposals.
        num_forwards (`int`): Forward passes that computed something for this sequence.
        is_finished (`bool`): Whether the reply has ended.
    """

    index: int
    buffer: torch.Tensor
    prompt_length: int
    markers: TttMarkers
    plan: DecodingPlan
    cached_length: int = 0
    final_length: int = field(init=False)
    draft_end: int = field(init=False)
    proposal: list[int] = field(init=False, default_factory=list)
    span_start: int | None = field(init=False, default=None)
    schedule: list[int] = field(init=False, default_factory=list)
    confidence: torch.Tensor | None = field(init=False, default=None)
    num_forwards: int = field(init=False, default=0)
    is_finished: bool = field(init=False, default=False)
    _num_blocks: int = field(init=False, default=0)
    _num_steps: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.final_length = self.draft_end = self.prompt_length
        prompt = self.buffer[: self.prompt_length].tolist()
        start = len(prompt)
        while start and prompt[start - 1] >= self.markers.audio_token_start_id:
            start -= 1
        is_closed = start < len(prompt) and prompt[-1] in self.markers.end_token_ids
        if not is_closed and start and (start < len(prompt) or prompt[-1] in self.markers.begin_token_ids):
            self.span_start = start  # the prompt ends inside a span, which the reply continues

    # ------------------------------------------------------------------------------------------------------- lengths

    @property
    def in_span(self) -> bool:
        """Whether an audio span is open."""
        return self.span_start is not None

    @property
    def new_token_ids(self) -> torch.Tensor:
        """Final token ids after the prompt `(new,)`."""
        return self.buffer[self.prompt_length : self.final_length]

    @property
    def num_new_tokens(self) -> int:
        """Final token ids after the prompt."""
        return self.final_length - self.prompt_length

    @property
    def span_length(self) -> int:
        """Final token ids of the open span; 0 in text."""
        return 0 if self.span_start is None else self.final_length - self.span_start

    @property
    def block(self) -> torch.Tensor:
        """Token ids of the block being denoised, masks included `(block,)`."""
        return self.buffer[self.draft_end - self.block_length : self.draft_end]

    @property
    def block_length(self) -> int:
        """Length of the block being denoised; 0 in text."""
        return self.draft_length if self.in_span else 0

    @property
    def draft_length(self) -> int:
        """Token ids that are not final: proposed text and the block being denoised."""
        return self.draft_end - self.final_length

    @property
    def query_length(self) -> int:
        """Positions that the next forward computes."""
        return 0 if self.is_finished else self.draft_end - self.cached_length

    @property
    def num_cacheable(self) -> int:
        """How many of the next forward's first positions get final keys and values."""
        if self.is_finished:
            return 0
        if self.span_start is None:
            return self.final_length - self.cached_length
        return self.span_start + self.span_length - self._open_block_length - self.cached_length

    @property
    def starts_on_block(self) -> bool:
        """Whether the first uncached position is on a block boundary; always true outside a span."""
        inside = self.cached_length - self.span_start if self.span_start is not None else 0
        return inside <= 0 or inside % (self.plan.span_block_length or 1) == 0

    @property
    def _open_block_length(self) -> int:
        """Final token ids of the open span that the next block still sees in both directions."""
        block_length = self.plan.span_block_length
        return self.span_length % block_length if block_length else self.span_length

    # --------------------------------------------------------------------------------------------------------- changes

    def append_text(self, token_id: int) -> None:
        """Append a text token id; a begin marker opens a span."""
        self._append(token_id)
        if token_id in self.markers.begin_token_ids:
            self.span_start = self.final_length

    def propose_text(self, token_ids: list[int]) -> None:
        """
        Append proposed text and a block of masks, for the next forward to verify and to denoise; nothing if there is no
        room for both.

        Args:
            token_ids (`list[int]`): Text, and the begin marker of a span; or nothing.
        """
        block_length = self._next_block_length(len(token_ids))
        self.proposal = token_ids if block_length else []
        if self.proposal:
            start = self.final_length + len(token_ids)
            self.draft_end = start + block_length
            self.buffer[self.final_length : start] = self.buffer.new_tensor(token_ids)
            self.buffer[start : self.draft_end] = self.markers.mask_token_id

    def open_block(self) -> None:
        """Append a block of masks, as many as the plan allows."""
        self.draft_end = self.final_length + self._next_block_length()
        self._num_blocks += 1
        self.buffer[self.final_length : self.draft_end] = self.markers.mask_token_id
        self.schedule = reveal_schedule(self.block_length, self.plan.denoising_steps)
        self._num_steps = 0

    def _next_block_length(self, num_proposed: int = 0) -> int:
        """Masks of the block that comes next, behind so many proposed token ids."""
        room = self.plan.max_new_tokens - self.num_new_tokens - num_proposed
        if self.plan.max_span_length is not None:
            room = min(room, self.plan.max_span_length - self.span_length)
        is_first = self._num_blocks == 0
        block_length = (is_first and self.plan.first_block_length) or self.plan.block_length
        if self.plan.span_block_length:  # a prompt may end inside a block: complete it
            block_length = self.plan.span_block_length - self._open_block_length
        return max(0, min(block_length, room))

    @property
    def num_to_reveal(self) -> int:
        """Masks that the schedule reveals in the next denoising step; in the last one the block's length: all."""
        is_last_step = self._num_steps == len(self.schedule) - 1
        return self.block_length if is_last_step else self.schedule[self._num_steps]

    def update_block(self, token_ids: torch.Tensor, confidence: torch.Tensor) -> None:
        """
        Take the result of a denoising step.

        Args:
            token_ids (`torch.LongTensor` of shape `(padded block,)`): The block, remaining masks included.
            confidence (`torch.FloatTensor` of shape `(padded block,)`): Probabilities of the proposals.
        """
        self.buffer[self.final_length : self.draft_end] = token_ids[: self.block_length]
        self.confidence = confidence[: self.block_length]
        self._num_steps += 1

    def close_block(self) -> list[list[int]]:
        """
        Make the denoised block final: cut it after its first end marker, and close the span where that or
        `max_span_length` ends it.

        Returns:
            `list[list[int]]`: What a streamer is given: the token ids that were kept, and an appended end marker.
        """
        block = self.block.tolist()
        ends = [i for i, token_id in enumerate(block) if token_id in self.markers.end_token_ids]
        kept = block[: ends[0] + 1] if ends else block
        self.final_length = self.draft_end = self.final_length + len(kept)
        chunks = [kept] if kept else []
        is_full = self.plan.max_span_length is not None and self.span_length >= self.plan.max_span_length
        if not ends and is_full and self.num_new_tokens < self.plan.max_new_tokens:
            end_marker = self.markers.end_of(self.begin_marker)
            chunks.append([end_marker])
            self._append(end_marker)
        if ends or is_full:
            self.span_start = None
        return chunks

    @property
    def begin_marker(self) -> int:
        """The marker that opened the span; the ordinary one where a prompt begins inside a span."""
        if self.span_start and (marker := int(self.buffer[self.span_start - 1])) in self.markers.begin_token_ids:
            return marker
        return self.markers.begin_audio_token_id

    def _append(self, token_id: int) -> None:
        self.buffer[self.final_length] = token_id
        self.final_length = self.draft_end = self.final_length + 1


def open_states(
    prompts: list[torch.Tensor], cached_lengths: list[int], markers: TttMarkers, plan: DecodingPlan
) -> tuple[torch.Tensor, list[DecodingState]]:
    """
    Copy prompts into one buffer.

    Args:
        prompts (`list[torch.LongTensor]`): Token ids of each prompt `(prompt,)`, without padding.
        cached_lengths (`list[int]`): How many of them are in the cache.
        markers ([`TttMarkers`]): The token ids with a meaning.
        plan ([`DecodingPlan`]): The limits of the replies.

    Returns:
        `tuple`: The buffer `(batch, longest prompt + max_new_tokens)` and the states of its sequences.
    """
    longest = max(len(prompt) for prompt in prompts)
    buffer = prompts[0].new_zeros(len(prompts), longest + plan.max_new_tokens)
    states = []
    for index, (prompt, cached_length) in enumerate(zip(prompts, cached_lengths, strict=True)):
        buffer[index, : len(prompt)] = prompt
        states.append(DecodingState(index, buffer[index], len(prompt), markers, plan, cached_length))
    return buffer, states


__all__ = ["DecodingPlan", "DecodingState", "open_states"]
