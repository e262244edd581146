"""
Conversations of sessions, without a network. After a cut the next answer has the token ids of a conversation without
the part that was cut, and sessions at the same time do not mix.
"""

import asyncio
import json

import pytest
from item_conversation_fixtures import conversation_of
from realtime_fixtures import as_base64, run, tone
from service_fixtures import QUESTION, tiny_service

from processing_ttt import TttItem
from spaces_demo.realtime.limits import RealtimeLimits
from spaces_demo.service import TalkRequest

pytest.importorskip("pydantic", reason="the demo extra is not installed")


@pytest.fixture(scope="module")
def service():
    return tiny_service(max_new_tokens=120)


class Client:
    """Talks to a session without a network."""

    def __init__(self, service, limits=None):
        from spaces_demo.realtime.session import RealtimeSession

        self.events = []
        self.session = RealtimeSession(service, limits or RealtimeLimits(), self.take)

    async def take(self, event):
        self.events.append(event)

    async def send(self, kind, **fields):
        await self.session.handle(json.dumps({"type": kind, **fields}))
        return self.events[-1]

    async def write(self, *texts, **part):
        content = [{"type": "input_text", "text": text} for text in texts] + ([part] if part else [])
        item = {"type": "message", "role": "user", "content": content}
        return (await self.send("conversation.item.create", item=item))["item"]

    async def ask(self, text):
        await self.write(text)
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

    inner = run(interrupted())
    other = conversation_of(service, inner.items[:-1])
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

    event, conversation = run(cut())
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

    assert run(cut())["error"]["code"] == "invalid_value"


def test_a_reply_in_progress_cannot_be_cut_or_deleted(service):
    async def cut():
        client = Client(service)
        await client.write(QUESTION)
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

    assert [event["error"]["code"] for event in run(cut())] == ["item_in_progress"] * 2


def test_a_cancelled_reply_keeps_the_words_of_which_audio_was_sent(service):
    async def cancelled():
        client = Client(service)
        await client.write(QUESTION)
        await client.send("response.create")
        while not words_of(client.events):
            await asyncio.sleep(0.01)
        await client.send("response.cancel")
        done = client.events[-1]["response"]
        retrieved = await client.send("conversation.item.retrieve", item_id=client.session.response.item_id)
        return client, done["output"][0], retrieved["item"]

    client, done, retrieved = run(cancelled())
    inner, response = client.session.conversation.inner, client.session.response
    kept = inner.text_of(inner.items[1])
    said = "".join(event["delta"] for event in client.events if event["type"].endswith("transcript.delta"))
    assert kept and said.startswith(kept)
    assert done["content"] == retrieved["content"] == [{"type": "output_audio", "transcript": kept}]
    assert done["status"] == retrieved["status"] == "incomplete"
    *before, _ = inner.processor.layout.parse_reply(inner.items[1].ids).spans
    assert sum(len(span.codes) for span in before) / 25 < response.seconds_sent


def test_a_reply_that_is_cancelled_before_its_audio_keeps_nothing_and_can_be_cut_at_zero(service):
    async def cancelled():
        client = Client(service)
        await client.write(QUESTION)
        await client.send("response.create")
        while not any(event["type"].endswith("transcript.delta") for event in client.events):
            await asyncio.sleep(0)
        client.session.response._stream.cancel()
        client.session.response.seconds_sent = 0.0
        await client.send("response.cancel")
        name = client.session.response.item_id
        assert client.session.conversation[name].content == [{"type": "output_audio", "transcript": ""}]
        return await client.send("conversation.item.truncate", item_id=name, audio_end_ms=0)

    assert run(cancelled())["type"] == "conversation.item.truncated"


@pytest.mark.parametrize("way", ["truncate", "cancel", "speech"])
def test_a_reply_that_its_client_stopped_is_not_audible(service, way):
    async def stopped():
        client = Client(service)
        if way == "cancel":
            await client.write(QUESTION)
            await client.send("response.create")
            while not words_of(client.events):
                await asyncio.sleep(0.01)
            await client.send("response.cancel")
        else:
            reply = await client.ask(QUESTION)
            client.session.response.playing_until += 60.0
            assert client.session._is_audible
            if way == "speech":
                await client.session._interrupt()
            else:
                await client.send("conversation.item.truncate", item_id=reply["id"], audio_end_ms=500)
        return client.session._is_audible

    assert run(stopped()) is False


def test_more_output_tokens_than_half_of_the_context_are_lowered(service):
    async def ask():
        client = Client(service)
        session = {"type": "realtime", "max_output_tokens": 4096}
        stated = (await client.send("session.update", session=session))["session"]["max_output_tokens"]
        await client.ask(QUESTION)
        return stated, client.events[-1]["response"]

    stated, response = run(ask())
    assert stated == 256 and response["status"] in ("completed", "incomplete")


def test_a_reply_that_was_cut_off_by_its_length_is_incomplete_whoever_asks(service):
    async def ask():
        client = Client(service)
        await client.send("session.update", session={"type": "realtime", "max_output_tokens": 20})
        reply = await client.ask(QUESTION)
        return reply, (await client.send("conversation.item.retrieve", item_id=reply["id"]))["item"]

    reply, retrieved = run(ask())
    assert reply["status"] == retrieved["status"] == "incomplete"


def test_an_earlier_reply_comes_back_in_the_form_in_which_it_was_stated(service):
    content = [{"type": "output_audio", "transcript": "Hello there"}]
    item = {"type": "message", "role": "assistant", "content": content}
    stated = run(Client(service).send("conversation.item.create", item=item))["item"]
    assert stated["content"] == [{"type": "output_text", "text": "Hello there"}]


def test_a_deleted_message_is_not_transcribed(service, monkeypatch):
    monkeypatch.setattr("spaces_demo.realtime.session.TRANSCRIPTION_DELAY_SECONDS", 0.01)

    async def deleted():
        client = Client(service)
        await client.send("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
        item = await client.write(type="input_audio", audio=as_base64(tone(0.5)))
        await client.send("conversation.item.delete", item_id=item["id"])
        await asyncio.gather(*client.session._tasks)
        return [event["type"] for event in client.events]

    assert run(deleted())[-1] == "conversation.item.deleted"


def test_long_instructions_are_not_written_anew_for_each_message(service, monkeypatch):
    inner = conversation_of(service, [])
    inner.instructions = "word " * 30
    for number in range(60):
        inner.add("user", f"The {number}th message")
    frame = len(inner.rendered([]))
    assert inner.length_of(inner.items[0]) == len(inner.rendered([inner.items[0]])) - frame
    written = []
    rendered = inner._rendered

    def counted(items, system_prompt):
        written.append(system_prompt)
        return rendered(items, system_prompt)

    monkeypatch.setattr(inner, "_rendered", counted)
    assert len(inner.prompt_ids(inner.begin_reply())) <= inner.room()
    assert written.count(inner.instructions) == 3 and len(written) > 60


def test_sessions_at_the_same_time_get_the_replies_that_each_gets_alone():
    service = tiny_service(max_new_tokens=25)
    questions = ["Hello there", "What is seven?", "What is five plus seven?", "Answer the user."]

    async def together():
        return await asyncio.gather(*(Client(service).ask(question) for question in questions))

    replies = [item["content"][0]["transcript"] for item in run(together())]
    alone = [service.reply(TalkRequest(text=question)).text for question in questions]
    assert replies == alone and len(set(alone)) > 1
    assert service.admission.num_running == 0


def test_of_a_text_that_is_long_for_the_context_the_end_counts_and_later_messages_have_room(service):
    text = " ".join(f"The {number}th word." for number in range(200))

    async def ask():
        client = Client(service)
        await client.send("session.update", session={"type": "realtime", "instructions": "Be brief. " * 9})
        item = await client.write(text)
        assert (await client.send("conversation.item.retrieve", item_id=item["id"]))["item"] == item
        await client.ask("Hello there")
        assert client.events[-1]["response"]["status"] != "failed"
        return item["content"], client.session.conversation.inner

    [part], inner = run(ask())
    kept = part["text"]
    assert text.endswith(kept) and part["omitted_characters"] == len(text) - len(kept) > 0
    half = (512 - 120) // 2 + len(inner.rendered([]))  # of the context beside the longest reply
    lengths = [len(inner.rendered([TttItem("user", text[-count:])])) for count in (len(kept), len(kept) + 1)]
    assert lengths[0] <= half < lengths[1]
    prompt = inner.processor.tokenizer.decode(inner._cached_ids)
    assert f"{kept}<|im_end|>" in prompt and "Hello there<|im_end|>" in prompt


@pytest.mark.parametrize(
    ("texts", "kept"),
    [(["0123456789"], None), (["01234567890"], ["1234567890"]), (["one", "two", "three"], ["two\nthree"])],
)
def test_of_a_text_beyond_the_limit_the_end_counts(service, texts, kept):
    item = run(Client(service, RealtimeLimits(text_characters=10)).write(*texts))
    assert [part["text"] for part in item["content"]] == (kept or texts)
    omitted = [part.get("omitted_characters") for part in item["content"]]
    assert omitted == ([len("\n".join(texts)) - len(kept[0])] if kept else [None])


def test_a_long_text_beside_a_recording_leaves_the_recording(service):
    audio = {"type": "input_audio", "audio": as_base64(tone(0.5))}
    client = Client(service, RealtimeLimits(text_characters=10))
    text, recording = run(client.write("What is seven?", **audio))["content"]
    assert text == {"type": "input_text", "text": "is seven?", "omitted_characters": 5}
    assert recording == {"type": "input_audio", "transcript": None}
    assert client.session.conversation.inner.items[0].codes
