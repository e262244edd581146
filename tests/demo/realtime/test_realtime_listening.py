"""
A session listens while the user speaks: with a codec that encodes in pieces, little is left to do when a turn ends, and
codes and replies are those of whole questions. Without a network.
"""

import asyncio
import json
import threading

import numpy as np
import pytest
import torch
from codec_fixtures import processor_for
from glm4_voice_fixtures import noise, tiny_codec
from item_conversation_fixtures import conversation_of
from modeling_fixtures import query_lengths
from realtime_fixtures import MANUAL, RATE, as_base64, loudness, run
from service_fixtures import tiny_service
from streaming_fixtures import tiny_talker

from spaces_demo.realtime.audio import as_float
from spaces_demo.realtime.limits import RealtimeLimits
from spaces_demo.service import Limits, TalkRequest

pytest.importorskip("pydantic", reason="the demo extra is not installed")

BLOCK = {"span_attention": "block", "span_block_length": 4}
BLOCK_FRAMES = 40  # encoder frames of a block of the small codec: 0.8 s, 10 codes


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr("spaces_demo.realtime.turns.speech_probabilities", loudness)


class Work:
    """Counts what goes through the codec's encoder and through the model."""

    def __init__(self, service):
        self.frames, self.positions = [], query_lengths(service.model)
        service.processor.codec.tokenizer.layers[0].register_forward_hook(
            lambda module, inputs, output: self.frames.append(output.shape[1])
        )

    def clear(self):
        self.frames.clear()
        self.positions.clear()


def service_of(limits=None, **config):
    talker = tiny_talker(processor=processor_for(tiny_codec(), codebook_size=64), **config)
    service = tiny_service(limits, max_new_tokens=20, talker=talker)
    if config:
        service.model.generation_config.block_length = config["span_block_length"]
    service.work = Work(service)
    return service


@pytest.fixture(params=[{}, BLOCK], ids=["full", "block"])
def service(request):
    return service_of(**request.param)


class Client:
    """Talks to a session, and waits after each event until nothing goes on in the background, unless told not to."""

    def __init__(self, service):
        from spaces_demo.realtime.session import RealtimeSession

        self.events, self.turns = [], []
        self.session = RealtimeSession(service, RealtimeLimits(), self.take)
        conversation = self.session.conversation
        add_audio = conversation.add_audio

        def noted(item_id, codes, samples):
            self.turns.append((codes, samples))
            return add_audio(item_id, codes, samples)

        conversation.add_audio = noted

    async def take(self, event):
        self.events.append(event)

    async def send(self, kind, is_patient=True, **fields):
        await self.session.handle(json.dumps({"type": kind, **fields}))
        while is_patient and self.session._turn is not None and self.session._turn._tasks:
            await asyncio.sleep(0.001)
        return self.events[-1] if self.events else None

    async def speak(self, samples, is_patient=True):
        for start in range(0, len(samples), RATE // 10):
            audio = as_base64(samples[start : start + RATE // 10])
            await self.send("input_audio_buffer.append", is_patient, audio=audio)

    async def manual(self):
        await self.send("session.update", session=MANUAL)
        return self

    async def replied(self):
        await self.session._responding
        return next(event for event in reversed(self.events) if event["type"] == "response.done")["response"]

    @property
    def inner(self):
        return self.session.conversation.inner

    def kinds(self):
        return [event["type"] for event in self.events]


def speech(seconds, seed=0):
    return (32767 * noise(int(RATE * seconds), seed).numpy()).astype("<i2")


def silence(seconds, seed=9):
    """A quiet room: digital silence is beyond the 80 dB below a peak that the codec's features have."""
    return (60 * torch.randn(int(RATE * seconds), generator=torch.Generator().manual_seed(seed)).numpy()).astype("<i2")


def assert_exact(service, client):
    """Codes are those of the whole audio, and the last reply that of a conversation that had all messages at once."""
    for codes, samples in client.turns:
        assert codes == service.processor.encode_audio(as_float(samples), RATE) and len(set(codes)) > 3
    other = conversation_of(service, client.inner.items[:-1])
    other.say(max_new_tokens=20)
    assert client.inner.items[-1].ids == other.items[-1].ids != []
    assert client.inner._cached_ids == other._cached_ids


@pytest.mark.parametrize("seconds", [1.2, 9.3])
def test_the_work_after_the_end_of_a_turn_does_not_grow_with_it(service, seconds):
    async def ask():
        client = Client(service)
        for seed in (0, 5):
            await client.speak(np.concatenate([silence(0.5), speech(seconds, seed)]))
            spoken = list(service.work.frames)
            service.work.clear()
            await client.speak(silence(0.4))  # it may be over
            assert sum(spoken) > 50 * (seconds - 1.5)
            assert sum(service.work.frames) <= 3 * BLOCK_FRAMES
            if service.model.config.span_block_length:  # otherwise all positions of its audio see each other
                assert sum(service.work.positions) <= 13 + 20 + 4
            service.work.clear()
            await client.speak(silence(0.2))  # it is over
            await client.replied()
            assert service.work.frames == [] and service.work.positions[0] == 1
            service.work.clear()
        return client

    client = run(ask())
    assert len(client.turns) == 2 and len(client.turns[1][1]) > seconds * RATE
    assert_exact(service, client)


@pytest.mark.parametrize("seconds", [1.2, 9.3])
def test_the_work_after_a_commit_does_not_grow_with_the_turn(service, seconds):
    async def ask():
        client = await Client(service).manual()
        await client.speak(speech(seconds))
        service.work.clear()
        await client.send("input_audio_buffer.commit")
        assert sum(service.work.frames) <= 3 * BLOCK_FRAMES
        service.work.frames.clear()
        await client.send("response.create")
        usage = (await client.replied())["usage"]
        open_codes = 20 + 4 if service.model.config.span_block_length else len(client.turns[0][0])
        assert service.work.positions[0] <= 13 + open_codes and service.work.frames == []
        assert usage["input_token_details"]["cached_tokens"] == usage["input_tokens"] - service.work.positions[0]
        return client

    assert_exact(service, run(ask()))


def test_pauses_inside_a_turn_change_nothing(service):
    async def ask():
        client = Client(service)
        for seed in range(3):
            await client.speak(np.concatenate([speech(1.1, seed), silence(0.42)]))
        await client.speak(silence(0.2))
        await client.replied()
        return client

    client = run(ask())
    assert len(client.turns) == 1 and len(client.turns[0][1]) > 4 * RATE
    assert_exact(service, client)


def test_audio_that_was_cleared_is_thrown_away_also_while_it_is_encoded(service, monkeypatch):
    going_on, encode_block = threading.Event(), service.processor.codec.tokenizer.encode_block
    entered = threading.Event()

    def slow(*args):
        entered.set()
        assert going_on.wait(20)
        return encode_block(*args)

    async def ask():
        client = await Client(service).manual()
        await client.speak(speech(2.0, 3))
        monkeypatch.setattr(service.processor.codec.tokenizer, "encode_block", slow)
        await client.speak(speech(1.5, 4), is_patient=False)
        while not entered.is_set():
            await asyncio.sleep(0.001)
        turn = client.session._turn
        assert (await client.send("input_audio_buffer.clear"))["type"] == "input_audio_buffer.cleared"
        service.work.clear()
        going_on.set()
        while turn._tasks:
            await asyncio.sleep(0.001)
        assert service.work.frames and service.work.positions == []
        await client.speak(speech(2.2, 5))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.replied()
        return client

    client = run(ask())
    assert len(client.turns) == 1 and len(client.turns[0][1]) == int(2.2 * RATE)
    assert_exact(service, client)


@pytest.mark.parametrize("interrupts", [True, False])
def test_speech_over_a_reply_is_encoded_and_prefilled_once_the_cache_is_free(service, interrupts):
    detection = {"type": "server_vad", "interrupt_response": interrupts, "create_response": interrupts}
    settings = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}

    async def ask():
        client = Client(service)
        await client.send("session.update", session=settings)
        content = [{"type": "input_text", "text": "Hello there"}]
        await client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        with service.gate.shut():
            await client.send("response.create")
            await asyncio.sleep(0.05)
            held = len(service.work.positions)
            talking = asyncio.create_task(client.speak(np.concatenate([speech(2.0), silence(0.45)])))
            if interrupts:
                while client.session.response.cancel_reason is None:
                    await asyncio.sleep(0.001)
            else:
                await talking
                assert len(service.work.positions) == held and service.work.frames
        await talking
        await client.replied()
        await client.speak(silence(0.2))
        if not interrupts:
            await client.send("response.create")
        await client.replied()
        return client

    client = run(ask())
    assert client.kinds().count("response.done") == 2 and len(client.turns) == 1
    assert_exact(service, client)


@pytest.mark.parametrize("change", ["conversation.item.truncate", "conversation.item.delete"])
def test_a_reply_that_is_cut_or_deleted_while_the_user_speaks_leaves_no_trace(service, change):
    async def ask():
        client = await Client(service).manual()
        await client.speak(speech(1.0))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        [reply] = (await client.replied())["output"]
        await client.speak(speech(2.0, 1))
        at = {"audio_end_ms": 0} if change.endswith("truncate") else {}
        ids = list(client.inner.items[1].ids)
        assert (await client.send(change, item_id=reply["id"], **at))["type"].startswith(change)
        assert client.inner.items[-1].ids != ids
        await client.speak(speech(1.0, 2))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.replied()
        return client

    assert_exact(service, run(ask()))


def test_a_response_waits_for_what_is_prefilled_just_now(service):
    async def ask():
        client = await Client(service).manual()
        with service.gate.shut():
            await client.speak(speech(0.9), is_patient=False)
            while not client.session._caching.locked():
                await asyncio.sleep(0.001)
            await client.send("input_audio_buffer.commit", is_patient=False)
            await client.send("response.create", is_patient=False)
            await asyncio.sleep(0.05)
            assert "response.created" not in client.kinds()
        assert (await client.replied())["status"] != "failed"
        return client

    assert_exact(service, run(ask()))


def test_requests_come_before_questions_that_are_still_spoken():
    service = service_of(Limits(served_at_once=1))
    began = []

    async def ask():
        client = await Client(service).manual()
        ticket = service.admission.enter(None, None, lambda ticket: None)
        await client.speak(speech(2.0))
        assert service.work.positions == [] and service.work.frames
        waiting = service.admission.enter(None, None, began.append)
        ticket.leave()
        await client.speak(speech(1.0))
        assert service.work.positions == [] and began == [waiting]
        waiting.leave()
        await client.speak(speech(1.0))
        assert service.work.positions
        before = service.admission.mean_seconds
        await client.speak(speech(1.0))
        assert service.admission.mean_seconds == before and service.admission.num_running == 0
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.replied()
        return client

    assert_exact(service, run(ask()))


def test_a_piece_that_fails_fails_its_turn_and_no_other(service, monkeypatch):
    async def ask():
        client = await Client(service).manual()
        with monkeypatch.context() as patch:
            patch.setattr(service.processor.codec.tokenizer, "encode_block", lambda *args: 1 / 0)
            await client.speak(speech(2.0))
        event = await client.send("input_audio_buffer.commit")
        assert event["error"]["code"] == "server_error" and client.turns == []
        await client.speak(speech(1.0))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.replied()
        return client

    assert_exact(service, run(ask()))


def test_audio_beyond_the_longest_message_does_not_count():
    service = service_of(Limits(question_seconds=2.0))

    async def ask():
        client = await Client(service).manual()
        await client.speak(speech(3.0))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create")
        await client.replied()
        return client

    client = run(ask())
    assert len(client.turns[0][1]) == 2 * RATE
    assert_exact(service, client)


def test_the_prompt_of_a_response_with_other_options_is_its_own(service):
    async def ask():
        client = await Client(service).manual()
        await client.speak(speech(2.0))
        await client.send("input_audio_buffer.commit")
        await client.send("response.create", response={"instructions": "Be brief.", "output_modalities": ["text"]})
        return (await client.replied())["output"][0]["content"], client

    content, client = run(ask())
    other = conversation_of(service, client.inner.items[:1])
    other.instructions, other.has_audio = "Be brief.", False
    assert content == [{"type": "output_text", "text": other.say(max_new_tokens=20).text}]


@pytest.mark.parametrize("is_manual", [True, False])
def test_a_codec_that_needs_the_whole_question_gets_it_when_the_turn_may_be_over(monkeypatch, is_manual):
    service = tiny_service(max_new_tokens=20)
    encoded, encode = [], service.processor.codec.encode
    monkeypatch.setattr(service.processor.codec, "encode", lambda *args: encoded.append(args) or encode(*args))

    async def ask():
        client = Client(service)
        if is_manual:
            await client.manual()
        await client.speak(speech(3.0))
        assert encoded == [] and service.gate.forwards == 0
        if is_manual:
            await client.send("input_audio_buffer.commit")
            await client.send("response.create")
        else:
            await client.speak(silence(0.4))
            assert len(encoded) == 1 and service.gate.forwards == 0
            await client.speak(silence(0.2))
        await client.replied()
        return client

    client = run(ask())
    assert len(encoded) == 1
    codes, samples = client.turns[0]
    assert codes == service.processor.encode_audio(as_float(samples), RATE)
    assert client.inner.items[-1].ids and service.reply(TalkRequest(text="Hello there")).text
