"""
A reply's audio as the bytes of a file, while it is generated.

Depends on soundfile's formats and their sampling rates. Independent of HTTP and the model.
"""

import base64
import io
import struct
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import soundfile

from processing_ttt.resampling_ttt import resample

from .limits import RequestError

UNKNOWN_LENGTH = 0xFFFFFFFF  # in a wav header: until the end of the file
MEDIA_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}
_WHOLE = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)  # Hz: Opus has no others


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


class FileEncoder:
    """
    A format whose header is written last: all bytes come at the end. For Opus, other sampling rates than its own are
    resampled to the next one above.

    Args:
        response_format (`str`): `flac`, `mp3` or `opus`.
        sampling_rate (`int`): Rate of the samples, in Hz.
    """

    def __init__(self, response_format: str, sampling_rate: int):
        self._bytes = io.BytesIO()
        self._chunks: list[np.ndarray] = []  # resampled as a whole: resampled one by one they would click
        self._rate, rate = sampling_rate, sampling_rate
        if response_format == "opus":
            rate = next((rate for rate in OPUS_RATES if rate >= sampling_rate), OPUS_RATES[-1])
        kind, subtype = _WHOLE[response_format]
        self._file = soundfile.SoundFile(self._bytes, "w", rate, channels=1, format=kind, subtype=subtype)

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples; return nothing yet."""
        if self._file.samplerate == self._rate:
            self._file.write(samples)
        else:
            self._chunks.append(samples)
        return b""

    def finish(self) -> bytes:
        """Return the whole file."""
        if self._chunks:
            self._file.write(resample(np.concatenate(self._chunks), self._rate, self._file.samplerate))
        self._file.close()
        return self._bytes.getvalue()


def encoder_for(response_format: str, sampling_rate: int) -> AudioEncoder:
    """
    Begin an audio file.

    Args:
        response_format (`str`): A key of `MEDIA_TYPES`.
        sampling_rate (`int`): Rate of the samples, in Hz.

    Returns:
        [`AudioEncoder`]: `wav` and `pcm` return bytes as samples come, the others at the end.

    Raises:
        RequestError: If the format is unknown.
    """
    encoders: dict[str, Callable[[], AudioEncoder]] = {
        "wav": lambda: PcmEncoder(wav_header(sampling_rate)),
        "pcm": PcmEncoder,
        **{name: partial(FileEncoder, name, sampling_rate) for name in _WHOLE},
    }
    if response_format not in encoders:
        raise RequestError(f"The response_format is one of {', '.join(MEDIA_TYPES)}.")
    return encoders[response_format]()


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
