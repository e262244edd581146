"""OpenAI's own client, unchanged, against a server process with nano."""

import asyncio
import base64
import time

import httpx
import numpy as np
import pytest
from realtime_fixtures import MANUAL, RATE, as_base64
from realtime_server import recording, server
from streaming_fixtures import wait_until

openai = pytest.importorskip("openai", reason="the dev extra is not installed")
pytest.importorskip("gradio", reason="the demo extra is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url():
    with server() as url:
        yield url


def until(connection, kind):
    events = []
    for event in connection:
        events.append(event)
        assert event.type != "error", event
        if event.type == kind:
            return events
    raise AssertionError(f"The connection ended before {kind}.")


def test_the_synchronous_client_has_a_spoken_conversation(url):
    with openai.OpenAI(base_url=url, api_key="none").realtime.connect(model="ttt") as connection:
        until(connection, "session.created")
        audio = {"input": {"transcription": {"model": "gpt-4o-transcribe"}, "turn_detection": {"type": "server_vad"}}}
        connection.session.update(session={"type": "realtime", "audio": audio})
        until(connection, "session.updated")
        samples = np.concatenate([np.zeros(RATE // 2, "<i2"), recording("1.wav"), np.zeros(RATE, "<i2")])
        for start in range(0, len(samples), RATE // 10):
            connection.input_audio_buffer.append(audio=as_base64(samples[start : start + RATE // 10]))
        events = until(connection, "conversation.item.input_audio_transcription.completed")
        done = next(event for event in events if event.type == "response.done").response
        assert done.status == "completed" and done.usage.output_token_details.audio_tokens > 10
        transcript = done.output[0].content[0].transcript
        assert events[-1].transcript.lower().startswith("what is")
        deltas = b"".join(
            base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta"
        )
        assert len(deltas) / 2 / RATE > 0.5

        connection.conversation.item.truncate(item_id=done.output[0].id, content_index=0, audio_end_ms=500)
        assert until(connection, "conversation.item.truncated")[-1].audio_end_ms == 500
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is two plus two?"}]}
        connection.conversation.item.create(item=item)
        connection.response.create()
        answer = until(connection, "response.done")[-1].response
        assert "four" in answer.output[0].content[0].transcript.lower()
        assert answer.usage.input_token_details.cached_tokens > 0 and transcript


def test_the_asynchronous_client_cancels_and_goes_on(url):
    async def talk():
        async with openai.AsyncOpenAI(base_url=url, api_key="none").realtime.connect(
            model="gpt-realtime"
        ) as connection:
            await connection.session.update(session=MANUAL)
            await connection.input_audio_buffer.append(audio=as_base64(recording("2.wav")))
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            statuses, kinds = [], []
            async for event in connection:
                kinds.append(event.type)
                assert event.type != "error", event
                if event.type == "response.output_audio.delta" and not statuses:
                    await connection.response.cancel()
                if event.type == "response.done":
                    statuses.append(event.response.status)
                    if len(statuses) == 2:
                        return statuses, kinds
                    await connection.response.create()

    statuses, kinds = asyncio.run(asyncio.wait_for(talk(), 60))
    assert statuses == ["cancelled", "completed"] and kinds[0] == "session.created"


def test_a_client_that_vanishes_in_mid_reply_frees_its_slot_within_a_second(url):
    def served():
        return httpx.get(url.replace("/v1", "/health"), timeout=10).json()["served"]

    manager = openai.OpenAI(base_url=url, api_key="none").realtime.connect(model="ttt")
    connection = manager.enter()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Do you know a joke?"}]}
    connection.conversation.item.create(item=item)
    connection.response.create()
    until(connection, "response.output_audio.delta")
    assert served() == 1
    connection._connection.socket.close()  # without a word
    vanished = time.monotonic()
    wait_until(lambda: served() == 0)
    assert time.monotonic() - vanished < 1
