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

from processing_ttt import TttAudioChunk, TttTextDelta, TttWordTime
from processing_ttt.audio_speed_ttt import FASTEST, SLOWEST, SpeedChanger
from processing_ttt.tasks_ttt import DEFAULT_LANGUAGE

from ..service import AsyncTalkStream, AudioFile, DecodingOptions, ReplySummary, RequestError, TalkRequest, TalkService
from ..service.audio_formats import MEDIA_TYPES, AudioEncoder, encoder_for
from .openai_chat import chat_router
from .openai_errors import ERROR_RESPONSES, route_class
from .openai_names import ModelCard, ServedModels, Voice, VoiceCard, model_card
from .openai_streams import events_or_error, streamed, unless_disconnected, user_of

TRANSCRIPTION_FORMATS = ("json", "text", "verbose_json", "srt", "vtt")


class SpeechBody(BaseModel):
    """
    The body of `/v1/audio/speech`.

    Args:
        model (`str`): One that `/v1/models` lists, or one of OpenAI's names.
        input (`str`): The text.
        voice (`str` or [`Voice`], *optional*): One that `/v1/audio/voices` lists; any other is ignored.
        response_format (`str`): `mp3`, `opus`, `aac`, `wav` or `pcm` (16-bit, at the model's rate), which are sent
            while they are generated; or `flac`, which is sent whole.
        stream_format (`str`): `audio` for the bytes of the audio, `sse` for events that hold them.
        speed (`float`): From 0.25 to 4; the pitch stays.
        instructions (`str`, *optional*): Ignored: the models were not trained with any.
        language (`str`, *optional*): Language tag, where the model is an adapter of several. OpenAI has no such field,
            so its clients send it as `extra_body={"language": ...}`.
    """

    model: str
    input: str
    voice: str | Voice | None = None
    response_format: str = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: float = Field(default=1.0, ge=SLOWEST, le=FASTEST, allow_inf_nan=False)
    instructions: str | None = None
    language: str | None = None


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
    params = {"text": "input", "audio": "file", "adapter": "model"}
    router = APIRouter(prefix="/v1", route_class=route_class(params), responses=ERROR_RESPONSES)
    served = ServedModels(model_name, service.adapters)

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the models."""
        return served.models()

    @router.get("/models/{model}")
    async def model(model: str) -> ModelCard:
        """Describe a model."""
        served.adapter(model)
        return model_card(model)

    @router.get("/audio/voices")
    async def voices() -> dict[str, list[VoiceCard]]:
        """List the voices: one for each model."""
        return served.voices()

    @router.post("/audio/speech")
    async def speech(body: SpeechBody, request: Request) -> Response:
        """Read a text aloud."""
        rate = service.processor.codec_config.output_sampling_rate
        encoder = encoder_for(body.response_format, rate)
        adapter = served.adapter(body.model, body.voice)
        asked = TalkRequest("tts", body.input, adapter=adapter, language=body.language, user=user_of(request))
        pieces = _speech_pieces(service.stream_async(asked), encoder, body.speed)
        if body.stream_format == "sse":
            return await streamed(request, events_or_error(_speech_events(pieces)), "text/event-stream")
        return await streamed(request, _speech_bytes(pieces), MEDIA_TYPES[body.response_format])

    @router.post("/audio/transcriptions")
    async def transcriptions(
        request: Request,
        file: UploadFile,
        model: Annotated[str, Form()],
        response_format: Annotated[str, Form()] = "json",
        stream: Annotated[bool, Form()] = False,
        temperature: Annotated[float | None, Form()] = None,
        language: Annotated[str | None, Form()] = None,
        granularities: Annotated[list[str] | None, Form(alias="timestamp_granularities[]")] = None,
    ) -> Response:
        """Transcribe a recording. `prompt` and other hints are ignored."""
        _check_transcript(response_format, granularities or [])
        asked = TalkRequest(
            "asr",
            audio=AudioFile(await file.read(), file.filename or ""),
            adapter=served.adapter(model),
            language=language,
            options=DecodingOptions(temperature=temperature),
            user=user_of(request),
        )
        if stream:
            events = _transcript_events(service.stream_async(asked))
            return await streamed(request, events_or_error(events), "text/event-stream")
        summary = await unless_disconnected(request, service.reply_async(asked))
        return _transcription(summary, response_format, language)

    router.include_router(chat_router(service, served))
    return router


def _check_transcript(response_format: str, granularities: list[str]) -> None:
    if response_format not in TRANSCRIPTION_FORMATS:
        *most, last = TRANSCRIPTION_FORMATS
        raise RequestError(f"The response_format is {', '.join(most)} or {last}.", "response_format")
    if set(granularities) - {"segment"}:
        raise RequestError(
            "This model times segments, and not words: leave timestamp_granularities[] out, or ask for segment.",
            "timestamp_granularities[]",
        )


def _transcription(summary: ReplySummary, response_format: str, language: str | None) -> Response:
    transcript = summary.transcript
    if transcript is None or response_format == "json":
        return JSONResponse({"text": summary.text})
    if response_format == "verbose_json":
        head = {"task": "transcribe", "language": language or DEFAULT_LANGUAGE}
        return JSONResponse(head | transcript.as_dict())
    media_type = {"srt": "application/x-subrip", "vtt": "text/vtt"}.get(response_format, "text/plain")
    return PlainTextResponse(transcript.format(response_format), media_type=media_type)


async def _speech_pieces(
    stream: AsyncTalkStream, encoder: AudioEncoder, speed: float
) -> AsyncGenerator[tuple[bytes, list[WordTime]], None]:
    """Encode audio as it comes; words wait for the next bytes, at most until the file is complete."""
    changer = SpeedChanger(speed, stream.processor.codec_config.output_sampling_rate)
    words: list[WordTime] = []
    async with stream:
        async for event in stream:
            if isinstance(event, TttAudioChunk):
                words += [_word_time(time, speed) for time in event.timings]
                if piece := encoder.push(changer.push(event.audio)):
                    yield piece, words
                    words = []
    rest = encoder.push(changer.finish()) + encoder.finish()
    if rest or words:
        yield rest, words


def _word_time(time: TttWordTime, speed: float) -> WordTime:
    return {"word": time.word, "start": time.start / speed, "end": time.end / speed}


async def _speech_bytes(pieces: AsyncGenerator[tuple[bytes, list[WordTime]], None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(pieces):
        async for piece, _ in pieces:
            if piece:
                yield piece


async def _speech_events(pieces: AsyncGenerator[tuple[bytes, list[WordTime]], None]) -> AsyncGenerator[Event, None]:
    async with contextlib.aclosing(pieces):
        async for piece, words in pieces:
            yield {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode("ascii"), "words": words}
    yield {"type": "speech.audio.done"}


async def _transcript_events(stream: AsyncTalkStream) -> AsyncGenerator[Event, None]:
    async with stream:
        async for event in stream:
            if isinstance(event, TttTextDelta):
                yield {"type": "transcript.text.delta", "delta": event.text}
            elif isinstance(event, ReplySummary):
                yield {"type": "transcript.text.done", "text": event.text}
