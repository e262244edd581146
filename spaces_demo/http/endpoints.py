"""
Named endpoints for programs: `gradio_client`, plain HTTP, and models that call tools (MCP reads the docstrings).

    with gr.Blocks(delete_cache=(60, 600)) as demo:
        register_endpoints(service)

Depends on the service and on how Gradio hands files over. Endpoints run in the event loop, so that waiting requests
hold no thread. The return hint of a generator is that of one piece, because Gradio reads it so.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict

import gradio as gr
from fastapi import HTTPException
from gradio.context import Context
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse

from processing_ttt import TttAudioChunk, TttTextDelta

from ..service import (
    DecodingOptions,
    ReplyFigures,
    ReplySummary,
    RequestError,
    TalkRequest,
    TalkService,
    turn_detection,
)
from ..service.audio_formats import pcm16_base64, wav_file

Reply = tuple[str, gr.FileData | None]


class TextPiece(TypedDict):
    """A piece of a stream: some text."""

    text: str


class AudioPiece(TypedDict):
    """A piece of a stream: some audio, 16-bit samples in base64."""

    audio: str
    sampling_rate: int


class TextWithFigures(ReplyFigures):
    """The whole text of a reply, and what it took."""

    text: str


class ReplyPiece(TypedDict):
    """The last piece of a stream."""

    reply: TextWithFigures


def register_endpoints(service: TalkService) -> None:
    """
    Add the endpoints to the `gr.Blocks` that is being built, which from then on takes only files that were uploaded to
    it.

    Args:
        service ([`TalkService`]): Answers; it limits what is served at once, so Gradio need not.
    """
    endpoints = TalkEndpoints(service)
    for endpoint in (
        endpoints.talk,
        endpoints.transcribe,
        endpoints.speak,
        endpoints.talk_stream,
        endpoints.transcribe_stream,
        endpoints.speak_stream,
    ):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)
    demo = Context.root_block
    if demo is not None:  # always so inside `with gr.Blocks()`
        _refuse_web_addresses(demo)


class TalkEndpoints:
    """
    The endpoints, as functions that Gradio reads names, types and descriptions from.

    Args:
        service ([`TalkService`]): Answers.
    """

    def __init__(self, service: TalkService):
        self.service = service

    async def talk(
        self,
        text: str | None = None,
        audio: gr.FileData | None = None,
        options: dict[str, Any] | None = None,
        request: gr.Request | None = None,
    ) -> Reply:
        """
        Answer a question, in text and speech. The question is written or spoken, or spoken after a written remark.

        Args:
            text: The written question.
            audio: The spoken question: an uploaded wav, flac, mp3, ogg, opus, m4a or webm file, or a data: URL of one.
            options: How to decode: denoising_steps, remasking, temperature, audio_temperature, audio_guidance_scale,
            entropy_bound, seed, max_new_tokens.

        Returns:
            The answer as text, and as speech in a wav file.
        """
        with _errors_for_gradio():
            return await self._whole(_asked("chat", text, audio, options, request))

    async def transcribe(
        self, audio: gr.FileData, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> str:
        """
        Transcribe a recording.

        Args:
            audio: The recording: an uploaded wav, flac, mp3, ogg, opus, m4a or webm file, or a data: URL of one.
            options: How to decode: temperature, seed, max_new_tokens.

        Returns:
            The transcript.
        """
        with _errors_for_gradio():
            return (await self.service.reply_async(_asked("asr", None, audio, options, request))).text

    async def speak(
        self, text: str, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> gr.FileData | None:
        """
        Read a text aloud.

        Args:
            text: The text.
            options: How to decode: denoising_steps, remasking, audio_temperature, audio_guidance_scale,
            entropy_bound, seed, max_new_tokens.

        Returns:
            The speech, as a wav file.
        """
        with _errors_for_gradio():
            return (await self._whole(_asked("tts", text, None, options, request)))[1]

    async def talk_stream(  # type: ignore[misc]  # the hint is that of one piece
        self,
        text: str | None = None,
        audio: gr.FileData | None = None,
        options: dict[str, Any] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """
        Answer a question as `talk` does, piece by piece while the answer is made.

        Args:
            text: The written question.
            audio: The spoken question: an uploaded wav, flac, mp3, ogg, opus, m4a or webm file, or a data: URL of one.
            options: As for `talk`.

        Returns:
            Pieces {"text": ...} and {"audio": base64 of 16-bit samples, "sampling_rate": ...}, and at last {"reply":
            text and figures}.
        """
        with _errors_for_gradio():
            async for piece in self._pieces(_asked("chat", text, audio, options, request)):
                yield piece

    async def transcribe_stream(  # type: ignore[misc]
        self, audio: gr.FileData, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> dict[str, Any]:
        """
        Transcribe a recording, piece by piece.

        Args:
            audio: The recording: an uploaded wav, flac, mp3, ogg, opus, m4a or webm file, or a data: URL of one.
            options: As for `transcribe`.

        Returns:
            Pieces {"text": ...}, and at last {"reply": text and figures}.
        """
        with _errors_for_gradio():
            async for piece in self._pieces(_asked("asr", None, audio, options, request)):
                yield piece

    async def speak_stream(  # type: ignore[misc]
        self, text: str, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> dict[str, Any]:
        """
        Read a text aloud, piece by piece while the speech is made.

        Args:
            text: The text.
            options: As for `speak`.

        Returns:
            Pieces {"text": ...} and {"audio": base64 of 16-bit samples, "sampling_rate": ...}, and at last {"reply":
            text and figures}.
        """
        with _errors_for_gradio():
            async for piece in self._pieces(_asked("tts", text, None, options, request)):
                yield piece

    # What they share

    async def _whole(self, asked: TalkRequest) -> Reply:
        summary = await self.service.reply_async(asked)
        if not len(summary.audio):
            return summary.text, None
        # A file in Gradio's own folder is taken as it is, served, and deleted after the time that `delete_cache` gives.
        file = wav_file(summary.audio, summary.sampling_rate)
        path = save_bytes_to_cache(file, "reply.wav", get_upload_folder())
        return summary.text, gr.FileData(path=path, mime_type="audio/wav", orig_name="reply.wav")

    async def _pieces(self, asked: TalkRequest) -> AsyncIterator[TextPiece | AudioPiece | ReplyPiece]:
        async with self.service.stream_async(asked) as stream:
            async for event in stream:
                if isinstance(event, TttTextDelta):
                    yield {"text": event.text}
                elif isinstance(event, TttAudioChunk):
                    yield {"audio": pcm16_base64(event.audio), "sampling_rate": event.sampling_rate}
                elif isinstance(event, ReplySummary):
                    yield {"reply": {"text": event.text, **event.figures()}}


def _asked(task: str, text: Any, audio: Any, options: Any, request: gr.Request | None) -> TalkRequest:
    return TalkRequest(
        task=task,
        text=text,
        audio=None if audio is None else uploaded_path(audio),
        options=DecodingOptions.from_dict(options),
        user=user_of(request),
    )


def answer_microphone(message: Any) -> turn_detection.TurnUpdate:
    """
    Answer the microphone in the browser, whose script calls this function by its name.

    Args:
        message (`dict`): As `turn_detection.answer_microphone` takes it.

    Returns:
        [`TurnUpdate`].

    Raises:
        HTTPException: With status 400, if the message has another form.
    """
    try:
        return turn_detection.answer_microphone(message)
    except RequestError as error:
        raise HTTPException(400, str(error)) from error


def user_of(request: gr.Request | None) -> str | None:
    """Name who asks, for the limit per user: by the address, which unlike a session a client cannot choose."""
    return request.client.host if request is not None and request.client is not None else None


def uploaded_path(file: Any) -> str:
    """
    Find the file that a client uploaded.

    Gradio has checked the paths of what it recognises as files, and of nothing else: a client that writes its own JSON
    could name any path.

    Args:
        file (`dict`): As Gradio hands it over.

    Returns:
        `str`: A path inside Gradio's upload folder.

    Raises:
        RequestError: If it is no uploaded file.
    """
    if is_file_obj_with_meta(file) and isinstance(file["path"], str):
        path, folder = os.path.realpath(file["path"]), os.path.realpath(get_upload_folder())
        if os.path.commonpath([path, folder]) == folder:
            return path
    raise RequestError("The audio must be a file that was uploaded.")


def _refuse_web_addresses(demo: gr.Blocks) -> None:
    """Refuse files named by an address, before Gradio fetches them, whole and of any size."""
    preprocess_data = demo.preprocess_data

    async def preprocess_uploaded(block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        traverse(inputs, _refuse_address, is_file_obj_with_meta)
        return await preprocess_data(block_fn, inputs, *args, **kwargs)

    demo.preprocess_data = preprocess_uploaded  # type: ignore[method-assign]


def _refuse_address(file: dict[str, Any]) -> dict[str, Any]:
    if is_http_url_like(str(file["path"])):
        raise gr.Error("The audio must be a file that was uploaded, and not an address.", print_exception=False)
    return file


@contextlib.contextmanager
def _errors_for_gradio() -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        raise gr.Error(str(error), print_exception=False) from error
