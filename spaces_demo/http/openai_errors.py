"""
Errors in OpenAI's form, and routes that give every error so and read no more bytes than the limits allow.

Depends on HTTP and on the service's errors. Independent of what the routes answer.
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict  # for the answers of routes, pydantic takes no other before Python 3.12

from ..service import Busy, Limits, RequestError

logger = logging.getLogger(__name__)

FORM_BYTES = 16 * 1024  # of a request, besides the audio


class UnknownModel(RequestError):
    """A request for a model that is not served here."""


class TooLarge(RequestError):
    """A request with more bytes than the limit."""


class ErrorDescription(TypedDict):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: None
    code: str | None


def route_class(limits: Limits, body_bytes: int | None = None) -> type[APIRoute]:
    """
    Make a class of routes that read no more bytes than `limits` allow, and give every error in OpenAI's form.

    Args:
        limits ([`Limits`]): Their `upload_bytes` count.
        body_bytes (`int`, *optional*): Largest body, where it holds a file in base64; by default the file's bytes and
            some more.

    Returns:
        `type[APIRoute]`.
    """

    class OpenAiRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                bounded = _Bounded(request, body_bytes or limits.upload_bytes + FORM_BYTES)
                try:
                    return await handle(Request(request.scope, bounded.receive, request._send))
                except Exception as error:
                    too_large = TooLarge(f"The request is larger than the limit of {limits.upload_in_words}.")
                    return error_response(too_large if bounded.is_exceeded else error)

            return guarded

    return OpenAiRoute


class _Bounded:
    """Counts the bytes of a body as they come, and stops when there are too many."""

    def __init__(self, request: Request, most: int):
        self._receive = request.receive
        self._left = most
        self.is_exceeded = False

    async def receive(self) -> Any:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_exceeded = True
            raise ValueError("The body is too large.")
        return message


def error_response(error: Exception) -> JSONResponse:
    """
    Write an error in OpenAI's form.

    Args:
        error (`Exception`): The error; one that the client cannot mend goes to the log, and no detail of it to the
            client.

    Returns:
        `JSONResponse`.
    """
    status, message, code = _described(error)
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    headers = {"Connection": "close"}  # the body may not have been read to its end, and will not be
    if isinstance(error, Busy):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    description: ErrorDescription = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": description}, status_code=status, headers=headers)


def _described(error: Exception) -> tuple[int, str, str | None]:
    if isinstance(error, Busy):
        return 429, str(error), "rate_limit_exceeded"
    if isinstance(error, UnknownModel):
        return 404, str(error), "model_not_found"
    if isinstance(error, TooLarge):
        return 413, str(error), "request_too_large"
    if isinstance(error, RequestError):
        return 400, str(error), None
    if isinstance(error, RequestValidationError):
        fields = ", ".join(dict.fromkeys(str(place["loc"][-1]) for place in error.errors() if place["loc"]))
        return 400, f"The request cannot be read; look at: {fields[:200] or 'its body'}.", None
    if isinstance(error, HTTPException) and error.status_code < 500:
        return error.status_code, "The request cannot be read.", None
    logger.error("A request failed", exc_info=error)
    return 500, "The request failed because of an error on the server, which is in its log: try again.", None
