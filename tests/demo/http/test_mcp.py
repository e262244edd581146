"""The endpoints as MCP tools, as the demo's server offers them."""

import asyncio
import base64
import io
import threading

import httpx
import numpy as np
import pytest
import soundfile
from service_fixtures import QUESTION, tiny_service

from spaces_demo.service import Limits, TalkRequest

gr = pytest.importorskip("gradio", reason="the demo extra is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the demo extra is not installed")
mcp = pytest.importorskip("mcp", reason="the demo extra is not installed")


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """The service, its tools, and what each of them returned."""
    from spaces_demo.http.endpoints import register_endpoints
    from spaces_demo.http.server import build_app, end_page_streams

    service = tiny_service(Limits(per_user=9), max_new_tokens=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        with gr.Blocks(delete_cache=(3600, 3600)) as demo:
            register_endpoints(service)
        app = build_app(service, demo, mcp_server=True)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield service, url, *asyncio.run(call_all(url))
        end_page_streams(app)
        server.should_exit = True
        thread.join()


async def call_all(url):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    samples, file = 0.1 * np.sin(np.arange(8000) / 9), io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV")
    recording = "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()
    async with (
        streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        results = {
            "talk": await session.call_tool("talk", {"text": QUESTION}),
            "speak": await session.call_tool("speak", {"text": QUESTION}),
            "transcribe": await session.call_tool("transcribe", {"audio": recording}),
        }
        return tools, results, file.getvalue()


def assert_same_audio(content, expected):
    audio, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == expected.sampling_rate
    np.testing.assert_allclose(audio, np.clip(expected.audio, -1, 1), atol=2 / 32767)


def test_each_tool_is_offered_once_with_its_description(called):
    tools = called[2]
    assert set(tools) == {"talk", "transcribe", "speak"}
    assert "Transcribe a recording" in tools["transcribe"].description


@pytest.mark.parametrize(("name", "task"), [("talk", "chat"), ("speak", "tts")])
def test_speech_comes_as_audio_and_as_an_address(called, name, task):
    service, _, _, results, _ = called
    expected = service.reply(TalkRequest(task, QUESTION))
    *text, audio, address = results[name].content
    assert not results[name].isError
    assert [part.text for part in text] == ([expected.text] if name == "talk" else [])
    assert audio.type == "audio" and audio.mimeType == "audio/wav"
    assert_same_audio(base64.b64decode(audio.data), expected)
    assert_same_audio(httpx.get(address.text).content, expected)


def test_a_recording_is_transcribed(called):
    service, _, _, results, recording = called
    expected = service.reply(TalkRequest("asr", audio=recording)).text
    assert [part.text for part in results["transcribe"].content] == [expected]
