"""The Ray Serve application on this machine, with two replicas on the CPU; a minute, most of it Ray's own start."""

import base64
import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import soundfile
from checkout import ROOT

from modeling_ttt import nano_checkpoint
from processing_ttt import TttTalker
from spaces_demo.service import TalkRequest, TalkService

websockets = pytest.importorskip("websockets.sync.client", reason="the demo extra is not installed")
ray = pytest.importorskip("ray", reason="the ray extra is not installed")
pytestmark = pytest.mark.slow

QUESTIONS = ["What is two plus three?", "Hello.", "What comes after seven?", "What is nine minus four?"]
PORT = 8123


@pytest.fixture(scope="module")
def alone():
    talker = TttTalker.from_pretrained(nano_checkpoint(), device="cpu")
    service = TalkService(talker.model, talker.processor)
    return {question: service.reply(TalkRequest(text=question)) for question in QUESTIONS}, service


@pytest.fixture(scope="module")
def url():
    from ray import serve

    from spaces_demo.serve import Settings, application

    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "120")  # a busy machine starts processes slowly
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, runtime_env=environment)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    settings = Settings(min_replicas=2, max_replicas=2, cpus=0.5, requests_per_replica=4)
    serve.run(application(settings), name="talker")
    yield f"http://127.0.0.1:{PORT}/v1"
    serve.shutdown()
    ray.shutdown()


def ask(url, question):
    response = httpx.post(f"{url}/talk", json={"text": question}, timeout=300)
    response.raise_for_status()
    return response.json()


def test_two_replicas_answer_together_what_each_question_gets_alone(url, alone):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda index: ask(url, QUESTIONS[index % 4]), range(24)))
    for index, answer in enumerate(answers):
        expected = alone[0][QUESTIONS[index % 4]]
        assert answer["text"] == expected.text
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(answer["audio"])), dtype="float32")
        assert rate == expected.sampling_rate
        np.testing.assert_allclose(audio, np.clip(expected.audio, -1, 1), atol=2 / 32767)
    assert len({answer["replica"] for answer in answers}) == 2


def test_openai_s_routes_stream_from_a_replica(url, alone):
    body = {"model": "ttt", "input": "Hello.", "response_format": "pcm"}
    with httpx.stream("POST", f"{url}/audio/speech", json=body, timeout=300) as response:
        pieces = list(response.iter_bytes())
    assert len(pieces) > 1
    expected = alone[1].reply(TalkRequest("tts", "Hello."))
    audio = np.frombuffer(b"".join(pieces), dtype="<i2") / 32767
    np.testing.assert_allclose(audio, np.clip(expected.audio, -1, 1), atol=2 / 32767)


def test_a_realtime_session_is_one_conversation_of_one_replica(url, alone):
    with websockets.connect(url.replace("http", "ws") + "/realtime?model=ttt", open_timeout=60) as connection:
        assert json.loads(connection.recv())["type"] == "session.created"
        for question in QUESTIONS[:2]:
            content = [{"type": "input_text", "text": question}]
            item = {"type": "message", "role": "user", "content": content}
            connection.send(json.dumps({"type": "conversation.item.create", "item": item}))
            connection.send(json.dumps({"type": "response.create"}))
            replies = iter(lambda: json.loads(connection.recv(timeout=120)), None)
            done = next(event["response"] for event in replies if event["type"] == "response.done")
            assert done["status"] == "completed", done
            if question == QUESTIONS[0]:
                assert done["output"][0]["content"][0]["transcript"] == alone[0][question].text
    assert done["usage"]["input_token_details"]["cached_tokens"] > 0


@pytest.mark.parametrize("audio", ["?", "ü", "AAA"])
def test_audio_that_is_not_in_base64_is_refused(audio):
    from spaces_demo.http.serve import Question
    from spaces_demo.service import RequestError

    with pytest.raises(RequestError, match="in base64"):
        Question(audio=audio).request()


def test_what_cannot_be_answered_is_an_error_in_openai_s_form(url):
    for body, says in (({}, "no question"), ({"audio": "?"}, "base64"), ({"text": 3}, "look at: text")):
        response = httpx.post(f"{url}/talk", json=body, timeout=300)
        assert response.status_code == 400 and says in response.json()["error"]["message"]


def test_a_stop_answers_first_what_was_taken(url, alone):
    """Last in this file: afterwards nobody is there."""
    from ray import serve

    body = {"model": "ttt", "input": "What is two plus three?", "response_format": "pcm"}
    expected = alone[1].reply(TalkRequest("tts", body["input"]))
    with httpx.stream("POST", f"{url}/audio/speech", json=body, timeout=300) as response:
        pieces = response.iter_bytes()
        audio = next(pieces)
        stopping = threading.Thread(target=serve.delete, args=("talker",))
        stopping.start()
        audio += b"".join(pieces)
    stopping.join()
    assert len(audio) == 2 * len(expected.audio)
    assert httpx.post(f"{url}/talk", json={"text": "Hello."}, timeout=60).status_code == 404
