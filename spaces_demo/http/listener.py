"""
Listens: how large headers may be, how long a client may take to send them, whose word about visitors counts, and how
the server ends.

Depends on uvicorn, sockets, and the error by which a stream is cut. Independent of what is served.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, TypedDict

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .openai_streams import StreamCut

HEADER_SECONDS = 10.0  # for the headers of a request to come, all of them
MAX_MESSAGE_BYTES = 8 * 2**20  # of a WebSocket; the routes have smaller limits, and sentences for them
# Requests that end within this time after a signal are answered; what is left of 5 s is for what the rest holds.
GRACE_SECONDS = 2


class Address(TypedDict):
    """Where to listen."""

    host: str
    port: int


def address_of_this_machine() -> Address:
    """Read where to listen from the environment variables that Spaces and Gradio's users set."""
    return {
        "host": os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        "port": int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
    }


def listening_socket(host: str, port: int) -> socket.socket:
    """
    Begin to listen.

    Args:
        host (`str`): Address or name of this machine.
        port (`int`): Port.

    Returns:
        `socket.socket`: Connections queue up until a server takes them.

    Raises:
        OSError: If that is not possible, with the way out.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = "it is in use, perhaps by another demo" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(
            f"The demo cannot listen at port {port} of {host} ({reason}): choose another with --port or --host."
        ) from error


class Listener(uvicorn.Server):
    """
    A server that ends within a few seconds of SIGINT and SIGTERM, whatever is connected.

    Args:
        app (`ASGIApp`): What is served.
        when_stopping (`Callable`): Called when it begins to stop: must end the streams that no answer comes by.
        trusted_proxies (`str`): Addresses and networks, with commas between, of proxies whose `X-Forwarded-For` names
            the visitor; from others it is ignored.
    """

    def __init__(
        self,
        app: ASGIApp,
        when_stopping: Callable[[], None] = lambda: None,
        trusted_proxies: str = "",
    ):
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                forwarded_allow_ips=trusted_proxies,
                timeout_graceful_shutdown=GRACE_SECONDS,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_max_queue=4,
                log_level="warning",
            )
        )
        logging.getLogger("uvicorn.error").addFilter(self._is_no_interruption)
        self._when_stopping = when_stopping

    def run_until_signal(self, listening: socket.socket) -> None:
        """
        Serve, and return when a signal has ended that.

        Args:
            listening (`socket.socket`): Of `listening_socket`.
        """

        def leave(*_: object) -> None:
            raise KeyboardInterrupt

        # uvicorn raises signals again once it has stopped, which by default would end the process at once.
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, leave) if is_main else None
        try:
            self.run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        finally:
            if is_main:
                signal.signal(signal.SIGTERM, before)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the requests that end in time, and cancel the others."""
        self._when_stopping()
        await super().shutdown(sockets)

    def _is_no_interruption(self, record: logging.LogRecord) -> bool:
        """Keep tracebacks of streams that were cut or stopped out of the log; MCP's then begin a second answer."""
        error = record.exc_info[1] if record.exc_info else None
        is_second_answer = isinstance(error, RuntimeError) and str(error).startswith("Expected ASGI message")
        return not isinstance(error, (asyncio.CancelledError, StreamCut)) and not (
            is_second_answer and self.should_exit
        )


class PatientProtocol(H11Protocol):
    """uvicorn's protocol with a bound on headers (64 KB), and with a time limit for them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        """Take some of a request."""
        super().data_received(data)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _wait_for_headers(self) -> None:
        """Close the connection later, unless the headers have come by then."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
