"""
One session: what each event of the client does.

    client ── event ──► RealtimeSession ──► audio buffer ──► turns ──► conversation ──► Response ── events ──► client
                              └─ refused: an `error` event

Depends on the service. Independent of the network: events come as text and leave through a function.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np

from ..service import Busy, DecodingOptions, RequestError, TalkRequest, TalkService
from ..service.request import checked_text
from . import protocol
from .audio import RATE, InputBuffer, as_float, samples_of
from .conversation import NO_ITEM, NamedConversation, NamedItem, new_id
from .limits import RealtimeLimits
from .listening import OpenTurn
from .protocol import ProtocolError, ResponseOptions, event_id_of, parse_event
from .responses import Response
from .settings import Settings
from .turns import Mark, TurnTracker

logger = logging.getLogger(__name__)

SERVER_FAULT = "The event failed because of an error on the server, which is in its log: try again."
TRANSCRIPTION_DELAY_SECONDS = 0.3  # in which `response.create` follows a message that a client commits itself
BUFFER_SLACK_SECONDS = 5.0  # of audio, beside the longest message: padding, and what comes in one event


class RealtimeSession:
    """
    Answers the events of one client.

    Args:
        service ([`TalkService`]): Answers; it limits what is served at once.
        limits ([`RealtimeLimits`]): Limits of the session.
        send (`Callable`): Sends an event, a dictionary.
        model (`str`): How the model is called.
        adapter (`str`, *optional*): Adapter of the model.
        user (`str`, *optional*): Who asks.
    """

    def __init__(
        self,
        service: TalkService,
        limits: RealtimeLimits,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        model: str = "ttt",
        adapter: str | None = None,
        user: str | None = None,
    ):
        self.service = service
        self.limits = limits
        self.session_id = new_id("sess")
        self.model, self.adapter, self.user = model, adapter, user
        self.expires_at = int(time.time() + limits.session_seconds)
        self.settings = Settings()
        self.conversation = NamedConversation(service, limits)
        self.response: Response | None = None
        question_seconds = service.limits.question_seconds
        self.buffer = InputBuffer(int((question_seconds + BUFFER_SLACK_SECONDS) * RATE))
        self.tracker = self._new_tracker()
        self._send = send
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._responding: asyncio.Task[None] | None = None
        self._turn: OpenTurn | None = None
        self._turn_id: str | None = None  # name of the message that it will become
        self._caching = asyncio.Lock()  # held by who changes the conversation's cache

    # In and out

    async def emit(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        async with self._sending:
            await self._send({"type": kind, "event_id": new_id("event"), **fields})

    async def open(self) -> None:
        """Greet the client."""
        await self.emit("session.created", session=self._described())

    async def handle(self, message: str) -> None:
        """
        Take an event; whatever is wrong with it becomes an `error` event.

        Args:
            message (`str`): JSON.
        """
        try:
            await self._dispatch(parse_event(message))
        except ProtocolError as error:
            await self.refuse(error.code, str(error), error.param, event_id_of(message))
        except Busy as error:
            await self.refuse("rate_limit_exceeded", str(error), None, event_id_of(message))
        except RequestError as error:
            await self.refuse("invalid_value", str(error), error.field, event_id_of(message))
        except ConnectionError:
            raise
        except Exception:
            logger.exception("An event failed")
            await self.refuse("server_error", SERVER_FAULT, None, event_id_of(message), kind="server_error")

    async def refuse(
        self,
        code: str,
        message: str,
        param: str | None = None,
        event_id: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        """Send an `error` event."""
        error = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
        await self.emit("error", error=error)

    async def close(self) -> None:
        """Stop everything, when the client has left."""
        self._turn = None
        if self.response is not None:
            self.response.cancel("client_cancelled")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _dispatch(self, event: protocol.Event) -> None:
        match event:
            case protocol.BufferAppend():
                await self._append(samples_of(event.audio))
            case protocol.BufferCommit():
                await self._commit()
            case protocol.BufferClear():
                self._clear()
                await self.emit("input_audio_buffer.cleared")
            case protocol.SessionUpdate():
                await self._update(event.session)
            case protocol.ItemCreate():
                named = await self.conversation.create(event.item, event.previous_item_id)
                await self._announce(named)
                self._transcribe(named)
            case protocol.ItemRetrieve():
                if event.item_id not in self.conversation:  # Pipecat ends its session at any other code
                    raise ProtocolError("item_retrieve_invalid_item_id", NO_ITEM, "item_id")
                await self.emit("conversation.item.retrieved", item=self.conversation[event.item_id].described())
            case protocol.ItemTruncate():
                await self._truncate(event)
            case protocol.ItemDelete():
                self.conversation.forget(self._closed_item(event.item_id))
                await self.emit("conversation.item.deleted", item_id=event.item_id)
            case protocol.ResponseCreate():
                self._respond(event.response)
            case protocol.ResponseCancel():
                await self._cancel(event.response_id)

    # The session

    def _described(self) -> dict[str, Any]:
        return self.settings.described(self.session_id, self.model, self.expires_at, self.limits)

    async def _update(self, patch: protocol.SessionPatch) -> None:
        before, self.settings = self.settings, self._patched(patch)
        if self.settings.turn_detection != before.turn_detection:
            self.tracker, self._turn, self._turn_id = self._new_tracker(), None, None
        await self.emit("session.updated", session=self._described())

    def _patched(self, patch: protocol.SessionPatch | ResponseOptions) -> Settings:
        """Change the settings, unless the instructions cannot be read."""
        limits = replace(self.service.limits, text_characters=self.limits.instructions_characters)
        try:
            checked_text(patch.instructions, limits)
        except RequestError as error:
            raise ProtocolError("invalid_value", f"instructions: {error}", "instructions") from error
        return self.settings.patched(patch, self.service.longest_reply)

    def _new_tracker(self) -> TurnTracker | None:
        turn_detection = self.settings.turn_detection
        return None if turn_detection is None else TurnTracker(turn_detection, self.buffer.end)

    # The user's audio

    async def _append(self, samples: np.ndarray) -> None:
        self.buffer.append(samples)
        if self.tracker is None or self.settings.turn_detection is None:
            self._turn = self._turn or self._new_turn(self.buffer.start)
            self._turn.hear(self.buffer.end)
            return
        interrupts = self.settings.turn_detection.interrupt_response and self._is_audible
        for mark in await asyncio.to_thread(self.tracker.push, as_float(samples), interrupts):
            await self._on_mark(mark)
        padding = self.settings.turn_detection.prefix_padding_ms * RATE // 1000
        if self.tracker.is_speaking and self.buffer.end - self.tracker.earliest + padding >= self._longest:
            await self._on_mark(self.tracker.stop())
        if not self.tracker.is_speaking:
            self.buffer.drop_before(self.tracker.earliest - padding)
        elif self._turn is not None:
            self._turn.hear(self.tracker.certain_end)

    async def _on_mark(self, mark: Mark) -> None:
        turn_detection = self.settings.turn_detection
        if turn_detection is None:
            return
        start = max(self.buffer.start, mark.begin - turn_detection.prefix_padding_ms * RATE // 1000)
        if mark.kind == "started":
            if turn_detection.interrupt_response:
                await self._interrupt()
            self._turn, self._turn_id = self._new_turn(start), new_id("item")
            at = start * 1000 // RATE
            await self.emit("input_audio_buffer.speech_started", audio_start_ms=at, item_id=self._turn_id)
        elif mark.kind == "paused" and self._turn is not None:  # it is still unknown whether the turn is over
            self._turn.pause(mark.end)
        elif mark.kind == "stopped":
            item_id, self._turn_id = self._turn_id or new_id("item"), None
            at = mark.end * 1000 // RATE
            await self.emit("input_audio_buffer.speech_stopped", audio_end_ms=at, item_id=item_id)
            await self._become_message(item_id, start, mark.end)
            if turn_detection.create_response:
                self._respond(None)

    @property
    def _longest(self) -> int:
        """Most samples of a message."""
        return int(self.service.limits.question_seconds * RATE)

    def _new_turn(self, start: int) -> OpenTurn:
        return OpenTurn(self.buffer, start, self._longest, self.conversation.encode_stream(), self._prefill)

    async def _prefill(self, turn: OpenTurn, codes: list[int], is_whole: bool) -> bool:
        """Prefill the prompt of the response that will follow a turn, unless the cache is in use."""
        if turn is not self._turn or self._caching.locked():
            return False
        async with self._caching:
            inner, settings = self.conversation.inner, self.settings
            inner.instructions, inner.has_audio = settings.instructions, settings.has_audio
            options = DecodingOptions(max_new_tokens=settings.max_output_tokens)
            request = TalkRequest(conversation=inner, options=options, adapter=self.adapter)
            return await asyncio.to_thread(self.service.prefill, request, codes, is_whole)

    async def _become_message(self, item_id: str, start: int, end: int) -> None:
        turn, self._turn = self._turn, None
        self.conversation.check_room()
        samples = self.buffer.between(start, end)[: self._longest]
        self.conversation.check_audio(samples)
        if turn is None or turn.start != start:
            turn = self._new_turn(start)
        codes = await turn.codes(end)
        self.buffer.drop_before(end)
        previous = self.conversation.last_id
        await self.emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        named = self.conversation.add_audio(item_id, codes, samples)
        await self._announce(named)
        self._transcribe(named)

    async def _commit(self) -> None:
        item_id = self._turn_id or new_id("item")
        try:
            await self._become_message(item_id, self.buffer.start, self.buffer.end)
        finally:
            self._clear()

    def _clear(self) -> None:
        self.buffer.drop_before(self.buffer.end)
        self.tracker, self._turn, self._turn_id = self._new_tracker(), None, None

    # Messages

    async def _announce(self, named: NamedItem) -> None:
        previous = self.conversation.before(named.item)
        await self.emit("conversation.item.added", previous_item_id=previous, item=named.described())
        await self.emit("conversation.item.done", previous_item_id=previous, item=named.described())

    def _closed_item(self, item_id: str) -> NamedItem:
        named = self.conversation[item_id]
        if self.response is not None and not self.response.is_over and self.response.item is named.item:
            raise ProtocolError("item_in_progress", "The message is still being made: cancel its response first.")
        return named

    async def _truncate(self, event: protocol.ItemTruncate) -> None:
        named = self._closed_item(event.item_id)
        if not any(part["type"] == "output_audio" for part in named.content):
            raise ProtocolError("invalid_value", "Only a reply with audio can be cut.", "item_id")
        seconds = event.audio_end_ms / 1000
        if seconds > named.seconds_sent + 1.0:  # a player may be a moment ahead
            sent = f"{1000 * named.seconds_sent:.0f} ms"
            raise ProtocolError("invalid_value", f"The reply has {sent} of audio.", "audio_end_ms")
        text = self.conversation.inner.truncate(named.item, seconds)
        named.content = [{"type": "output_audio", "transcript": text}]
        if self.response is not None and self.response.item is named.item:
            self.response.playing_until = 0.0  # the client has stopped playing it
        await self.emit(
            "conversation.item.truncated",
            item_id=event.item_id,
            content_index=0,
            audio_end_ms=event.audio_end_ms,
            transcript=text,
        )

    def _transcribe(self, named: NamedItem) -> None:
        """Transcribe a user's audio, after the response that answers it."""
        samples, named.samples = named.samples, None
        if samples is not None and self.settings.transcribes:
            self._start(self._send_transcript(named, samples))

    async def _send_transcript(self, named: NamedItem, samples: np.ndarray) -> None:
        await asyncio.sleep(TRANSCRIPTION_DELAY_SECONDS)  # the response comes first
        if self._responding is not None:
            await asyncio.wait({self._responding})
        if named.item_id not in self.conversation:
            return  # it was deleted
        index = next(number for number, part in enumerate(named.content) if part["type"] == "input_audio")
        place = {"item_id": named.item_id, "content_index": index}
        asked = TalkRequest("asr", audio=(RATE, samples), adapter=self.adapter, user=self.user)
        try:
            transcript = (await self.service.reply_async(asked)).text.strip()
        except RequestError as error:
            failure = {"type": "transcription_error", "code": "transcription_failed", "message": str(error)}
            await self.emit("conversation.item.input_audio_transcription.failed", **place, error=failure)
            return
        named.content[index]["transcript"] = transcript
        usage = {"type": "duration", "seconds": len(samples) / RATE}
        kind = "conversation.item.input_audio_transcription.completed"
        await self.emit(kind, **place, transcript=transcript, usage=usage)

    # Responses

    @property
    def _is_audible(self) -> bool:
        """Whether a reply is being generated, or probably still played."""
        response = self.response
        return response is not None and (not response.is_over or time.monotonic() < response.playing_until)

    def _respond(self, options: ResponseOptions | None) -> None:
        if self._responding is not None and not self._responding.done():
            raise ProtocolError(
                "conversation_already_has_active_response", "A response is in progress: cancel it, or wait for its end."
            )
        self.conversation.check_room()
        settings = self.settings if options is None else self._patched(options)
        self.response = Response(
            new_id("resp"),
            new_id("item"),
            self.conversation.last_id,
            self.conversation.conversation_id,
            settings,
            None if options is None else options.metadata,
            self.conversation.inner,
            self.adapter,
            self.user,
            self.emit,
        )
        self._responding = self._start(self._run(self.response))

    async def _run(self, response: Response) -> None:
        named = self.conversation.register(NamedItem(response.item_id, response.item, status="in_progress"))
        try:
            async with self._caching:
                await response.run(self.service)
        finally:
            described = response.described_item("completed" if response.status == "completed" else "incomplete")
            named.content, named.status = described["content"], described["status"]
            named.seconds_sent = response.seconds_sent
            if not response.has_begun:
                self.conversation.forget(named)

    async def _interrupt(self) -> None:
        if self.response is not None:
            self.response.playing_until = 0.0  # the client stops playing what it has, too
        if self._responding is not None and not self._responding.done() and self.response is not None:
            self.response.cancel("turn_detected")
            await asyncio.wait({self._responding})

    async def _cancel(self, response_id: str | None) -> None:
        response, responding = self.response, self._responding
        if response is None or responding is None or responding.done():
            raise ProtocolError("response_cancel_not_active", "There is no response in progress.")
        if response_id is not None and response_id != response.response_id:
            raise ProtocolError("response_not_found", "There is no response of that name in progress.", "response_id")
        response.cancel("client_cancelled")
        await asyncio.wait({responding})

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), ConnectionError):
            logger.error("A response failed", exc_info=task.exception())
