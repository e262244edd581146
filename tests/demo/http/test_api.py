"""Names, formats of transcripts, health, documentation, and addresses that there are not."""

import io

import httpx
import numpy as np
import pytest
import soundfile
from openai_fixtures import Server, question
from service_fixtures import QUESTION, tiny_service

from processing_ttt import split_at_pauses
from spaces_demo.service import Limits, TalkRequest


@pytest.fixture(scope="module")
def server():
    service = tiny_service(Limits(per_user=9, recording_seconds=60.0), max_new_tokens=6)
    service.processor.transcription_seconds = 2.0
    server = Server(service)
    yield server
    server.stop()


def long_recording():
    """Five seconds with pauses, as samples and as a file."""
    pieces = [np.sin(np.arange(19200) / 9), np.zeros(4800)] * 3 + [np.sin(np.arange(8000) / 9)]
    samples, file = (0.1 * np.concatenate(pieces)).astype(np.float32), io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    return samples, ("long.wav", file.getvalue())


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "nano"])
def test_openai_s_names_of_models_and_voices_are_taken(server, model):
    expected = server.service.reply(TalkRequest("tts", QUESTION))
    for voice in ("alloy", "nano", {"id": "voice_1234"}):
        speech = server.client.audio.speech.create(
            model=model, voice=voice, input=QUESTION, response_format="pcm", instructions="Speak cheerfully."
        )
        assert len(speech.content) == 2 * len(expected.audio)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"])
def test_openai_s_names_of_models_that_transcribe_are_taken(server, model):
    expected = server.service.reply(TalkRequest("asr", audio=question()[1]))
    assert server.client.audio.transcriptions.create(model=model, file=question()).text == expected.text


def test_a_voice_of_ours_chooses_the_model_that_has_it():
    from spaces_demo.http.openai_names import ServedModels, Voice

    served = ServedModels("nano", ("it",))
    assert served.adapter("tts-1") is served.adapter("nano", "alloy") is None
    assert served.adapter("nano:it") == served.adapter("tts-1", "nano:it") == "it"
    assert served.adapter("tts-1", Voice(id="nano:it")) == "it"
    assert served.adapter("nano:it", "nano") is None
    assert [voice["id"] for voice in served.voices()["voices"]] == ["nano", "nano:it"]


def test_a_long_recording_is_transcribed_in_pieces_with_their_times(server):
    samples, file = long_recording()
    expected = [
        (start / 16000, end / 16000, server.service.reply(TalkRequest("asr", audio=(16000, samples[start:end]))).text)
        for start, end in split_at_pauses(samples, 16000, 2.0)
    ]
    create = server.client.audio.transcriptions.create
    found = create(model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["segment"])
    assert [(segment.start, segment.end, segment.text) for segment in found.segments] == [
        (pytest.approx(start, abs=1e-3), pytest.approx(end, abs=1e-3), text) for start, end, text in expected
    ]
    assert len(expected) > 2 and found.duration == len(samples) / 16000 and found.language == "en"
    text = create(model="whisper-1", file=file, response_format="text")
    assert found.text == text == " ".join(text for _, _, text in expected)
    srt = create(model="whisper-1", file=file, response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:01,")
    assert srt.count(" --> ") == sum(bool(text) for _, _, text in expected)
    vtt = create(model="whisper-1", file=file, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.")
    deltas = [event.delta for event in create(model="whisper-1", file=file, stream=True) if hasattr(event, "delta")]
    assert "".join(deltas) == text


def test_only_recordings_that_are_transcribed_may_be_long(server):
    samples, _ = long_recording()
    service = tiny_service(Limits(question_seconds=2.0))
    for task in ("chat", "asr"):
        with pytest.raises(ValueError, match="longer than the limit of 2 s"):
            service.reply(TalkRequest(task, audio=(16000, samples)))
    service = tiny_service(Limits(question_seconds=2.0, recording_seconds=9.0), max_new_tokens=3)
    assert service.reply(TalkRequest("asr", audio=(16000, samples))).transcript.seconds == len(samples) / 16000
    with pytest.raises(ValueError, match="longer than the limit of 2 s"):
        service.reply(TalkRequest("chat", audio=(16000, samples)))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/responses", 404, "unknown_url"),
        ("GET", "/", 404, "unknown_url"),
        ("DELETE", "/files/x/y", 404, "unknown_url"),
        ("GET", "/realtime?model=ttt", 426, "websocket_only"),
        ("GET", "/audio/speech", 405, "method_not_supported"),
        ("PUT", "/models/nano", 405, "method_not_supported"),
    ],
)
def test_an_address_or_method_that_there_is_not_is_an_error_in_openai_s_form(server, method, path, status, code):
    answer = httpx.request(method, server.url + path)
    error = answer.json()["error"]
    assert answer.status_code == status and error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert (answer.headers.get("allow") is not None) == (status == 405)
    assert status != 404 or "/v1/audio/speech" in error["message"], "it says what there is"


def test_health_says_whether_requests_are_taken(server):
    address = server.url.removesuffix("/v1") + "/health"
    assert httpx.get(address).json() == {"status": "ok", "model": "nano", "served": 0, "waiting": 0}
    stopping = Server(tiny_service())
    stopping.service.close()
    answer = httpx.get(stopping.url.removesuffix("/v1") + "/health")
    stopping.stop()
    assert answer.status_code == 503 and answer.json()["status"] == "stopping"


def test_the_routes_are_documented_without_a_network(server):
    root = server.url.removesuffix("/v1")
    page = httpx.get(f"{root}/docs").text
    assert "POST /v1/audio/speech" in page and "GET /health" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    described = httpx.get(f"{root}/openapi.json").json()
    assert "4XX" in described["paths"]["/v1/audio/speech"]["post"]["responses"]


def test_the_voices_are_listed(server):
    assert httpx.get(f"{server.url}/audio/voices").json() == {"voices": [{"id": "nano", "name": "nano"}]}
