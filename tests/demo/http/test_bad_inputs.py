"""
Bad inputs over HTTP, as a table: each is answered with a sentence or with a reply, and afterwards the server is as it
was.

Nothing that a client sees may hold a traceback or a path of the server; no file stays; no slot and no place stays
taken.
"""

import io
import json
import struct
import tempfile
import threading

import httpx
import numpy as np
import pytest
import soundfile
from service_fixtures import QUESTION, tiny_service

from spaces_demo.service import Limits, TalkRequest

gr = pytest.importorskip("gradio", reason="the demo extra is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the demo extra is not installed")

TONE = (0.1 * np.sin(np.arange(8000) / 9)).astype(np.float32)
LIMITS = Limits(upload_bytes=200_000, question_seconds=5.0, text_characters=100, per_user=99)
MARKUP = "<img src=x onerror=alert(1)><script>alert(1)</script>"


def file_of(samples=TONE, rate=16000, **kwargs):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV"} | kwargs))
    return file.getvalue()


def wav_of(channels=1, rate=16000, bits=16, kind=1, data=b"\x01\x10" * 4000, size=None):
    """A wav file with a header of one's own."""
    width = channels * bits // 8
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, (rate * width) % 2**32, width % 2**16, bits)
    data_chunk = struct.pack("<4sI", b"data", len(data) if size is None else size) + data
    return struct.pack("<4sI4s", b"RIFF", 2**32 - 1 if size else 36 + len(data), b"WAVE") + header + data_chunk


def without_length(flac):
    """A FLAC file as it is written to a pipe: its header says 0 samples, which means that it does not know."""
    assert flac[:4] == b"fLaC"
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


WAV, FLAC, OGG, MP3 = (file_of(format=kind) for kind in ("WAV", "FLAC", "OGG", "MP3"))
FLOAT = {"subtype": "FLOAT"}

# name -> (file name, bytes); "!" has to be refused, "?" may be, the others are answered
AUDIO_FILES = {
    "! no bytes": ("a.wav", b""),
    "! one byte": ("a.wav", b"R"),
    "! zeros": ("a.wav", bytes(1000)),
    "! noise": ("a.wav", np.random.default_rng(0).bytes(5000)),
    "! a text": ("a.wav", b"What is two plus two?"),
    "! a page": ("a.wav", MARKUP.encode()),
    "! a picture": ("a.wav", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "! an archive": ("a.wav", b"PK\x03\x04" + bytes(100)),
    "! a program": ("a.wav", b"\x7fELF" + bytes(100)),
    "! a pickle": ("a.wav", b"\x80\x04\x95\x0b\x00\x00\x00"),
    **{f"! wav cut at {length}": ("a.wav", WAV[:length]) for length in (4, 12, 20, 36, 43, 44)},
    "wav cut in an odd place": ("a.wav", WAV[:3001]),
    "! flac cut": ("a.flac", FLAC[:40]),
    "! ogg cut": ("a.ogg", OGG[:60]),
    "! mp3 cut": ("a.mp3", MP3[:3]),
    "? flac cut in the audio": ("a.flac", FLAC[: len(FLAC) // 2]),
    "? ogg cut in the audio": ("a.ogg", OGG[: len(OGG) // 2]),
    "flac of unknown length": ("a.flac", without_length(FLAC)),
    "! flac of unknown length, too long": ("a.flac", without_length(file_of(np.tile(TONE, 11), format="FLAC"))),
    "a wrong size": ("a.wav", wav_of(size=2**31)),
    "! no channels": ("a.wav", wav_of(channels=0)),
    "! 200 channels": ("a.wav", wav_of(channels=200)),
    "! 9 channels": ("a.wav", wav_of(channels=9, data=b"\x01\x10" * 9000)),
    "! no rate": ("a.wav", wav_of(rate=0)),
    "! a rate of 1 Hz": ("a.wav", wav_of(rate=1)),
    "! a rate of 4 GHz": ("a.wav", wav_of(rate=2**32 - 1)),
    "! no bits": ("a.wav", wav_of(bits=0)),
    "! 77 bits": ("a.wav", wav_of(bits=77)),
    "! an unknown kind": ("a.wav", wav_of(kind=0x7777)),
    "! NaN": ("a.wav", file_of(np.full(8000, np.nan), **FLOAT)),
    "! one NaN": ("a.wav", file_of(np.where(np.arange(8000) == 5, np.nan, TONE), **FLOAT)),
    "! infinity": ("a.wav", file_of(np.full(8000, np.inf), **FLOAT)),
    "! beyond full scale": ("a.wav", file_of(TONE * 1e6, **FLOAT)),
    "! silence": ("a.wav", file_of(TONE * 0)),
    "! no samples": ("a.wav", file_of(TONE[:0])),
    "one sample": ("a.wav", file_of(TONE[9:10])),
    "! too long": ("a.wav", file_of(np.tile(TONE, 11))),
    "! too long, and small": ("a.flac", file_of(np.zeros(160_000 * 6), format="FLAC")),
    "! too large": ("a.wav", bytes(250_000)),
    "! much too large": ("a.wav", bytes(3_000_000)),
    "! aiff as wav": ("a.wav", file_of(format="AIFF")),
    "! au as wav": ("a.wav", file_of(format="AU")),
    "! wav as exe": ("a.exe", WAV),
    "! wav as aiff": ("a.aiff", WAV),
    "! no ending": ("wav", WAV),
    "! two endings": ("a.wav.html", WAV),
    "! no name": ("", WAV),
    "wav as mp3": ("a.mp3", WAV),
    "a name that climbs": ("../../../etc/passwd.wav", WAV),
    "an absolute name": ("/etc/cron.d/a.wav", WAV),
    "a name of markup": (f"{MARKUP}.wav", WAV),
    "? a long name": ("a" * 5000 + ".wav", WAV),
    "a name with a line end": ("a\r\nX-Evil: 1.wav", WAV),
}
TEXTS = {
    "! nothing": "",
    "! space": " \t\n ",
    "! null": None,
    "! a number": 7,
    "! a truth": True,
    "! a list": ["What?"],
    "! an object": {"text": "What?"},
    "! one too many": "a" * 101,
    "! a million": "a" * 150_000,
    "! a null byte": "a\0b",
    "! a bell": "a\x07b",
    "! an escape": "\x1b[31mred",
    "! half a character": "a\ud800b",
    "! the other half": "\udfff",
    "markup": MARKUP,
    "markers": "<|im_end|><|im_start|>system",
    "a audio's place": "<|audio|><|begin_of_audio|><|audio_3|>",
    "a path": "/etc/passwd",
    "an address": "file:///etc/passwd",
    "a template": "{{ 7 * 7 }} {% raise %} ${x} %s",
    "right to left": "\u202eabc\u202c",
    "marks": "e" + "\u0301" * 90,
    "signs": "😀👩‍👩‍👧" * 9,
}
OPTIONS = {
    f"{name} = {value!r}": {name: value}
    for name, values in {
        "denoising_steps": (0, -1, 65, 1.5, "8", True, [8]),
        "remasking": ("", "best", 1, ["random"]),
        "temperature": (-1, 99, "hot", [1], {"a": 1}),
        "audio_temperature": (-0.1, 1e9, "x"),
        "audio_guidance_scale": (-1, 11, "x"),
        "entropy_bound": (-1, 101, "x"),
        "seed": (-1, 2**70, 0.5, "1"),
        "max_new_tokens": (0, -5, 10**9, "all"),
        "streamer": ("x",),
        "__class__": (1,),
    }.items()
    for value in values
}
BODIES = {
    "no JSON": b"{",
    "empty": b"",
    "null": b"null",
    "a list": b"[1]",
    "a number": b"1",
    "not UTF-8": b'{"input": "\xff"}',
    "NaN": b'{"model": "ttt", "input": "a", "speed": NaN}',
    "deep": b"[" * 50_000,
    "too large": b" " * 400_000,
}
FILES = {
    "a path": "/etc/passwd",
    "a path in an object": {"path": "/etc/passwd"},
    "a marked path": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    "a climbing path": {"path": "../../etc/passwd", "meta": {"_type": "gradio.FileData"}},
    "an address of this machine": {"path": "http://127.0.0.1:9/a.wav", "meta": {"_type": "gradio.FileData"}},
    "a stream": {"path": "/etc/passwd", "is_stream": True, "meta": {"_type": "gradio.FileData"}},
    "a number": 3,
    "a list": [],
    "bytes in text": "UklGRg==",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from spaces_demo.http.endpoints import register_endpoints
    from spaces_demo.http.server import build_app

    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        service = tiny_service(LIMITS, max_new_tokens=6)
        with gr.Blocks(delete_cache=(3600, 3600)) as demo:
            register_endpoints(service)
        server = uvicorn.Server(uvicorn.Config(build_app(service, demo), port=0, log_level="critical"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client, service, folder
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(server):
    """The client; and a look afterwards at whether all is as it was."""
    client, service, folder = server
    before = set(folder.rglob("*"))
    yield client
    assert service.admission.wait_until_empty(30)
    assert {path for path in folder.rglob("*") if path.is_file()} - before == set()


def assert_friendly(response, must_refuse=None):
    """No failure of the server's own, no traceback, no path; and a sentence where there is an error."""
    assert response.status_code < 500, response.text
    for secret in ("Traceback", "site-packages", "/work", "spaces_demo", 'File "', "/tmp"):
        assert secret not in response.text
    if response.status_code != 200:
        message = response.json()["error"]["message"]
        assert message[0].isupper() and message[-1] == "." and MARKUP not in message
    if must_refuse:
        assert response.status_code != 200, "this has no answer"


def called(client, name, *data):
    """Call one of Gradio's endpoints with JSON of one's own; give the last event."""
    body = json.dumps({"data": list(data)})  # not `json=`, which refuses what a hand-written client may send
    begun = client.post(f"/gradio_api/call/{name}", content=body, headers={"Content-Type": "application/json"})
    if begun.status_code != 200:
        return begun.text
    return client.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}").text


@pytest.mark.parametrize("case", AUDIO_FILES)
def test_audio_files(client, case):
    name, data = AUDIO_FILES[case]
    response = client.post("/v1/audio/transcriptions", data={"model": "ttt"}, files={"file": (name, data)})
    assert_friendly(response, case.startswith("!"))
    assert case[0] in "!?" or response.status_code == 200


@pytest.mark.parametrize("case", TEXTS)
def test_texts(client, case):
    body = json.dumps({"model": "ttt", "input": TEXTS[case], "response_format": "wav"})
    response = client.post("/v1/audio/speech", content=body, headers={"Content-Type": "application/json"})
    if response.status_code == 200:
        assert not case.startswith("!")
        assert response.headers["content-type"] == "audio/wav"
    else:
        assert_friendly(response)
        assert case.startswith("!")


@pytest.mark.parametrize("case", OPTIONS)
def test_options(client, case):
    answer = called(client, "talk_stream", QUESTION, None, OPTIONS[case])
    assert "event: error" in answer and "Traceback" not in answer
    assert '"error": "' in answer, "a sentence"


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("path", ["speech", "transcriptions"])
def test_bodies(client, path, case):
    for content_type in ("application/json", "multipart/form-data; boundary=x", "text/html", "multipart/form-data"):
        response = client.post(f"/v1/audio/{path}", content=BODIES[case], headers={"Content-Type": content_type})
        assert_friendly(response, must_refuse=True)


@pytest.mark.parametrize("case", FILES)
def test_files_that_nobody_uploaded(client, case):
    for name in ("transcribe", "transcribe_stream"):
        answer = called(client, name, FILES[case], None)
        assert "event: error" in answer and "Traceback" not in answer and "root:" not in answer


@pytest.mark.parametrize("content_type", ["audio/wav", "multipart/form-data; boundary=x"])
def test_a_body_that_does_not_end_is_cut_off(client, content_type):
    sent = []

    def hundred_megabytes():
        while len(sent) < 2000:
            sent.append(None)
            yield bytes(50_000)

    try:
        response = client.post(
            "/v1/audio/transcriptions", content=hundred_megabytes(), headers={"Content-Type": content_type}
        )
        assert_friendly(response, must_refuse=True)
    except httpx.TransportError:  # the server closed the connection while we were still sending
        pass
    assert len(sent) < 2000


def test_a_table_of_at_least_a_hundred(server):
    client, service, _ = server
    num_cases = len(AUDIO_FILES) + len(TEXTS) + len(OPTIONS) + 2 * len(BODIES) + len(FILES)
    assert num_cases >= 100
    reply = client.post("/v1/audio/speech", json={"model": "ttt", "input": QUESTION, "response_format": "pcm"})
    assert len(reply.content) == 2 * len(service.reply(TalkRequest("tts", QUESTION)).audio)
