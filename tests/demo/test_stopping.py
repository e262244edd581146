"""Serving ends when it is asked to, whatever is connected, and leaves nothing of its visitors behind."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import pytest
from checkout import ROOT
from service_fixtures import QUESTION, tiny_service

from modeling_ttt import nano_checkpoint
from spaces_demo.service import Limits, TalkRequest

pytest.importorskip("gradio", reason="the demo extra is not installed")

from spaces_demo import app
from spaces_demo.http.listener import GRACE_SECONDS, Listener, listening_socket
from spaces_demo.http.server import build_app, end_page_streams
from spaces_demo.page.page import build_demo

SECONDS_TO_END = 5.0


def follow(url, events, method="GET", **kwargs):
    """Keep a stream open in another thread; what came last is `closed` or the name of an error."""

    def read():
        try:
            with httpx.stream(method, url, timeout=None, **kwargs) as response:
                for piece in response.iter_raw():
                    events.append(piece)
            events.append("closed")
        except httpx.TransportError as error:
            events.append(type(error).__name__)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + 30
    while not events:
        assert time.monotonic() < deadline, f"nothing came from {url}"
        time.sleep(0.01)


def test_an_open_page_does_not_keep_the_server_from_ending():
    service = tiny_service()
    page = build_app(service, build_demo(service))
    server = Listener(page, lambda: end_page_streams(page))
    with listening_socket("127.0.0.1", 0) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        thread = threading.Thread(target=server.run_until_signal, args=(sock,), daemon=True)
        thread.start()
        events: list = []
        follow(f"{url}/gradio_api/heartbeat/tab", events)
        server.should_exit, begun = True, time.monotonic()
        thread.join(30)
        assert not thread.is_alive() and time.monotonic() - begun < GRACE_SECONDS
    assert b"ALIVE" in events[0] and events[-1] == "closed"


def test_temporary_files_are_private_and_go_with_the_server(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    before, seen = tempfile.gettempdir(), []

    def run(server, listening):
        folder = Path(tempfile.gettempdir())
        assert folder.parent == tmp_path and stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == folder
        (folder / "recording.wav").write_bytes(b"RIFF")
        seen.append(listening.getsockname()[1])
        assert server.config.forwarded_allow_ips == "10.0.0.1"

    monkeypatch.setattr(Listener, "run_until_signal", run)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    service = tiny_service()
    app.serve([service], port=0)
    assert f"http://127.0.0.1:{seen[0]}. Press Ctrl-C to stop" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [] and tempfile.gettempdir() == before
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)


def test_what_is_not_answered_in_time_is_stopped():
    service = tiny_service(Limits(served_at_once=1), max_new_tokens=400)
    with service.gate.shut():
        streams = [service.stream(TalkRequest(text=QUESTION)) for _ in range(2)]  # one of them waits
        service.gate.wait_for(1)
        assert not service.close(timeout=0)
        service.stop()
    assert service.admission.wait_until_empty(30)
    assert service.gate.forwards < 10, f"of {len(streams)} answers, which are still held"


# ------------------------------------------------------------------------------------------------------- a real process


def demo_process(folder, *options):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "GRADIO_SERVER_PORT": "0",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    command = [sys.executable, "-m", "ttt_cli", "demo", *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def address_in(output):
    """The address that the process prints, and what it prints before."""
    lines = []
    for line in output:
        lines.append(line)
        if "http://" in line:
            return line.partition("http://")[2].partition(". ")[0], lines
    raise AssertionError("".join(lines))


def ask_an_example(url):
    """Do what the page does when an example is clicked: files are left in the session's folder and in Gradio's."""
    config = httpx.get(f"{url}/config", timeout=60).json()
    event = next(one for one in config["dependencies"] if one["api_name"] == "ask_example")
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    data = [0, None, *(values[name] for name in event["inputs"][2:])]
    body = {"data": data, "fn_index": event["id"], "session_hash": "tab", "trigger_id": event["targets"][0][0]}
    httpx.post(f"{url}/gradio_api/queue/join", json=body, timeout=60).raise_for_status()
    with httpx.stream("GET", f"{url}/gradio_api/queue/data?session_hash=tab", timeout=60) as messages:
        last = [line for line in messages.iter_lines() if "process_completed" in line]
    assert json.loads(last[0].removeprefix("data: "))["success"]


def call_a_tool(url, events):
    """Open an MCP session in another thread, call a tool of it, and keep it open."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def session():
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            events.append(await client.call_tool("speak", {"text": "Hello."}))
            await asyncio.sleep(1000)

    threading.Thread(target=lambda: asyncio.run(session()), daemon=True).start()
    deadline = time.monotonic() + 60
    while not events:
        assert time.monotonic() < deadline, "the tool gave no answer"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_demo_whatever_is_connected_and_leaves_no_recording(tmp_path, name):
    pytest.importorskip("mcp", reason="the demo extra is not installed")
    websockets = pytest.importorskip("websockets.sync.client", reason="the demo extra is not installed")
    process = demo_process(tmp_path, "--mcp")
    try:
        host, lines = address_in(process.stdout)
        url = f"http://{host}"
        assert lines[0] == "Loading nano ...\n", "which says nothing of how long: machines differ"
        heartbeat, called, spoken = [], [], []
        follow(f"{url}/gradio_api/heartbeat/tab", heartbeat)
        question = (nano_checkpoint() / "questions" / "4.wav").read_bytes()
        httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.wav", question)}, timeout=60).raise_for_status()
        ask_an_example(url)
        call_a_tool(url, called)
        talking = websockets.connect(f"ws://{host}/v1/realtime?model=ttt")
        assert "session.created" in talking.recv()
        speech = {"model": "ttt", "input": "One, two, three, four, five. " * 15, "response_format": "pcm"}
        follow(f"{url}/v1/audio/speech", spoken, "POST", json=speech)
        assert len(list(tmp_path.rglob("*.wav"))) >= 4, "recordings and replies"
        process.send_signal(getattr(signal, name))
        begun = time.monotonic()
        output, _ = process.communicate(timeout=30)
        assert time.monotonic() - begun < SECONDS_TO_END, output
        assert process.returncode == 0 and "Traceback" not in output, output
        assert heartbeat[-1] == "closed"
        assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.glob("ttt-*"))
    finally:
        process.kill()
        process.wait()


def test_a_port_in_use_is_one_sentence_before_anything_is_loaded(tmp_path):
    with listening_socket("127.0.0.1", 0) as taken:
        process = demo_process(tmp_path, "--port", str(taken.getsockname()[1]))
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    *_, last = output.strip().splitlines()
    assert last.startswith("Error: The demo cannot listen at port") and "http://" not in output
