import io
import tempfile
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from processing_ttt import AudioInputError, audio_file_ttt
from processing_ttt.audio_input_ttt import as_audio_list, load_audio, resolve_audio_parts

RATE = 16000


def tone(seconds=0.5, rate=RATE, hz=440.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples, rate, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "FLOAT", **options})
    return file.getvalue()


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "tone.wav"
    path.write_bytes(encoded(tone(), RATE))
    return path


class TorchcodecLikeDecoder:
    def get_all_samples(self):
        class Samples:
            data = torch.from_numpy(tone())[None]  # (channels, samples)
            sample_rate = RATE

        return Samples()


def test_every_form_of_one_waveform_gives_the_same_waveform(wav):
    audio = tone()
    forms = [
        wav,
        str(wav),
        wav.read_bytes(),
        bytearray(wav.read_bytes()),
        io.BytesIO(wav.read_bytes()),
        {"array": audio, "sampling_rate": RATE},
        {"array": audio.tolist(), "sampling_rate": RATE, "path": "row.wav"},
        {"bytes": wav.read_bytes(), "path": "row.wav"},
        {"bytes": None, "path": str(wav)},
        (audio, RATE),
        (RATE, audio),
        (torch.from_numpy(audio), float(RATE)),
        TorchcodecLikeDecoder(),
    ]
    for form in forms:
        np.testing.assert_allclose(load_audio(form, RATE), audio, atol=1e-6)
    for form in (audio, torch.from_numpy(audio), audio.tolist(), audio.astype(np.float64)):
        np.testing.assert_allclose(load_audio(form, RATE, sampling_rate=RATE), audio, atol=1e-6)
    with open(wav, "rb") as file:
        np.testing.assert_allclose(load_audio(file, RATE), audio, atol=1e-6)
    with tempfile.SpooledTemporaryFile() as file:
        file.write(wav.read_bytes())
        file.seek(0)
        np.testing.assert_allclose(load_audio(file, RATE), audio, atol=1e-6)


def test_the_result_is_one_float32_axis(wav):
    audio = load_audio(wav, RATE)
    assert audio.dtype == np.float32 and audio.shape == (RATE // 2,)


def test_channels_are_averaged_whichever_axis_they_are_on():
    left, right = tone(hz=300), tone(hz=500)
    expected = (left + right) / 2
    stereo = np.stack([left, right])
    for array in (stereo, stereo.T):
        np.testing.assert_allclose(load_audio((array, RATE), RATE), expected, atol=1e-6)
    np.testing.assert_allclose(load_audio(encoded(stereo.T, RATE), RATE), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [("int8", 127, 0), ("int16", 32767, 0), ("int32", 2**31 - 2**8, 0), ("uint8", 127, 128)],
)
def test_integer_samples_are_divided_by_full_scale(dtype, scale, offset):
    audio = tone()
    integers = (np.round(audio.astype(np.float64) * scale) + offset).astype(dtype)
    np.testing.assert_allclose(load_audio((integers, RATE), RATE), audio, atol=0.02 if "8" in dtype else 1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 11127])
def test_any_rate_becomes_the_rate_asked_for(rate):
    audio = load_audio((tone(1.0, rate), rate), RATE)
    assert abs(len(audio) - RATE) <= 5
    middle = slice(2000, 14000)
    spectrum = np.abs(np.fft.rfft(audio[middle]))
    assert abs(np.argmax(spectrum) * RATE / 12000 - 440) < 2
    assert abs(np.abs(audio[middle]).max() - 0.5) < 0.01


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)]
)
def test_common_file_formats_are_read(tmp_path, format, subtype):
    path = tmp_path / f"tone.{format.lower()}"
    path.write_bytes(encoded(tone(1.0), RATE, format=format, subtype=subtype))
    audio = load_audio(path, RATE)
    assert abs(np.abs(audio[4000:12000]).max() - 0.5) < 0.05


def test_what_soundfile_cannot_read_is_read_with_pyav(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "tone.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1.0)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    audio = load_audio(path, RATE)
    assert abs(len(audio) - RATE) < 3000 and abs(np.abs(audio[4000:12000]).max() - 0.5) < 0.05
    with pytest.raises(ValueError, match=r"tone\.m4a' is longer than 0.5 s"):
        load_audio(path, RATE, max_seconds=0.5)


def test_a_too_long_audio_names_the_setting_and_the_limit_itself_is_fine(wav):
    with pytest.raises(ValueError, match=r"tone\.wav' is longer than 0\.4 s: .*`max_audio_seconds`"):
        load_audio(wav, RATE, max_seconds=0.4)
    assert len(load_audio(wav, RATE, max_seconds=0.5)) == RATE // 2
    assert len(load_audio(wav, RATE, max_seconds=None)) == RATE // 2


def test_a_long_file_is_not_read_beyond_the_limit(wav, monkeypatch):
    read = soundfile.SoundFile.read
    asked = []
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, frames=-1, **kw: asked.append(frames) or read(self, frames, **kw)
    )
    with pytest.raises(ValueError, match="longer"):
        load_audio(wav, RATE, max_seconds=0.1)
    assert asked == [1602]


def test_without_pyav_the_error_names_it_and_no_object_of_python(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_file_ttt, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"this is no audio at all")
    with pytest.raises(AudioInputError, match=r"a\.m4a' cannot be read as audio \([^<]*\).*`pip install av`"):
        load_audio(tmp_path / "a.m4a", RATE)


def test_missing_files_directories_and_web_addresses_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no audio file '.*absent\.wav'"):
        load_audio(tmp_path / "absent.wav", RATE)
    with pytest.raises(ValueError, match="is not a file"):
        load_audio(tmp_path, RATE)
    with pytest.raises(ValueError, match=r"'https://example\.org/a\.wav' is a web address.*download"):
        load_audio("https://example.org/a.wav", RATE)
    with pytest.raises(FileNotFoundError, match=r"A{100}\.\.\.'"):
        load_audio("A" * 100_000, RATE)  # base64 taken for a path: the message stays short


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: it has no bytes"),
        (b"this is no audio at all", "cannot be read as audio"),
        (encoded(tone(), RATE)[:30], "cannot be read as audio|is empty"),
        (encoded(np.zeros(0, np.float32), RATE), "is empty: it has no samples"),
        (encoded(np.zeros(800, np.float32), RATE), "is silent"),
        (encoded(np.array([0.1, np.nan], np.float32), RATE), "contains NaN or infinite"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.wav' ({message})"):
        load_audio(path, RATE)
    with pytest.raises(ValueError, match=r"row\.wav"):
        load_audio({"bytes": content, "path": "row.wav"}, RATE)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.zeros(0), ValueError, "is empty"),
        (np.zeros(800), ValueError, "is silent"),
        (np.stack([tone(), -tone()]), ValueError, "is silent"),
        (np.array([0.1, np.inf]), ValueError, "NaN or infinite"),
        (tone() * 32767, ValueError, "up to 16384: float samples must lie in"),
        (np.ones(800, np.int64), TypeError, "are int64: convert"),
        (np.ones(800, bool), TypeError, "are bool"),
        (np.ones(800, complex), TypeError, "are complex128"),
        (np.array(["a"]), TypeError, "convert"),
        (np.ones((2, 2, 800)), ValueError, r"shape \(2, 2, 800\)"),
        (np.ones((20, 800)), ValueError, r"shape \(20, 800\)"),
    ],
)
def test_a_bad_array_is_refused_with_its_fault(samples, error, message):
    with pytest.raises(error, match=message):
        load_audio((samples, RATE), RATE)


@pytest.mark.parametrize("audio", [tone(), {"array": tone()}, torch.from_numpy(tone())])
def test_an_array_without_a_rate_is_an_error(audio):
    with pytest.raises(ValueError, match=r"is not known: give `sampling_rate`"):
        load_audio(audio, RATE)


@pytest.mark.parametrize("rate", [0, -16000, 44100.5, "16000", True])
def test_an_impossible_rate_is_an_error(rate):
    with pytest.raises(ValueError, match="whole number of Hz"):
        load_audio({"array": tone(), "sampling_rate": rate}, RATE)


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (None, TypeError, "NoneType"),
        (5, TypeError, "int"),
        ({}, ValueError, "has nothing"),
        ({"a": 1}, ValueError, "'a'"),
    ],
)
def test_what_is_no_audio_is_refused(audio, error, message):
    with pytest.raises(error, match=message):
        load_audio(audio, RATE)


def test_a_playlist_opens_no_other_file(tmp_path, wav, monkeypatch):
    """PyAV follows what playlists name, on disk and over the network."""
    monkeypatch.chdir(wav.parent)
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{wav.name}\n#EXT-X-ENDLIST\n",
        "list.wav": f"ffconcat version 1.0\nfile '{wav.name}'\n",
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
        for form in (tmp_path / name, content.encode()):
            with pytest.raises(ValueError, match="cannot be read as audio"):
                load_audio(form, RATE)


@pytest.mark.parametrize("rate", [1, 999, 12_345_671, float("nan"), float("inf"), True, 8000.5])
def test_a_rate_that_no_audio_has_is_refused_before_anything_is_resampled(rate):
    with pytest.raises(ValueError, match="sampling rate of the audio array"):
        load_audio({"array": tone(), "sampling_rate": rate}, RATE)


def test_headerless_samples_are_no_audio(tmp_path):
    (tmp_path / "noise.raw").write_bytes(np.random.default_rng(0).bytes(4000))
    with pytest.raises(ValueError, match=r"cannot be read as audio|contains no audio"):
        load_audio(tmp_path / "noise.raw", RATE)


def test_channels_that_cancel_each_other_out_are_not_called_silent():
    with pytest.raises(ValueError, match="is silent as mono: its channels cancel each other out"):
        load_audio({"array": np.stack([tone(), -tone()]), "sampling_rate": RATE}, RATE)


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], "There are no messages"),
        (["hi"], "A message is a dictionary"),
        ([{"role": "user", "content": ["hi"]}], "parts of a message are dictionaries"),
    ],
)
def test_a_conversation_of_another_form_is_an_error(conversation, message):
    with pytest.raises(ValueError, match=message):
        resolve_audio_parts(conversation, load_audio)


@pytest.mark.parametrize("rate", [191_989, 99_991, 44_101, 11_127, 8_001])
def test_an_odd_rate_costs_no_more_than_others(monkeypatch, rate):
    """The filter has as many phases as the rates have in their ratio: half a gigabyte for 191989 : 16000."""
    asked = []
    monkeypatch.setattr(
        "processing_ttt.audio_input_ttt.resample", lambda samples, *rates: asked.append(rates) or samples
    )
    load_audio(tone(rate=rate), 16_000, rate)
    ((used, target),) = asked
    assert max(used, target) // np.gcd(used, target) <= 4000
    assert abs(used / rate - 1) < 6e-4  # a cent


def test_a_list_of_numpy_samples_is_one_waveform():
    samples = list(tone())
    assert isinstance(samples[0], np.float32) and as_audio_list(samples) == [samples]


# --------------------------------------------------------------------------------------------------------------- memory


def peak_bytes(read) -> int:
    """Memory that Python and NumPy hold at most while audio is read, beyond what they held before."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_channels_and_rate_of_a_header_are_checked_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    many = io.BytesIO()
    soundfile.write(many, np.zeros((10, 255), np.float32), RATE, format="WAV")
    with pytest.raises(AudioInputError, match="has 255 channels, and audio has 1 to 8") as caught:
        load_audio(many.getvalue(), RATE)
    assert caught.value.reason == "bad_shape"
    with pytest.raises(AudioInputError, match="is 400000 Hz") as caught:
        load_audio(encoded(tone(), 400_000), RATE)
    assert caught.value.reason == "bad_rate"


def test_a_file_that_is_small_and_long_is_mixed_while_it_is_decoded():
    seconds, channels = 30, 8
    file = io.BytesIO()
    soundfile.write(file, np.tile(np.float32([[0.1]]), (seconds * RATE, channels)), RATE, format="FLAC")
    assert len(file.getvalue()) < 100_000
    mono = 4 * seconds * RATE
    assert peak_bytes(lambda: load_audio(file.getvalue(), RATE)) < 4 * mono  # eight channels alone are eight of them


def test_audio_without_a_decoder_is_refused(monkeypatch):
    pytest.importorskip("av")
    without_bits = bytearray(encoded(tone(), RATE, subtype="PCM_16"))
    without_bits[34:36] = b"\0\0"
    with pytest.raises(AudioInputError, match=r"unknown format|cannot be read as audio"):
        load_audio(bytes(without_bits), RATE)
