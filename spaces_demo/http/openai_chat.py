"""
`/v1/chat/completions` with audio, as OpenAI's clients use it.

Depends on HTTP, OpenAI's forms of messages and answers, and the service. Independent of Gradio and the model.
"""

import base64
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from processing_ttt import TttAudioChunk, TttTextDelta

from ..service import AsyncTalkStream, ReplySummary, TalkService
from ..service.audio_formats import AudioEncoder, Pcm24Encoder, encoder_for
from .openai_errors import ERROR_RESPONSES, route_class
from .openai_messages import ChatBody, talk_request
from .openai_names import ServedModels
from .openai_streams import events_or_error, streamed, unless_disconnected, user_of
from .past_replies import PastReplies

DONE = b"data: [DONE]\n\n"


def chat_router(service: TalkService, served: ServedModels) -> APIRouter:
    """
    Make the route.

    Args:
        service ([`TalkService`]): Answers.
        served ([`ServedModels`]): Names of models and voices.

    Returns:
        `APIRouter`: For `FastAPI.include_router`.
    """
    router = APIRouter(route_class=_chat_route(), responses=ERROR_RESPONSES)
    replies = PastReplies()

    @router.post("/chat/completions")
    async def completions(body: ChatBody, request: Request) -> Response:
        """Answer the last message of a chat, in text or in text and audio."""
        adapter = served.adapter(body.model, None if body.audio is None else body.audio.voice)
        asked = talk_request(body, replies, adapter, user_of(request), service.longest_reply)
        rate = service.processor.codec_config.output_sampling_rate
        encoder = _encoder(body, rate) if body.has_audio else None
        answer = ChatAnswer(body, replies, encoder)
        if body.stream:
            pieces = _with_done(events_or_error(answer.chunks(service.stream_async(asked))))
            return await streamed(request, pieces, "text/event-stream")
        summary = await unless_disconnected(request, service.reply_async(asked))
        return JSONResponse(answer.whole(summary))

    return router


def _encoder(body: ChatBody, rate: int) -> AudioEncoder:
    return Pcm24Encoder(rate) if body.audio_format == "pcm16" else encoder_for(body.audio_format, rate)


def _chat_route() -> Any:
    params = {"text": "messages", "audio": "messages", "adapter": "model", "response_format": "audio.format"}
    return route_class(params | {"max_new_tokens": "max_completion_tokens"})


@dataclass
class ChatAnswer:
    """
    One answer, whole or in chunks.

    Args:
        body ([`ChatBody`]): What was asked.
        replies ([`PastReplies`]): Keeps replies with audio, which later requests name.
        encoder ([`AudioEncoder`], *optional*): Writes the audio; without one the answer is text.
    """

    body: ChatBody
    replies: PastReplies
    encoder: AudioEncoder | None

    def __post_init__(self) -> None:
        self.completion_id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        self.audio_id, self.expires_at = self.replies.new_id()

    def whole(self, summary: ReplySummary) -> dict[str, Any]:
        """Write the answer of a reply that has ended."""
        message: dict[str, Any] = {"role": "assistant", "content": summary.text, "refusal": None}
        if self.encoder is not None and len(summary.audio):
            self.replies.keep(self.audio_id, summary.token_ids)
            data = self.encoder.push(summary.audio) + self.encoder.finish()
            message["content"] = None
            message["audio"] = {
                "id": self.audio_id,
                "data": base64.b64encode(data).decode("ascii"),
                "expires_at": self.expires_at,
                "transcript": summary.text,
            }
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(summary), "logprobs": None}
        return self._body("chat.completion", [choice]) | {"usage": _usage(summary)}

    async def chunks(self, stream: AsyncTalkStream) -> AsyncGenerator[dict[str, Any], None]:
        """Write the answer while the reply is generated."""
        has_begun = False
        async with stream:
            async for event in stream:
                if not has_begun:  # an error before the first event is the response's own
                    has_begun = True
                    yield self._chunk({"role": "assistant", **self._text("")})
                if isinstance(event, TttTextDelta):
                    yield self._chunk(self._text(event.text))
                elif isinstance(event, TttAudioChunk) and self.encoder is not None:
                    if piece := self.encoder.push(event.audio):
                        yield self._chunk(self._audio(piece))
                elif isinstance(event, ReplySummary):
                    for chunk in self._last_chunks(event):
                        yield chunk

    def _last_chunks(self, summary: ReplySummary) -> list[dict[str, Any]]:
        chunks = []
        if self.encoder is not None:
            self.replies.keep(self.audio_id, summary.token_ids)
            if rest := self.encoder.finish():
                chunks.append(self._chunk(self._audio(rest)))
            chunks.append(self._chunk({"audio": {"id": self.audio_id, "expires_at": self.expires_at}}))
        chunks.append(self._chunk({}, _finish_reason(summary)))
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            chunks.append(self._body("chat.completion.chunk", []) | {"usage": _usage(summary)})
        return chunks

    def _text(self, text: str) -> dict[str, Any]:
        return {"content": text} if self.encoder is None else {"audio": {"id": self.audio_id, "transcript": text}}

    def _audio(self, piece: bytes) -> dict[str, Any]:
        return {"audio": {"id": self.audio_id, "data": base64.b64encode(piece).decode("ascii")}}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self._body("chat.completion.chunk", [choice])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.body.model,
            "choices": choices,
        }


async def _with_done(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(events):
        async for event in events:
            yield event
    yield DONE


def _finish_reason(summary: ReplySummary) -> str:
    return "stop" if summary.finished else "length"


def _usage(summary: ReplySummary) -> dict[str, int]:
    prompt, reply = summary.num_prompt_ids, len(summary.token_ids)
    return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
