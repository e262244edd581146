"""
One response: its events in the protocol's order, while it is generated and when it ends, however it ends.

    response.created ─► output_item.added ─► deltas ... ─► audio done ─► transcript done ─► item done ─► response.done

Depends on the service and its streams. Independent of the network and of the user's audio.
"""

import base64
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from processing_ttt import TttAudioChunk, TttItem, TttItemConversation, TttTextDelta, TttUsage
from processing_ttt.resampling_ttt import ResamplingStream

from ..service import AsyncTalkStream, Busy, DecodingOptions, ReplySummary, RequestError, TalkRequest, TalkService
from ..service.audio_formats import pcm16
from .audio import RATE
from .settings import PCM, VOICE, Settings


class Emit(Protocol):
    """Sends an event of the server."""

    async def __call__(self, kind: str, **fields: Any) -> None:
        """Send it."""


@dataclass
class Response:
    """
    A response in progress or over.

    Args:
        response_id (`str`): Its name.
        item_id (`str`): Name of its message.
        previous_item_id (`str`, *optional*): Name of the message before it.
        conversation_id (`str`): Name of the conversation.
        settings ([`Settings`]): What counts for it.
        metadata (`dict[str, str]`, *optional*): The client's notes.
        conversation ([`TttItemConversation`]): Gets the reply.
        adapter (`str`, *optional*): Adapter of the model.
        user (`str`, *optional*): Who asks.
        emit (`Callable`): Sends an event.
    """

    response_id: str
    item_id: str
    previous_item_id: str | None
    conversation_id: str
    settings: Settings
    metadata: dict[str, str] | None
    conversation: TttItemConversation
    adapter: str | None
    user: str | None
    emit: Emit
    item: TttItem = field(init=False)
    text: str = ""
    has_begun: bool = False
    playing_until: float = 0.0  # estimate, of `time.monotonic`
    seconds_sent: float = 0.0
    is_over: bool = False
    cancel_reason: str | None = None
    _error: RequestError | None = None
    _summary: ReplySummary | None = None
    _stream: AsyncTalkStream | None = None

    def __post_init__(self) -> None:
        self.item = self.conversation.begin_reply()

    def cancel(self, reason: str) -> None:
        """Stop it, within one forward pass of the model; its last events follow. The client stops playing it, too."""
        self.cancel_reason = self.cancel_reason or reason
        self.playing_until = 0.0
        if self._stream is not None:
            self._stream.cancel()

    async def run(self, service: TalkService) -> None:
        """Generate it."""
        await self.emit("response.created", response=self._described("in_progress"))
        self.conversation.instructions = self.settings.instructions
        self.conversation.has_audio = self.settings.has_audio
        self._resampling = ResamplingStream(service.processor.codec_config.output_sampling_rate, RATE)
        options = DecodingOptions(max_new_tokens=self.settings.max_output_tokens)
        request = TalkRequest(conversation=self.conversation, options=options, adapter=self.adapter, user=self.user)
        try:
            if self.cancel_reason is None:
                async with service.stream_async(request) as self._stream:
                    async for event in self._stream:
                        await self._take(event)
        except RequestError as error:
            self._error = error
        finally:
            self.item.is_open = False
        await self._conclude()

    async def _take(self, event: Any) -> None:
        if isinstance(event, ReplySummary):
            self._summary = event
        elif self.cancel_reason is not None:
            return
        elif isinstance(event, TttTextDelta):
            await self._begin()
            self.text += event.text
            kind = "response.output_audio_transcript.delta" if self.settings.has_audio else "response.output_text.delta"
            await self.emit(kind, **self._place(), delta=event.text)
        elif isinstance(event, TttAudioChunk):
            await self._begin()
            self.seconds_sent += event.seconds
            words = [{"word": time.word, "start": time.start, "end": time.end} for time in event.timings]
            await self._send_audio(self._resampling.push(event.audio), words)

    async def _send_audio(self, samples: Any, words: list[dict[str, Any]]) -> None:
        if not len(samples) and not words:
            return
        audio = base64.b64encode(pcm16(samples)).decode("ascii")
        now = time.monotonic()
        self.playing_until = max(now, self.playing_until) + len(samples) / RATE
        await self.emit("response.output_audio.delta", **self._place(), delta=audio, words=words)

    async def _begin(self) -> None:
        if self.has_begun:
            return
        self.has_begun = True
        item = self.described_item("in_progress")
        empty: dict[str, Any] = {"content": []}
        await self.emit("response.output_item.added", response_id=self.response_id, output_index=0, item=item | empty)
        await self.emit("conversation.item.added", previous_item_id=self.previous_item_id, item=item | empty)
        part = {"type": "audio", "transcript": ""} if self.settings.has_audio else {"type": "text", "text": ""}
        await self.emit("response.content_part.added", **self._place(), part=part)

    async def _conclude(self) -> None:
        """Send the last events. What a client did not get of a reply that was stopped leaves the conversation."""
        status = self.status
        if self.has_begun:
            if status != "cancelled":
                await self._send_audio(self._resampling.finish(), [])
            if status in ("cancelled", "failed") and self.settings.has_audio:
                self.text = self.conversation.truncate(self.item, self.seconds_sent)
            if self.settings.has_audio:
                await self.emit("response.output_audio.done", **self._place())
                await self.emit("response.output_audio_transcript.done", **self._place(), transcript=self.text)
                part = {"type": "audio", "transcript": self.text}
            else:
                await self.emit("response.output_text.done", **self._place(), text=self.text)
                part = {"type": "text", "text": self.text}
            await self.emit("response.content_part.done", **self._place(), part=part)
            item = self.described_item("completed" if status == "completed" else "incomplete")
            await self.emit("conversation.item.done", previous_item_id=self.previous_item_id, item=item)
            await self.emit("response.output_item.done", response_id=self.response_id, output_index=0, item=item)
        self.is_over = True
        await self.emit("response.done", response=self._described(status))

    @property
    def status(self) -> str:
        """`completed`, `incomplete`, `cancelled` or `failed`, once it is over."""
        if self.cancel_reason is not None:
            return "cancelled"
        if self._error is not None:
            return "failed"
        return "completed" if self._summary is not None and self._summary.finished else "incomplete"

    def described_item(self, status: str) -> dict[str, Any]:
        """State the message."""
        part = (
            {"type": "output_audio", "transcript": self.text}
            if self.settings.has_audio
            else {"type": "output_text", "text": self.text}
        )
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [part],
        }

    def _place(self) -> dict[str, Any]:
        return {"response_id": self.response_id, "item_id": self.item_id, "output_index": 0, "content_index": 0}

    def _described(self, status: str) -> dict[str, Any]:
        is_done = status != "in_progress"
        item_status = "completed" if status == "completed" else "incomplete"
        return {
            "object": "realtime.response",
            "id": self.response_id,
            "conversation_id": self.conversation_id,
            "status": status,
            "status_details": self._details(status),
            "output": [self.described_item(item_status)] if is_done and self.has_begun else [],
            "output_modalities": ["audio" if self.settings.has_audio else "text"],
            "max_output_tokens": self.settings.max_output_tokens or "inf",
            "audio": {"output": {"format": PCM, "voice": VOICE}},
            "metadata": self.metadata,
            "usage": self._usage() if is_done else None,
        }

    def _details(self, status: str) -> dict[str, Any] | None:
        if status in ("in_progress", "completed"):
            return None
        details: dict[str, Any] = {"type": status}
        if status == "cancelled":
            details["reason"] = self.cancel_reason
        elif status == "incomplete":
            details["reason"] = "max_output_tokens"
        else:
            code = "rate_limit_exceeded" if isinstance(self._error, Busy) else "response_failed"
            details["error"] = {"type": "invalid_request_error", "code": code, "message": str(self._error)}
        return details

    def _usage(self) -> dict[str, Any] | None:
        prompt, cached = self.conversation.prompt_usage, self.conversation.cached_usage
        reply = self.conversation.reply_usage or TttUsage(0, 0)
        if prompt is None or cached is None or self._summary is None:
            return None  # it never began
        return {
            "total_tokens": prompt.total + reply.total,
            "input_tokens": prompt.total,
            "output_tokens": reply.total,
            "input_token_details": {
                "text_tokens": prompt.text,
                "audio_tokens": prompt.audio,
                "cached_tokens": cached.total,
                "cached_tokens_details": {"text_tokens": cached.text, "audio_tokens": cached.audio},
            },
            "output_token_details": {"text_tokens": reply.text, "audio_tokens": reply.audio},
        }
