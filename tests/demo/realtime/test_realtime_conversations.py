"""
Conversations of sessions, without a network. After a cut the next answer has the token ids of a conversation without
the part that was cut, and sessions at the same time do not mix.
"""

import asyncio
import json
from dataclasses import replace

import pytest
from service_fixtures import QUESTION, tiny_service

from processing_ttt import TttItemConversation
from spaces_demo.realtime.limits import RealtimeLimits
from spaces_demo.service import TalkRequest

pytest.importorskip("pydantic", reason="the demo extra is not installed")


@pytest.fixture(scope="module")
def service():
    return tiny_service(max_new_tokens=120)


class Client:
    """Talks to a session without a network."""

    def __init__(self, service):
        from spaces_demo.realtime.session import RealtimeSession

        self.events = []
        self.session = RealtimeSession(service, RealtimeLimits(), self.take)

    async def take(self, event):
        self.events.append(event)

    async def send(self, kind, **fields):
        await self.session.handle(json.dumps({"type": kind, **fields}))
        return self.events[-1]

    async def ask(self, text):
        content = [{"type": "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.send("response.create")
        await self.session._responding
        return self.events[-1]["response"]["output"][0]


def words_of(events):
    return [word for event in events for word in event.get("words", [])]


def test_what_was_not_played_is_forgotten_exactly(service):
    async def interrupted():
        client = Client(service)
        reply = await client.ask(QUESTION)
        first, second, *_ = words_of(client.events)
        played = round(1000 * (first["end"] + second["end"]) / 2)  # in the middle of the second word, which stays
        event = await client.send("conversation.item.truncate", item_id=reply["id"], audio_end_ms=played)
        assert event["type"] == "conversation.item.truncated" and event["audio_end_ms"] == played
        assert event["transcript"].strip().endswith(second["word"])
        assert len(event["transcript"]) < len(reply["content"][0]["transcript"])
        retrieved = (await client.send("conversation.item.retrieve", item_id=reply["id"]))["item"]
        assert retrieved["content"][0]["transcript"] == event["transcript"]
        await client.ask("Hello there")
        return client.session.conversation.inner

    inner = asyncio.run(interrupted())
    other = TttItemConversation(service.model, service.processor)
    other.items = [replace(item) for item in inner.items[:-1]]
    other.say()
    assert other._cached_ids == inner._cached_ids
    assert inner.cached_usage.total > 0 == other.cached_usage.total
    assert len(inner.items[1].ids) < 80  # of 120


@pytest.mark.parametrize(
    ("item", "audio_end_ms", "code"), [(1, 60_000, "invalid_value"), (0, 100, "invalid_value"), (1, 0, None)]
)
def test_only_what_a_reply_has_can_be_cut(service, item, audio_end_ms, code):
    async def cut():
        client = Client(service)
        await client.ask(QUESTION)
        conversation = client.session.conversation
        name = conversation._name_of(conversation.inner.items[item])
        return await client.send("conversation.item.truncate", item_id=name, audio_end_ms=audio_end_ms), conversation

    event, conversation = asyncio.run(cut())
    if code is None:
        assert event["transcript"] == "" and conversation.inner.items[1].ids == []
    else:
        assert event["error"]["code"] == code


def test_a_reply_can_be_cut_twice_and_text_has_no_audio_to_cut(service):
    async def cut():
        client = Client(service)
        reply = await client.ask(QUESTION)
        for audio_end_ms in (0, 1500):  # the second one names more than is left, but not more than was sent
            event = await client.send("conversation.item.truncate", item_id=reply["id"], audio_end_ms=audio_end_ms)
            assert event["transcript"] == ""
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello there"}]}
        written = (await client.send("conversation.item.create", item=item))["item"]
        return await client.send("conversation.item.truncate", item_id=written["id"], audio_end_ms=0)

    assert asyncio.run(cut())["error"]["code"] == "invalid_value"


def test_a_reply_in_progress_cannot_be_cut_or_deleted(service):
    async def cut():
        client = Client(service)
        content = [{"type": "input_text", "text": QUESTION}]
        await client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        with service.gate.shut():
            await client.send("response.create")
            await asyncio.sleep(0.05)
            name = client.session.response.item_id
            errors = [
                await client.send("conversation.item.truncate", item_id=name, audio_end_ms=0),
                await client.send("conversation.item.delete", item_id=name),
            ]
        await client.session._responding
        return errors

    assert [event["error"]["code"] for event in asyncio.run(cut())] == ["item_in_progress"] * 2


def test_a_cancelled_reply_keeps_the_words_of_which_audio_was_sent(service):
    async def cancelled():
        client = Client(service)
        content = [{"type": "input_text", "text": QUESTION}]
        await client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await client.send("response.create")
        while not words_of(client.events):
            await asyncio.sleep(0.01)
        await client.send("response.cancel")
        return client.session.conversation.inner, client.session.response

    inner, response = asyncio.run(cancelled())
    kept = inner.text_of(inner.items[1])
    assert kept and response.text.startswith(kept)
    *before, _ = inner.processor.layout.parse_reply(inner.items[1].ids).spans
    assert sum(len(span.codes) for span in before) / 25 < response.seconds_sent


def test_sessions_at_the_same_time_get_the_replies_that_each_gets_alone():
    service = tiny_service(max_new_tokens=25)
    questions = ["Hello there", "What is seven?", "What is five plus seven?", "Answer the user."]

    async def together():
        return await asyncio.gather(*(Client(service).ask(question) for question in questions))

    replies = [item["content"][0]["transcript"] for item in asyncio.run(together())]
    alone = [service.reply(TalkRequest(text=question)).text for question in questions]
    assert replies == alone and len(set(alone)) > 1
    assert service.admission.num_running == 0
