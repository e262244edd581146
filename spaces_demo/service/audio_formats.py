"""
A reply's audio as the bytes of a file, while it is generated.

Depends on PyAV, soundfile and the sampling rates of their formats. Independent of HTTP and the model.
"""

import base64
import io
import struct
from dataclasses import dataclass, field
from typing import Any, Protocol

import av
import numpy as np
import soundfile

from processing_ttt.resampling_ttt import ResamplingStream

from .limits import RequestError

UNKNOWN_LENGTH = 0xFFFFFFFF  # in a wav header: until the end of the file
MEDIA_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}


class AudioEncoder(Protocol):
    """Turns samples into the bytes of a file."""

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples, float32 of shape `(samples,)`; return the bytes that are final."""

    def finish(self) -> bytes:
        """Return the rest of the bytes."""


class PcmEncoder:
    """
    16-bit little-endian samples as they come, behind a header if there is one.

    Args:
        header (`bytes`, *optional*): Precedes the first samples.
    """

    def __init__(self, header: bytes = b""):
        self._header = header

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples; return all their bytes."""
        header, self._header = self._header, b""
        return header + pcm16(samples)

    def finish(self) -> bytes:
        """Return the header, if no samples came."""
        return self.push(np.zeros(0, dtype=np.float32))


class Pcm24Encoder:
    """
    16-bit little-endian samples at 24 kHz, which OpenAI's clients expect of `pcm16`.

    Args:
        sampling_rate (`int`): Rate of the samples that come, in Hz.
    """

    def __init__(self, sampling_rate: int):
        self._resampling = ResamplingStream(sampling_rate, 24_000)

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples; return those that are final."""
        return pcm16(self._resampling.push(samples))

    def finish(self) -> bytes:
        """Return the rest."""
        return pcm16(self._resampling.finish())


class FlacEncoder:
    """
    A flac file, whose header is written last: all bytes come at the end.

    Args:
        sampling_rate (`int`): Rate of the samples, in Hz.
    """

    def __init__(self, sampling_rate: int):
        self._bytes = io.BytesIO()
        self._file = soundfile.SoundFile(self._bytes, "w", sampling_rate, 1, "PCM_16", format="FLAC")

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples; return nothing yet."""
        self._file.write(samples)
        return b""

    def finish(self) -> bytes:
        """Return the whole file."""
        self._file.close()
        return self._bytes.getvalue()


@dataclass(frozen=True)
class LossyFormat:
    """
    A format that FFmpeg writes in pieces.

    Args:
        container (`str`): Name of the container.
        codec (`str`): Name of the encoder.
        bit_rate (`int`): Bits per second.
        options (`dict[str, str]`): Options of the container.
    """

    container: str
    codec: str
    bit_rate: int
    options: dict[str, str] = field(default_factory=dict)


LOSSY_FORMATS = {
    # without the header that would be completed at the end, and without tags
    "mp3": LossyFormat("mp3", "libmp3lame", 64_000, {"write_xing": "0", "id3v2_version": "0"}),
    "opus": LossyFormat("ogg", "libopus", 48_000, {"page_duration": "100000"}),  # 0.1 s in microseconds
    "aac": LossyFormat("adts", "aac", 64_000),
}


class LossyEncoder:
    """
    A compressed format, in pieces. Sampling rates that it does not have are resampled to the next one above.

    Args:
        response_format (`str`): A key of `LOSSY_FORMATS`.
        sampling_rate (`int`): Rate of the samples, in Hz.

    Raises:
        RequestError: If this build of FFmpeg lacks the encoder.
    """

    def __init__(self, response_format: str, sampling_rate: int):
        chosen = LOSSY_FORMATS[response_format]
        try:
            rates = sorted(av.Codec(chosen.codec, "w").audio_rates or [sampling_rate])
        except ValueError as error:
            raise RequestError(
                f"This server cannot write {response_format}: ask for another format.", "response_format"
            ) from error
        self._rate = sampling_rate
        self._bytes = _Bytes()
        self._container = av.open(
            self._bytes, "w", format=chosen.container, container_options=chosen.options | {"flush_packets": "1"}
        )
        rate = next((rate for rate in rates if rate >= sampling_rate), rates[-1])
        self._stream: Any = self._container.add_stream(chosen.codec, rate=rate, layout="mono", bit_rate=chosen.bit_rate)

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples; return what is encoded so far, which lags behind by a few hundredths of a second."""
        if len(samples):
            self._container.mux(self._stream.encode(_frame(samples, self._rate)))
        return self._bytes.take()

    def finish(self) -> bytes:
        """Return the rest of the bytes."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._bytes.take()


def _frame(samples: np.ndarray, sampling_rate: int) -> av.AudioFrame:
    clipped = np.ascontiguousarray(np.clip(samples, -1.0, 1.0), np.float32)
    frame = av.AudioFrame.from_ndarray(clipped[None], "flt", "mono")
    frame.sample_rate = sampling_rate
    return frame


class _Bytes:
    """A file that gives away what was written to it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


def encoder_for(response_format: str, sampling_rate: int) -> AudioEncoder:
    """
    Begin an audio file.

    Args:
        response_format (`str`): A key of `MEDIA_TYPES`.
        sampling_rate (`int`): Rate of the samples, in Hz.

    Returns:
        [`AudioEncoder`]: All but `flac` return bytes as samples come.

    Raises:
        RequestError: If the format is unknown.
    """
    if response_format == "wav":
        return PcmEncoder(wav_header(sampling_rate))
    if response_format == "pcm":
        return PcmEncoder()
    if response_format == "flac":
        return FlacEncoder(sampling_rate)
    if response_format in LOSSY_FORMATS:
        return LossyEncoder(response_format, sampling_rate)
    raise RequestError(f"The response_format is one of {', '.join(MEDIA_TYPES)}.", "response_format")


def wav_header(sampling_rate: int, num_bytes: int = UNKNOWN_LENGTH) -> bytes:
    """
    Write the header of a wav file of 16-bit mono samples.

    Args:
        sampling_rate (`int`): In Hz.
        num_bytes (`int`, *optional*): Size of the samples; unknown by default, which players read as "until the end".

    Returns:
        `bytes`: 44 of them.
    """
    riff = UNKNOWN_LENGTH if num_bytes == UNKNOWN_LENGTH else num_bytes + 36
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sampling_rate, 2 * sampling_rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + chunk + struct.pack("<4sI", b"data", num_bytes)


def wav_file(samples: np.ndarray, sampling_rate: int) -> bytes:
    """
    Write samples as a wav file of 16-bit mono samples.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): Float in [-1, 1].
        sampling_rate (`int`): In Hz.

    Returns:
        `bytes`: Header and samples.
    """
    data = pcm16(samples)
    return wav_header(sampling_rate, len(data)) + data


def pcm16(samples: np.ndarray) -> bytes:
    """
    Write samples as 16-bit little-endian PCM.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): Float in [-1, 1].

    Returns:
        `bytes`: Two for each sample.
    """
    return (np.clip(samples, -1.0, 1.0) * 32767).round().astype("<i2").tobytes()


def pcm16_base64(samples: np.ndarray) -> str:
    """
    Write samples as `pcm16` does, in base64.

    Args:
        samples (`np.ndarray` of shape `(samples,)`): Float in [-1, 1].

    Returns:
        `str`: For JSON.
    """
    return base64.b64encode(pcm16(samples)).decode("ascii")
