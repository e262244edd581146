"""
`/v1/realtime`: sessions over WebSockets, so many at a time, for so long.

Depends on FastAPI and sessions. Independent of the model.
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketState

from ..service import TalkService
from .limits import RealtimeLimits
from .session import RealtimeSession

SUBPROTOCOL = "realtime"  # that browsers offer, beside one with a key
OPENAI_MODELS = ("gpt-realtime", "gpt-4o-realtime", "gpt-4o-mini-realtime")  # aliases, as clients are configured
TRY_AGAIN_LATER, GOING_AWAY = 1013, 1001  # codes of closing


class ClientLeft(ConnectionError):
    """The client has closed the connection, or takes no events."""


def realtime_router(service: TalkService, model_name: str = "ttt", limits: RealtimeLimits | None = None) -> APIRouter:
    """
    Make the route.

    Args:
        service ([`TalkService`]): Answers.
        model_name (`str`, *optional*, defaults to `"ttt"`): How clients name the model; its adapters are
            `model_name:adapter`.
        limits ([`RealtimeLimits`], *optional*): Limits of sessions.

    Returns:
        `APIRouter`: For `FastAPI.include_router`.
    """
    router = APIRouter(prefix="/v1")
    chosen = limits or RealtimeLimits()
    models: dict[str, str | None] = {model_name: None} | {f"{model_name}:{name}": name for name in service.adapters}
    running: set[RealtimeSession] = set()

    @router.websocket("/realtime")
    async def realtime(websocket: WebSocket, model: str | None = None) -> None:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        connection = _Connection(websocket, chosen)
        served = model if model in models else model_name
        user = websocket.client.host if websocket.client is not None else None
        session = RealtimeSession(service, chosen, connection.send, served, models[served], user)
        try:
            if len(running) >= chosen.sessions:
                await session.refuse("too_many_sessions", f"{chosen.sessions} sessions are open: try again later.")
                await connection.close(TRY_AGAIN_LATER)
                return
            running.add(session)
            await session.open()
            if model is not None and model not in models and not model.startswith(OPENAI_MODELS):
                message = f"The models here are {', '.join(models)}; this session has {served}."
                await session.refuse("model_not_found", message, "model")
            await _serve(session, connection)
        except ClientLeft:
            pass
        finally:
            running.discard(session)
            await session.close()

    return router


async def _serve(session: RealtimeSession, connection: "_Connection") -> None:
    ends_at = time.monotonic() + connection.limits.session_seconds
    while True:
        left = ends_at - time.monotonic()
        try:
            message = await connection.receive(min(left, connection.limits.idle_seconds))
        except asyncio.TimeoutError:
            is_over = ends_at - time.monotonic() <= 0
            await session.refuse(
                "session_expired" if is_over else "idle_timeout",
                "The session has reached its longest duration: open another one."
                if is_over
                else f"There was no event for {connection.limits.idle_seconds:g} s: open another session.",
            )
            await connection.close(GOING_AWAY)
            return
        if message is None:
            await session.refuse("invalid_event", "Events are JSON in text messages, not bytes.")
        elif len(message) > connection.limits.event_bytes:
            size = connection.limits.event_bytes / 2**20
            await session.refuse("event_too_large", f"An event has at most {size:g} MiB: send audio in pieces.")
        else:
            await session.handle(message)


class _Connection:
    """A WebSocket whose client must take what is sent to it."""

    def __init__(self, websocket: WebSocket, limits: RealtimeLimits):
        self.websocket = websocket
        self.limits = limits

    async def send(self, event: Mapping[str, Any]) -> None:
        """Send an event; a client that does not take it in time has left."""
        await self._in_time(self.websocket.send_text(json.dumps(event)))

    async def close(self, code: int) -> None:
        """Close the connection, unless the client has."""
        await self._in_time(self.websocket.close(code))

    async def _in_time(self, sending: Coroutine[Any, Any, None]) -> None:
        if self.websocket.application_state != WebSocketState.CONNECTED:
            sending.close()
            raise ClientLeft
        try:
            await asyncio.wait_for(sending, self.limits.send_seconds)
        except Exception as error:  # each server has an exception of its own for a closed connection
            raise ClientLeft from error

    async def receive(self, seconds: float) -> str | None:
        """Return the next message, `None` for one of bytes."""
        message = await asyncio.wait_for(self.websocket.receive(), max(0.0, seconds))
        if message["type"] == "websocket.disconnect":
            raise ClientLeft
        return message.get("text")
