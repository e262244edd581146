"""Audio files with changed headers are read, or refused as audio that cannot be used: never anything else."""

import io
import random
import time

import av
import numpy as np
import pytest
import soundfile

from processing_ttt import AudioInputError, load_audio

RATE = 16000
SECONDS = 5  # for each format
HEADER = 200  # bytes of a file that are changed most
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
TONE = (0.3 * np.sin(np.arange(4000) / 9)).astype(np.float32)


def by_soundfile(format: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.stack([TONE, TONE], axis=1), RATE, format=format, subtype=subtype)
    return file.getvalue()


def by_pyav(format: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
        frame.sample_rate = 48000
        frames = av.AudioResampler(format=stream.format, layout="mono", rate=48000).resample(frame)
        for packet in [packet for frame in frames for packet in stream.encode(frame)] + list(stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


FILES = {
    "wav": lambda: by_soundfile("WAV"),
    "wav of floats": lambda: by_soundfile("WAV", "FLOAT"),
    "wav of ADPCM": lambda: by_soundfile("WAV", "IMA_ADPCM"),
    "w64": lambda: by_soundfile("W64"),
    "caf": lambda: by_soundfile("CAF"),
    "aiff": lambda: by_soundfile("AIFF"),
    "au": lambda: by_soundfile("AU"),
    "flac": lambda: by_soundfile("FLAC"),
    "ogg": lambda: by_soundfile("OGG", "VORBIS"),
    "mp3": lambda: by_soundfile("MP3"),
    "m4a": lambda: by_pyav("mp4", "aac"),
    "webm": lambda: by_pyav("webm", "libopus"),
}


def changed(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes or numbers, mostly of the header; sometimes cut the file, or repeat a part of it."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(min(len(data), HEADER if rng.random() < 0.8 else len(data)))
        kind = rng.random()
        if kind < 0.5:
            data[at] = rng.choice((*INTERESTING, rng.randrange(256)))
        elif kind < 0.8:
            width = rng.choice((2, 4, 8))
            value = rng.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1)) % 2 ** (8 * width)
            data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind < 0.9:
            del data[at : at + rng.choice((1, 4, len(data)))]
        else:
            data[at:at] = data[at : at + rng.choice((1, 4, 64))]
        if not data:
            break
    return bytes(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("format", FILES)
def test_a_changed_file_is_read_or_refused(format):
    content, rng, end = FILES[format](), random.Random(format), time.monotonic() + SECONDS
    assert len(load_audio(content, RATE)) > 0
    cases, slowest = 0, 0.0
    while time.monotonic() < end:
        data, start = changed(content, rng), time.monotonic()
        try:
            load_audio(data, RATE, max_seconds=60.0)
        except AudioInputError as error:
            assert "\n" not in str(error), str(error)
        except Exception as error:
            error.add_note(f"case {cases} of {format}: {data[:HEADER].hex()}")
            raise
        cases, slowest = cases + 1, max(slowest, time.monotonic() - start)
    assert cases > 20 and slowest < 10.0
