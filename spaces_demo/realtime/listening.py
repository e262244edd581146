"""
The audio of a turn that has begun: encoded while it arrives, where the codec can, else when the turn may be over.

    audio of the turn │ encoded, its codes final ────────► prefill: the prompt as far as it is known
                      │ ... what has come since then
                      │ the silence after it, 0.32 s ─────► the codes of a turn that ends here, and its whole prompt

Depends on a stream that encodes and on a function that prefills; both work in threads, one after the other. Independent
of the network and of what is done with the codes.
"""

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from processing_ttt import AudioInputError
from processing_ttt.encode_stream_ttt import AudioEncodeStream

from ..service import RequestError
from .audio import RATE, InputBuffer, as_float

logger = logging.getLogger(__name__)

PIECE_SECONDS = 0.5  # that are encoded at once, at least

Prefill = Callable[["OpenTurn", list[int], bool], Awaitable[bool]]


class OpenTurn:
    """
    A turn that has begun.

    Args:
        buffer ([`InputBuffer`]): Has its audio.
        start (`int`): Position of its first sample.
        longest (`int`): Most samples of it that count.
        stream ([`AudioEncodeStream`]): Encodes it.
        prefill (`Callable`): Is given the turn, its codes so far, and whether they are probably all; returns whether it
            could do its work. Not called where the codec cannot encode in pieces.
    """

    def __init__(self, buffer: InputBuffer, start: int, longest: int, stream: AudioEncodeStream, prefill: Prefill):
        self.start = start
        self._last = start + longest
        self._buffer = buffer
        self._stream = stream
        self._prefill = prefill
        self._certain = start  # position up to which the audio is known to belong to the turn
        self._taken_to = start  # position up to which the stream has it
        self._codes: list[int] = []  # final ones
        self._num_prefilled: int | None = None
        self._last_codes: list[int] | None = None  # behind them, of a turn that ends at `_taken_to`
        self._encoding = asyncio.Lock()
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, end: int) -> None:
        """
        Encode what has come, in the background, where the codec can and a piece is complete.

        Args:
            end (`int`): Position up to which the audio certainly belongs to the turn.
        """
        self._certain = min(end, self._last)
        is_complete = self._certain - self._taken_to >= PIECE_SECONDS * RATE
        if self._stream.is_piecewise and is_complete and not self._tasks:
            self._start(self._take_piece(self._certain))

    def pause(self, end: int) -> None:
        """
        Encode everything, in the background: the turn may be over.

        Args:
            end (`int`): Where it then ends.
        """
        self._certain = min(end, self._last)
        self._start(self._take_all(self._certain))

    async def codes(self, end: int) -> list[int]:
        """
        End the turn; what was not encoded yet is encoded now.

        Args:
            end (`int`): Where it ends, behind everything that was certain.

        Returns:
            `list[int]`: All codes of its audio.

        Raises:
            RequestError: If the audio is silent.
        """
        async with self._encoding:
            return await self._all_codes(min(end, self._last))

    # In the background

    async def _take_piece(self, end: int) -> None:
        async with self._encoding:
            await self._take(end)
        num_codes = len(self._codes)
        if num_codes != self._num_prefilled and await self._prefill(self, self._codes[:num_codes], False):
            self._num_prefilled = num_codes

    async def _take_all(self, end: int) -> None:
        async with self._encoding:
            if end != self._certain:  # speech went on meanwhile
                return
            codes = await self._all_codes(end)
        if self._stream.is_piecewise:
            await self._prefill(self, codes, True)

    async def _all_codes(self, end: int) -> list[int]:
        await self._take(end)
        if self._last_codes is None:
            self._last_codes = await self._in_thread(copy.copy(self._stream).finish)
        return self._codes + self._last_codes

    async def _take(self, end: int) -> None:
        """Give the stream the audio up to a position. A stream that failed can go on no more."""
        if self._failure is not None:
            raise self._failure
        samples, self._taken_to = self._buffer.between(self._taken_to, end), end
        try:
            if len(samples):
                self._last_codes = None
                self._codes += await self._in_thread(self._stream.push, as_float(samples))
        except Exception as error:
            self._failure = error
            raise

    @staticmethod
    async def _in_thread(work: Callable[..., list[int]], *args: Any) -> list[int]:
        try:
            return await asyncio.to_thread(work, *args)
        except AudioInputError as error:
            raise RequestError(str(error)) from error

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and error is not self._failure and not isinstance(error, RequestError):
            logger.error("Encoding or prefilling a turn ahead failed", exc_info=error)
