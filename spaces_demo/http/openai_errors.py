"""
Errors in OpenAI's form, and routes that give every error so.

Depends on HTTP and on the service's errors. Independent of what the routes answer.
"""

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from typing_extensions import TypedDict  # for the answers of routes, pydantic takes no other before Python 3.12

from ..service import Busy, RequestError, ServiceFault

logger = logging.getLogger(__name__)


class UnknownModel(RequestError):
    """A request for a model that is not served here."""


class ErrorDescription(TypedDict):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of an answer that is an error."""

    error: ErrorDescription


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {  # for the routes' documentation
    "4XX": {"model": ErrorBody, "description": "What is wrong with the request, in OpenAI's form."},
    "5XX": {"model": ErrorBody, "description": "A failure of the server."},
}


def route_class(params: Mapping[str, str] | None = None) -> type[APIRoute]:
    """
    Make a class of routes that give every error in OpenAI's form.

    Args:
        params (`Mapping[str, str]`, *optional*): What the routes call the fields of a [`TalkRequest`], where they have
            another name for them.

    Returns:
        `type[APIRoute]`.
    """

    class OpenAiRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def described(request: Request) -> Response:
                try:
                    return await handle(request)
                except Exception as error:
                    return error_response(error, params)

            return described

    return OpenAiRoute


def unknown_routes() -> APIRouter:
    """
    Answer requests under `/v1` that no other route takes: another address (404) or another method (405).

    Returns:
        `APIRouter`: To be included after all others.
    """
    router = APIRouter(route_class=route_class())

    @router.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(path: str, request: Request) -> Response:
        known = {
            route: [method.upper() for method in methods]
            for route, methods in request.app.openapi()["paths"].items()
            if route.startswith("/v1")
        }
        for route, methods in known.items():
            if compile_path(route)[0].fullmatch(f"/v1/{path}"):
                message = f"This address takes {' and '.join(methods)}, but a {request.method} came."
                response = openai_error(405, message, None, "method_not_supported")
                response.headers["Allow"] = ", ".join(methods)
                return response
        if path == "realtime":
            response = openai_error(426, "This address takes WebSockets (ws://).", None, "websocket_only")
            response.headers["Upgrade"] = "websocket"
            return response
        return openai_error(404, f"There is no such address; there are {', '.join(known)}.", None, "unknown_url")

    return router


def error_response(error: Exception, params: Mapping[str, str] | None = None) -> JSONResponse:
    """
    Write an error in OpenAI's form.

    Args:
        error (`Exception`): The error; one that the client cannot mend goes to the log, and no detail of it to the
            client.
        params (`Mapping[str, str]`, *optional*): As for `route_class`.

    Returns:
        `JSONResponse`.
    """
    if isinstance(error, RequestValidationError):
        return openai_error(400, *_invalid(error), None)
    if isinstance(error, RequestError):
        status, code = _status(error)
        field = None if error.field is None else (params or {}).get(error.field, error.field)
        response = openai_error(status, str(error), field, code)
        if isinstance(error, Busy):
            response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return response
    if isinstance(error, HTTPException) and error.status_code < 500:
        return openai_error(error.status_code, "The request cannot be read.")
    logger.error("A request failed", exc_info=error)
    return openai_error(500, "The request failed because of an error on the server, which is in its log: try again.")


def openai_error(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    """
    Write an error in OpenAI's form.

    Args:
        status (`int`): Status of the answer.
        message (`str`): A sentence for the person who asked.
        param (`str`, *optional*): The field that is wrong.
        code (`str`, *optional*): Name of the error for programs.

    Returns:
        `JSONResponse`.
    """
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    description: ErrorDescription = {"message": message, "type": kind, "param": param, "code": code}
    headers = {"Connection": "close"}  # the body may not have been read to its end, and will not be
    return JSONResponse({"error": description}, status_code=status, headers=headers)


def _status(error: RequestError) -> tuple[int, str | None]:
    if isinstance(error, Busy):
        return 429, "rate_limit_exceeded"
    if isinstance(error, UnknownModel):
        return 404, "model_not_found"
    if isinstance(error, ServiceFault):
        return 500, None
    return 400, None


def _invalid(error: RequestValidationError) -> tuple[str, str | None]:
    """Name the fields of a body that are wrong, and describe the first; never what came instead."""
    found = [(str(place["loc"][1]), place["msg"]) for place in error.errors() if len(place["loc"]) > 1]
    if not found or error.errors()[0]["type"] == "json_invalid":
        how = "send a JSON object with the header Content-Type: application/json"
        return f"The request's body cannot be read: {how}.", None
    names = ", ".join(dict.fromkeys(name for name, _ in found))
    return f"The request cannot be read; look at: {names[:200]} ({found[0][1][:200]}).", found[0][0][:200]
