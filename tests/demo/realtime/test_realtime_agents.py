"""The realtime client of OpenAI's Agents SDK, unchanged, against a server process with nano."""

import asyncio

import numpy as np
import pytest
from realtime_fixtures import RATE, silence
from realtime_server import recording, server

agents = pytest.importorskip("agents.realtime", reason="needs `pip install openai-agents`")
pytestmark = pytest.mark.slow


class Conversation:
    """A session of the client, with the events of the server that it saw."""

    def __init__(self, session):
        self.session = session
        self.events = []
        self.num_bytes = 0
        self._came = asyncio.Condition()

    async def follow(self):
        async for event in self.session:
            async with self._came:
                assert event.type != "error", event.error
                if event.type == "audio":
                    self.num_bytes += len(event.audio.data)
                if event.type == "raw_model_event" and event.data.type == "raw_server_event":
                    assert event.data.data["type"] != "error", event.data.data
                    self.events.append(event.data.data)
                self._came.notify_all()

    async def until(self, kind, count=1):
        def came():
            return [event for event in self.events if event["type"] == kind]

        async with self._came:
            await asyncio.wait_for(self._came.wait_for(lambda: len(came()) >= count), 60)
        return came()[count - 1]

    async def until_audio_of(self, response_id):
        def came():
            return any(
                event["type"] == "response.output_audio.delta" and event["response_id"] == response_id
                for event in self.events
            )

        async with self._came:
            await asyncio.wait_for(self._came.wait_for(came), 60)

    async def speak(self, samples):
        for piece in np.array_split(np.concatenate([samples, silence(1)]), 30):
            await self.session.send_audio(piece.tobytes())
            await asyncio.sleep(len(piece) / RATE)


def test_the_agents_client_writes_speaks_and_interrupts():
    async def talk(url):
        runner = agents.RealtimeRunner(agents.RealtimeAgent(name="nano"))
        address = url.replace("http", "ws") + "/realtime?model=ttt"
        async with await runner.run(model_config={"url": address, "api_key": "none"}) as session:
            conversation = Conversation(session)
            following = asyncio.create_task(conversation.follow())
            await session.send_message("What is two plus two?")
            written = await conversation.until("response.done")
            await conversation.speak(recording("1.wav"))
            spoken = await conversation.until("response.done", 2)
            assert conversation.num_bytes > RATE
            await asyncio.sleep(2)
            await session.send_message("What is the capital of France?")
            created = await conversation.until("response.created", 3)
            await conversation.until_audio_of(created["response"]["id"])
            await conversation.speak(recording("1.wav"))
            last = await conversation.until("response.done", 4)
            following.cancel()
            return written, spoken, last, conversation.events

    with server() as url:
        written, spoken, last, events = asyncio.run(asyncio.wait_for(talk(url), 200))
    texts = [event["response"]["output"][0]["content"][0]["transcript"] for event in (written, spoken, last)]
    assert "four" in texts[0].lower() and "ten" in texts[1].lower() and "ten" in texts[2].lower()
    cut = [event["transcript"] for event in events if event["type"] == "conversation.item.truncated"]
    cancelled = [event["response"]["status"] for event in events if event["type"] == "response.done"]
    assert len(cut) == 1 or cancelled[2] == "cancelled"  # it was played, or still generated
    assert all("paris" not in text.lower() for text in cut)
