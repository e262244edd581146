"""How the server listens and stops: bounds on headers, time limits, visitors' addresses, signals."""

import asyncio
import http.client
import logging
import socket
import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("uvicorn", reason="the demo extra is not installed")

from spaces_demo.http import listener
from spaces_demo.http.listener import Listener, listening_socket

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer(scope, receive, send, status=200, body=b"yes", more=False):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": more})


@contextmanager
def listening(app, **kwargs):
    """A server on a free port; its address, and the server."""
    server = Listener(app, **kwargs)
    with listening_socket("127.0.0.1", 0) as sock:
        address = sock.getsockname()
        thread = threading.Thread(target=server.run_until_signal, args=(sock,), daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        yield address, server
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def asked(address, **headers):
    """The body of an answer."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/", headers=headers)
    return connection.getresponse().read()


def is_closed_within(connection, seconds):
    connection.settimeout(seconds)
    try:
        while connection.recv(1000):
            pass
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("name", [b"X-Large", b"Cookie"])
def test_large_headers_are_refused_before_they_have_come(name):
    with listening(answer) as (address, _), socket.create_connection(address, 30) as connection:
        sent = 0
        with pytest.raises(OSError):  # the server closes the connection
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + name + b": ")
            while sent < 50_000_000:
                sent += connection.send(b"x" * 100_000)
        assert sent < 50_000_000


@pytest.mark.parametrize(
    "pieces",
    [[b""], [b"GET"], [WHOLE[:-2]], [WHOLE, b"GET / HT"]],
    ids=["nothing", "a method", "half of the headers", "half of the second request"],
)
def test_headers_that_do_not_come_to_their_end_are_not_waited_for(monkeypatch, pieces):
    monkeypatch.setattr(listener, "HEADER_SECONDS", 0.3)
    with listening(answer) as (address, _), socket.create_connection(address, 30) as connection:
        for piece in pieces:
            connection.sendall(piece)
            if piece == WHOLE:
                assert connection.recv(1000)
        assert is_closed_within(connection, 4)  # a connection that waits for its next request is closed after 5 s


def test_who_sends_a_header_now_and_then_is_not_waited_for_either(monkeypatch):
    monkeypatch.setattr(listener, "HEADER_SECONDS", 0.4)
    with listening(answer) as (address, _), socket.create_connection(address, 30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 10:
                connection.sendall(b"X-A: 1\r\n")
                time.sleep(0.05)
        assert time.monotonic() - begun < 8


def test_a_slow_answer_is_waited_for(monkeypatch):
    monkeypatch.setattr(listener, "HEADER_SECONDS", 0.2)

    async def slow(scope, receive, send):
        await asyncio.sleep(0.6)
        await answer(scope, receive, send)

    with listening(slow) as (address, _):
        assert asked(address) == b"yes"


def test_a_port_in_use_and_an_address_of_another_machine_are_one_sentence():
    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen at port {port} of 127.0.0.1 \(.*in use.*--port"):
            listening_socket("127.0.0.1", port)
    with pytest.raises(OSError, match="--host"):
        listening_socket("192.0.2.1", 7860)
    with pytest.raises(OSError, match="--host"):
        listening_socket("no.such.host.invalid", 7860)


async def name_the_visitor(scope, receive, send):
    await answer(scope, receive, send, body=scope["client"][0].encode())


@pytest.mark.parametrize(
    "trusted, forwarded, visitor",
    [
        ("", "203.0.113.5", "127.0.0.1"),
        ("10.0.0.1", "203.0.113.5", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("127.0.0.1", "1.2.3.4, 203.0.113.6", "203.0.113.6"),
        ("127.0.0.0/8,10.0.0.0/8", "1.2.3.4, 203.0.113.6, 10.0.0.9", "203.0.113.6"),
    ],
)
def test_only_proxies_that_are_trusted_name_the_visitor(trusted, forwarded, visitor):
    with listening(name_the_visitor, trusted_proxies=trusted) as (address, _):
        assert asked(address, **{"X-Forwarded-For": forwarded}) == visitor.encode()


def test_a_stream_that_begins_a_second_answer_when_it_is_stopped_leaves_no_traceback(monkeypatch, caplog):
    monkeypatch.setattr(listener, "GRACE_SECONDS", 0.2)
    begun = threading.Event()

    async def app(scope, receive, send):
        await answer(scope, receive, send, more=True)
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:  # as MCP's streams do
            await answer(scope, receive, send)

    with listening(app) as (address, server), socket.create_connection(address, 30) as connection:
        connection.sendall(WHOLE)
        assert begun.wait(30)
        logging.getLogger("uvicorn.error").addHandler(caplog.handler)
        server.should_exit = True
        assert is_closed_within(connection, 10)
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert caplog.records and not [record for record in caplog.records if record.exc_info]


def test_requests_that_end_in_time_are_answered_and_endless_streams_end(monkeypatch):
    monkeypatch.setattr(listener, "GRACE_SECONDS", 1.0)
    begun, stopped, answers = threading.Event(), threading.Event(), []

    async def app(scope, receive, send):
        if scope["path"] == "/endless":
            await answer(scope, receive, send, more=True)
            begun.set()
            await asyncio.sleep(1000)
        await asyncio.sleep(0.4)
        await answer(scope, receive, send)

    def ask(path):
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("GET", path)
        try:
            answers.append(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as error:
            answers.append(type(error))

    with listening(app, when_stopping=stopped.set) as (address, server):
        threads = [threading.Thread(target=ask, args=(path,)) for path in ("/endless", "/")]
        for thread in threads:
            thread.start()
        assert begun.wait(30)
        time.sleep(0.1)
        server.should_exit, since = True, time.monotonic()
        for thread in threads:
            thread.join(30)
        assert time.monotonic() - since < 8 and stopped.is_set()
    assert answers == [b"yes", http.client.IncompleteRead]


def test_a_stream_that_is_cut_leaves_a_line_and_no_traceback(caplog):
    from fastapi import FastAPI, Request

    from spaces_demo.http.openai_streams import streamed
    from spaces_demo.service import RequestError

    app = FastAPI()

    async def pieces():
        yield b"some audio"
        raise RequestError("The answer took longer than 1 s.")

    @app.get("/")
    async def audio(request: Request):
        return await streamed(request, pieces(), "audio/pcm")

    with listening(app) as (address, _), caplog.at_level(logging.WARNING):
        connection = http.client.HTTPConnection(*address[:2], timeout=30)
        connection.request("GET", "/")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            connection.getresponse().read()
        connection.close()
    assert [record.getMessage() for record in caplog.records] == ["A stream was cut: The answer took longer than 1 s."]
