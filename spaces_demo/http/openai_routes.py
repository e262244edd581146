"""
`/v1/audio/speech`, `/v1/audio/transcriptions` and `/v1/models`, as OpenAI's clients use them.

Depends on HTTP, OpenAI's forms of requests, events and errors, and the service. Independent of Gradio and the model.
"""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict  # for the answers of routes, pydantic takes no other before Python 3.12

from processing_ttt import TttAudioChunk, TttTextDelta

from ..service import (
    AsyncTalkStream,
    AudioFile,
    Busy,
    DecodingOptions,
    Limits,
    ReplySummary,
    RequestError,
    TalkRequest,
    TalkService,
)
from ..service.audio_formats import MEDIA_TYPES, AudioEncoder, encoder_for

logger = logging.getLogger(__name__)

FORM_BYTES = 16 * 1024  # of a request, besides the audio
Result = TypeVar("Result")
NO_CACHE = {"Cache-Control": "no-store"}


class UnknownModel(RequestError):
    """A request for a model that is not served here."""


class TooLarge(RequestError):
    """A request with more bytes than the limit."""


class SpeechBody(BaseModel):
    """
    The body of `/v1/audio/speech`.

    Args:
        model (`str`): One that `/v1/models` lists.
        input (`str`): What to say.
        voice (`str`): Any; a Text-to-Talk model has the voice that it was trained with.
        response_format (`str`): `wav`, `pcm` (16-bit, at the model's rate), `flac`, `mp3` or `opus`. The first two are
            sent while they are generated.
        stream_format (`str`): `audio` for the bytes of the audio, `sse` for events that hold them.
        speed (`float`): 1 only.
        instructions (`str`, *optional*): Must be empty.
        language (`str`, *optional*): Language tag, where the model is an adapter of several. OpenAI has no such field,
            so its clients send it as `extra_body={"language": ...}`.
    """

    model: str
    input: str
    voice: Any = None
    response_format: str = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: float = Field(default=1.0, allow_inf_nan=False)
    instructions: str | None = None
    language: str | None = None


class ModelCard(TypedDict):
    """An entry of `/v1/models`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class SpeechDelta(TypedDict):
    """An event with some audio, in base64."""

    type: Literal["speech.audio.delta"]
    audio: str


class SpeechDone(TypedDict):
    """The event after the last audio."""

    type: Literal["speech.audio.done"]


class TranscriptDelta(TypedDict):
    """An event with some text."""

    type: Literal["transcript.text.delta"]
    delta: str


class TranscriptDone(TypedDict):
    """The event with the whole text."""

    type: Literal["transcript.text.done"]
    text: str


Event: TypeAlias = SpeechDelta | SpeechDone | TranscriptDelta | TranscriptDone


class ErrorDescription(TypedDict):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: None
    code: str | None


def openai_router(service: TalkService, model_name: str = "ttt") -> APIRouter:
    """
    Make the routes.

    Args:
        service ([`TalkService`]): Answers.
        model_name (`str`, *optional*, defaults to `"ttt"`): How clients name the model; its adapters are
            `model_name:adapter`.

    Returns:
        `APIRouter`: For `FastAPI.include_router`.
    """
    router = APIRouter(prefix="/v1", route_class=route_class(service.limits))
    adapters: dict[str, str | None] = {model_name: None} | {f"{model_name}:{name}": name for name in service.adapters}

    def adapter_of(model: str) -> str | None:
        if model not in adapters:
            raise UnknownModel(f"The models here are {', '.join(adapters)}.")
        return adapters[model]

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card(name) for name in adapters]}

    @router.get("/models/{model}")
    async def model(model: str) -> ModelCard:
        adapter_of(model)
        return _model_card(model)

    @router.post("/audio/speech")
    async def speech(body: SpeechBody, request: Request) -> Response:
        if body.speed != 1.0:
            raise RequestError("The speed is 1: this model has one speed only.")
        if body.instructions:
            raise RequestError("This model takes no instructions: leave them out.")
        encoder = encoder_for(body.response_format, service.processor.codec_config.output_sampling_rate)
        asked = TalkRequest(
            "tts", body.input, adapter=adapter_of(body.model), language=body.language, user=_user(request)
        )
        stream = service.stream_async(asked)
        if body.stream_format == "sse":
            return await _streamed(request, _speech_events(stream, encoder), "text/event-stream")
        return await _streamed(request, _speech_bytes(stream, encoder), MEDIA_TYPES[body.response_format])

    @router.post("/audio/transcriptions")  # `prompt` is a hint that this model does not need
    async def transcriptions(
        request: Request,
        file: UploadFile,
        model: Annotated[str, Form()],
        response_format: Annotated[str, Form()] = "json",
        stream: Annotated[bool, Form()] = False,
        temperature: Annotated[float | None, Form()] = None,
        language: Annotated[str | None, Form()] = None,
    ) -> Response:
        if response_format not in ("json", "text"):
            raise RequestError("The response_format is json or text.")
        asked = TalkRequest(
            "asr",
            audio=AudioFile(await file.read(), file.filename or ""),
            adapter=adapter_of(model),
            language=language,
            options=DecodingOptions(temperature=temperature),
            user=_user(request),
        )
        if stream:
            return await _streamed(request, _transcript_events(service.stream_async(asked)), "text/event-stream")
        text = (await _unless_disconnected(request, service.reply_async(asked))).text
        return PlainTextResponse(text) if response_format == "text" else JSONResponse({"text": text})

    return router


def route_class(limits: Limits, body_bytes: int | None = None) -> type[APIRoute]:
    """
    Make a class of routes that read no more bytes than `limits` allow, and give every error in OpenAI's form.

    Args:
        limits ([`Limits`]): Their `upload_bytes` count.
        body_bytes (`int`, *optional*): Largest body, where it holds a file in base64; by default the file's bytes and
            some more.

    Returns:
        `type[APIRoute]`.
    """

    class OpenAiRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                bounded = _Bounded(request, body_bytes or limits.upload_bytes + FORM_BYTES)
                try:
                    return await handle(Request(request.scope, bounded.receive, request._send))
                except Exception as error:
                    too_large = TooLarge(f"The request is larger than the limit of {limits.upload_in_words}.")
                    return error_response(too_large if bounded.is_exceeded else error)

            return guarded

    return OpenAiRoute


class _Bounded:
    """Counts the bytes of a body as they come, and stops when there are too many."""

    def __init__(self, request: Request, most: int):
        self._receive = request.receive
        self._left = most
        self.is_exceeded = False

    async def receive(self) -> Any:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_exceeded = True
            raise ValueError("The body is too large.")
        return message


def error_response(error: Exception) -> JSONResponse:
    """
    Write an error in OpenAI's form.

    Args:
        error (`Exception`): The error; one that the client cannot mend goes to the log, and no detail of it to the
            client.

    Returns:
        `JSONResponse`.
    """
    status, message, code = _described(error)
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    headers = {"Connection": "close"}  # the body may not have been read to its end, and will not be
    if isinstance(error, Busy):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    description: ErrorDescription = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": description}, status_code=status, headers=headers)


def _described(error: Exception) -> tuple[int, str, str | None]:
    if isinstance(error, Busy):
        return 429, str(error), "rate_limit_exceeded"
    if isinstance(error, UnknownModel):
        return 404, str(error), "model_not_found"
    if isinstance(error, TooLarge):
        return 413, str(error), "request_too_large"
    if isinstance(error, RequestError):
        return 400, str(error), None
    if isinstance(error, RequestValidationError):
        fields = ", ".join(dict.fromkeys(str(place["loc"][-1]) for place in error.errors() if place["loc"]))
        return 400, f"The request cannot be read; look at: {fields[:200] or 'its body'}.", None
    if isinstance(error, HTTPException) and error.status_code < 500:
        return error.status_code, "The request cannot be read.", None
    logger.error("A request failed", exc_info=error)
    return 500, "The request failed because of an error on the server, which is in its log: try again.", None


async def _streamed(request: Request, pieces: AsyncGenerator[bytes, None], media_type: str) -> Response:
    """Begin to stream; an error before the first piece still has a status of its own."""
    first = await _unless_disconnected(request, anext(pieces, b""))

    async def all_pieces() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return StreamingResponse(all_pieces(), media_type=media_type, headers=NO_CACHE)


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await a result, and give up when the client closes the connection."""
    working, disconnecting = asyncio.ensure_future(work), asyncio.create_task(_wait_until_disconnected(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499)  # no client is left to read it
        return working.result()
    finally:
        for task in (working, disconnecting):
            task.cancel()
        await asyncio.gather(working, disconnecting, return_exceptions=True)


async def _wait_until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _speech_bytes(stream: AsyncTalkStream, encoder: AudioEncoder) -> AsyncGenerator[bytes, None]:
    async with stream:
        async for event in stream:
            if isinstance(event, TttAudioChunk) and (piece := encoder.push(event.audio)):
                yield piece
    if rest := encoder.finish():
        yield rest


async def _speech_events(stream: AsyncTalkStream, encoder: AudioEncoder) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(_speech_bytes(stream, encoder)) as pieces:
        async for event in _events_or_error(_speech_deltas(pieces)):
            yield event


async def _speech_deltas(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[Event, None]:
    async for piece in pieces:
        yield {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode("ascii")}
    yield {"type": "speech.audio.done"}


async def _transcript_events(stream: AsyncTalkStream) -> AsyncGenerator[bytes, None]:
    async for event in _events_or_error(_transcript_deltas(stream)):
        yield event


async def _transcript_deltas(stream: AsyncTalkStream) -> AsyncGenerator[Event, None]:
    async with stream:
        async for event in stream:
            if isinstance(event, TttTextDelta):
                yield {"type": "transcript.text.delta", "delta": event.text}
            elif isinstance(event, ReplySummary):
                yield {"type": "transcript.text.done", "text": event.text}


async def _events_or_error(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    """Write server-sent events; an error after the first is an event, one before it is the response's own."""
    has_begun = False
    async with contextlib.aclosing(events):
        try:
            async for event in events:
                yield _server_sent(event)
                has_begun = True
        except RequestError as error:
            if not has_begun:
                raise
            yield _server_sent(json.loads(bytes(error_response(error).body)))


def _server_sent(event: Event | dict[str, ErrorDescription]) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


def _model_card(name: str) -> ModelCard:
    return {"id": name, "object": "model", "created": 0, "owned_by": "text-to-talk"}


def _user(request: Request) -> str | None:
    return request.client.host if request.client is not None else None
