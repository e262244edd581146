"""The folder of the Space is complete, and on ZeroGPU only plain lists cross between the processes."""

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
import torch
import yaml
from checkout import ROOT
from service_fixtures import QUESTION, tiny_service

pytest.importorskip("gradio", reason="the demo extra is not installed")

from processing_ttt import TttAudioChunk, TttBlockDraft
from spaces_demo.service import DecodingOptions, TalkRequest
from spaces_demo.space import write_space
from spaces_demo.zero_gpu import MAX_SECONDS, ZeroGpuModel, seconds_of


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    write_space(folder)
    return folder


def files_below(folder, pattern):
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_the_folder_has_what_a_space_needs(space):
    header = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert header["sdk"] == "gradio" and (space / header["app_file"]).is_file()
    assert len(header["short_description"]) <= 60  # the Hub takes no more
    assert (space / "packages.txt").read_text().split() == ["libsndfile1"]  # is read by apt-get: no comments
    for package in ("modeling_ttt", "processing_ttt", "spaces_demo"):
        assert files_below(space / package, "*.py") == files_below(ROOT / package, "*.py")
    assert files_below(space / "spaces_demo" / "page" / "static", "*") == {
        "microphone.js",
        "page.css",
        "player.js",
        "title.html",
        "voice.html",
        "voice.js",
    }
    nano = space / "modeling_ttt" / "checkpoints" / "ttt-nano"
    assert (nano / "codec" / "model.safetensors").is_file() and not list(nano.rglob("*.py")), (
        "it runs from the packages"
    )
    assert not list(space.rglob("__pycache__"))
    assert sum(path.stat().st_size for path in space.rglob("*")) < 64 * 2**20


def test_the_space_installs_what_the_project_declares(space):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {*project["dependencies"], *extras["demo"]}
    for need in [need for need in declared if need.startswith(f"{project['name']}[")]:  # another extra of this project
        declared = declared - {need} | set(extras[need.partition("[")[2].rstrip("]")])
    lines = (space / "requirements.txt").read_text().splitlines()
    installed = {line for line in lines if line and not line.startswith("#")}
    (gradio,) = {need for need in declared if need.startswith("gradio")}
    assert installed == declared - {gradio}  # which is the SDK
    from packaging.requirements import Requirement

    header = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert header["sdk_version"] in Requirement(gradio).specifier


def test_files_are_not_overwritten(space):
    with pytest.raises(FileExistsError, match="another folder"):
        write_space(space)


def test_behind_the_proxy_of_a_space_visitors_are_distinguished(monkeypatch):
    import asyncio

    from spaces_demo import app, space
    from spaces_demo.http.listener import Listener

    seen = []

    async def note_the_visitor(scope, receive, send):
        seen.append(scope["client"][0])

    def ask_for_three(services, **address):
        config = Listener(note_the_visitor, trusted_proxies=os.environ["FORWARDED_ALLOW_IPS"]).config
        config.load()
        for visitor in (b"203.0.113.5", b"1.2.3.4, 203.0.113.6", b"5.6.7.8, 203.0.113.6, 10.0.0.9"):
            scope = {
                "type": "http",
                "scheme": "http",
                "client": ("10.0.0.1", 80),
                "headers": [(b"x-forwarded-for", visitor)],
            }
            asyncio.run(config.loaded_app(scope, None, None))

    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    monkeypatch.setattr(app, "load_service", lambda *_, **__: None)
    monkeypatch.setattr(app, "serve", ask_for_three)
    space.main()
    assert seen == ["203.0.113.5", "203.0.113.6", "203.0.113.6"], "and what a visitor says of itself does not count"


@pytest.mark.slow
def test_the_space_starts_from_its_folder_alone(space, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment)
    try:
        for _ in range(600):
            assert server.poll() is None, "the Space ended by itself"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    assert answer.status == 200 and b"Text-to-Talk" in answer.read()
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        else:
            pytest.fail("the Space did not start")
    finally:
        server.terminate()
        server.wait(30)


# -------------------------------------------------------------------------------------------------------------- ZeroGPU


class BorrowedGpu:
    """`spaces.GPU`, as far as its contract goes: what goes in and out is pickled, and the duration is asked first."""

    def __init__(self):
        self.durations = []

    def __call__(self, duration):
        def decorate(function):
            def call(*args):
                self.durations.append(duration(*args))
                for item in function(*pickle.loads(pickle.dumps(args))):
                    copy = pickle.loads(pickle.dumps(item))
                    assert not any(isinstance(value, torch.Tensor) for value in copy)
                    yield copy

            return call

        return decorate


def zero_gpu_service():
    service, gpu = tiny_service(), BorrowedGpu()
    service.model = ZeroGpuModel(service.model, gpu)
    return service, gpu


SAMPLED = DecodingOptions(temperature=1.0, seed=3)


def test_a_reply_from_a_borrowed_gpu_is_the_models_own():
    service, gpu = zero_gpu_service()
    request = TalkRequest(text=QUESTION, options=SAMPLED)
    with service.stream(request, drafts=True) as stream:
        events = list(stream)
    own = tiny_service().reply(request)
    assert {TttAudioChunk, TttBlockDraft} <= {type(event) for event in events}
    assert stream.whole_summary().token_ids == own.token_ids
    assert stream.whole_summary().num_forwards == own.num_forwards
    assert len(gpu.durations) == 1


def test_a_conversation_goes_on_from_one_borrowed_gpu_to_the_next():
    service, _ = zero_gpu_service()
    own = tiny_service()
    conversation, own_conversation = service.conversation(), own.conversation()
    for text in (QUESTION, "And six?"):
        reply = service.reply(TalkRequest(text=text, conversation=conversation, options=SAMPLED))
        assert (
            reply.token_ids
            == own.reply(TalkRequest(text=text, conversation=own_conversation, options=SAMPLED)).token_ids
        )
    assert torch.equal(conversation.ids, own_conversation.ids)


def test_a_reply_that_is_stopped_gives_the_gpu_back():
    service, _ = zero_gpu_service()
    with service.stream(TalkRequest(text=QUESTION)) as stream:
        next(stream)
        stream.cancel()
    forwards = service.gate.forwards
    assert service.reply(TalkRequest(text=QUESTION)).num_forwards > 0
    assert service.gate.forwards > forwards


def test_a_reply_that_is_stopped_while_the_gpu_is_awaited_leaves_a_conversation_that_goes_on():
    service, _ = zero_gpu_service()
    conversation = service.conversation()
    asked, borrowed = threading.Event(), threading.Event()
    replies = service.model._replies

    def wait_for_the_gpu(kwargs):
        asked.set()
        assert borrowed.wait(30)
        yield from replies(kwargs)

    service.model._replies = wait_for_the_gpu
    with service.stream(TalkRequest(text=QUESTION, conversation=conversation)) as stream:
        assert asked.wait(30)
        stream.cancel()
        borrowed.set()
    assert service.admission.wait_until_empty(30)
    assert conversation.ids.dtype == torch.long and conversation.ids.shape[1] > 0
    assert service.reply(TalkRequest(text="And six?", conversation=conversation)).num_forwards > 0


def test_an_error_where_the_gpu_is_reaches_the_one_who_asked():
    from spaces_demo.service import RequestError

    service, _ = zero_gpu_service()
    service.model.generation_config.denoising_steps = -1
    with pytest.raises(RequestError, match="denoising_steps"):
        service.reply(TalkRequest(text=QUESTION))


@pytest.mark.parametrize(
    "kwargs, seconds",
    [
        ({"max_new_tokens": 100}, 9),
        ({"max_new_tokens": 100, "audio_guidance_scale": 0.1}, 13),
        ({}, 25),
        ({"max_new_tokens": 10**6}, MAX_SECONDS),
    ],
)
def test_the_time_that_is_asked_for_follows_from_the_request(kwargs, seconds):
    assert seconds_of(kwargs) == seconds
