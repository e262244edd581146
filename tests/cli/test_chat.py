"""`ttt chat`: questions in turn, and a spoken conversation whose microphone and loudspeaker are stand-ins."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from checkout import own_packages
from realtime_fixtures import RATE, loudness, silence, tone
from service_fixtures import QUESTION, tiny_service
from streaming_fixtures import wait_until
from typer.testing import CliRunner

import ttt_cli
from processing_ttt import TttItemConversation
from spaces_demo.service import Limits
from ttt_cli.chat import chat
from ttt_cli.realtime import _Local, realtime_url

pytest.importorskip("pydantic", reason="the demo extra is not installed")
pytest.importorskip("websockets", reason="the demo extra is not installed")

LATENCY = 0.1


class PortAudioError(Exception):
    """As sounddevice's: no `RuntimeError`."""


class Loudspeaker:
    """`sounddevice.OutputStream`, as far as it is used: takes samples as fast as it plays them."""

    latency = LATENCY

    def __init__(self, samplerate, channels, dtype):
        self.rate, self.samples, self.dropped = samplerate, 0, 0

    def start(self):
        pass

    def write(self, samples):
        time.sleep(len(samples) / self.rate)
        self.samples += len(samples)

    def abort(self):
        self.dropped += 1

    def stop(self):
        pass

    def close(self):
        pass


class Microphone:
    """`sounddevice.InputStream`, into which a test speaks."""

    def __init__(self, samplerate, blocksize, channels, dtype, callback):
        assert (samplerate, channels, dtype) == (RATE, 1, "int16")
        self.blocksize, self.callback = blocksize, callback

    def start(self):
        pass

    def close(self):
        pass

    def speak(self, *parts):
        samples = np.concatenate(parts)
        for start in range(0, len(samples), self.blocksize):
            self.callback(samples[start : start + self.blocksize].reshape(-1, 1), self.blocksize, None, None)


class Terminal:
    """A stdin of a person, which is not `sys.stdin`'s own."""

    def __init__(self):
        self.end, self.keyboard = os.pipe()

    def isatty(self):
        return True

    def fileno(self):
        return self.end

    def type(self, line):
        os.write(self.keyboard, line.encode() + b"\n")

    def leave(self):
        os.close(self.keyboard)


@pytest.fixture(scope="module")
def service():
    return tiny_service(Limits(), max_new_tokens=120)


@pytest.fixture(autouse=True)
def local(service, monkeypatch):
    monkeypatch.setattr("spaces_demo.app.load_service", lambda *arguments, **options: service)
    monkeypatch.setattr("spaces_demo.realtime.turns.speech_probabilities", loudness)


@pytest.fixture
def devices(monkeypatch):
    opened = SimpleNamespace(loudspeaker=None, microphone=None)

    def loudspeaker(*arguments, **options):
        opened.loudspeaker = Loudspeaker(*arguments, **options)
        return opened.loudspeaker

    def microphone(*arguments, **options):
        opened.microphone = Microphone(*arguments, **options)
        return opened.microphone

    module = SimpleNamespace(
        OutputStream=loudspeaker,
        InputStream=microphone,
        PortAudioError=PortAudioError,
        query_devices=lambda kind: {"name": kind},
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return opened


@pytest.fixture
def sent(monkeypatch):
    """What the session gets, without the microphone's audio."""
    events, send = [], _Local.send

    async def spy(connection, kind, **fields):
        if kind != "input_audio_buffer.append":
            events.append((kind, fields))
        await send(connection, kind, **fields)

    monkeypatch.setattr(_Local, "send", spy)
    return events


def live(monkeypatch, act, **options):
    """Run `ttt chat` at a terminal while `act(terminal)` runs in a thread; then leave."""
    terminal, failed = Terminal(), []

    def person():
        try:
            act(terminal)
        except BaseException as error:
            failed.append(error)
        finally:
            terminal.leave()

    monkeypatch.setattr(sys, "stdin", terminal)
    thread = threading.Thread(target=person)
    thread.start()
    try:
        chat(as_json=True, **options)
    finally:
        thread.join(30)
    if failed:
        raise failed[0]


def replies_in(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def run(*arguments):
    return CliRunner().invoke(ttt_cli.app, ["chat", *map(str, arguments)])


def test_questions_in_turn_are_one_conversation(service, tmp_path):
    soundfile.write(tmp_path / "question.wav", 0.1 * np.sin(np.arange(8000) / 9), 16000)
    done = run(QUESTION, tmp_path / "question.wav", "--out-dir", tmp_path / "replies", "--json")
    assert done.exit_code == 0, done.output
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["question"], second["question"]) == (QUESTION, str(tmp_path / "question.wav"))
    other = TttItemConversation(service.model, service.processor)
    other.add("user", QUESTION)
    assert first["text"] == other.say().text
    other.add("user", codes=service.processor.encode_audio(tmp_path / "question.wav"))
    reply = other.say()
    assert second["text"] == reply.text and not second["interrupted"]
    samples, rate = soundfile.read(second["audio"])
    assert rate == RATE and len(samples) / rate == pytest.approx(reply.seconds, abs=0.01) == second["seconds"]
    plain = run(QUESTION)
    assert plain.exit_code == 0 and plain.stdout == first["text"] + "\n"


def test_a_question_that_is_refused_is_one_line_and_the_others_are_answered(service):
    done = run(" ", QUESTION)
    assert done.exit_code == 1 and done.stdout.strip() and done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_of_a_question_that_is_too_long_the_end_is_asked_and_a_line_says_so(service):
    done = run("Grass. " * 5000 + QUESTION)
    assert done.exit_code == 0 and done.stdout.strip()
    assert done.stderr.startswith("Warning: the question is too long; its first ") and done.stderr.count("\n") == 1


def test_a_file_that_is_no_audio_does_not_end_the_conversation(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    done = run(tmp_path / "noise.wav", QUESTION)
    assert done.exit_code == 1 and done.stdout.strip()
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and "noise.wav" in done.stderr


def test_speaking_is_answered_and_speaking_over_the_reply_stops_it(devices, sent, monkeypatch, capsys, service):
    def act(terminal):
        wait_until(lambda: devices.microphone)
        devices.microphone.speak(tone(0.6), silence(0.7))
        wait_until(lambda: devices.loudspeaker.samples > 0.2 * RATE)
        devices.microphone.speak(tone(0.3), silence(0.3))  # "mhm"
        wait_until(lambda: devices.loudspeaker.samples > 0.7 * RATE)
        assert not devices.loudspeaker.dropped
        devices.microphone.speak(tone(0.7))
        wait_until(lambda: devices.loudspeaker.dropped)

    live(monkeypatch, act)
    (reply,) = replies_in(capsys)
    assert reply["interrupted"] and reply["question"] is None and reply["text"]
    assert reply["seconds"] * RATE == pytest.approx(devices.loudspeaker.samples, abs=RATE // 1000)
    ((kind, fields),) = sent
    assert kind == "conversation.item.truncate"
    assert fields["audio_end_ms"] == pytest.approx(1000 * (reply["seconds"] - LATENCY), abs=1)


def test_without_interruptions_nothing_is_taken_while_a_reply_is_played(devices, sent, monkeypatch, capsys):
    def act(terminal):
        terminal.type(QUESTION)
        wait_until(lambda: devices.loudspeaker and devices.loudspeaker.samples > 0.2 * RATE)
        devices.microphone.speak(tone(1.0), silence(0.7))
        wait_until(lambda: devices.loudspeaker.samples > 1.2 * RATE)

    live(monkeypatch, act, no_interrupt=True)
    (reply,) = replies_in(capsys)
    assert not reply["interrupted"] and reply["question"] == QUESTION and not devices.loudspeaker.dropped
    assert [kind for kind, _ in sent] == ["conversation.item.create", "response.create"]


def test_a_written_line_interrupts_and_the_next_reply_does_not_know_the_rest(
    devices, sent, monkeypatch, capsys, service
):
    def act(terminal):
        terminal.type(QUESTION)
        wait_until(lambda: devices.loudspeaker and devices.loudspeaker.samples > 0.5 * RATE)
        terminal.type("missing.wav")
        terminal.type("Hello there")

    live(monkeypatch, act)
    output = capsys.readouterr()
    first, second = map(json.loads, output.out.splitlines())
    assert "There is no file 'missing.wav'" in output.err
    assert first["interrupted"] and not second["interrupted"]
    (cut,) = [fields["audio_end_ms"] for kind, fields in sent if kind == "conversation.item.truncate"]
    other = TttItemConversation(service.model, service.processor)
    other.add("user", QUESTION)
    other.say()
    kept = other.truncate(other.items[-1], cut / 1000)
    assert kept.startswith(first["text"]) or first["text"].startswith(kept)
    other.add("user", "Hello there")
    assert second["text"] == other.say().text


def test_a_line_also_stops_a_reply_that_is_still_generated(devices, sent, monkeypatch, capsys, service):
    def act(terminal):
        service.gate.shut_at = service.gate.forwards + 25
        terminal.type(QUESTION)
        wait_until(lambda: devices.loudspeaker and devices.loudspeaker.samples > 0.2 * RATE)
        service.gate.wait_for(service.gate.shut_at)
        terminal.type("Hello there")
        wait_until(lambda: devices.loudspeaker.dropped)
        service.gate.shut_at = None
        service.gate.open()

    live(monkeypatch, act)
    assert [reply["interrupted"] for reply in replies_in(capsys)] == [True, False]
    kinds = [kind for kind, _ in sent]
    assert kinds[2:4] == ["response.cancel", "conversation.item.truncate"]


def test_without_devices_a_person_writes(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    live(monkeypatch, lambda terminal: terminal.type(QUESTION))
    output = capsys.readouterr()
    assert json.loads(output.out)["text"] and output.err.count('pip install "text-to-talk[mic]"') == 2


def test_a_server_gives_the_same_conversation(service, tmp_path):
    from openai_fixtures import Server

    local = run(QUESTION, "Hello there", "--json")
    server = Server(service)
    try:
        remote = run(QUESTION, "Hello there", "--json", "--url", server.url)
    finally:
        server.stop()
    assert remote.exit_code == 0, remote.output
    assert [json.loads(line) for line in remote.stdout.splitlines()] == [
        json.loads(line) for line in local.stdout.splitlines()
    ]


def test_a_server_that_leaves_ends_the_conversation_with_one_sentence(service, devices):
    from openai_fixtures import Server

    server = Server(service)
    with service.gate.shut():
        threading.Timer(0.5, server.stop).start()
        done = run(QUESTION, "--url", server.url)
    assert isinstance(done.exception, RuntimeError) and "has ended the conversation" in str(done.exception)


@pytest.mark.parametrize(
    ("url", "model", "expected"),
    [
        ("http://127.0.0.1:7860", "", "ws://127.0.0.1:7860/v1/realtime"),
        ("example.org/talk/", "nano:it", "ws://example.org/talk/v1/realtime?model=nano%3Ait"),
        ("https://example.org/v1", "", "wss://example.org/v1/realtime"),
        ("ws://example.org/v1/realtime?model=a", "b", "ws://example.org/v1/realtime?model=a"),
    ],
)
def test_the_route_follows_from_the_address(url, model, expected):
    assert realtime_url(url, model) == expected


def test_ctrl_c_ends_the_conversation_with_one_sentence(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "ttt_cli", "chat"],
        cwd=tmp_path,
        env=own_packages(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdin.write("What is two plus two?\n")
    process.stdin.flush()
    assert "four" in process.stdout.readline().lower()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == "\nInterrupted. The conversation is over.\n"
