"""
The reply to a request, event by event, as the one who asked follows it: while it waits and while it is generated.

Depends on a streamer, a place in the queue and a turn. Independent of the model and of limits.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from processing_ttt import AsyncTttStreamer, AudioInputError, TttAudioChunk, TttProcessor, TttStreamer, TttStreamEvent

from .admission import Ticket
from .limits import RequestError, ServiceFault
from .summary import ReplySummary
from .turn import Turn

logger = logging.getLogger(__name__)

TalkEvent: TypeAlias = TttStreamEvent | ReplySummary

SERVER_FAULT = "The answer failed because of an error on the server, which is in its log: try again."


class _TalkStream:
    """
    What the two streams share: all but how one waits for an event.

    Args:
        turn ([`Turn`]): The question, and what is known of its reply.
        ticket ([`Ticket`]): Its place in the queue.
        streamer ([`TttStreamer`] or [`AsyncTttStreamer`]): Gives the events of `generate`.
        processor ([`TttProcessor`]): Processor of the model.
        withdraw (`Callable`): Gives the place in the queue up, if it still waits.

    Attributes:
        summary ([`ReplySummary`], *optional*): The whole reply, once it has ended.
    """

    def __init__(
        self,
        turn: Turn,
        ticket: Ticket,
        streamer: TttStreamer | AsyncTttStreamer,
        processor: TttProcessor,
        withdraw: Callable[[Ticket], None],
    ):
        self.turn = turn
        self.ticket = ticket
        self.streamer = streamer
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
        Return the summary of a reply that has ended.

        Raises:
            RequestError: If it was stopped before it began.
        """
        if self.summary is None:
            raise ServiceFault("The answer was stopped before it began: ask again.")
        return self.summary

    def cancel(self) -> None:
        """Stop, from any thread, without waiting: the slot is free within one forward pass."""
        self._withdraw(self.ticket)
        self.streamer.cancel()

    def _note(self, event: TttStreamEvent) -> TttStreamEvent:
        if isinstance(event, TttAudioChunk) and self.turn.progress.first_audio_at is None:
            self.turn.progress.first_audio_at = time.monotonic()
        return event

    def _conclude(self) -> None:
        """Sum up, when the generating thread has returned or never began."""
        self._is_over = True
        if self.summary is None:
            self.summary = self.turn.summary(self.streamer.token_ids, self.processor)

    def _last_event(self) -> ReplySummary | None:
        """Return the summary, once, of a reply that was not stopped by its consumer."""
        if self._is_over:
            return None
        self._conclude()
        if self.turn.progress.is_late:
            raise RequestError(
                f"The answer took longer than {self.turn.time_limit:g} s and was stopped: ask for something shorter."
            )
        return self.summary

    def _as_request_error(self, error: Exception) -> RequestError:
        """Turn an error into a sentence for the person who asked; one that they cannot mend goes to the log."""
        self._is_over = True
        if isinstance(error, RequestError):
            return error
        if isinstance(error, ValueError):  # raised by this project's packages, whose messages are for the user
            message = str(error)
            field = "audio" if isinstance(error, AudioInputError) else None
            return RequestError(message[:1].upper() + message[1:], field)
        logger.error("An answer failed", exc_info=error)
        return ServiceFault(SERVER_FAULT)


class TalkStream(_TalkStream):
    """
    Iterates over the events of one reply: [`TttTextDelta`], [`TttAudioChunk`], [`TttBlockDraft`] if asked for, at the
    end [`ReplySummary`].

    Leaving the `with` block, `close()` or `cancel()` (from any thread) ends it, also while it waits. Afterwards
    `summary` is there, too, as far as the reply came.

    Raises:
        RequestError: Where the events are consumed, if the reply cannot be completed.
    """

    streamer: TttStreamer

    def __iter__(self) -> "TalkStream":
        return self

    def __next__(self) -> TalkEvent:
        try:
            return self._note(next(self.streamer))
        except StopIteration:
            self.streamer.close()  # the generating thread has no more events, and returns
        except Exception as error:
            raise self._as_request_error(error) from error
        last = self._last_event()
        if last is None:
            raise StopIteration
        return last

    def close(self) -> None:
        """Stop, and wait until the model has: at most one forward pass and the decoding of one block."""
        self._withdraw(self.ticket)
        self.streamer.close()
        self._conclude()

    def __enter__(self) -> "TalkStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncTalkStream(_TalkStream):
    """[`TalkStream`] for `async for` and `async with`, in the event loop where it was made, which it never blocks."""

    streamer: AsyncTttStreamer

    def __aiter__(self) -> "AsyncTalkStream":
        return self

    async def __anext__(self) -> TalkEvent:
        try:
            return self._note(await anext(self.streamer))
        except StopAsyncIteration:
            await self.streamer.aclose()
        except Exception as error:
            raise self._as_request_error(error) from error
        last = self._last_event()
        if last is None:
            raise StopAsyncIteration
        return last

    async def aclose(self) -> None:
        """Stop, and wait until the model has: at most one forward pass and the decoding of one block."""
        self.cancel()  # also if this task is being cancelled and the next line never comes to an end
        await asyncio.shield(self.streamer.aclose())
        self._conclude()

    async def __aenter__(self) -> "AsyncTalkStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
