"""
What there is to see of a reply while it is generated: which words stand before which sound, and how each block of it
was denoised.

Knows the events of a stream and the ids of markers. Knows no picture, no clock and no model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from processing_ttt import TttAudioChunk, TttBlockDraft, TttTextDelta

Event = TttTextDelta | TttAudioChunk | TttBlockDraft


@dataclass
class BlockTrace:
    """
    One block, step by step.

    Args:
        confidence (`list[list[float]]`): After each step, how probable the id is that it proposed for each position;
            of a position that was revealed before, what it was when that happened.
        revealed_at (`list[int | None]`): The step that revealed each position, `None` for a mask.
        is_code (`list[bool]`): Where a code of sound is; elsewhere are masks and end markers.
        ended_at (`float`): When the last step was seen.
    """

    confidence: list[list[float]]
    revealed_at: list[int | None]
    is_code: list[bool]
    ended_at: float

    @property
    def num_steps(self) -> int:
        """Denoising steps so far."""
        return len(self.confidence)

    @property
    def num_codes(self) -> int:
        """Codes that become sound: those before the first end marker; in a block that is not finished, its masks count too."""
        ends = [i for i, at in enumerate(self.revealed_at) if at is not None and not self.is_code[i]]
        return ends[0] if ends else len(self.is_code)

    def continues_as(self, draft: TttBlockDraft) -> bool:
        """Whether a draft can be this block, one step later: what is revealed stays so, and something is left to reveal."""
        if len(draft.is_masked) != len(self.is_code) or None not in self.revealed_at:
            return False
        return not any(masked and at is not None for masked, at in zip(draft.is_masked, self.revealed_at, strict=True))


@dataclass
class SpanTrace:
    """
    A stretch of text and the span of sound that follows it.

    Args:
        words (`str`): The text.
        written_at (`float`): When the last piece of it was seen.
        blocks (`list[BlockTrace]`): The sound, block by block.
    """

    words: str
    written_at: float
    blocks: list[BlockTrace] = field(default_factory=list)

    @property
    def num_codes(self) -> int:
        """Codes of the span."""
        return sum(block.num_codes for block in self.blocks)


class ReplyTrace:
    """
    Gathers the events of one reply.

    Args:
        is_code (`Callable[[int], bool]`): Says whether an id is a code of sound.
        frame_rate (`float`): Codes per second of sound.

    Attributes:
        spans (`list[SpanTrace]`): The reply as it alternates between text and sound.
        first_audio (`float` or `None`): When the first sound was seen, in the seconds of `take`.
    """

    def __init__(self, is_code: Callable[[int], bool], frame_rate: float):
        self.is_code = is_code
        self.frame_rate = frame_rate
        self.spans: list[SpanTrace] = []
        self.first_audio: float | None = None
        self.sampling_rate = 0
        self._chunks: list[np.ndarray] = []
        self._heard: list[tuple[float, float]] = []  # of each chunk: where it begins in the sound, and when it is heard

    def take(self, event: Event, seconds: float) -> None:
        """
        Take the next event.

        Args:
            event: One of the stream.
            seconds (`float`): When it was seen, counted from whenever the caller likes.
        """
        if isinstance(event, TttTextDelta):
            if not self.spans or self.spans[-1].blocks:
                self.spans.append(SpanTrace("", seconds))
            self.spans[-1].words += event.text
            self.spans[-1].written_at = seconds
        elif isinstance(event, TttBlockDraft):
            if not self.spans:
                self.spans.append(SpanTrace("", seconds))
            self._take_draft(self.spans[-1].blocks, event, seconds)
        elif isinstance(event, TttAudioChunk):
            if self.first_audio is None:
                self.first_audio = seconds
            self.sampling_rate = event.sampling_rate
            begins = sum(map(len, self._chunks)) / event.sampling_rate
            self._heard.append((begins, max(seconds, self.heard_at(begins)) if self._heard else seconds))
            self._chunks.append(event.audio)

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(span.words for span in self.spans)

    @property
    def audio(self) -> np.ndarray:
        """The sound so far, float32 of shape `(samples,)`."""
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)

    @property
    def ended_at(self) -> float:
        """When the last text or step was seen."""
        times = [at for span in self.spans for at in (span.written_at, *(block.ended_at for block in span.blocks))]
        return max(times, default=0.0)

    def heard_at(self, place: float) -> float:
        """
        Say when a place of the reply's sound is heard: when it has come, and what stands before it has been played.

        Args:
            place (`float`): In seconds of sound.

        Returns:
            `float`: In the seconds of `take`; for sound that is still to come, as soon as it can be.
        """
        for begins, heard in reversed(self._heard):
            if begins <= place + 1e-9:
                return heard + place - begins
        return self.ended_at + place

    def begins(self, index: int) -> float:
        """Where a span begins in the reply's sound, in seconds."""
        return sum(span.num_codes for span in self.spans[:index]) / self.frame_rate

    def seconds_of(self, index: int) -> float:
        """How long a span sounds, in seconds."""
        return self.spans[index].num_codes / self.frame_rate

    def _take_draft(self, blocks: list[BlockTrace], draft: TttBlockDraft, seconds: float) -> None:
        if not blocks or not blocks[-1].continues_as(draft):
            length = len(draft.token_ids)
            blocks.append(BlockTrace([], [None] * length, [False] * length, seconds))
        block = blocks[-1]
        block.confidence.append(list(draft.confidence))
        block.ended_at = seconds
        for i, (token_id, is_masked) in enumerate(zip(draft.token_ids, draft.is_masked, strict=True)):
            at = block.revealed_at[i]
            if at is not None:
                block.confidence[-1][i] = block.confidence[at][i]
            elif not is_masked:
                block.revealed_at[i] = block.num_steps - 1
                block.is_code[i] = self.is_code(token_id)
