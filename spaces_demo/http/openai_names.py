"""
The names of models and voices: ours, and OpenAI's as aliases, so that clients work as they are configured.

Depends on the names of adapters. Independent of HTTP and the model.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict  # for the answers of routes, pydantic takes no other before Python 3.12

from .openai_errors import UnknownModel

OPENAI_MODELS = frozenset(
    (
        *("tts-1", "tts-1-hd", "gpt-4o-mini-tts"),
        *("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"),
        *("gpt-audio", "gpt-audio-mini", "gpt-4o-audio-preview", "gpt-4o-mini-audio-preview"),
    )
)


class Voice(BaseModel):
    """A voice that is named by an object."""

    id: str


class ModelCard(TypedDict):
    """An entry of `/v1/models`."""

    id: str
    object: str
    created: int
    owned_by: str


class VoiceCard(TypedDict):
    """An entry of `/v1/audio/voices`."""

    id: str
    name: str


class ServedModels:
    """
    The model and its adapters, by the names that clients use. Each has the one voice that it was trained with, of the
    same name.

    Args:
        name (`str`): Name of the model; OpenAI's names are aliases of it.
        adapters (`Sequence[str]`): Names of its adapters, which clients call `name:adapter`.
    """

    def __init__(self, name: str, adapters: Sequence[str] = ()):
        self.name = name
        self.adapters: dict[str, str | None] = {name: None} | {f"{name}:{adapter}": adapter for adapter in adapters}

    def adapter(self, model: str, voice: str | Voice | None = None) -> str | None:
        """
        Find what a request asks for.

        Args:
            model (`str`): A name of ours or OpenAI's.
            voice (`str` or [`Voice`], *optional*): A voice of ours chooses the model that has it; any other is ignored.

        Returns:
            `str` or `None`: An adapter, or the model itself.

        Raises:
            UnknownModel: If there is no such model.
        """
        if model not in self.adapters and model not in OPENAI_MODELS:
            raise UnknownModel(f"The models here are {', '.join(self.adapters)}.", "model")
        chosen = voice.id if isinstance(voice, Voice) else voice
        return self.adapters[chosen] if chosen in self.adapters else self.adapters.get(model)

    def models(self) -> dict[str, Any]:
        """Return the body of `/v1/models`."""
        return {"object": "list", "data": [model_card(name) for name in self.adapters]}

    def voices(self) -> dict[str, list[VoiceCard]]:
        """Return the body of `/v1/audio/voices`."""
        return {"voices": [{"id": name, "name": name} for name in self.adapters]}


def model_card(name: str) -> ModelCard:
    """Describe a model as OpenAI does."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "text-to-talk"}
