"""
The client's events, typed and checked.

Depends on the form of OpenAI's Realtime protocol (GA). Independent of audio, the model and the network.
"""

import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError


class ProtocolError(ValueError):
    """
    An event that is refused; the session goes on.

    Args:
        code (`str`): For programs.
        message (`str`): A sentence for people.
        param (`str`, *optional*): Which field.
    """

    def __init__(self, code: str, message: str, param: str | None = None):
        super().__init__(message)
        self.code = code
        self.param = param


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class ClientEvent(_Model):
    """
    What all events have.

    Args:
        event_id (`str`, *optional*): Chosen by the client; errors name it.
    """

    event_id: Annotated[str | None, Field(max_length=512)] = None


class TurnDetection(_Model):
    """
    When a turn ends by itself.

    Args:
        type (`str`): `server_vad`; `semantic_vad` is taken as this.
        threshold (`float`): Probability of speech above which a window of 32 ms is speech.
        prefix_padding_ms (`int`): Audio before the first speech that belongs to the turn.
        silence_duration_ms (`int`): Silence that ends a turn.
        create_response (`bool`): Whether a turn is answered without `response.create`.
        interrupt_response (`bool`): Whether speech stops a response.
        idle_timeout_ms, eagerness: Taken and without effect.
    """

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    prefix_padding_ms: int = Field(default=300, ge=0, le=2000)
    silence_duration_ms: int = Field(default=500, ge=100, le=5000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Any = None
    eagerness: Any = None


OptionalTurnDetection: TypeAlias = Annotated[
    TurnDetection | None, BeforeValidator(lambda given: None if given is False else given)  # some clients send `false`
]


class AudioFormat(_Model):
    """The one format of audio: 16-bit samples at 24 kHz, mono, little-endian."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


class Transcription(BaseModel):
    """Asks for transcripts of the user's audio, by the model itself; which model is named has no effect."""


class InputPatch(_Model):
    """`session.audio.input`; `noise_reduction` has no effect."""

    format: AudioFormat | None = None
    transcription: Transcription | None = None
    turn_detection: OptionalTurnDetection = None
    noise_reduction: Any = None


class OutputPatch(_Model):
    """`session.audio.output`; a model has one voice, whatever `voice` names."""

    format: AudioFormat | None = None
    voice: Any = None
    speed: Annotated[float, Field(ge=1.0, le=1.0)] | None = None


class AudioPatch(_Model):
    """`session.audio`."""

    input: InputPatch | None = None
    output: OutputPatch | None = None


Modalities: TypeAlias = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=2)]
MaxOutputTokens: TypeAlias = Annotated[int, Field(ge=1, le=8192)] | Literal["inf"] | None
NoTools: TypeAlias = Annotated[list[Any], Field(max_length=0)] | None
Metadata: TypeAlias = (
    Annotated[dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)]
    | None
)
LONGEST_AUDIO_MS = 86_400_000  # a day


class SessionPatch(_Model):
    """
    `session` of `session.update`: what is set replaces what was.

    Fields without effect: `model`, `tool_choice`, `truncation`, `tracing`, `include`, `reasoning`, and `extensions`, by
    which clients ask for events beyond the protocol. `tools` and `prompt` must be empty.
    """

    type: Literal["realtime"] = "realtime"
    instructions: str | None = None
    output_modalities: Modalities | None = None
    max_output_tokens: MaxOutputTokens = None
    audio: AudioPatch | None = None
    tools: NoTools = None
    prompt: None = None
    model: Any = None
    tool_choice: Any = None
    truncation: Any = None
    tracing: Any = None
    include: Any = None
    reasoning: Any = None
    extensions: Any = None
    parallel_tool_calls: Any = None


class ContentPart(BaseModel):
    """
    A part of a message: `input_text`, `input_audio`, `output_text`, and `text` of other servers. Of `output_audio`, as
    a reply is stated, the transcript counts.
    """

    type: Literal["input_text", "input_audio", "output_text", "output_audio", "text"]
    text: str | None = None
    audio: str | None = None
    transcript: str | None = None


class MessageItem(BaseModel):
    """`item` of `conversation.item.create`."""

    type: Literal["message"] = "message"
    id: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[ContentPart], Field(min_length=1, max_length=16)]


class ResponseOptions(_Model):
    """
    `response` of `response.create`; `tool_choice` and `audio` have no effect, a response joins the conversation.
    `tools` and `prompt` must be empty.
    """

    instructions: str | None = None
    output_modalities: Modalities | None = None
    max_output_tokens: MaxOutputTokens = None
    metadata: Metadata = None
    conversation: Literal["auto"] | None = None
    tools: NoTools = None
    prompt: None = None
    tool_choice: Any = None
    audio: Any = None


class SessionUpdate(ClientEvent):
    """Change the session."""

    type: Literal["session.update"]
    session: SessionPatch


class BufferAppend(ClientEvent):
    """Add audio, in base64."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class BufferCommit(ClientEvent):
    """Make a message of the audio so far."""

    type: Literal["input_audio_buffer.commit"]


class BufferClear(ClientEvent):
    """Forget the audio so far."""

    type: Literal["input_audio_buffer.clear"]


class ItemCreate(ClientEvent):
    """Add a message; `previous_item_id` is `root` for the first place."""

    type: Literal["conversation.item.create"]
    item: MessageItem
    previous_item_id: str | None = None


class ItemRetrieve(ClientEvent):
    """Ask for a message."""

    type: Literal["conversation.item.retrieve"]
    item_id: str


class ItemTruncate(ClientEvent):
    """Cut a reply after what was played."""

    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: Literal[0] = 0
    audio_end_ms: Annotated[int, Field(ge=0, le=LONGEST_AUDIO_MS)]


class ItemDelete(ClientEvent):
    """Remove a message."""

    type: Literal["conversation.item.delete"]
    item_id: str


class ResponseCreate(ClientEvent):
    """Answer now."""

    type: Literal["response.create"]
    response: ResponseOptions | None = None


class ResponseCancel(ClientEvent):
    """Stop the response."""

    type: Literal["response.cancel"]
    response_id: str | None = None


Event: TypeAlias = (
    SessionUpdate
    | BufferAppend
    | BufferCommit
    | BufferClear
    | ItemCreate
    | ItemRetrieve
    | ItemTruncate
    | ItemDelete
    | ResponseCreate
    | ResponseCancel
)
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
CLIENT_EVENTS = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
)


def parse_event(message: str) -> Event:
    """
    Read an event.

    Args:
        message (`str`): JSON.

    Returns:
        `Event`: One of the classes above.

    Raises:
        ProtocolError: If it is no event that is supported, with a code and the field.
    """
    content = _json(message)
    kind = content.get("type")
    if kind not in CLIENT_EVENTS:
        known = ", ".join(CLIENT_EVENTS)
        raise ProtocolError("unknown_event", f"There is no such event here; the events are {known}.", "type")
    try:
        return _EVENTS.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"][1:])
        code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
        raise ProtocolError(code, f"{param[:200] or kind}: {first['msg']}.", param[:200] or None) from error


def event_id_of(message: str) -> str | None:
    """Return the `event_id` of an event that may be damaged."""
    try:
        event_id = _json(message).get("event_id")
    except ProtocolError:
        return None
    return event_id if isinstance(event_id, str) and len(event_id) <= 512 else None


def _json(message: str) -> dict[str, Any]:
    try:
        content = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("invalid_json", "An event is a JSON object; this message is none.") from error
    if not isinstance(content, dict):
        raise ProtocolError("invalid_json", "An event is a JSON object; this message is none.")
    return content
