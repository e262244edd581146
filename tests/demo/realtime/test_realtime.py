"""Sessions of `/v1/realtime` over the app itself: which events come, in which order, and what they do."""

import base64
import time

import numpy as np
import pytest
from realtime_fixtures import MANUAL, RATE, as_base64, connected, loudness, silence, tone
from service_fixtures import QUESTION, stop_event, tiny_service
from streaming_fixtures import wait_until

from spaces_demo.service import Limits

pytest.importorskip("fastapi", reason="the demo extra is not installed")

TURN = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
BEGIN = ["response.created", "response.output_item.added", "conversation.item.added", "response.content_part.added"]
END = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
DELTAS = {"response.output_audio.delta", "response.output_audio_transcript.delta"}


@pytest.fixture(scope="module")
def service():
    return tiny_service(Limits(served_at_once=2, per_user=9), max_new_tokens=80)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr("spaces_demo.realtime.turns.speech_probabilities", loudness)


@pytest.fixture
def client(service):
    with connected(service) as client:
        client.until("session.created")
        yield client
    service.gate.shut_at = None
    service.gate.open()


@pytest.fixture
def manual(client):
    client.send("session.update", session=MANUAL)
    client.until("session.updated")
    client.kinds()
    return client


def without_deltas(kinds):
    return [kind for kind in kinds if kind not in DELTAS]


def audio_of(events):
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
    return np.frombuffer(b"".join(map(base64.b64decode, deltas)), "<i2")


def test_a_session_states_what_it_can_do(service):
    with connected(service, query="?model=nano", subprotocols=["realtime", "openai-insecure-api-key.none"]) as client:
        session = client.until("session.created")["session"]
        assert client.websocket.accepted_subprotocol == "realtime"
    assert session["model"] == "nano" and session["output_modalities"] == ["audio"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": RATE}
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert session["capabilities"]["tools"] is False
    assert "conversation.item.truncate" in session["capabilities"]["client_events"]


def test_an_update_changes_what_it_names_and_states_what_counts(client):
    turn_detection = {"type": "semantic_vad", "eagerness": "low", "silence_duration_ms": 900}
    audio = {"input": {"turn_detection": turn_detection, "transcription": {"model": "whisper-1"}}}
    client.send("session.update", session={"type": "realtime", "instructions": "Be brief.", "audio": audio})
    session = client.until("session.updated")["session"]
    assert session["instructions"] == "Be brief." and session["audio"]["input"]["transcription"] == {"model": "nano"}
    stated = session["audio"]["input"]["turn_detection"]
    assert (stated["type"], stated["silence_duration_ms"], stated["threshold"]) == ("server_vad", 900, 0.5)
    client.send("session.update", session={"type": "realtime", "output_modalities": ["text"], "voice": "x"})
    assert client.next()["error"]["code"] == "unknown_parameter"
    client.send("session.update", session={"type": "realtime"})
    session = client.until("session.updated")["session"]
    assert session["output_modalities"] == ["audio"] and session["instructions"] == "Be brief."


@pytest.mark.parametrize("turn_detection", [None, False])
def test_without_turn_detection_nothing_is_a_turn(client, turn_detection):
    audio = {"input": {"turn_detection": turn_detection}}
    client.send("session.update", session={"type": "realtime", "audio": audio, "extensions": ["x.y"]})
    session = client.until("session.updated")["session"]
    assert session["audio"]["input"]["turn_detection"] is None and "extensions" not in session
    client.kinds()
    client.speak(np.concatenate([tone(0.6), silence(0.7)]))
    client.send("session.update", session={"type": "realtime"})
    client.until("session.updated")
    assert client.kinds() == ["session.updated"]


def test_a_manual_turn_is_answered_on_request(manual, service):
    manual.speak(tone(0.5))
    manual.send("input_audio_buffer.commit")
    manual.until("conversation.item.done")
    assert manual.kinds() == TURN
    manual.send("response.create")
    done = manual.until("response.done")["response"]
    events = manual.events
    assert without_deltas(manual.kinds()) == BEGIN + END
    assert done["status"] in ("completed", "incomplete") and done["output"][0]["role"] == "assistant"
    transcript = "".join(e["delta"] for e in events if e["type"].endswith("transcript.delta"))
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": transcript}] and transcript
    usage = done["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 13  # half a second at 25 codes a second
    assert usage["output_token_details"]["audio_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_the_audio_is_the_reply_at_24_khz(manual, service):
    from processing_ttt.resampling_ttt import resample
    from spaces_demo.service import TalkRequest

    manual.write(QUESTION)
    manual.send("response.create")
    manual.until("response.done")
    reply = service.reply(TalkRequest(text=QUESTION))
    expected = np.clip(resample(reply.audio, reply.sampling_rate, RATE), -1, 1)
    np.testing.assert_allclose(audio_of(manual.events) / 32767, expected, rtol=0, atol=2 / 32767)
    words = [word for event in manual.events for word in event.get("words", [])]
    assert words == [{"word": time.word, "start": time.start, "end": time.end} for time in reply.timings]


def test_silence_after_speech_ends_a_turn_and_is_answered(client):
    client.kinds()
    client.speak(np.concatenate([silence(1), tone(0.6), silence(0.7)]))
    client.until("response.done")
    started = next(e for e in client.events if e["type"].endswith("speech_started"))
    stopped = next(e for e in client.events if e["type"].endswith("speech_stopped"))
    assert started["audio_start_ms"] == pytest.approx(700, abs=40)  # 300 ms of padding
    assert stopped["audio_end_ms"] == pytest.approx(1920, abs=70)  # and 320 ms of silence
    begin = ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
    assert without_deltas(client.kinds()) == begin + TURN + BEGIN + END


def test_speech_that_goes_on_after_a_breath_is_one_turn(client):
    client.speak(np.concatenate([silence(0.3), tone(0.5), silence(0.4), tone(0.5), silence(0.7)]))
    item = client.until("conversation.item.done")["item"]
    assert sum(event["type"].endswith("speech_started") for event in client.events) == 1
    client.until("response.done")
    client.send("conversation.item.retrieve", item_id=item["id"])
    assert client.until("conversation.item.retrieved")["item"]["content"] == [
        {"type": "input_audio", "transcript": None}
    ]


def test_twenty_seconds_of_silence_are_not_a_turn(client):
    client.kinds()
    client.speak(silence(20.0), piece=2.0)
    client.send("session.update", session={"type": "realtime"})
    client.until("session.updated")
    assert client.kinds() == ["session.updated"]


def test_speaking_over_a_reply_stops_it_first(client, service, monkeypatch):
    stopped = stop_event(monkeypatch)
    client.write(QUESTION)
    client.kinds()
    service.gate.shut_at = service.gate.forwards + 27
    client.send("response.create")
    client.until("response.output_audio.delta")
    client.speak(tone(0.7))
    assert stopped.wait(20)
    service.gate.shut_at = None
    service.gate.open()
    client.until("input_audio_buffer.speech_started")
    events = client.events
    assert without_deltas(client.kinds()) == BEGIN + END + ["input_audio_buffer.speech_started"]
    done = next(event["response"] for event in events if event["type"] == "response.done")
    assert done["status"] == "cancelled" and done["status_details"]["reason"] == "turn_detected"
    assert done["output"][0]["status"] == "incomplete" and done["usage"]["output_tokens"] > 0
    wait_until(lambda: service.admission.num_running == 0)


def test_a_short_mhm_does_not_interrupt(client, service):
    client.write(QUESTION)
    client.kinds()
    service.gate.shut_at = service.gate.forwards + 8
    client.send("response.create")
    client.until("response.created")
    client.speak(np.concatenate([tone(0.4), silence(0.5)]))
    client.send("session.update", session={"type": "realtime"})
    client.until("session.updated")  # the detector has had all of it
    service.gate.shut_at = None
    service.gate.open()
    done = client.until("response.done")["response"]
    assert done["status"] != "cancelled" and "input_audio_buffer.speech_started" not in client.kinds()


def test_cancelling_takes_at_most_one_forward(manual, service):
    manual.write(QUESTION)
    manual.kinds()
    service.gate.shut_at = service.gate.forwards + 27
    manual.send("response.create")
    manual.until("response.output_audio.delta")
    service.gate.wait_for(service.gate.shut_at)
    forwards = service.gate.forwards
    manual.send("response.cancel")
    manual.send("response.cancel")  # the first one is in progress: this one comes too late
    wait_until(lambda: service.gate.forwards == forwards)
    service.gate.shut_at = None
    service.gate.open()
    done = manual.until("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert service.gate.forwards <= forwards + 1
    assert manual.next()["error"]["code"] == "response_cancel_not_active"
    assert without_deltas(manual.kinds()) == BEGIN + END + ["error"]
    manual.send("response.create")
    manual.until("response.done")


def test_a_second_response_at_once_is_refused(manual, service):
    manual.write(QUESTION)
    with service.gate.shut():
        manual.send("response.create")
        manual.send("response.create", event_id="second")
        manual.until("response.created")
        error = manual.next()["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
    manual.until("response.done")


def test_a_reply_of_text_only_and_options_of_one_response(manual):
    manual.write(QUESTION)
    options = {"output_modalities": ["text"], "max_output_tokens": 3, "metadata": {"a": "b"}}
    manual.send("response.create", response=options)
    done = manual.until("response.done")["response"]
    assert done["metadata"] == {"a": "b"} and done["usage"]["output_tokens"] <= 3
    assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    kinds = manual.kinds()
    assert "response.output_text.delta" in kinds and not DELTAS & {*kinds}
    assert done["output"][0]["content"][0]["type"] == "output_text"
    manual.send("response.create", response={"instructions": "Be brief."})
    assert manual.until("response.done")["response"]["output_modalities"] == ["audio"]


def test_both_sides_are_transcribed(manual, service):
    from spaces_demo.service import TalkRequest

    audio = {"input": {"transcription": {"model": "whisper-1"}}}
    manual.send("session.update", session={"type": "realtime", "audio": audio})
    question = tone(0.5)
    manual.speak(question)
    manual.send("input_audio_buffer.commit")
    transcribed = manual.until("conversation.item.input_audio_transcription.completed")
    expected = service.reply(TalkRequest("asr", audio=(RATE, question))).text.strip()
    assert transcribed["transcript"] == expected and transcribed["usage"] == {"type": "duration", "seconds": 0.5}


def test_a_transcript_does_not_delay_the_response_that_is_asked_for_next(manual, service):
    manual.send("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
    manual.speak(tone(0.5))
    with service.gate.shut():
        manual.send("input_audio_buffer.commit")
        manual.until("conversation.item.done")
        time.sleep(0.05)  # as the network takes
        manual.send("response.create")
        manual.until("response.created")
        wait_until(lambda: service.admission.num_running > 0)
        time.sleep(0.5)
        assert service.admission.num_running == 1
    manual.until("conversation.item.input_audio_transcription.completed")
    assert "response.done" in manual.kinds()


def test_messages_are_deleted_and_found_by_name(manual):
    item = manual.write(QUESTION)
    first = manual.write("Hello", previous_item_id="root")
    added = [event for event in manual.events if event["type"] == "conversation.item.added"]
    assert [event["previous_item_id"] for event in added] == [None, None]
    manual.send("conversation.item.delete", item_id=first["id"])
    assert manual.until("conversation.item.deleted")["item_id"] == first["id"]
    manual.send("conversation.item.retrieve", item_id=first["id"])
    assert manual.next()["error"]["code"] == "item_retrieve_invalid_item_id"
    manual.send("conversation.item.retrieve", item_id=item["id"])
    assert manual.until("conversation.item.retrieved")["item"] == item


def test_recordings_can_be_messages(manual):
    content = [{"type": "input_audio", "audio": as_base64(tone(0.5))}]
    manual.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    assert manual.until("conversation.item.done")["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    manual.send("response.create")
    assert manual.until("response.done")["response"]["usage"]["input_token_details"]["audio_tokens"] == 13


def test_a_client_that_vanishes_leaves_no_slot_in_use(service):
    with connected(service) as client:
        client.until("session.created")
        client.write(QUESTION)
        with service.gate.shut():
            client.send("response.create")
            client.until("response.created")
            wait_until(lambda: service.admission.num_running == 1)
            client.websocket.close()
        wait_until(lambda: service.admission.num_running == 0, seconds=5)


def test_a_busy_service_answers_with_a_failed_response():
    service = tiny_service(Limits(served_at_once=1, waiting=0))
    with connected(service) as client, service.gate.shut():
        client.until("session.created")
        client.write(QUESTION)
        other = service.stream_async  # held by somebody else
        assert other is not None
        ticket = service.admission.enter(None, None, lambda ticket: None)
        client.send("response.create")
        done = client.until("response.done")["response"]
        ticket.leave()
    assert done["status"] == "failed" and done["output"] == []
    assert done["status_details"]["error"]["code"] == "rate_limit_exceeded"
