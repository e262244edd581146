"""What is checked of every request: where it comes from, how much it holds, how long it takes."""

import asyncio
import io
import json
import socket
import tempfile
import threading
import time
import wave

import httpx
import pytest
from service_fixtures import tiny_service

from spaces_demo.service import Limits

pytest.importorskip("gradio", reason="the demo extra is not installed")

import gradio as gr
import uvicorn

from spaces_demo.http.guards import MAX_VALUES, AllowedHosts, BodyGuard, HostGuard

LIMITS = Limits(upload_bytes=300_000, per_user=99)
JSON = {"Content-Type": "application/json"}
# Routes of Gradio that take JSON.
ROUTES = ("queue/join", "component_server", "run/speak", "call/speak", "call/v2/speak", "api/speak", "mcp/", "cancel")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    from spaces_demo.http.endpoints import register_endpoints
    from spaces_demo.http.server import build_app

    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        service = tiny_service(LIMITS, max_new_tokens=6)
        with gr.Blocks() as demo:
            register_endpoints(service)
        app = build_app(service, demo, hosts=AllowedHosts(["demo.example.com"]), mcp_server=True)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60) as client:
            client.folder = folder
            yield client
        server.should_exit = True
        thread.join()


def sentence(response):
    """The message of an error, which must be in OpenAI's form."""
    message = response.json()["error"]["message"]
    assert message[0].isupper() and message[-1] == "."
    return message


# -------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_no_json_route_takes_more_than_the_limit(client, route, content_type):
    body = json.dumps({"data": ["x" * 500_000], "session_hash": "a", "fn_index": 0})
    response = client.post(f"/gradio_api/{route}", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 413 and "larger" in sentence(response)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"data":[' + b"[]," * 60_000 + b"1]}",
        b'{"a":' * 30_000,
        b"[" + b"1," * 90_000 + b"1]",
        b"&".join([b"a=b"] * 50_000),
    ],
    ids=["open lists", "lists", "objects", "numbers", "a form"],
)
def test_no_json_route_parses_many_values(client, route, body):
    response = client.post(f"/gradio_api/{route}", content=body, headers=JSON)
    assert response.status_code == 413 and str(MAX_VALUES) in sentence(response)


def test_a_body_that_announces_no_length_is_counted_as_it_comes(client):
    sent = []

    def endless():
        while len(sent) < 200:
            sent.append(None)
            yield b" " * 50_000

    try:
        response = client.post("/gradio_api/queue/join", content=endless(), headers=JSON)
        assert response.status_code == 413
    except httpx.TransportError:  # the server closed the connection while we were still sending
        pass
    assert len(sent) < 200


@pytest.mark.parametrize("length", [300_000, 500_000])
@pytest.mark.parametrize("num_files", [1, 3])
def test_uploads_together_are_within_the_limit_and_leave_no_half_file(client, num_files, length):
    files = [("files", ("a.wav", bytes(length // num_files))) for _ in range(num_files)]
    before = {path for path in client.folder.rglob("*") if path.is_file()}
    response = client.post("/gradio_api/upload", files=files)
    assert response.status_code == (200 if length <= LIMITS.upload_bytes else 413)
    if response.status_code == 413:
        assert {path for path in client.folder.rglob("*") if path.is_file()} == before


def test_the_values_of_a_recording_are_not_counted(client):
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
        audio.writeframes(bytes(range(256)) * 1100)  # 0.3 MB: as many commas and brackets as chance has it
    response = client.post(
        "/v1/audio/transcriptions", data={"model": "ttt"}, files={"file": ("a.wav", file.getvalue())}
    )
    assert response.status_code == 200, response.text


def test_json_may_be_a_third_longer_than_a_file_because_audio_is_base64_in_it(client):
    body = json.dumps({"model": "ttt", "input": "x" * 390_000})
    response = client.post("/v1/audio/speech", content=body, headers=JSON)
    assert response.status_code == 400 and "390000 characters" in sentence(response)


def guarded(app, seconds=5.0):
    return BodyGuard(app, LIMITS, seconds)


def test_a_body_that_does_not_come_to_its_end_is_answered_in_time():
    sent = []

    async def read_body(scope, receive, send):
        while (await receive()).get("more_body"):
            pass

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message):
        sent.append(message)

    begun = time.monotonic()
    asyncio.run(guarded(read_body, seconds=0.3)({"type": "http", "headers": []}, receive, send))
    assert sent[0]["status"] == 408 and time.monotonic() - begun < 5


def test_a_route_may_wait_for_its_client_after_the_body_for_as_long_as_it_likes():
    async def wait_for_the_client(scope, receive, send):
        assert (await receive())["body"] == b"x"
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    messages = [{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        await asyncio.sleep(0.2 * (len(messages) == 1))
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(guarded(wait_for_the_client, seconds=0.1)({"type": "http", "headers": []}, receive, send))
    assert sent[0]["status"] == 200


# -------------------------------------------------------------------------------------------------------- host, origin

SPEECH = {"model": "ttt", "input": "Hello.", "response_format": "pcm"}


@pytest.mark.parametrize("path", ["/", "/v1/models", "/gradio_api/info", "/gradio_api/mcp/"])
def test_a_foreign_name_does_not_reach_the_server(client, path):
    response = client.get(path, headers={"Host": "attacker.example:7860"})
    assert response.status_code == 421 and "--allow-host attacker.example" in sentence(response)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:7860", "192.168.1.5", "[::1]:7860", "demo.example.com", None]
)
def test_this_machine_addresses_and_names_that_were_allowed_reach_it(client, host):
    port = client.base_url.port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        header = "" if host is None else f"Host: {host}\r\n"
        version = "1.0" if host is None else "1.1"
        connection.sendall(f"GET /v1/models HTTP/{version}\r\n{header}Connection: close\r\n\r\n".encode())
        assert b" 200 " in connection.recv(1000).splitlines()[0]


@pytest.mark.parametrize("host", ["localhost.attacker.example", "127.0.0.1.nip.io", "[::1", "", "a b", "127.1"])
def test_what_only_looks_like_this_machine_does_not(host):
    assert not AllowedHosts().allow_host(host)


FOREIGN = ["https://attacker.example", "null", "http://192.0.2.7", "http://localhost.attacker.example", "[", ""]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_is_not_served(client, origin):
    headers = {"Origin": origin}
    form = {"model": "ttt"}, {"file": ("a.wav", b"RIFF")}
    for response in (
        client.post("/v1/audio/transcriptions", data=form[0], files=form[1], headers=headers),
        client.post("/gradio_api/upload", files={"files": ("a.wav", b"RIFF")}, headers=headers),
        client.post("/v1/audio/speech", content=json.dumps(SPEECH), headers=headers | {"Content-Type": "text/plain"}),
        client.options("/v1/audio/speech", headers=headers | {"Access-Control-Request-Method": "POST"}),
        client.get("/gradio_api/info", headers=headers),
    ):
        assert response.status_code == 403 and "access-control-allow-origin" not in response.headers
        sentence(response)


def test_pages_of_the_server_of_this_machine_and_of_allowed_hosts_are_served(client):
    own = str(client.base_url).rstrip("/")
    for origin in (own, "http://localhost:3000", "http://127.0.0.1:3000", "https://demo.example.com", None):
        headers = {} if origin is None else {"Origin": origin}
        assert client.post("/v1/audio/speech", json=SPEECH, headers=headers).status_code == 200
    behind_a_proxy = {"Host": "demo.example.com", "Origin": "https://demo.example.com"}
    assert client.post("/v1/audio/speech", json=SPEECH, headers=behind_a_proxy).status_code == 200


def test_any_host_is_served_where_that_was_asked_for():
    everywhere = AllowedHosts(["*"])
    assert everywhere.allow_host("anything.example") and everywhere.allow_origin("https://attacker.example", "a")


def test_a_web_socket_of_a_foreign_page_is_closed():
    sent = []

    async def app(scope, receive, send):
        raise AssertionError("it reached the app")

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "headers": [(b"host", b"localhost:7860"), (b"origin", b"https://attacker.example")]}
    asyncio.run(HostGuard(app, AllowedHosts())(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_web_socket_with_too_many_values_is_closed():
    sent, given = [], []
    text = '["a \\"quoted\\" text", "' + "1," * 30_000 + '"]'  # with two separators outside of strings
    many = '["' + '","' * 30_000 + '"]'
    messages = [{"type": "websocket.receive", "text": text}, {"type": "websocket.receive", "text": many}]

    async def app(scope, receive, send):
        given.extend([await receive(), await receive()])

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(guarded(app)({"type": "websocket", "headers": []}, receive, send))
    assert given == [{"type": "websocket.receive", "text": text}, {"type": "websocket.disconnect", "code": 1009}]
    assert sent == [{"type": "websocket.close", "code": 1009}]
