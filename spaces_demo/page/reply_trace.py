"""
What can be seen of a reply while it is generated: which words belong to which span of audio, and how each block was
denoised.

Depends on the events of a stream and the token ids of codes. Independent of pictures, the clock and the model.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from processing_ttt import TttAudioChunk, TttBlockDraft, TttTextDelta
from processing_ttt.item_conversation_ttt import ROUNDING_SECONDS

Event: TypeAlias = TttTextDelta | TttAudioChunk | TttBlockDraft


@dataclass
class BlockTrace:
    """
    One block, step by step.

    Args:
        confidence (`list[list[float]]`): For each step, the probability of the proposal at each position; at a position
            that was revealed before, its probability when it was revealed.
        revealed_at (`list[int | None]`): The step that revealed each position, `None` for a mask.
        is_code (`list[bool]`): Where a code is; elsewhere are masks and end markers.
        ended_at (`float`): When the last step came.
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
        """Codes that become audio: those before the first end marker; masks of an unfinished block count, too."""
        ends = [i for i, at in enumerate(self.revealed_at) if at is not None and not self.is_code[i]]
        return ends[0] if ends else len(self.is_code)

    def continues_as(self, draft: TttBlockDraft) -> bool:
        """Whether a draft can be the next step of this block: revealed positions stay revealed, and masks were left."""
        if len(draft.is_masked) != len(self.is_code) or None not in self.revealed_at:
            return False
        return not any(masked and at is not None for masked, at in zip(draft.is_masked, self.revealed_at, strict=True))


@dataclass
class SpanTrace:
    """
    A segment of text and the span of audio that follows it.

    Args:
        words (`str`): The text.
        written_at (`float`): When the last piece of it came.
        blocks (`list[BlockTrace]`): The audio, block by block.
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
        is_code (`Callable[[int], bool]`): Whether a token id is a code.
        frame_rate (`float`): Codes per second of audio.
        speed (`float`): How fast the audio is played. Places in the audio, and its lengths, are those of speed 1.

    Attributes:
        spans (`list[SpanTrace]`): The reply as it alternates between text and audio.
        first_audio (`float` or `None`): When the first audio came, in the seconds of `take`.
        sampling_rate (`int`): Rate of the audio, in Hz; 0 before there is any.
    """

    def __init__(self, is_code: Callable[[int], bool], frame_rate: float, speed: float = 1.0):
        self.is_code = is_code
        self.frame_rate = frame_rate
        self.speed = speed
        self.spans: list[SpanTrace] = []
        self.first_audio: float | None = None
        self.sampling_rate = 0
        self._chunks: list[np.ndarray] = []
        self._played: list[
            tuple[float, float]
        ] = []  # for each chunk: where it begins in the audio, and when it is played

    def take(self, event: Event, seconds: float) -> None:
        """
        Take the next event.

        Args:
            event (`Event`): An event of the stream.
            seconds (`float`): When it came, counted from any moment that the caller chooses.
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
            self._played.append((begins, max(seconds, self.played_at(begins)) if self._played else seconds))
            self._chunks.append(event.audio)

    def until(self, place: float) -> "ReplyTrace":
        """
        Copy this trace without what follows the span that was being played at a place.

        Args:
            place (`float`): In seconds of audio; 0 leaves nothing.

        Returns:
            [`ReplyTrace`]: Another one: this one may be in the course of being drawn.
        """
        kept = max((i + 1 for i in range(len(self.spans)) if self.begins(i) < place - ROUNDING_SECONDS), default=0)
        while kept and not self.spans[kept - 1].num_codes:  # text whose audio was still to come
            kept -= 1
        shorter = copy.copy(self)
        shorter._chunks = [self.audio[: round(self.begins(kept) * self.sampling_rate)]]
        shorter.spans = self.spans[:kept]
        return shorter

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(span.words for span in self.spans)

    @property
    def audio(self) -> np.ndarray:
        """The audio so far, float32 of shape `(samples,)`."""
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)

    @property
    def ended_at(self) -> float:
        """When the last text or step came."""
        times = [at for span in self.spans for at in (span.written_at, *(block.ended_at for block in span.blocks))]
        return max(times, default=0.0)

    def played_at(self, place: float) -> float:
        """
        Return when a place of the reply's audio is played: when it has come, and all audio before it has been played.

        Args:
            place (`float`): In seconds of audio.

        Returns:
            `float`: In the seconds of `take`; for audio that is still to come, the earliest time.
        """
        for begins, played in reversed(self._played):
            if begins <= place + 1e-9:
                return played + (place - begins) / self.speed
        return self.ended_at + place / self.speed

    def begins(self, index: int) -> float:
        """Where a span begins in the reply's audio, in seconds."""
        return sum(span.num_codes for span in self.spans[:index]) / self.frame_rate

    def seconds_of(self, index: int) -> float:
        """Length of a span's audio, in seconds."""
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
