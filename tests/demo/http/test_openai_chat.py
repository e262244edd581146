"""Chat completions with audio, tried with OpenAI's own client."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
import soundfile
from openai_fixtures import Server, openai, question
from service_fixtures import QUESTION, stop_event, tiny_service

from processing_ttt import TttConversation
from spaces_demo.http.past_replies import PastReplies
from spaces_demo.service import Limits, PastTurn, RequestError, TalkRequest

AUDIO = {"modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "alloy"}}
STREAMED = AUDIO | {"audio": {"format": "pcm16", "voice": "alloy"}, "stream": True}


@pytest.fixture(scope="module")
def server():
    server = Server(tiny_service(Limits(per_user=9)))
    yield server
    server.stop()


def asked(content):
    return [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": content}]


def spoken_parts(name="question.wav"):
    file = base64.b64encode(question(name=name)[1]).decode()
    return [{"type": "input_audio", "input_audio": {"data": file, "format": name.rsplit(".")[-1]}}]


def create(server, messages, **options):
    return server.client.chat.completions.create(model="gpt-audio", messages=messages, **options)


def test_an_answer_in_text_and_audio(server):
    expected = server.service.reply(TalkRequest(text=QUESTION))
    answer = create(server, asked(QUESTION), **AUDIO)
    message = answer.choices[0].message
    assert message.audio.transcript == expected.text and message.content is None
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)), dtype="float32")
    assert rate == expected.sampling_rate
    np.testing.assert_allclose(audio, np.clip(expected.audio, -1, 1), atol=2 / 32767)
    assert answer.choices[0].finish_reason == "length", "the random model goes on for ever"
    assert answer.usage.completion_tokens == len(expected.token_ids)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    inputs = server.service.processor.prepare(server.service.processor.messages("chat", QUESTION))
    assert answer.usage.prompt_tokens == inputs["input_ids"].shape[1]


@pytest.mark.parametrize("name", ["question.wav", "question.mp3"])
def test_a_spoken_question(server, name):
    expected = server.service.reply(TalkRequest(audio=question(name=name)[1]))
    answer = create(server, asked(spoken_parts(name)), **AUDIO)
    assert answer.choices[0].message.audio.transcript == expected.text
    answer = create(server, asked([{"type": "text", "text": "Answer this."}, *spoken_parts(name)]), **AUDIO)
    expected = server.service.reply(TalkRequest(text="Answer this.", audio=question(name=name)[1]))
    assert answer.choices[0].message.audio.transcript == expected.text


def test_without_audio_among_the_modalities_an_answer_is_text(server):
    answer = create(server, asked(QUESTION))
    assert answer.choices[0].message.content == server.service.reply(TalkRequest("text", QUESTION)).text
    assert answer.choices[0].message.audio is None
    answer = create(server, asked(spoken_parts()))
    assert answer.choices[0].message.content == server.service.reply(TalkRequest(audio=question()[1])).text


@pytest.mark.parametrize("audio_format", ["mp3", "opus", "flac", "aac", "pcm16"])
def test_the_audio_has_the_format_that_is_asked_for(server, audio_format):
    answer = create(server, asked(QUESTION), **AUDIO | {"audio": {"format": audio_format, "voice": "ash"}})
    data = base64.b64decode(answer.choices[0].message.audio.data)
    starts = {"mp3": (b"\xff\xf3", b"\xff\xfb"), "opus": (b"OggS",), "flac": (b"fLaC",), "aac": (b"\xff\xf1",)}
    assert data.startswith(starts.get(audio_format, (data,)))


def test_a_later_question_continues_from_the_very_reply(server):
    service = server.service
    first = create(server, asked(QUESTION), **AUDIO).choices[0].message
    messages = [*asked(QUESTION), {"role": "assistant", "audio": {"id": first.audio.id}}]
    answer = create(server, [*messages, {"role": "user", "content": "And plus one?"}], **AUDIO)
    conversation = TttConversation(service.model, service.processor)
    assert conversation.say(QUESTION).text == first.audio.transcript
    assert answer.choices[0].message.audio.transcript == conversation.say("And plus one?").text
    assert answer.usage.prompt_tokens > 2 * len(QUESTION)


def test_a_reply_before_may_be_text(server):
    service = server.service
    messages = [*asked(QUESTION), {"role": "assistant", "content": "Twelve."}, {"role": "user", "content": "And one?"}]
    conversation = TttConversation(service.model, service.processor)
    conversation.add("Twelve.", QUESTION)
    assert create(server, messages, **AUDIO).choices[0].message.audio.transcript == conversation.say("And one?").text


def test_an_answer_is_streamed_in_chunks(server):
    expected = server.service.reply(TalkRequest(text=QUESTION))
    chunks = list(create(server, asked(QUESTION), **STREAMED, stream_options={"include_usage": True}))
    *rest, usage = chunks
    assert usage.choices == [] and usage.usage.completion_tokens == len(expected.token_ids)
    deltas = [chunk.choices[0].delta for chunk in rest]
    assert deltas[0].role == "assistant" and rest[-1].choices[0].finish_reason == "length"
    audio = [delta.audio for delta in deltas if delta.audio is not None]
    assert "".join(part.transcript or "" for part in audio) == expected.text
    samples = np.frombuffer(b"".join(base64.b64decode(part.data) for part in audio if part.data), "<i2")
    assert len(samples) / 24000 == pytest.approx(len(expected.audio) / expected.sampling_rate, abs=0.001)
    assert len({part.id for part in audio}) == 1 and audio[-1].expires_at > 0
    messages = [*asked(QUESTION), {"role": "assistant", "audio": {"id": audio[0].id}}]
    assert create(server, [*messages, {"role": "user", "content": "And one?"}]).choices[0].message.content


def test_a_stream_of_text_has_content_and_ends_with_done(server):
    body = {"model": "nano", "messages": asked(QUESTION), "stream": True}
    lines = httpx.post(f"{server.url}/chat/completions", json=body, timeout=60).text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines[:-1]]
    expected = server.service.reply(TalkRequest("text", QUESTION)).text
    assert "".join(delta.get("content", "") for delta in deltas) == expected


@pytest.mark.parametrize(
    ("param", "says", "messages", "options"),
    [
        ("model", "The models here are nano", asked("Hello."), {"model": "gpt-4"}),
        ("messages", "look at: messages", [], {}),
        ("messages", "alternate", asked("a") + asked("b"), {}),
        ("messages", "alternate", [*asked("a"), {"role": "assistant", "content": "b"}], {}),
        ("messages", "There is no text", asked(""), {}),
        ("messages", "one input_audio", asked(spoken_parts() * 2), {}),
        ("messages", "in base64", asked([{"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}]), {}),
        (
            "messages",
            "no audio file",
            asked([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]),
            {},
        ),
        ("messages", "look at: messages", asked([{"type": "image_url", "image_url": {"url": "a"}}]), {}),
        ("messages", "look at: messages", [{"role": "tool", "content": "a"}], {}),
        ("messages", "501 characters", asked("a" * 501), {}),
        (
            "messages",
            "kept for an hour",
            [*asked("a"), {"role": "assistant", "audio": {"id": "audio_0"}}, {"role": "user", "content": "b"}],
            {},
        ),
        ("audio.format", "format pcm16", asked("a"), STREAMED | {"audio": {"format": "mp3", "voice": "ash"}}),
        ("tools", "look at: tools", asked("a"), {"tools": [{"type": "function"}]}),
        ("response_format", "look at: response_format", asked("a"), {"response_format": {"type": "json_object"}}),
        ("n", "look at: n", asked("a"), {"n": 2}),
        ("temperature", "temperature must be", asked("a"), {"temperature": 9}),
        ("max_completion_tokens", "max_new_tokens must be", asked("a"), {"max_completion_tokens": 0}),
    ],
)
def test_a_wrong_request_is_an_error_in_openai_s_form(server, param, says, messages, options):
    body = {"model": "nano", "messages": messages} | options
    answer = httpx.post(f"{server.url}/chat/completions", json=body, timeout=60)
    error = answer.json()["error"]
    assert says in error["message"] and error["param"] == param, error
    assert answer.status_code == (404 if param == "model" else 400)


@pytest.mark.parametrize("stream", [False, True])
def test_audio_that_is_refused_while_it_is_encoded_has_a_status_in_a_stream_too(server, stream):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16000), 16000, format="wav")
    data = base64.b64encode(file.getvalue()).decode()
    silent = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
    body = {"model": "nano", "messages": asked(silent), "stream": stream}
    answer = httpx.post(f"{server.url}/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400 and "silent" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_longer_answer_than_the_context_has_room_for_is_lowered(server, name):
    answer = create(server, asked(QUESTION), **{name: 8000})
    assert answer.usage.completion_tokens <= server.service.longest_reply == 256


def test_a_client_that_leaves_in_mid_answer_stops_the_model(server, monkeypatch):
    cancelled = stop_event(monkeypatch)
    service = server.service
    num_forwards = service.reply(TalkRequest(text=QUESTION)).num_forwards
    service.gate.shut_at = held = service.gate.forwards + num_forwards - 3
    body = {"model": "nano", "messages": asked(QUESTION)} | STREAMED
    try:
        with httpx.stream("POST", f"{server.url}/chat/completions", json=body, timeout=None) as response:
            pieces = response.iter_raw()  # which closes the response when it is dropped
            assert next(pieces)
            service.gate.wait_for(held)
        assert cancelled.wait(30)
    finally:
        service.gate.open()
    assert service.admission.wait_until_empty(30)
    assert service.gate.forwards == held


def test_turns_before_are_checked_like_questions(server):
    service = server.service
    for past in (
        PastTurn(None, None, "a"),
        PastTurn("a", None, ""),
        PastTurn("a" * 501, None, "b"),
        PastTurn("a", b"", "b"),
    ):
        with pytest.raises(RequestError):
            service.reply(TalkRequest(text="c", history=[past]))
    with pytest.raises(RequestError, match="turns before"):
        service.reply(TalkRequest("tts", "c", history=[PastTurn("a", None, "b")]))


def test_the_oldest_replies_go_first_and_all_go_with_time():
    replies = PastReplies(most=2)
    for name in "abc":
        replies.keep(name, [1, 2])
    assert replies.find("b") == replies.find("c") == (1, 2)
    with pytest.raises(RequestError, match="no audio of that id"):
        replies.find("a")
    expired = PastReplies(seconds=0.0)
    expired.keep("a", [1])
    with pytest.raises(RequestError, match="no audio of that id"):
        expired.find("a")
    assert len({replies.new_id()[0] for _ in range(9)}) == 9


def test_types_of_openai_s_package_take_the_answers(server):
    whole = httpx.post(
        f"{server.url}/chat/completions", json={"model": "nano", "messages": asked(QUESTION)} | AUDIO, timeout=60
    ).json()
    openai.types.chat.ChatCompletion.model_validate(whole, strict=True)
    with httpx.stream(
        "POST", f"{server.url}/chat/completions", json={"model": "nano", "messages": asked(QUESTION)} | STREAMED
    ) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: {")]
    for line in lines:
        openai.types.chat.ChatCompletionChunk.model_validate_json(line, strict=True)
