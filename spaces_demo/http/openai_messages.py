"""
The body of `/v1/chat/completions`, and the question with its turns before that its messages are.

Depends on OpenAI's forms of messages and on the service's requests. Independent of HTTP and the model.
"""

import base64
from typing import Any, Literal

from pydantic import BaseModel, Field

from ..service import AudioFile, DecodingOptions, PastTurn, RequestError, TalkRequest
from .openai_names import Voice
from .past_replies import PastReplies

MOST_MESSAGES = 64


class InputAudio(BaseModel):
    """A user's audio: a file in base64."""

    data: str
    format: Literal["wav", "mp3"]

    def file(self) -> AudioFile:
        """Return the file; raise a [`RequestError`] if it is not in base64."""
        try:
            return AudioFile(base64.b64decode(self.data, validate=True), f"audio.{self.format}")
        except ValueError as error:  # also for letters outside ASCII
            raise RequestError("The data of input_audio is an audio file in base64.", "messages") from error


class TextPart(BaseModel):
    """Text of a message."""

    type: Literal["text"]
    text: str


class AudioPart(BaseModel):
    """Audio of a user's message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioId(BaseModel):
    """Names an earlier answer with audio."""

    id: str


class ChatMessage(BaseModel):
    """A message. Those of `system` and `developer` are ignored: the models have one system prompt for each task."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | AudioPart] | None = None
    audio: AudioId | None = None

    @property
    def text(self) -> str:
        """Its text, all parts."""
        if not isinstance(self.content, list):
            return self.content or ""
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def audio_parts(self) -> list[InputAudio]:
        """Its audio."""
        parts = self.content if isinstance(self.content, list) else []
        return [part.input_audio for part in parts if isinstance(part, AudioPart)]


class AudioChoice(BaseModel):
    """How an answer's audio is written."""

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]
    voice: str | Voice | None = None


class StreamOptions(BaseModel):
    """What a stream has besides the answer."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """
    The body of `/v1/chat/completions`; fields that are not here are ignored.

    Args:
        model (`str`): One that `/v1/models` lists, or one of OpenAI's names.
        messages (`list[ChatMessage]`): The chat; the last message is the user's.
        modalities (`list[str]`): `["text"]`, or `["text", "audio"]` for an answer with audio.
        audio ([`AudioChoice`], *optional*): Format of the answer's audio, at 24 kHz for `pcm16`, and voice; `wav`, or
            `pcm16` in a stream, by default.
        stream (`bool`): Whether the answer comes in chunks while it is generated.
        stream_options ([`StreamOptions`], *optional*): What a stream has besides.
        temperature (`float`, *optional*): Temperature of text.
        seed (`int`, *optional*): Seed of sampling.
        max_completion_tokens, max_tokens (`int`, *optional*): Longest answer, in token ids of text and audio.
        n (`int`): 1.
        tools, functions (`list`, *optional*): Must be empty.
        response_format (`dict`, *optional*): Must be `{"type": "text"}`.
    """

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioChoice | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    seed: int | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    n: Literal[1] | None = None
    tools: list[Any] | None = Field(default=None, max_length=0)
    functions: list[Any] | None = Field(default=None, max_length=0)
    response_format: dict[Literal["type"], Literal["text"]] | None = None

    @property
    def has_audio(self) -> bool:
        """Whether the answer has audio."""
        return "audio" in (self.modalities or ())

    @property
    def audio_format(self) -> str:
        """The format of the answer's audio."""
        chosen = "pcm16" if self.stream else "wav"
        return chosen if self.audio is None else self.audio.format


def talk_request(
    body: ChatBody, replies: PastReplies, adapter: str | None, user: str | None, longest_reply: int
) -> TalkRequest:
    """
    Write a chat as a request.

    Args:
        body ([`ChatBody`]): The chat.
        replies ([`PastReplies`]): Replies that its messages name.
        adapter (`str`, *optional*): The adapter that is asked.
        user (`str`, *optional*): Who asks.
        longest_reply (`int`): What a longer answer is lowered to.

    Returns:
        [`TalkRequest`].

    Raises:
        RequestError: If the messages do not alternate between user and assistant, or a message has several recordings.
    """
    if body.stream and body.has_audio and body.audio_format != "pcm16":
        raise RequestError("A stream has audio of the format pcm16.", "response_format")
    chat = [message for message in body.messages if message.role in ("user", "assistant")]
    if [message.role for message in chat] != [*["user", "assistant"] * (len(chat) // 2), "user"]:
        raise RequestError(
            "The messages must alternate between user and assistant, and begin and end with the user's.", "messages"
        )
    history = [
        PastTurn(*_asked(question), _answered(answer, replies))
        for question, answer in zip(chat[:-1:2], chat[1::2], strict=True)
    ]
    text, audio = _asked(chat[-1])
    most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    most = most if most is None else min(most, longest_reply)
    has_audio = body.has_audio or audio is not None or bool(history)
    return TalkRequest(
        "chat" if has_audio else "text",
        text,
        audio,
        options=DecodingOptions(temperature=body.temperature, seed=body.seed, max_new_tokens=most),
        adapter=adapter,
        user=user,
        history=history,
    )


def _asked(message: ChatMessage) -> tuple[str | None, AudioFile | None]:
    recordings = message.audio_parts
    if len(recordings) > 1:
        raise RequestError("A message of the user has one input_audio: join the recordings.", "messages")
    return message.text or None, recordings[0].file() if recordings else None


def _answered(message: ChatMessage, replies: PastReplies) -> str | tuple[int, ...]:
    return message.text if message.audio is None else replies.find(message.audio.id)
