"""The named endpoints, tried with gradio_client, with bare HTTP and as MCP tools."""

import asyncio
import base64
import io
import os
import tempfile
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from service_fixtures import QUESTION, stop_event, tiny_service

from spaces_demo.service import DecodingOptions, Limits, TalkRequest

try:
    import mcp as MCP
except ImportError:
    MCP = None

gr = pytest.importorskip("gradio", reason="the demo extra is not installed")
gradio_client = pytest.importorskip("gradio_client", reason="the demo extra is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where Gradio keeps its files, for this module alone."""
    return tmp_path_factory.mktemp("gradio")


@pytest.fixture(scope="module")
def served(folder):
    from spaces_demo.http.endpoints import register_endpoints

    service = tiny_service(Limits(per_user=9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        with gr.Blocks(delete_cache=(3600, 3600)) as demo:
            register_endpoints(service)
            box = gr.MultimodalTextbox()
            box.submit(lambda message: None, box, None, api_name="box", api_visibility="undocumented")
        _, url, _ = demo.launch(
            prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", mcp_server=MCP is not None, show_error=True
        )
        yield service, url, demo
        demo.close()


@pytest.fixture(scope="module")
def client(served):
    return gradio_client.Client(served[1], verbose=False)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "question.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(8000) / 9), 16000)
    return path


def assert_spoken(path, summary):
    audio, rate = soundfile.read(path, dtype="float32")
    assert rate == summary.sampling_rate
    np.testing.assert_allclose(audio, np.clip(summary.audio, -1, 1), atol=2 / 32767)


def test_talk_answers_in_text_and_speech(served, client, recording):
    service = served[0]
    text, audio = client.predict(QUESTION, api_name="/talk")
    expected = service.reply(TalkRequest(text=QUESTION))
    assert text == expected.text
    assert_spoken(audio, expected)
    text, audio = client.predict(audio=gradio_client.handle_file(recording), api_name="/talk")
    expected = service.reply(TalkRequest(audio=str(recording)))
    assert text == expected.text
    assert_spoken(audio, expected)


def test_options_reach_the_model(served, client):
    text, _ = client.predict(QUESTION, options={"temperature": 2.0, "seed": 3}, api_name="/talk")
    options = DecodingOptions(temperature=2.0, seed=3)
    assert text == served[0].reply(TalkRequest(text=QUESTION, options=options)).text


def test_transcribe_writes_down_and_speak_reads_aloud(served, client, recording):
    service = served[0]
    written = client.predict(gradio_client.handle_file(recording), api_name="/transcribe")
    assert written == service.reply(TalkRequest("asr", audio=str(recording))).text
    assert_spoken(client.predict(QUESTION, api_name="/speak"), service.reply(TalkRequest("tts", QUESTION)))


@pytest.mark.parametrize("task", ["chat", "asr", "tts"])
def test_streams_join_to_the_whole_reply(served, client, recording, task):
    name = {"chat": "/talk_stream", "asr": "/transcribe_stream", "tts": "/speak_stream"}[task]
    asked = gradio_client.handle_file(recording) if task == "asr" else QUESTION
    *pieces, last = list(client.submit(asked, api_name=name))
    request = TalkRequest(task, audio=str(recording)) if task == "asr" else TalkRequest(task, QUESTION)
    expected = served[0].reply(request)
    assert "".join(piece.get("text", "") for piece in pieces) == last["reply"]["text"] == expected.text
    audio = b"".join(base64.b64decode(piece["audio"]) for piece in pieces if "audio" in piece)
    samples = np.frombuffer(audio, dtype="<i2") / 32767
    np.testing.assert_allclose(samples, np.clip(expected.audio, -1, 1), atol=2 / 32767)
    assert last["reply"]["num_forwards"] == expected.num_forwards


def test_a_client_that_cancels_stops_the_model_within_one_forward(served, client, monkeypatch):
    service = served[0]
    cancelled = stop_event(monkeypatch)
    service.gate.shut_at = held = service.gate.forwards + 12
    try:
        job = client.submit(QUESTION, api_name="/talk_stream")
        service.gate.wait_for(held)
        leaving = threading.Thread(target=job.cancel)  # returns when the model has stopped
        leaving.start()
        assert cancelled.wait(30)  # although the model has not moved on since
    finally:
        service.gate.open()
    leaving.join()
    assert service.admission.wait_until_empty(30)
    assert service.gate.forwards == held


def test_refusals_are_sentences(client):
    with pytest.raises(Exception, match="There is no question: record, upload or write one"):
        client.predict(api_name="/talk")
    with pytest.raises(Exception, match="The options that can be chosen are"):
        client.predict(QUESTION, options={"model": "x"}, api_name="/talk")


def called(url, name, *data):
    """Call an endpoint with JSON of one's own; give what the server answers."""
    begun = httpx.post(f"{url}gradio_api/call/{name}", json={"data": list(data)})
    return httpx.get(f"{url}gradio_api/call/{name}/{begun.json()['event_id']}", timeout=60).text


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_path_on_the_server_is_no_question(served, client, recording, tmp_path, is_marked):
    """A client that writes its own JSON names files that it never uploaded: outside the upload folder, by a link."""
    service, url, _ = served
    link = tmp_path / "link.wav"
    link.symlink_to(recording)
    for path in (str(recording), "/etc/passwd", str(link), os.path.relpath(recording), f"file://{recording}"):
        file = {"path": path, **({"meta": {"_type": "gradio.FileData"}} if is_marked else {})}
        before = service.gate.forwards
        answer = called(url, "transcribe", file, None)
        assert "event: error" in answer and "Traceback" not in answer
        assert service.gate.forwards == before


@pytest.mark.parametrize("name", ["talk", "transcribe", "transcribe_stream", "box"])
def test_nothing_is_fetched_for_a_client(served, monkeypatch, name):
    """Gradio would read all that an address has into memory, and write it to its folder, whatever our limits are."""
    fetched = []

    async def fetch(url, **_):
        fetched.append(url)
        raise ValueError("fetched")

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    file = {"path": "https://example.com/question.wav", "meta": {"_type": "gradio.FileData"}}
    data = {"talk": [None, file, None], "box": [{"text": "", "files": [file]}]}.get(name, [file, None])
    answer = called(served[1], name, *data)
    assert "event: error" in answer and "not an address" in answer
    assert fetched == []


def test_files_lie_in_gradio_s_folder_and_go_when_gradio_cleans_it(served, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert "event: complete" in called(served[1], "talk", QUESTION, None, None)
    assert list(tmp_path.iterdir()) == [], "nothing is written elsewhere"
    written = set(folder.rglob("*.wav"))
    kept_by_gradio = {Path(file) for files in served[2].temp_file_sets for file in files}
    assert written and written <= kept_by_gradio, "`delete_cache` deletes what it knows"


@pytest.mark.skipif(MCP is None, reason="the package mcp is not installed")
def test_endpoints_are_tools_with_their_docstrings(served):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def use():
        async with (
            streamablehttp_client(f"{served[1]}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            name = next(name for name in tools if name.endswith("speak"))
            return tools, await session.call_tool(name, {"text": QUESTION})

    tools, result = asyncio.run(use())
    description = next(tool.description for name, tool in tools.items() if name.endswith("transcribe"))
    assert "Transcribe a recording" in description
    assert len(tools) == 6 and not result.isError
    address = result.content[0].text
    assert_spoken(io.BytesIO(httpx.get(address).content), served[0].reply(TalkRequest("tts", QUESTION)))
