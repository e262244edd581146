"""What a realtime session may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RealtimeLimits:
    """
    Limits of realtime sessions, beside those of the service, which every response keeps.

    Args:
        sessions (`int`): Sessions at the same time.
        session_seconds (`float`): Longest session.
        idle_seconds (`float`): Longest time without an event of the client.
        send_seconds (`float`): Longest time in which a client takes an event; then the session ends.
        event_bytes (`int`): Longest event of a client.
        items (`int`): Most messages of a conversation.
        text_characters (`int`): Longest text of a message; of a longer one the end counts.
        instructions_characters (`int`): Longest instructions.
    """

    sessions: int = 16
    session_seconds: float = 1800.0
    idle_seconds: float = 300.0
    send_seconds: float = 20.0
    event_bytes: int = 4 * 2**20
    items: int = 512
    text_characters: int = 8000
    instructions_characters: int = 32_000
