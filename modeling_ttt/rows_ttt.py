"""
The rows of a batch while they are decoded: what is final, what is a draft, who writes and who speaks.

Knows ids, markers and limits. Knows no model, no logits and no randomness: the decoder asks each row what to run next
and tells it what came out.

A row's ids live left-aligned in one buffer:

    | prompt and reply, final .............. | block of masks, being denoised |
    0            committed            length                              end

`committed` ids have their final keys and values in the cache. While a row speaks, its open span lies behind
`span_start` and is not committed: the blocks of one span see each other, so their keys and values are final only when
the span is closed. (Under block-causal attention they do not, and finished blocks are committed.)
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from .configuration_ttt import TttConfig
from .samplers_ttt import reveal_schedule


@dataclass
class DecodingPlan:
    """
    What bounds a reply, and how its blocks are cut.

    Args:
        max_new_tokens (`int`): Ids after the prompt.
        block_length (`int`): Masks of a block.
        denoising_steps (`int`): Forward passes over a block.
        max_span_length (`int`, *optional*): Generated ids of a span, its generated end marker included.
        first_block_length (`int`, *optional*): Masks of a reply's first block, if other.
        reveal_schedule (`str`, *optional*, defaults to `"linear"`): How a block's masks are spread over its steps.
        span_block_length (`int`, *optional*): Under block-causal attention, the length of the blocks that see
            themselves only.
    """

    max_new_tokens: int
    block_length: int
    denoising_steps: int
    max_span_length: int | None = None
    first_block_length: int | None = None
    reveal_schedule: str = "linear"
    span_block_length: int | None = None


@dataclass
class DecodingRow:
    """
    One row of the batch.

    Args:
        buffer (`torch.LongTensor` of shape `(prompt + max_new_tokens,)`): The row's ids, a view into the batch's
            buffer.
        prompt_length (`int`): Ids of the prompt, without padding.
        config (`TttConfig`): Names the markers.
        plan (`DecodingPlan`): Bounds the reply.
        committed (`int`): How many ids the cache holds.
    """

    buffer: torch.Tensor
    prompt_length: int
    config: Any  # a TttConfig whose markers are all set
    plan: DecodingPlan
    committed: int = 0
    length: int = field(init=False)
    end: int = field(init=False)
    span_start: int | None = field(init=False, default=None)
    schedule: list[int] = field(init=False, default_factory=list)
    confidence: torch.Tensor | None = field(init=False, default=None)  # (block,), of the ids proposed in the last step
    num_blocks: int = field(init=False, default=0)
    finished: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.length = self.end = self.prompt_length
        prompt = self.buffer[: self.prompt_length].tolist()
        start = len(prompt)
        while start and prompt[start - 1] >= self.config.audio_token_start_id:
            start -= 1
        closed = start < len(prompt) and prompt[-1] in self.config.end_of_span_token_ids
        if not closed and start and (start < len(prompt) or self.opens_span(prompt[-1])):
            self.span_start = start  # the prompt ends inside a span of the reply: go on speaking

    def opens_span(self, token_id: int) -> bool:
        """Say whether a text id opens a span of sound."""
        return token_id in (self.config.begin_audio_token_id, self.config.begin_last_audio_token_id)

    @property
    def ids(self) -> torch.Tensor:
        """All final ids `(length,)`, prompt included."""
        return self.buffer[: self.length]

    @property
    def num_new_tokens(self) -> int:
        """Final ids after the prompt."""
        return self.length - self.prompt_length

    @property
    def span_length(self) -> int:
        """Final ids of the open span; 0 while the row writes."""
        return 0 if self.span_start is None else self.length - self.span_start

    @property
    def block_length(self) -> int:
        """Length of the block being denoised; 0 while the row writes."""
        return self.end - self.length

    @property
    def num_to_commit(self) -> int:
        """How many of the next query's ids have final keys and values, so that the cache may keep them."""
        if self.span_start is None:
            return self.length - self.committed
        final_blocks = self.span_length - self._length_of_open_block
        return self.span_start + final_blocks - self.committed

    @property
    def begins_with_a_block(self) -> bool:
        """Whether the next query, where it begins inside the open span, begins with one of its blocks."""
        inside = self.committed - self.span_start if self.span_start is not None else 0
        return inside <= 0 or inside % (self.plan.span_block_length or 1) == 0

    @property
    def _length_of_open_block(self) -> int:
        """Final ids of the open span that the next block's ids still see and are seen by."""
        block_length = self.plan.span_block_length
        return self.span_length % block_length if block_length else self.span_length

    def append(self, token_ids: list[int]) -> None:
        """Take ids as final."""
        self.buffer[self.length : self.length + len(token_ids)] = torch.tensor(token_ids, device=self.buffer.device)
        self.length = self.end = self.length + len(token_ids)

    def write(self, token_id: int) -> None:
        """Take a text id; a begin marker makes the row speak next."""
        self.append([token_id])
        if self.opens_span(token_id):
            self.span_start = self.length

    def open_block(self) -> None:
        """Put the next masks behind the span, as many as the plan allows."""
        room = self.plan.max_new_tokens - self.num_new_tokens
        if self.plan.max_span_length is not None:
            room = min(room, self.plan.max_span_length - self.span_length)
        is_first = self.num_blocks == 0
        block_length = (is_first and self.plan.first_block_length) or self.plan.block_length
        if self.plan.span_block_length:  # a prompt may end inside a block: complete it
            block_length = self.plan.span_block_length - self._length_of_open_block
        self.num_blocks += 1
        self.end = self.length + max(0, min(block_length, room))
        self.buffer[self.length : self.end] = self.config.mask_token_id
        self.schedule = reveal_schedule(self.block_length, self.plan.denoising_steps, self.plan.reveal_schedule)

    def close_block(self) -> list[list[int]]:
        """
        Take the denoised block: cut it after its first end marker, and close the span where that or `max_span_length`
        ends it.

        Returns:
            `list[list[int]]`: what a streamer is told: the ids that were kept, then an appended end marker, if any.
        """
        block = self.buffer[self.length : self.end].tolist()
        ends = [i for i, token_id in enumerate(block) if token_id in self.config.end_of_span_token_ids]
        kept = block[: ends[0] + 1] if ends else block
        self.length = self.end = self.length + len(kept)
        news = [kept] if kept else []
        is_full = self.plan.max_span_length is not None and self.span_length >= self.plan.max_span_length
        if not ends and is_full and self.num_new_tokens < self.plan.max_new_tokens:
            news.append([self._end_marker()])
            self.append(news[-1])
        if ends or is_full:
            self.span_start = None
        return news

    @property
    def begin_marker(self) -> int:
        """The marker that opened the span; the ordinary one where a prompt begins inside a span."""
        marker = int(self.buffer[self.span_start - 1]) if self.span_start else None
        return marker if marker is not None and self.opens_span(marker) else self.config.begin_audio_token_id

    def _end_marker(self) -> int:
        is_last = self.begin_marker == self.config.begin_last_audio_token_id
        return self.config.end_last_audio_token_id if is_last else self.config.end_audio_token_id


def open_rows(
    prompts: list[torch.Tensor], committed: list[int], config: TttConfig, plan: DecodingPlan
) -> tuple[torch.Tensor, list[DecodingRow]]:
    """
    Lay the prompts into one buffer.

    Args:
        prompts (`list[torch.Tensor]`): Each row's ids `(prompt,)`, without padding.
        committed (`list[int]`): How many of them the cache holds already.
        config (`TttConfig`): Names the markers.
        plan (`DecodingPlan`): Bounds the replies.

    Returns:
        `tuple`: the buffer `(batch, longest prompt + max_new_tokens)` and its rows.
    """
    longest = max(len(prompt) for prompt in prompts)
    buffer = prompts[0].new_zeros(len(prompts), longest + plan.max_new_tokens)
    rows = []
    for view, prompt, num_committed in zip(buffer, prompts, committed, strict=True):
        view[: len(prompt)] = prompt
        rows.append(DecodingRow(view, len(prompt), config, plan, num_committed))
    return buffer, rows
