"""
The conversation of a session: messages with the names that clients know them by.

Depends on a [`TttItemConversation`]. Independent of the network and of how replies are generated.
"""

import asyncio
import uuid
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from processing_ttt import AudioInputError, TttItem, TttItemConversation
from processing_ttt.encode_stream_ttt import AudioEncodeStream

from ..service import Limits, RequestError, TalkService
from ..service.request import checked_text
from .audio import RATE, as_float, samples_of
from .limits import RealtimeLimits
from .protocol import MessageItem, ProtocolError

MIN_SECONDS = 0.1  # of a message's audio
NO_ITEM = "There is no message of that name."


def new_id(prefix: str) -> str:
    """Make a name for something."""
    return f"{prefix}_{uuid.uuid4().hex[:20]}"


@dataclass
class NamedItem:
    """
    A message.

    Args:
        item_id (`str`): Its name.
        item ([`TttItem`]): Its token ids.
        content (`list[dict]`): Its content, as clients get it.
        status (`str`): `completed`, `incomplete` or `in_progress`.
        samples (`np.ndarray` of shape `(samples,)`, *optional*): A user's audio at 24 kHz, until it is transcribed.
        seconds_sent (`float`): Audio of a reply that was sent.
    """

    item_id: str
    item: TttItem
    content: list[dict[str, Any]] = field(default_factory=list)
    status: str = "completed"
    samples: np.ndarray | None = None
    seconds_sent: float = 0.0

    def described(self) -> dict[str, Any]:
        """State it in OpenAI's form."""
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "role": self.item.role,
            "status": self.status,
            "content": self.content,
        }


class NamedConversation:
    """
    Messages by name.

    Args:
        service ([`TalkService`]): Has the model, the processor and limits.
        limits ([`RealtimeLimits`]): How many messages there may be.
    """

    def __init__(self, service: TalkService, limits: RealtimeLimits):
        self.conversation_id = new_id("conv")
        self.inner = TttItemConversation(service.model, service.processor)
        self.limits = limits
        self._service_limits: Limits = service.limits
        self._text_limits = replace(service.limits, text_characters=limits.text_characters)
        self._processor = service.processor
        self._items: dict[str, NamedItem] = {}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __getitem__(self, item_id: str) -> NamedItem:
        if item_id not in self:
            raise ProtocolError("item_not_found", NO_ITEM, "item_id")
        return self._items[item_id]

    def before(self, item: TttItem) -> str | None:
        """Return the name of the message before one."""
        index = self.inner.items.index(item)
        return None if index == 0 else self._name_of(self.inner.items[index - 1])

    @property
    def last_id(self) -> str | None:
        """Name of the last message."""
        return self._name_of(self.inner.items[-1]) if self.inner.items else None

    def check_room(self) -> None:
        """Refuse one more message if there are too many."""
        if len(self._items) >= self.limits.items:
            raise ProtocolError(
                "too_many_items", f"A conversation has at most {self.limits.items} messages: delete some."
            )

    def register(self, named: NamedItem) -> NamedItem:
        """Give a message a name."""
        self._items[named.item_id] = named
        return named

    def forget(self, named: NamedItem) -> None:
        """Remove a message."""
        self._items.pop(named.item_id, None)
        if named.item in self.inner.items:
            self.inner.remove(named.item)

    def encode_stream(self) -> AudioEncodeStream:
        """Begin to encode a user's audio while it arrives."""
        return self._processor.encode_stream(RATE)

    async def encode(self, samples: np.ndarray) -> list[int]:
        """
        Encode a user's audio, in a thread.

        Args:
            samples (`np.ndarray` of shape `(samples,)`, int16): At 24 kHz.

        Returns:
            `list[int]`: Codes.

        Raises:
            RequestError: If it is silent.
        """
        audio = {"array": as_float(samples), "sampling_rate": RATE}
        try:
            return await asyncio.to_thread(self._processor.encode_audio, audio)
        except AudioInputError as error:
            raise RequestError(str(error)) from error

    def add_audio(self, item_id: str, codes: list[int], samples: np.ndarray) -> NamedItem:
        """Add a user's audio."""
        content = [{"type": "input_audio", "transcript": None}]
        return self.register(NamedItem(item_id, self.inner.add("user", codes=codes), content, samples=samples))

    async def create(self, message: MessageItem, previous_item_id: str | None) -> NamedItem:
        """
        Add a client's message.

        Args:
            message ([`MessageItem`]): As it came.
            previous_item_id (`str`, *optional*): The message before it; `root` for the first place.

        Returns:
            [`NamedItem`].

        Raises:
            ProtocolError, RequestError: If it cannot be added.
        """
        self.check_room()
        if message.id is not None and message.id in self._items:
            raise ProtocolError("item_exists", "There is a message of that name already.", "item.id")
        is_first = previous_item_id == "root"
        after = None if previous_item_id is None or is_first else self[previous_item_id].item
        text, samples, content = await self._content(message)
        codes = None if samples is None else await self.encode(samples)
        item = self.inner.add(message.role, text, codes, after if after in self.inner.items else None, is_first)
        return self.register(NamedItem(message.id or new_id("item"), item, content, samples=samples))

    async def _content(self, message: MessageItem) -> tuple[str | None, np.ndarray | None, list[dict[str, Any]]]:
        texts: list[str] = []
        recordings: list[np.ndarray] = []
        content: list[dict[str, Any]] = []
        kind = "output_text" if message.role == "assistant" else "input_text"
        for part in message.content:
            if part.type == "input_audio":
                if message.role != "user" or part.audio is None:
                    raise ProtocolError("invalid_value", "Only a user's message has audio.", "item.content")
                recordings.append(samples_of(part.audio))
                content.append({"type": "input_audio", "transcript": None})
            elif part.type == "output_audio" and message.role != "assistant":
                raise ProtocolError("invalid_value", "Only an assistant's message has such a part.", "item.content")
            else:
                given_text = part.transcript if part.type == "output_audio" else part.text
                if given_text is None:
                    raise ProtocolError("invalid_value", "A part of this type has text.", "item.content")
                texts.append(given_text)
                content.append({"type": kind, "text": given_text})
        if len(recordings) > 1:
            raise ProtocolError("invalid_value", "A message has at most one recording.", "item.content")
        given = "\n".join(texts).strip()
        text = checked_text(given[-self.limits.text_characters :], self._text_limits)
        if text is not None:
            text = await asyncio.to_thread(self._end_of, text)
            if len(text) < len(given):
                end = {"type": kind, "text": text, "omitted_characters": len(given) - len(text)}
                content = [end, *(stated for stated in content if stated["type"] == "input_audio")]
        if recordings:
            self.check_audio(recordings[0])
        elif text is None:
            raise ProtocolError("invalid_value", "The message is empty.", "item.content")
        return text, recordings[0] if recordings else None, content

    def _end_of(self, text: str) -> str:
        """Return a text or, of a long one, the end: at most half of a prompt, which leaves room for other messages."""
        most = self.inner.room() // 2

        def fits(begin: int) -> bool:
            return self.inner.length_of(TttItem("user", text[begin:])) <= most

        return text if fits(0) else text[bisect_left(range(len(text)), True, key=fits) :]

    def check_audio(self, samples: np.ndarray) -> None:
        """Refuse audio that is too short or too long."""
        if len(samples) < MIN_SECONDS * RATE:
            raise ProtocolError(
                "input_audio_buffer_commit_empty",
                f"A message needs at least {1000 * MIN_SECONDS:g} ms of audio, and there are "
                f"{1000 * len(samples) / RATE:.0f} ms.",
            )
        most = self._service_limits.question_seconds
        if len(samples) > most * RATE:
            raise ProtocolError("audio_too_long", f"A message has at most {most:g} s of audio.")

    def _name_of(self, item: TttItem) -> str | None:
        return next((named.item_id for named in self._items.values() if named.item is item), None)
