"""Audio as the bytes of a file, piece by piece."""

import io

import numpy as np
import pytest
import soundfile

av = pytest.importorskip("av", reason="the demo extra is not installed")

from spaces_demo.service import RequestError  # noqa: E402
from spaces_demo.service.audio_formats import MEDIA_TYPES, Pcm24Encoder, encoder_for  # noqa: E402


def tone(rate):
    """A second of 440 Hz."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)


def encoded(name, audio, rate, num_pieces=7):
    encoder = encoder_for(name, rate)
    pieces = [encoder.push(piece) for piece in np.array_split(audio, num_pieces)]
    return pieces, b"".join(pieces) + encoder.finish()


def decoded(content):
    with av.open(io.BytesIO(content)) as file:
        rate = file.streams.audio[0].rate
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)]), rate


@pytest.mark.parametrize(
    ("name", "rate", "written"),
    [
        *(("opus", rate, 48000) for rate in (16000, 22050, 44100, 96000)),  # as decoders give Opus
        *(("mp3", rate, min(rate, 48000)) for rate in (16000, 22050, 96000)),
        ("mp3", 10000, 11025),
        ("aac", 16000, 16000),
    ],
)
def test_a_lossy_format_takes_audio_of_any_rate(name, rate, written):
    pieces, content = encoded(name, tone(rate), rate)
    read, read_rate = decoded(content)
    assert read_rate == written
    assert len(read) / read_rate == pytest.approx(1.0, abs=0.16)  # a codec's frames are whole
    spectrum = np.abs(np.fft.rfft(read * np.hanning(len(read))))
    assert np.argmax(spectrum) * read_rate / len(read) == pytest.approx(440, abs=2)
    near = slice(round(430 * len(read) / read_rate), round(450 * len(read) / read_rate))
    assert np.sum(spectrum[near] ** 2) > 0.99 * np.sum(spectrum**2)
    assert all(pieces[2:]), "each piece is sent when it comes"


@pytest.mark.parametrize("name", ["mp3", "opus", "aac"])
def test_what_was_sent_so_far_can_be_decoded(name):
    pieces, _ = encoded(name, tone(16000), 16000)
    audio, rate = decoded(b"".join(pieces[:4]))
    assert len(audio) / rate > 0.3


def test_a_lossy_format_clips_what_is_beyond_full_scale():
    audio, _ = decoded(encoded("opus", 100 * tone(16000), 16000)[1])
    assert np.abs(audio).max() < 2


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_no_audio_is_no_failure(name):
    assert encoded(name, np.zeros(0, np.float32), 16000, 1)[1] is not None


def test_flac_is_whole_at_the_end():
    pieces, content = encoded("flac", tone(16000), 16000)
    assert pieces == [b""] * 7
    audio, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(audio, tone(16000), atol=2 / 32768)


def test_an_unknown_format_is_refused():
    with pytest.raises(RequestError, match="wav, pcm, flac, mp3, opus, aac"):
        encoder_for("midi", 16000)


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 48000])
def test_pcm16_has_24_khz(rate):
    encoder = Pcm24Encoder(rate)
    pieces = [encoder.push(piece) for piece in np.array_split(tone(rate), 7)]
    audio = np.frombuffer(b"".join(pieces) + encoder.finish(), "<i2") / 32768
    assert len(audio) == pytest.approx(24000, abs=2)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    np.testing.assert_allclose(audio[500:23500], expected[500:23500], atol=0.01)
    assert Pcm24Encoder(rate).finish() == b""
