"""Uploads are checked by name, content and length before they are decoded."""

import io

import av
import numpy as np
import pytest
import soundfile
from service_fixtures import tiny_service

from modeling_ttt import nano_checkpoint
from spaces_demo.service import AudioFile, Limits, RequestError, TalkRequest
from spaces_demo.service.uploads import checked_audio

RATE = 48000
CODECS = {"m4a": ("mp4", "aac"), "webm": ("webm", "libopus")}


def recording_of(ending, seconds=1.0, channels=1):
    """A tone as a telephone (m4a) or a browser (webm) records it."""
    kind, codec = CODECS[ending]
    tone = (0.1 * np.sin(np.arange(int(seconds * RATE)) / 20)).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono" if channels == 1 else "stereo")
        for start in range(0, len(tone), 960):
            planes = np.tile(tone[None, start : start + 960], (channels, 1))
            frame = av.AudioFrame.from_ndarray(planes, "fltp", "mono" if channels == 1 else "stereo")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("ending", CODECS)
def test_what_telephones_and_browsers_record_is_answered(ending):
    reply = tiny_service().reply(TalkRequest(audio=AudioFile(recording_of(ending), f"question.{ending}")))
    assert reply.token_ids


@pytest.mark.parametrize("ending", CODECS)
def test_a_recording_that_is_too_long_is_refused_before_it_is_decoded(ending):
    limits = Limits(question_seconds=2.0)
    checked_audio(AudioFile(recording_of(ending, 2.0), f"a.{ending}"), limits)
    with pytest.raises(RequestError, match="longer than the limit of 2 s"):
        checked_audio(AudioFile(recording_of(ending, 3.0), f"a.{ending}"), limits)


def picture_in_matroska():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10, width=32, height=32)
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    "data, says",
    [
        (b"\0\0\0\x18ftypM4A " + bytes(200), "no audio file that can be read"),
        (b"\x1aE\xdf\xa3" + bytes(200), "no audio file that can be read"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "no audio file that can be read"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no audio file that can be read"),
        (picture_in_matroska(), "has no audio"),
    ],
)
def test_damaged_containers_and_playlists_are_refused_in_a_sentence(data, says):
    for ending in CODECS:
        with pytest.raises(RequestError, match=says):
            checked_audio(AudioFile(data, f"a.{ending}"), Limits())


def test_a_wav_file_may_have_another_name():
    samples, rate = soundfile.read(nano_checkpoint() / "questions" / "4.wav")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    assert checked_audio(AudioFile(file.getvalue(), "a.m4a"), Limits()).getvalue() == file.getvalue()
