"""
A request while it waits and is answered, as the one who asked sees it.

Knows a streamer, a place in the queue and what the generating thread notes down. Knows no model and no limits.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeAlias

import numpy as np

from processing_ttt import (
    AsyncTttStreamer,
    TttAudioChunk,
    TttProcessor,
    TttReply,
    TttStreamer,
    TttStreamEvent,
)

from .admission import Ticket
from .limits import DemoError
from .summary import ReplySummary, stretches_of

logger = logging.getLogger(__name__)

TalkEvent: TypeAlias = TttStreamEvent | ReplySummary

OURS = "The answer failed for a reason of ours, which is in the log: try again."


@dataclass
class Progress:
    """What the thread that generates tells the one that listens."""

    time_limit: float
    asked_at: float = field(default_factory=time.monotonic)
    begun_at: float | None = None
    ended_at: float | None = None
    first_audio_at: float | None = None
    is_late: bool = False
    reply: TttReply | None = None
    num_forwards: int = 0


class _Talk:
    """What the two streams share: all but how one waits for an event."""

    def __init__(
        self,
        streamer: TttStreamer | AsyncTttStreamer,
        ticket: Ticket,
        progress: Progress,
        processor: TttProcessor,
        withdraw: Callable[[Ticket], None],
    ):
        self.streamer = streamer
        self.ticket = ticket
        self.progress = progress
        self.processor = processor
        self.summary: ReplySummary | None = None
        self._withdraw = withdraw
        self._is_over = False

    @property
    def num_before(self) -> int:
        """How many wait before this request; 0 also when its turn has come."""
        return self.ticket.num_before

    @property
    def is_waiting(self) -> bool:
        """Whether its turn is still to come."""
        return self.ticket.begun_at is None

    def whole_summary(self) -> ReplySummary:
        """
        Give the summary of a reply that has ended.

        Raises:
            DemoError: If it was stopped before it began.
        """
        if self.summary is None:
            raise DemoError("The answer was stopped before it began.")
        return self.summary

    def cancel(self) -> None:
        """Stop, from any thread, without waiting: the slot is free within one forward."""
        self._withdraw(self.ticket)
        self.streamer.cancel()

    def _note(self, event: TttStreamEvent) -> TttStreamEvent:
        if isinstance(event, TttAudioChunk) and self.progress.first_audio_at is None:
            self.progress.first_audio_at = time.monotonic()
        return event

    def _conclude(self) -> None:
        """Sum up, when the thread has returned or never began; a reply that was stopped as far as it came."""
        self._is_over = True
        progress = self.progress
        if self.summary is not None or progress.begun_at is None:
            return
        rate = self.processor.codec_config.output_sampling_rate
        reply = progress.reply or TttReply("", np.zeros(0, dtype=np.float32), rate, finished=False)
        token_ids = self.streamer.token_ids
        first = progress.first_audio_at
        self.summary = ReplySummary(
            text=reply.text,
            audio=reply.audio,
            sampling_rate=rate,
            finished=reply.finished,
            token_ids=token_ids,
            stretches=stretches_of(token_ids, self.processor),
            num_forwards=progress.num_forwards,
            seconds_waited=progress.begun_at - progress.asked_at,
            seconds=(progress.ended_at or time.monotonic()) - progress.begun_at,
            seconds_to_first_audio=None if first is None else first - progress.begun_at,
        )

    def _last_event(self) -> ReplySummary | None:
        """Give the summary, once, of a reply that was not stopped by its consumer."""
        if self._is_over:
            return None
        self._conclude()
        if self.progress.is_late:
            raise DemoError(
                f"The answer took longer than {self.progress.time_limit:g} s and was stopped: ask for something shorter."
            )
        return self.summary

    def _in_a_sentence(self, error: Exception) -> DemoError:
        """Turn what went wrong into what a person can read; only what is not theirs to mend goes to the log."""
        self._is_over = True
        if isinstance(error, DemoError):
            return error
        if isinstance(error, ValueError):  # this project's own say in a sentence what was wrong
            sentence = str(error)
            return DemoError(sentence[:1].upper() + sentence[1:])
        logger.error("An answer failed", exc_info=error)
        return DemoError(OURS)


class TalkStream(_Talk):
    """
    Iterates over the events of one reply: [`TttTextDelta`], [`TttAudioChunk`], [`TttBlockDraft`] if asked for, at the
    end [`ReplySummary`].

    Leaving the `with` block, `close()` or `cancel()` (from any thread) ends it, also while it waits. `summary` is
    there after that, too, as far as the reply came.

    Raises:
        DemoError: Where the events are consumed, for what went wrong, in a sentence.
    """

    streamer: TttStreamer

    def __iter__(self) -> "TalkStream":
        return self

    def __next__(self) -> TalkEvent:
        try:
            return self._note(next(self.streamer))
        except StopIteration:
            self.streamer.close()  # the thread has told all, and returns
        except Exception as error:
            raise self._in_a_sentence(error) from error
        last = self._last_event()
        if last is None:
            raise StopIteration
        return last

    def close(self) -> None:
        """Stop, and wait until the model has: at most one forward and the sound of one block."""
        self._withdraw(self.ticket)
        self.streamer.close()
        self._conclude()

    def __enter__(self) -> "TalkStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncTalkStream(_Talk):
    """[`TalkStream`] for `async for` and `async with`, in the event loop in which it was made, which it never blocks."""

    streamer: AsyncTttStreamer

    def __aiter__(self) -> "AsyncTalkStream":
        return self

    async def __anext__(self) -> TalkEvent:
        try:
            return self._note(await anext(self.streamer))
        except StopAsyncIteration:
            await self.streamer.aclose()
        except Exception as error:
            raise self._in_a_sentence(error) from error
        last = self._last_event()
        if last is None:
            raise StopAsyncIteration
        return last

    async def aclose(self) -> None:
        """Stop, and wait until the model has: at most one forward and the sound of one block."""
        self.cancel()  # also if this task is being cancelled and the next line never comes to an end
        await asyncio.shield(self.streamer.aclose())
        self._conclude()

    async def __aenter__(self) -> "AsyncTalkStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
