"""
Decode an audio file as one mono waveform, piece by piece and within limits: its header, and each piece, may ask for far
more memory than the file has bytes.

Depends on soundfile and, where it is installed, PyAV. Independent of sample types, resampling and codecs.
"""

import os
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import soundfile

try:
    import av
except ImportError:  # PyAV reads what soundfile cannot (m4a, webm, ...); without it such files are an error
    av = None  # type: ignore[assignment]

MAX_CHANNELS = 8
LOWEST_RATE, HIGHEST_RATE = 1_000, 192_000  # Hz
FRAMES_AT_ONCE = 2**16

AudioInputReason: TypeAlias = Literal[
    "empty",
    "silent",
    "not_finite",
    "out_of_range",
    "too_long",
    "channels_cancel",
    "bad_shape",
    "bad_rate",
    "unreadable",
]


class AudioInputError(ValueError):
    """
    Why audio cannot be used.

    Args:
        message (`str`): What was expected, what came, and the way out.
        reason (`str`): One of `AudioInputReason`, for code that counts or translates errors.
    """

    def __init__(self, message: str, reason: AudioInputReason = "unreadable"):
        super().__init__(message)
        self.reason = reason


def decode_audio_file(handle: BinaryIO, name: str, max_seconds: float | None) -> tuple[np.ndarray, int]:
    """
    Decode a file with soundfile or else with PyAV, and stop when it is too long.

    Args:
        handle: Open binary file that can seek.
        name (`str`): What it is, for errors.
        max_seconds (`float`, *optional*): Little more than this is decoded, in seconds; `None` for no limit.

    Returns:
        `tuple[np.ndarray, int]`: The mean of the channels, float32 of shape `(samples,)`, and its rate in Hz.

    Raises:
        AudioInputError: If the file is empty, damaged, or has too many channels or no valid rate.
    """
    if not handle.read(1):
        raise AudioInputError(f"{name} is empty: it has no bytes.", "empty")
    handle.seek(0)
    try:
        with soundfile.SoundFile(_Seekable(handle)) as file:
            rate = _checked_header(file.channels, file.samplerate, name)
            return _decode(file, max_seconds), rate
    except (soundfile.SoundFileError, TypeError) as error:  # the latter for headerless files, known by their name
        if av is None:
            why = error.error_string if isinstance(error, soundfile.LibsndfileError) else "Format not recognised."
            raise AudioInputError(
                f"{name} cannot be read as audio ({why.rstrip('.')}): it is damaged, or of a format that needs PyAV "
                "(`pip install av`)."
            ) from error
    handle.seek(0)
    return _decode_with_pyav(handle, name, max_seconds)


class _Seekable:
    """An open file for libsndfile, in which a damaged header may ask for positions before the beginning."""

    def __init__(self, handle: BinaryIO):
        self.read, self.tell = handle.read, handle.tell
        self._seek = handle.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # otherwise printed by the callback, which cannot raise
            return self.tell()


def _decode(file: soundfile.SoundFile, max_seconds: float | None) -> np.ndarray:
    room = None if max_seconds is None else int(max_seconds * file.samplerate) + 2
    pieces: list[np.ndarray] = []
    while room is None or room > 0:
        frames = FRAMES_AT_ONCE if room is None else min(FRAMES_AT_ONCE, room)
        piece = file.read(frames=frames, dtype="float32", always_2d=True)  # (samples, channels)
        if not len(piece):
            break
        pieces.append(piece.mean(axis=1))
        room = None if room is None else room - len(piece)
    return _joined(pieces)


def _decode_with_pyav(handle: BinaryIO, name: str, max_seconds: float | None) -> tuple[np.ndarray, int]:
    pieces: list[np.ndarray] = []
    try:
        options = {"protocol_whitelist": "none"}
        with av.open(handle, mode="r", io_open=_refuse_other_files, options=options) as container:
            if not container.streams.audio:
                raise AudioInputError(f"{name} contains no audio.")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioInputError(f"{name} holds audio of an unknown format, or its header is damaged.")
            rate = _checked_header(stream.channels, stream.rate, name)
            room = float("inf") if max_seconds is None else max_seconds * rate + 2
            resampler = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                _checked_header(len(frame.layout.channels), frame.sample_rate, name)
                pieces += [converted.to_ndarray().mean(axis=0) for converted in resampler.resample(frame)]
                room -= frame.samples
                if room < 0:
                    break
    except AudioInputError:
        raise
    except (av.error.FFmpegError, PermissionError, ValueError) as error:  # the last if channels or rate change
        raise AudioInputError(
            f"{name} cannot be read as audio ({error}): it is damaged or of an unknown format."
        ) from error
    return _joined(pieces), rate


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _refuse_other_files(url: str, *_: Any) -> Any:
    """
    Keep playlists from opening other files: audio is one file, and nothing is fetched. Formats that open files by
    themselves have no protocol to do so.
    """
    raise PermissionError(f"it refers to {quoted(url)}, and only the file itself is read")


def _checked_header(channels: int, rate: float, name: str) -> int:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioInputError(f"{name} has {channels} channels, and audio has 1 to {MAX_CHANNELS}.", "bad_shape")
    return checked_rate(rate, name)


def checked_rate(rate: Any, name: str) -> int:
    """
    Check a sampling rate.

    Args:
        rate: Any number.
        name (`str`): What has it, for errors.

    Returns:
        `int`: In Hz.

    Raises:
        AudioInputError: If it is no whole number from 1,000 to 192,000.
    """
    is_number = isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool) and bool(np.isfinite(rate))
    if not is_number or rate != int(rate) or rate < 1:
        raise AudioInputError(f"The sampling rate of {name} must be a whole number of Hz, but is {rate!r}.", "bad_rate")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:  # the filter of another rate may take gigabytes
        raise AudioInputError(
            f"The sampling rate of {name} is {int(rate)} Hz, and audio has {LOWEST_RATE} to {HIGHEST_RATE}: "
            "its header is damaged, or the rate given is wrong.",
            "bad_rate",
        )
    return int(rate)


def quoted(path: str | os.PathLike) -> str:
    """Write a path for an error, short however long it is."""
    path = os.fspath(path)
    return repr(path if len(path) <= 300 else f"{path[:300]}...")
