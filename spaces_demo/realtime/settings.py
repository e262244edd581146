"""
The state of a session that a client may change, and how it is stated in `session.created` and `session.updated`.

Depends on the protocol. Independent of the model.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from .audio import RATE
from .limits import RealtimeLimits
from .protocol import CLIENT_EVENTS, AudioPatch, MaxOutputTokens, ResponseOptions, SessionPatch, TurnDetection
from .turns import INTERRUPTING_WINDOWS, WINDOW_SECONDS

PCM = {"type": "audio/pcm", "rate": RATE}
VOICE = "default"


@dataclass(frozen=True)
class Settings:
    """
    What counts for the next responses.

    Args:
        instructions (`str`, *optional*): Replaces the model's system prompt.
        has_audio (`bool`): Whether replies have audio.
        max_output_tokens (`int`, *optional*): Longest reply, in token ids of text and audio.
        transcribes (`bool`): Whether the user's audio is transcribed.
        turn_detection ([`TurnDetection`], *optional*): How turns end by themselves; `None` is manual.
    """

    instructions: str | None = None
    has_audio: bool = True
    max_output_tokens: int | None = None
    transcribes: bool = False
    turn_detection: TurnDetection | None = field(default_factory=TurnDetection)

    def patched(self, patch: SessionPatch | ResponseOptions, longest_reply: int) -> "Settings":
        """
        Return the settings with what a client set in `session.update` or `response.create`.

        Args:
            patch ([`SessionPatch`] or [`ResponseOptions`]): What it set.
            longest_reply (`int`): What more output tokens are lowered to.

        Returns:
            [`Settings`].
        """
        changed, given = self, patch.model_fields_set
        if "instructions" in given:
            changed = replace(changed, instructions=patch.instructions or None)
        if patch.output_modalities is not None:
            changed = replace(changed, has_audio="audio" in patch.output_modalities)
        if "max_output_tokens" in given:
            changed = replace(changed, max_output_tokens=_at_most(patch.max_output_tokens, longest_reply))
        if isinstance(patch, SessionPatch) and isinstance(patch.audio, AudioPatch) and patch.audio.input is not None:
            if "transcription" in patch.audio.input.model_fields_set:
                changed = replace(changed, transcribes=patch.audio.input.transcription is not None)
            if "turn_detection" in patch.audio.input.model_fields_set:
                changed = replace(changed, turn_detection=patch.audio.input.turn_detection)
        return changed

    def described(self, session_id: str, model: str, expires_at: int, limits: RealtimeLimits) -> dict[str, Any]:
        """
        State what counts, not what was asked for.

        Args:
            session_id (`str`): Name of the session.
            model (`str`): Name of the model.
            expires_at (`int`): When the session ends, in seconds since 1970.
            limits ([`RealtimeLimits`]): Limits of sessions.

        Returns:
            `dict`: A realtime session of OpenAI's form, with a field `capabilities`.
        """
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "expires_at": expires_at,
            "instructions": self.instructions or "",
            "output_modalities": ["audio" if self.has_audio else "text"],
            "max_output_tokens": self.max_output_tokens or "inf",
            "audio": {
                "input": {
                    "format": PCM,
                    "noise_reduction": None,
                    "transcription": {"model": model} if self.transcribes else None,
                    "turn_detection": self._described_turn_detection(),
                },
                "output": {"format": PCM, "voice": VOICE, "speed": 1.0},
            },
            "tools": [],
            "tool_choice": "none",
            "truncation": "auto",
            "tracing": None,
            "include": None,
            "prompt": None,
            "capabilities": {
                "client_events": list(CLIENT_EVENTS),
                "turn_detection": ["server_vad", None],
                "audio_formats": [PCM],
                "voices": [VOICE],
                "tools": False,
                "word_times": True,
                "interrupting_speech_ms": round(1000 * INTERRUPTING_WINDOWS * WINDOW_SECONDS),
                "idle_seconds": limits.idle_seconds,
                "event_bytes": limits.event_bytes,
                "items": limits.items,
            },
        }

    def _described_turn_detection(self) -> dict[str, Any] | None:
        if self.turn_detection is None:
            return None
        stated = self.turn_detection.model_dump(exclude={"eagerness"})
        return stated | {"type": "server_vad", "idle_timeout_ms": None}


def _at_most(given: MaxOutputTokens, longest: int) -> int | None:
    return None if given == "inf" or given is None else min(int(given), longest)
