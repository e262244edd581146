"""What a session refuses: always by an event with a code, and the session goes on; or it is closed with a code."""

import json

import pytest
from realtime_fixtures import MANUAL, as_base64, connected, loudness, run, silence, tone
from service_fixtures import QUESTION, tiny_service

from spaces_demo.realtime.limits import RealtimeLimits
from spaces_demo.service import Limits

websockets = pytest.importorskip("starlette.websockets", reason="the demo extra is not installed")


@pytest.fixture(scope="module")
def service():
    return tiny_service(Limits(question_seconds=2.0))


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr("spaces_demo.realtime.turns.speech_probabilities", loudness)


@pytest.fixture
def client(service):
    with connected(service, RealtimeLimits(items=4, event_bytes=500_000)) as client:
        client.until("session.created")
        client.send("session.update", session=MANUAL)
        client.until("session.updated")
        yield client


def item(*content, role="user", **fields):
    return {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": role, "content": [*content], **fields},
    }


def text(words):
    return {"type": "input_text", "text": words}


def session(**fields):
    return {"type": "session.update", "session": {"type": "realtime", **fields}}


def turn_detection(**fields):
    return session(audio={"input": {"turn_detection": {"type": "server_vad", **fields}}})


REFUSED = [
    ("", "invalid_json"),
    ("[]", "invalid_json"),
    ("null", "invalid_json"),
    ("{", "invalid_json"),
    ("[" * 100_000, "invalid_json"),
    ('"session.update"', "invalid_json"),
    ({}, "unknown_event"),
    ({"type": None}, "unknown_event"),
    ({"type": ["session.update"]}, "unknown_event"),
    ({"type": "output_audio_buffer.clear"}, "unknown_event"),
    ({"type": "transcription_session.update"}, "unknown_event"),
    ({"type": "session.update"}, "invalid_value"),
    ({"type": "session.update", "session": 1}, "invalid_value"),
    (session(type="transcription"), "invalid_value"),
    (session(voice="x"), "unknown_parameter"),
    (session(tools=[{"type": "function", "name": "f"}]), "invalid_value"),
    (session(output_modalities=[]), "invalid_value"),
    (session(output_modalities=["video"]), "invalid_value"),
    (session(max_output_tokens=0), "invalid_value"),
    (session(max_output_tokens="many"), "invalid_value"),
    (session(instructions="word " * 8000), "invalid_value"),
    (session(instructions="\ud800"), "invalid_value"),
    ({"type": "response.create", "response": {"instructions": "\x00"}}, "invalid_value"),
    ({"type": "response.create", "response": {"metadata": {"a": "b" * 513}}}, "invalid_value"),
    ({"type": "conversation.item.truncate", "item_id": "none", "audio_end_ms": 10**400}, "invalid_value"),
    (item({"type": "output_audio", "transcript": "Hello"}), "invalid_value"),
    (item({"type": "output_audio", "text": "Hello"}, role="assistant"), "invalid_value"),
    (session(audio={"output": {"speed": 1.5}}), "invalid_value"),
    (session(audio={"input": {"format": {"type": "audio/pcmu"}}}), "invalid_value"),
    (session(audio={"input": {"format": {"type": "audio/pcm", "rate": 16000}}}), "invalid_value"),
    (turn_detection(threshold=2), "invalid_value"),
    (turn_detection(silence_duration_ms=1e9), "invalid_value"),
    (turn_detection(prefix_padding_ms=-1), "invalid_value"),
    (turn_detection(secret=1), "unknown_parameter"),
    ({"type": "input_audio_buffer.append"}, "invalid_value"),
    ({"type": "input_audio_buffer.append", "audio": 7}, "invalid_value"),
    ({"type": "input_audio_buffer.append", "audio": "not base64"}, "invalid_audio"),
    ({"type": "input_audio_buffer.append", "audio": "Ü"}, "invalid_audio"),
    ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "invalid_audio"),
    ({"type": "input_audio_buffer.append", "audio": as_base64(silence(7.1))}, "input_audio_buffer_full"),
    ({"type": "input_audio_buffer.append", "audio": as_base64(silence(12))}, "event_too_large"),
    ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
    (item(), "invalid_value"),
    (item(text("")), "invalid_value"),
    (item(text("\x00")), "invalid_value"),
    (item({"type": "input_text"}), "invalid_value"),
    (item({"type": "input_image", "image_url": "http://localhost/"}), "invalid_value"),
    (item({"type": "input_audio"}), "invalid_value"),
    (item({"type": "input_audio", "audio": as_base64(silence(1))}), "invalid_value"),
    (item({"type": "input_audio", "audio": as_base64(tone(0.01))}), "input_audio_buffer_commit_empty"),
    (item({"type": "input_audio", "audio": as_base64(tone(2.5))}), "audio_too_long"),
    (item({"type": "input_audio", "audio": as_base64(tone(1))}, role="assistant"), "invalid_value"),
    (item(text("Hello"), role="tool"), "invalid_value"),
    (item(text("Hello"), id=""), "invalid_value"),
    ({**item(text("Hello")), "previous_item_id": "none"}, "item_not_found"),
    (item(text("\ud800")), "invalid_value"),
    ({"type": "conversation.item.retrieve", "item_id": "none"}, "item_retrieve_invalid_item_id"),
    ({"type": "conversation.item.delete", "item_id": "none"}, "item_not_found"),
    ({"type": "conversation.item.truncate", "item_id": "none", "audio_end_ms": 5}, "item_not_found"),
    ({"type": "conversation.item.truncate", "item_id": "none", "audio_end_ms": -5}, "invalid_value"),
    ({"type": "response.cancel"}, "response_cancel_not_active"),
    ({"type": "response.create", "response": {"conversation": "none"}}, "invalid_value"),
    ({"type": "response.create", "response": {"input": []}}, "unknown_parameter"),
]


def test_whatever_is_wrong_with_an_event_is_answered_by_an_error_and_the_session_goes_on(client, caplog):
    assert len(REFUSED) >= 50
    for event, code in REFUSED:
        client.websocket.send_text(event if isinstance(event, str) else json.dumps({"event_id": "mine", **event}))
        answer = client.next()
        assert (answer["type"], answer["error"]["code"]) == ("error", code), (event, answer)
        assert answer["error"]["message"] and answer["error"]["type"] == "invalid_request_error"
        if isinstance(event, dict) and code != "event_too_large":
            assert answer["error"]["event_id"] == "mine"
    client.websocket.send_bytes(b"\x00\x01")
    assert client.next()["error"]["code"] == "invalid_event"
    assert not caplog.records
    client.write(QUESTION)
    client.send("response.create")
    client.until("response.done")


def test_a_conversation_has_so_many_messages(client):
    for _ in range(4):
        last = client.write("Hello")
    client.send("response.create")
    assert client.next()["error"]["code"] == "too_many_items"
    client.send("conversation.item.delete", item_id=last["id"])
    client.until("conversation.item.deleted")
    client.write("Hello")


def test_a_turn_that_does_not_end_is_ended(service):
    with connected(service) as client:
        client.until("session.created")
        client.speak(tone(3.0))
        stopped = client.until("input_audio_buffer.speech_stopped")
        assert stopped["audio_end_ms"] <= 2100
        client.until("response.done")


def test_only_so_many_sessions_are_open(service):
    limits = RealtimeLimits(sessions=1)
    with connected(service, limits) as client:
        client.until("session.created")
        with client.http.websocket_connect("/v1/realtime") as other:
            assert other.receive_json()["error"]["code"] == "too_many_sessions"
            with pytest.raises(websockets.WebSocketDisconnect) as closed:
                other.receive_json()
            assert closed.value.code == 1013
        client.websocket.close()
        with client.http.websocket_connect("/v1/realtime") as other:
            assert other.receive_json()["type"] == "session.created"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (RealtimeLimits(idle_seconds=0.2), "idle_timeout"),
        (RealtimeLimits(session_seconds=0.2, idle_seconds=9), "session_expired"),
    ],
)
def test_an_idle_session_and_one_that_lasts_too_long_are_closed(service, limits, code):
    with connected(service, limits) as client:
        client.until("session.created")
        assert client.next()["error"]["code"] == code
        with pytest.raises(websockets.WebSocketDisconnect) as closed:
            client.next()
        assert closed.value.code == 1001


def test_a_client_that_closes_at_the_same_time_as_the_server_has_left():
    from spaces_demo.realtime.routes import ClientLeft, _Connection

    class Closed:
        application_state = websockets.WebSocketState.CONNECTED

        async def close(self, code):
            raise websockets.WebSocketDisconnect(1006)

    with pytest.raises(ClientLeft):
        run(_Connection(Closed(), RealtimeLimits()).close(1013))


def test_another_model_is_refused_and_the_session_says_which_it_has(service):
    with connected(service, query="?model=other") as client:
        assert client.until("session.created")["session"]["model"] == "nano"
        assert client.next()["error"]["code"] == "model_not_found"
    with connected(service, query="?model=gpt-realtime") as client:
        client.until("session.created")
        client.send("session.update", session={"type": "realtime", "model": "gpt-realtime"})
        assert client.next()["type"] == "session.updated"
