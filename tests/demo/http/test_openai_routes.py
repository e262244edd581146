"""OpenAI's routes, tried with OpenAI's own client against a server on this machine."""

import asyncio
import base64
import io
import json

import httpx
import numpy as np
import pytest
import soundfile
from openai_fixtures import Server, openai, question
from service_fixtures import QUESTION, stop_event, tiny_service

from spaces_demo.service import Limits, TalkRequest

av = pytest.importorskip("av", reason="the demo extra is not installed")
fastapi = pytest.importorskip("fastapi", reason="the demo extra is not installed")


@pytest.fixture(scope="module")
def server():
    server = Server(tiny_service(Limits(served_at_once=1, waiting=1, per_user=9, upload_bytes=100_000)))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def spoken(server):
    """The reply that the routes should give."""
    return server.service.reply(TalkRequest("tts", QUESTION))


def decoded(content):
    """Samples and rate of a file of any format."""
    with av.open(io.BytesIO(content)) as file:
        rate = file.streams.audio[0].rate
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)]), rate


def test_the_model_is_listed(server):
    assert [model.id for model in server.client.models.list()] == ["nano"]
    assert server.client.models.retrieve("nano").id == "nano"
    with pytest.raises(openai.NotFoundError, match="The models here are nano"):
        server.client.models.retrieve("gpt")


@pytest.mark.parametrize("response_format", ["wav", "flac", "mp3", "opus", "aac"])
def test_speech_is_the_reply_as_a_file(server, spoken, response_format):
    speech = server.client.audio.speech.create(
        model="nano", voice="any", input=QUESTION, response_format=response_format
    )
    if response_format in ("wav", "flac"):
        audio, rate = soundfile.read(io.BytesIO(speech.content), dtype="float32")
        assert rate == spoken.sampling_rate
        np.testing.assert_allclose(audio, np.clip(spoken.audio, -1, 1), atol=2 / 32767)
    else:
        audio, rate = decoded(speech.content)
        assert len(audio) / rate == pytest.approx(len(spoken.audio) / spoken.sampling_rate, abs=0.15)


@pytest.mark.parametrize("response_format", ["pcm", "mp3", "opus", "aac"])
def test_speech_comes_in_pieces_while_it_is_generated(server, spoken, response_format):
    service, body = server.service, {"model": "nano", "input": QUESTION, "response_format": response_format}
    service.gate.shut_at = held = service.gate.forwards + spoken.num_forwards - 3
    try:
        with httpx.stream("POST", f"{server.url}/audio/speech", json=body, timeout=None) as response:
            pieces = response.iter_raw()
            content = next(pieces)
            service.gate.wait_for(held)
            assert content and service.admission.num_running == 1
            service.gate.open()
            content += b"".join(pieces)
    finally:
        service.gate.open()
    audio = np.frombuffer(content, "<i2") if response_format == "pcm" else decoded(content)[0]
    assert len(audio) > 0


@pytest.mark.parametrize("speed", [0.5, 2.0])
@pytest.mark.parametrize("response_format", ["wav", "mp3"])
def test_speech_is_as_fast_as_is_asked_for(server, spoken, speed, response_format):
    speech = server.client.audio.speech.create(
        model="nano", voice="any", input=QUESTION, response_format=response_format, speed=speed
    )
    audio, rate = decoded(speech.content)
    seconds = len(spoken.audio) / spoken.sampling_rate / speed
    assert len(audio) / rate == pytest.approx(seconds, rel=0.05, abs=0.15)


def test_pcm_comes_in_pieces_while_it_is_made(server, spoken):
    with server.client.audio.speech.with_streaming_response.create(
        model="nano", voice="any", input=QUESTION, response_format="pcm"
    ) as response:
        pieces = iter(response.iter_bytes())
        first = next(pieces)
        assert server.service.admission.num_running == 1 or len(first) < 2 * len(spoken.audio)
        audio = np.frombuffer(first + b"".join(pieces), dtype="<i2") / 32767
    np.testing.assert_allclose(audio, np.clip(spoken.audio, -1, 1), atol=2 / 32767)


def test_speech_comes_as_events_too(server, spoken):
    with server.client.audio.speech.with_streaming_response.create(
        model="nano", voice="any", input=QUESTION, response_format="pcm", stream_format="sse"
    ) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    assert events[-1]["type"] == "speech.audio.done"
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert len(audio) == 2 * len(spoken.audio)
    words = [word for event in events[:-1] for word in event["words"]]
    expected = [{"word": time.word, "start": time.start, "end": time.end} for time in spoken.timings]
    assert words == expected and len(words) > 0


def test_a_recording_is_written_down(server):
    expected = server.service.reply(TalkRequest("asr", audio=question()[1])).text
    create = server.client.audio.transcriptions.create
    assert create(model="nano", file=question()).text == expected
    assert create(model="nano", file=question(name="question.flac"), response_format="text") == expected
    events = list(create(model="nano", file=question(), stream=True))
    assert "".join(event.delta for event in events[:-1]) == expected
    assert events[-1].type == "transcript.text.done" and events[-1].text == expected


def test_a_language_that_is_named_is_asked_for(server, monkeypatch):
    asked, generate = [], server.service._generate

    def note_language(turn, streamer):
        asked.append(turn.request.language)
        return generate(turn, streamer)

    monkeypatch.setattr(server.service, "_generate", note_language)
    server.client.audio.transcriptions.create(model="nano", file=question(), language="it")
    speech = {"model": "nano", "input": "Hello.", "voice": "nano", "response_format": "pcm"}
    server.client.audio.speech.create(**speech, extra_body={"language": "ru"})
    server.client.audio.speech.create(**speech)
    assert asked == ["it", "ru", None]


@pytest.mark.parametrize(
    ("status", "says", "change"),
    [
        (404, "The models here are nano", {"model": "gpt-4"}),
        (400, "There is no text", {"input": " "}),
        (400, "501 characters", {"input": "a" * 501}),
        (400, "response_format is one of", {"response_format": "midi"}),
        (400, "less than or equal to 4", {"speed": 5.0}),
        (400, "cannot be read; look at: voice", {"voice": ["alloy"]}),
        (400, "cannot be read; look at: input", {"input": ["a"]}),
    ],
)
def test_a_wrong_request_for_speech_is_an_error_in_openai_s_form(server, status, says, change):
    with pytest.raises(openai.APIStatusError, match=says) as failure:
        server.client.audio.speech.create(**{"model": "nano", "voice": "any", "input": QUESTION} | change)
    assert failure.value.status_code == status
    assert set(failure.value.response.json()["error"]) == {"message", "type", "param", "code"}
    assert [failure.value.param] == list(change)


@pytest.mark.parametrize(
    ("body", "kind"),
    [('{"input": "Hello."}', "application/x-www-form-urlencoded"), ('{"input": ', "application/json")],
)
def test_a_body_that_is_no_json_is_refused_with_the_header_to_send(server, body, kind):
    """The first is what curl sends with `-d` alone."""
    response = httpx.post(f"{server.url}/audio/speech", content=body, headers={"Content-Type": kind})
    assert response.status_code == 400
    assert "header Content-Type: application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("status", "says", "change"),
    [
        (404, "The models here are nano", {"model": "gpt-4"}),
        (400, "srt or vtt", {"response_format": "midi"}),
        (400, "segments, and not words", {"timestamp_granularities": ["word"], "response_format": "verbose_json"}),
        (400, "has no bytes", {"file": ("a.wav", b"")}),
        (400, "no audio file that can be read", {"file": ("a.wav", b"RIFF....WAVE")}),
        (400, "Accepted are wav, flac", {"file": ("a.exe", question()[1])}),
        (413, "larger than the limit", {"file": ("a.wav", bytes(200_000))}),
        (400, "temperature must be", {"temperature": 99}),
    ],
)
def test_a_wrong_request_to_write_down_is_an_error_in_openai_s_form(server, status, says, change):
    with pytest.raises(openai.APIStatusError, match=says) as failure:
        server.client.audio.transcriptions.create(**{"model": "nano", "file": question()} | change)
    assert failure.value.status_code == status


def test_a_request_when_all_places_are_taken_gets_a_time_to_ask_again(server):
    service = server.service
    with service.gate.shut():
        streams = [service.stream(TalkRequest(text=QUESTION)) for _ in range(2)]
        with pytest.raises(openai.RateLimitError, match="try again in about") as refusal:
            server.client.audio.speech.create(model="nano", voice="any", input=QUESTION)
        assert int(refusal.value.response.headers["retry-after"]) >= 1
    for stream in streams:
        stream.close()


def test_a_failure_of_ours_does_not_tell_what_it_was(server, caplog):
    def fail(*_):
        raise RuntimeError("secret /path")

    handle = server.service.model.model.register_forward_pre_hook(fail)
    try:
        with pytest.raises(openai.InternalServerError, match="error on the server") as failure:
            server.client.audio.speech.create(model="nano", voice="any", input=QUESTION)
    finally:
        handle.remove()
    assert "secret" not in failure.value.response.text and "secret" in caplog.text


def test_a_client_that_leaves_in_mid_speech_stops_the_model_within_one_forward(server, spoken, monkeypatch):
    cancelled = stop_event(monkeypatch)
    service, body = server.service, {"model": "nano", "input": QUESTION, "response_format": "pcm"}
    service.gate.shut_at = held = service.gate.forwards + spoken.num_forwards - 3
    try:
        with httpx.stream("POST", f"{server.url}/audio/speech", json=body, timeout=None) as response:
            pieces = response.iter_raw()
            assert next(pieces)
            service.gate.wait_for(held)
        assert cancelled.wait(30)  # although the model has not moved on since
    finally:
        service.gate.open()
    assert service.admission.wait_until_empty(30)
    assert service.gate.forwards == held


@pytest.mark.parametrize("num_before", [0, 1], ids=["its turn has come", "it waits"])
@pytest.mark.parametrize("path", ["speech", "transcriptions"])
def test_a_client_that_leaves_before_the_first_piece_gives_its_slot_or_place_up(server, monkeypatch, num_before, path):
    cancelled = stop_event(monkeypatch)
    service = server.service
    body = {"json": {"model": "nano", "input": QUESTION}}
    if path == "transcriptions":
        body = {"data": {"model": "nano"}, "files": {"file": question()}}

    async def leave():
        async with httpx.AsyncClient(timeout=None) as client:
            asking = asyncio.create_task(client.post(f"{server.url}/audio/{path}", **body))
            while service.admission.num_running + service.admission.num_waiting <= num_before:
                await asyncio.sleep(0.01)
            asking.cancel()

    with service.gate.shut():
        others = [service.stream(TalkRequest(text=QUESTION)) for _ in range(num_before)]
        asyncio.run(leave())
        assert cancelled.wait(30)
        assert service.admission.num_waiting == 0
        for other in others:
            other.cancel()
    assert service.admission.wait_until_empty(30)
