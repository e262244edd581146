"""The routes for programs on a free port of this machine, with OpenAI's client; and a question as a file."""

import io
import threading

import numpy as np
import pytest
import soundfile

openai = pytest.importorskip("openai", reason="the dev extra is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the demo extra is not installed")


class Server:
    """The routes on a free port of this machine."""

    def __init__(self, service):
        from spaces_demo.http.api import add_api, new_app

        app = new_app()
        add_api(app, service, "nano")
        self.service = service
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)

    def stop(self):
        self.server.should_exit = True
        self.thread.join()


def question(seconds=0.5, name="question.wav"):
    samples, file = 0.1 * np.sin(np.arange(int(16000 * seconds)) / 9), io.BytesIO()
    soundfile.write(file, samples, 16000, format=name.rsplit(".")[-1].upper())
    return name, file.getvalue()
