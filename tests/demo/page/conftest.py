"""The demo with nano on a port of its own, and a browser in front of it: started once for all tests of the page."""

import threading
import time

import pytest
import soundfile
from browser import chromium, need_chromium, open_page, spoken

from modeling_ttt import nano_checkpoint


@pytest.fixture(scope="session")
def service():
    from spaces_demo.app import load_service

    need_chromium()
    return load_service(device="cpu")


@pytest.fixture(scope="session")
def url(service):
    import uvicorn

    from spaces_demo.http.server import build_app
    from spaces_demo.page.page import LOOKS, build_demo

    app = build_app(service, build_demo(service), **LOOKS)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")  # Playwright keeps an event loop in this thread, which other tests must not meet
def browser(tmp_path_factory, url):
    need_chromium()
    microphone = tmp_path_factory.mktemp("microphone") / "question.wav"
    samples, rate = spoken(nano_checkpoint() / "questions" / "4.wav")
    soundfile.write(microphone, samples, rate, subtype="PCM_16")
    with chromium(microphone) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, url):
    page = open_page(browser, url)
    yield page
    assert page.errors == []


class Gate:
    """Holds the model back before a forward, so that a test decides how far a reply has come."""

    def __init__(self, model):
        self.left, self.came = float("inf"), threading.Condition()
        model.model.register_forward_pre_hook(self._pass)

    def _pass(self, *_):
        with self.came:
            assert self.came.wait_for(lambda: self.left > 0, 60), "the gate was never opened"
            self.left -= 1

    def let_through(self, forwards):
        with self.came:
            self.left = forwards
            self.came.notify_all()


@pytest.fixture(scope="session")
def gate(service):
    return Gate(service.model)


@pytest.fixture
def held(gate):
    yield gate
    gate.let_through(float("inf"))
