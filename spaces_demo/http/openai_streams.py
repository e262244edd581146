"""
Responses that are sent while the reply is generated: bytes, or server-sent events; and work that ends with its client.

Depends on HTTP. Independent of what is sent.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from ..service import RequestError
from .openai_errors import error_response

Result = TypeVar("Result")
NO_CACHE = {"Cache-Control": "no-store"}

logger = logging.getLogger(__name__)


class StreamCut(Exception):
    """Ends a stream of bytes in the middle: the connection is closed, by which the client sees that it is not whole."""


async def streamed(request: Request, pieces: AsyncGenerator[bytes, None], media_type: str) -> Response:
    """
    Begin to stream; an error before the first piece still has a status of its own.

    Args:
        request (`Request`): Whose client may leave.
        pieces (`AsyncGenerator[bytes]`): The body; closed when it has been sent or the client has left.
        media_type (`str`): Its type.

    Returns:
        `Response`: With the first piece at hand.
    """
    first = await unless_disconnected(request, anext(pieces, b""))

    async def all_pieces() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(pieces):
            yield first
            try:
                async for piece in pieces:
                    yield piece
            except RequestError as error:
                logger.warning("A stream was cut: %s", error)
                raise StreamCut from error

    return StreamingResponse(all_pieces(), media_type=media_type, headers=NO_CACHE)


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await a result, and give up when the client closes the connection."""
    working, disconnecting = asyncio.ensure_future(work), asyncio.create_task(_wait_until_disconnected(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499)  # no client is left to read it
        return working.result()
    finally:
        for task in (working, disconnecting):
            task.cancel()
        await asyncio.gather(working, disconnecting, return_exceptions=True)


async def _wait_until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def events_or_error(events: AsyncGenerator[Mapping[str, Any], None]) -> AsyncGenerator[bytes, None]:
    """Write server-sent events; an error after the first is an event, one before it is the response's own."""
    has_begun = False
    async with contextlib.aclosing(events):
        try:
            async for event in events:
                yield server_sent(event)
                has_begun = True
        except RequestError as error:
            if not has_begun:
                raise
            yield server_sent(json.loads(bytes(error_response(error).body)))


def server_sent(event: Mapping[str, Any]) -> bytes:
    """Write one event."""
    return f"data: {json.dumps(event)}\n\n".encode()


def user_of(request: Request) -> str | None:
    """Name who asks, for the limit per user: by the address."""
    return request.client.host if request.client is not None else None
