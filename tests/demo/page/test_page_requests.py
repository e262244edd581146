"""The page's own routes, called by programs: errors are sentences, and what visits leave is bounded."""

import base64
import gc
import json
import os
import tempfile
import threading
import time

import httpx
import numpy as np
import pytest
from service_fixtures import tiny_service

from spaces_demo.service import Limits

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip("silero_vad", reason="the demo extra is not installed")

from spaces_demo.http.folder import kept_small, trim
from spaces_demo.http.listener import Listener, listening_socket
from spaces_demo.http.server import build_app, end_page_streams
from spaces_demo.page.page import build_demo

VISITS = 2


class Page:
    """What a program sees of a page: its address, and its events by name."""

    def __init__(self, url, folder):
        self.folder = folder
        self.client = httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        self.config = self.client.get("/config").json()
        self.components = {one["id"]: one for one in self.config["components"]}

    def call(self, name, change=lambda data: None, session="a"):
        """Do what the page does at an event; give the last message."""
        event = next(one for one in self.config["dependencies"] if one["api_name"] == name)
        data = [self.components[one]["props"].get("value") for one in event["inputs"]]
        change(data)
        trigger = event["targets"][0][0] if event["targets"] else None
        body = {"data": data, "fn_index": event["id"], "session_hash": session, "trigger_id": trigger}
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as messages:
            (last,) = [line for line in messages.iter_lines() if "process_completed" in line]
        return json.loads(last.removeprefix("data: "))

    def ask_example(self, session):
        def choose_first(data):
            data[0] = 0

        return self.call("ask_example", choose_first, session)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        service = tiny_service(Limits(per_user=99, visits=VISITS, visit_seconds=4.0), max_new_tokens=6)
        app = build_app(service, build_demo(service))
        with listening_socket("127.0.0.1", 0) as sock:
            server = Listener(app, lambda: end_page_streams(app))
            thread = threading.Thread(target=server.run_until_signal, args=(sock,), daemon=True)
            thread.start()
            yield Page(f"http://127.0.0.1:{sock.getsockname()[1]}", folder)
            server.should_exit = True
            thread.join(30)


def microphone(page, memory, **message):
    audio = base64.b64encode(bytes(1024)).decode()
    voice = next(one["id"] for one in page.config["components"] if one["props"].get("elem_id") == "voice")
    body = {"component_id": voice, "fn_name": "answer_microphone", "session_hash": "a"}
    body |= {"data": {"audio": audio, "memory": memory} | message}
    return page.client.post("/gradio_api/component_server", content=json.dumps(body))


NETWORK = base64.b64encode(np.zeros(320, "<f4").tobytes()).decode()
MEMORY = {"network": NETWORK, "num_windows": 0, "speech_run": 0, "silence_run": 0, "begin": None, "num_speech": 0}


@pytest.mark.parametrize(
    "memory", [5, "x", [1], {"network": NETWORK}, MEMORY | {"num_windows": float("inf")}, MEMORY | {"begin": "7"}]
)
def test_what_the_microphone_did_not_send_is_a_sentence(page, memory):
    answer = microphone(page, memory)
    assert answer.status_code == 400 and "The microphone sent" in answer.json()["detail"]


def test_the_microphone_is_answered(page):
    first = microphone(page, None).json()
    assert first["is_over"] is False and microphone(page, MEMORY).json() == first
    assert microphone(page, first["memory"]).json()["memory"]["num_windows"] == 2


@pytest.mark.parametrize("index", [None, "x", 10**9, 1.5, [1]])
def test_errors_of_python_do_not_reach_the_page(page, index):
    def choose(data):
        data[0] = index

    message = page.call("ask_example", choose)
    assert not message["success"] and message["output"]["error"] is None


def test_a_sentence_for_the_visitor_does(page):
    message = page.call("speak", lambda data: data.__setitem__(0, "\0"))
    assert not message["success"] and "characters that cannot be read" in message["output"]["error"]


def visits(page):
    gc.collect()
    return {path.parent for path in page.folder.glob("ttt-talk-*/*.wav")}


def test_visits_without_a_browser_end(page):
    for number in range(VISITS + 1):
        assert page.ask_example(f"visit {number}")["success"]
        assert 1 <= len(visits(page)) <= VISITS
    last = time.monotonic()
    while visits(page):
        assert time.monotonic() - last < 20, "a visit that has been idle for 4 s is still there"
        time.sleep(0.2)


def test_the_oldest_files_of_a_full_folder_are_deleted(tmp_path):
    for number in range(5):
        path = tmp_path / str(number % 2) / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (number, number))
    trim(tmp_path, 250)
    assert {path.name for path in tmp_path.rglob("*.wav")} == {"3.wav", "4.wav"}
    trim(tmp_path / "not there", 250)


def test_a_folder_is_kept_small_while_the_server_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("spaces_demo.http.folder.SECONDS_BETWEEN_LOOKS", 0.05)
    with kept_small(tmp_path, 1000):
        (tmp_path / "a.wav").write_bytes(bytes(2000))
        begun = time.monotonic()
        while (tmp_path / "a.wav").exists():
            assert time.monotonic() - begun < 20
            time.sleep(0.02)
