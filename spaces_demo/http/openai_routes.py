"""
`/v1/audio/speech`, `/v1/audio/transcriptions` and `/v1/models`, as OpenAI's clients use them.

Depends on HTTP, OpenAI's forms of requests, events and errors, and the service. Independent of Gradio and the model.
"""

import base64
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # for the answers of routes, pydantic takes no other before Python 3.12

from processing_ttt import TttAudioChunk, TttTextDelta

from ..service import AsyncTalkStream, AudioFile, DecodingOptions, ReplySummary, RequestError, TalkRequest, TalkService
from ..service.audio_formats import MEDIA_TYPES, AudioEncoder, encoder_for
from .openai_errors import UnknownModel, route_class
from .openai_streams import events_or_error, streamed, unless_disconnected


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


class WordTime(TypedDict):
    """When a word is audible, in seconds from the beginning of the audio; OpenAI's form in transcriptions."""

    word: str
    start: float
    end: float


class SpeechDelta(TypedDict):
    """An event with some audio, in base64, and the words whose audio is complete with it."""

    type: Literal["speech.audio.delta"]
    audio: str
    words: list[WordTime]


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
            return await streamed(request, _speech_events(stream, encoder), "text/event-stream")
        return await streamed(request, _speech_bytes(stream, encoder), MEDIA_TYPES[body.response_format])

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
            return await streamed(request, _transcript_events(service.stream_async(asked)), "text/event-stream")
        text = (await unless_disconnected(request, service.reply_async(asked))).text
        return PlainTextResponse(text) if response_format == "text" else JSONResponse({"text": text})

    return router


async def _speech_pieces(
    stream: AsyncTalkStream, encoder: AudioEncoder
) -> AsyncGenerator[tuple[bytes, list[WordTime]], None]:
    """Encode audio as it comes; words wait for the next bytes, at most until the file is complete."""
    words: list[WordTime] = []
    async with stream:
        async for event in stream:
            if isinstance(event, TttAudioChunk):
                words += [WordTime(word=time.word, start=time.start, end=time.end) for time in event.timings]
                if piece := encoder.push(event.audio):
                    yield piece, words
                    words = []
    rest = encoder.finish()
    if rest or words:
        yield rest, words


async def _speech_bytes(stream: AsyncTalkStream, encoder: AudioEncoder) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(_speech_pieces(stream, encoder)) as pieces:
        async for piece, _ in pieces:
            if piece:
                yield piece


async def _speech_events(stream: AsyncTalkStream, encoder: AudioEncoder) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(_speech_pieces(stream, encoder)) as pieces:
        async for event in events_or_error(_speech_deltas(pieces)):
            yield event


async def _speech_deltas(pieces: AsyncGenerator[tuple[bytes, list[WordTime]], None]) -> AsyncGenerator[Event, None]:
    async for piece, words in pieces:
        yield {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode("ascii"), "words": words}
    yield {"type": "speech.audio.done"}


async def _transcript_events(stream: AsyncTalkStream) -> AsyncGenerator[bytes, None]:
    async for event in events_or_error(_transcript_deltas(stream)):
        yield event


async def _transcript_deltas(stream: AsyncTalkStream) -> AsyncGenerator[Event, None]:
    async with stream:
        async for event in stream:
            if isinstance(event, TttTextDelta):
                yield {"type": "transcript.text.delta", "delta": event.text}
            elif isinstance(event, ReplySummary):
                yield {"type": "transcript.text.done", "text": event.text}


def _model_card(name: str) -> ModelCard:
    return {"id": name, "object": "model", "created": 0, "owned_by": "text-to-talk"}


def _user(request: Request) -> str | None:
    return request.client.host if request.client is not None else None
