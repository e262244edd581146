"""
Both ends of a realtime session for `ttt chat`: with a server over its `/v1/realtime`, or with a model in this process.

    connection.send(event) ──► server or session ──► async for event in connection

Depends on the Realtime protocol. Independent of audio devices and of what is asked.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from spaces_demo.service import TalkService

Event = dict[str, Any]
ROUTE = "/v1/realtime"


class Connection(Protocol):
    """A session."""

    async def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events that come."""


def realtime_url(url: str, model: str = "") -> str:
    """
    Write the address of a server's realtime route.

    Args:
        url (`str`): Address of the server, with or without the route.
        model (`str`, *optional*): Which of its models.

    Returns:
        `str`: A WebSocket's address.

    Raises:
        ValueError: If it is no address.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"--url {url}: give the address of a server, such as http://127.0.0.1:7860.")
    path = parts.path.rstrip("/").removesuffix(ROUTE).removesuffix("/v1") + ROUTE
    return urlunsplit((scheme, parts.netloc, path, parts.query or urlencode({"model": model} if model else {}), ""))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """
    Connect to a server.

    Args:
        url (`str`): As `realtime_url` writes it.

    Raises:
        RuntimeError: If there is no server, or it ends the session.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    try:
        websocket = await connect(url, max_size=None)
    except (OSError, WebSocketException) as error:
        raise RuntimeError(f"There is no realtime server at {url} ({error}): start one with `ttt demo`.") from error
    async with websocket:
        yield _Remote(websocket)


class _Remote:
    def __init__(self, websocket: Any):
        self.websocket = websocket

    async def send(self, kind: str, **fields: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self.websocket.send(json.dumps({"type": kind, **fields}))
        except ConnectionClosed as error:
            raise _ended(error) from error

    async def __aiter__(self) -> AsyncIterator[Event]:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                yield json.loads(await self.websocket.recv())
        except ConnectionClosed as error:
            raise _ended(error) from error


def _ended(error: Exception) -> RuntimeError:
    return RuntimeError(f"The server has ended the conversation ({error}): begin another one.")


@asynccontextmanager
async def local(service: "TalkService", adapter: str | None = None) -> AsyncIterator[Connection]:
    """
    Begin a session with a model in this process.

    Args:
        service ([`TalkService`]): Has the model.
        adapter (`str`, *optional*): One of its adapters.
    """
    from spaces_demo.realtime.limits import RealtimeLimits
    from spaces_demo.realtime.session import RealtimeSession

    events: asyncio.Queue[Event] = asyncio.Queue()
    session = RealtimeSession(service, RealtimeLimits(), events.put, adapter=adapter)
    try:
        yield _Local(session, events)
    finally:
        await session.close()


class _Local:
    def __init__(self, session: Any, events: "asyncio.Queue[Event]"):
        self.session = session
        self.events = events
        self._sending = asyncio.Lock()

    async def send(self, kind: str, **fields: Any) -> None:
        async with self._sending:  # a session takes one event after the other
            await self.session.handle(json.dumps({"type": kind, **fields}))

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            yield await self.events.get()
