"""
What is checked of every request before any route sees it: the names that it came by, and how much it holds.

    HostGuard ──► BodyGuard ──► page, Gradio's routes, MCP, OpenAI's routes

Depends on ASGI and on the limits. Independent of the routes.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..service import Limits
from .openai_errors import openai_error

FORM_BYTES = 16 * 1024  # of a request, besides the audio
BODY_SECONDS = 120.0  # for a body to come, all of it
MAX_VALUES = 20_000  # in a body that is JSON or a form; each costs hundreds of bytes once it is parsed
SEPARATORS = (b"[", b"{", b",", b"&")  # one of these comes before every value
JSON_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
ANY_HOST = "*"


class AllowedHosts:
    """
    The names that browsers may reach the server by. Addresses are always among them: only a name can be made to point
    to another machine (DNS rebinding).

    Args:
        names (`Iterable[str]`): Further names, or `"*"` for any.
    """

    def __init__(self, names: Iterable[str] = ()):
        this_machine = socket.gethostname().lower()
        self._names = {"localhost", this_machine, f"{this_machine}.local", *(name.lower() for name in names)}

    def allow_host(self, host: str | None) -> bool:
        """Check whether a `Host` header names this server; programs may leave it out."""
        name = _hostname(f"//{host}") if host is not None else "localhost"
        return ANY_HOST in self._names or (name is not None and (_is_address(name) or name in self._names))

    def allow_origin(self, origin: str | None, host: str | None) -> bool:
        """Check whether a request with this `Origin` header comes from a page of this server or of this machine."""
        if origin is None or ANY_HOST in self._names:
            return True
        if host is not None and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return True
        name = _hostname(origin)
        return name is not None and (name in self._names or (_is_address(name) and _is_loopback(name)))


class HostGuard:
    """
    Refuses requests that came by a foreign name, and those that a browser sends for a foreign page.

    Args:
        app (`ASGIApp`): What is guarded.
        hosts ([`AllowedHosts`]): The names.
    """

    def __init__(self, app: ASGIApp, hosts: AllowedHosts):
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if self.hosts.allow_host(host) and self.hosts.allow_origin(origin, host):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = _foreign_page(origin) if self.hosts.allow_host(host) else _unknown_host(host)
        await refusal(scope, receive, send)


class BodyGuard:
    """
    Counts the bytes of a body as they come, and its values where it is JSON or a form; too many of either, or a body
    that does not come to an end, is refused. Counts the values of a WebSocket's messages, too.

    Args:
        app (`ASGIApp`): What is guarded.
        limits ([`Limits`]): Their `upload_bytes` count; in JSON a file is base64.
        seconds (`float`, *optional*): Most seconds for a body to come.
    """

    def __init__(self, app: ASGIApp, limits: Limits, seconds: float = BODY_SECONDS):
        self.app = app
        self.limits = limits
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer it with an error as soon as its body is refused."""
        if scope["type"] == "websocket":
            return await self.app(scope, _counted(receive, send), send)
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = _Body(scope, receive, self.limits, self.seconds)
        if body.refused is not None:  # by the length that it announces
            return await body.refused(scope, receive, send)
        has_begun = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal has_begun
            if has_begun or body.refused is None:  # the route's own answer to half a body is less clear
                has_begun = True
                await send(message)

        try:
            await self.app(scope, body.receive, send_unless_refused)
        except Exception:
            if body.refused is None or has_begun:
                raise
        if body.refused is not None and not has_begun:
            await body.refused(scope, receive, send)


def _counted(receive: Receive, send: Send) -> Receive:
    """Close a WebSocket whose client sends a message with too many values; its size is the server's to bound."""

    async def receive_counted() -> Message:
        message = await receive()
        text = message.get("text") or ""
        # Strings of JSON, in which commas are punctuation, are left out where that matters.
        if _num_separators(text) <= MAX_VALUES or _num_separators(JSON_STRING.sub("", text)) <= MAX_VALUES:
            return message
        await send({"type": "websocket.close", "code": 1009})
        return {"type": "websocket.disconnect", "code": 1009}

    return receive_counted


def _num_separators(text: str) -> int:
    return sum(map(text.encode().count, SEPARATORS))


class _Body:
    """A body as it comes."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, seconds: float):
        headers = Headers(scope=scope)
        self._receive = receive
        self._is_multipart = headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = limits.upload_bytes if self._is_multipart else limits.upload_bytes * 4 // 3
        self._bytes_left, self._values_left = most + FORM_BYTES, MAX_VALUES
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._is_complete = False
        self._limits = limits
        self.refused: JSONResponse | None = None
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._bytes_left:
            self._refuse(f"The request is larger than the limit of {self._limits.upload_in_words}.")

    async def receive(self) -> Message:
        if self.refused is not None:
            # An error that parsers of forms expect: they then remove the files that they have begun.
            raise MultiPartException("The body was refused.")
        if self._is_complete:  # a route waits for its client to leave
            return await self._receive()
        try:
            seconds = self._ends_at - asyncio.get_running_loop().time()
            message = await asyncio.wait_for(self._receive(), seconds)
        except asyncio.TimeoutError:
            self.refused = openai_error(408, "The request did not come to its end in time: send it again.")
            return await self.receive()
        self._count(message.get("body", b""))
        if self.refused is not None:
            return await self.receive()
        self._is_complete = not message.get("more_body", False)
        return message

    def _count(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._refuse(f"The request is larger than the limit of {self._limits.upload_in_words}.")
        elif not self._is_multipart:
            self._values_left -= sum(map(data.count, SEPARATORS))
            if self._values_left < 0:
                self._refuse(f"The request holds more than {MAX_VALUES} values: send fewer.")

    def _refuse(self, message: str) -> None:
        self.refused = openai_error(413, message, code="request_too_large")


def _unknown_host(host: str | None) -> JSONResponse:
    name = (_hostname(f"//{host}") or "that name")[:80]
    return openai_error(
        421, f"This server does not serve {name}: start it with `--allow-host {name}`, or ask it by its IP address."
    )


def _foreign_page(origin: str | None) -> JSONResponse:
    name = str(origin)[:80]
    return openai_error(
        403, f"Pages of {name} may not use this server; `--allow-host` names the hosts of pages that may."
    )


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # for example an unbalanced bracket
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
