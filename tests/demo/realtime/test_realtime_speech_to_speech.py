"""`speech-to-speech talk` of Hugging Face, unchanged, against a server process with nano: files are its devices."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from checkout import ROOT
from realtime_fixtures import RATE
from realtime_server import recording, server
from streaming_fixtures import wait_until

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip(  # the client needs none of the models of the package
    "speech_to_speech.cli", reason="needs `pip install --no-deps speech-to-speech` and `pip install jsonschema rich`"
)
pytestmark = pytest.mark.slow


class Terminal:
    """The running client: its microphone, its loudspeaker, and the events of the server that it prints."""

    def __init__(self, process, microphone, loudspeaker):
        self.process, self.microphone, self.loudspeaker = process, microphone, loudspeaker
        self.events = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("EVENT: {"):
                self.events.append(json.loads(line.removeprefix("EVENT: ")))

    def of(self, kind):
        return [event for event in self.events if event["type"] == kind]

    def until(self, kind, number=1):
        wait_until(lambda: self.of("error") or len(self.of(kind)) >= number, seconds=60)
        assert not self.of("error"), self.of("error")
        return self.of(kind)[number - 1]

    def say(self, name):
        with self.microphone.open("ab") as file:
            file.write(recording(name).tobytes())

    @property
    def seconds_played(self):
        return self.loudspeaker.stat().st_size / 2 / RATE


@contextmanager
def talking(url, folder):
    devices = {"FAKE_MICROPHONE": folder / "microphone", "FAKE_LOUDSPEAKER": folder / "loudspeaker"}
    for path in devices.values():
        path.touch()
    fakes = os.pathsep.join(filter(None, [f"{ROOT}/tests/support/fake_sounddevice", os.environ.get("PYTHONPATH")]))
    rates = ["--send-rate", str(RATE), "--recv-rate", str(RATE)]
    command = [sys.executable, "-m", "speech_to_speech.cli", "talk", "--model", "ttt", "--print-json", *rates]
    environment = os.environ | {name: str(path) for name, path in devices.items()} | {"PYTHONPATH": fakes}
    process = subprocess.Popen(
        [*command, "--url", f"{url}/realtime"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Terminal(process, *devices.values())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_the_client_in_the_terminal_has_a_conversation_and_interrupts(tmp_path):
    with server() as url, talking(url, tmp_path) as terminal:
        terminal.until("session.updated")
        terminal.say("1.wav")
        done = terminal.until("response.done")["response"]
        assert "ten" in done["output"][0]["content"][0]["transcript"]
        wait_until(lambda: terminal.seconds_played > 1, seconds=20)

        before = len(terminal.of("response.output_audio.delta"))
        terminal.say("10.wav")
        terminal.until("response.output_audio.delta", before + 1)
        terminal.say("6.wav")
        cut = terminal.until("response.done", 2)["response"]
        done = terminal.until("response.done", 3)["response"]
        assert "Vienna" in done["output"][0]["content"][0]["transcript"]
        time.sleep(4)  # it has played the last reply
        sent = sum(len(event["delta"]) * 3 // 4 for event in terminal.of("response.output_audio.delta")) / 2 / RATE
        assert cut["status"] == "cancelled" or terminal.seconds_played < sent - 0.3
