"""
Uploaded audio, checked before it is decoded: size, format, length.

Depends on files and their headers. Independent of the codec and the model. Decoding, with its own checks (silence, NaN,
damage), is `load_audio`'s.
"""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeAlias

import av
import numpy as np
import soundfile

from .limits import Limits, RequestError

FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}  # as soundfile names what it finds in a file
SAMPLING_RATES = (1000, 192_000)  # Hz; outside, a second of audio could take any amount of memory
MAX_CHANNELS = 8
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's number where a header has none
# What telephones and browsers record, which soundfile does not read: how a file begins, and the only demuxer that may
# look at it (others open further files, as playlists do).
CONTAINER_SLACK = 0.1  # seconds: such files count whole packets and the encoder's delay
CONTAINERS = ((4, b"ftyp", "mov"), (0, b"\x1aE\xdf\xa3", "matroska"))


@dataclass(frozen=True)
class AudioFile:
    """
    An uploaded audio file.

    Args:
        data (`bytes`): Its content.
        name (`str`): The name it came under. Only its ending counts; it is never opened.
    """

    data: bytes
    name: str


# path, content, rate and samples
Upload: TypeAlias = str | os.PathLike[str] | bytes | AudioFile | tuple[int, np.ndarray]
AudioInput: TypeAlias = io.BytesIO | tuple[int, np.ndarray]  # as `load_audio` takes it


def checked_audio(audio: object, limits: Limits) -> AudioInput:
    """
    Check uploaded audio without decoding it.

    Args:
        audio (`Upload`): The path of a file that the front end itself wrote, the bytes of a file, an [`AudioFile`], or
            sampling rate and samples. Anything else is refused.
        limits ([`Limits`]): Limits of the service.

    Returns:
        `AudioInput`: What `load_audio` takes: an open file in memory, or sampling rate and samples.

    Raises:
        RequestError: If it is too large, too long, or no audio of a format that is accepted.
    """
    if isinstance(audio, str | os.PathLike):
        return _checked_bytes(_read(audio, limits), limits)
    if isinstance(audio, AudioFile):
        _check_ending(audio.name, limits)
        return _checked_bytes(audio.data, limits)
    if isinstance(audio, bytes):
        return _checked_bytes(audio, limits)
    if isinstance(audio, tuple) and len(audio) == 2:
        return _checked_samples(*audio, limits)
    raise RequestError("The audio must be an audio file.")


def _check_ending(name: object, limits: Limits) -> None:
    if not isinstance(name, str) or PurePath(name).suffix.lower() not in limits.file_types:
        raise RequestError(f"Accepted are {limits.file_types_in_words} files: save the audio as one of these.")


def _read(path: str | os.PathLike[str], limits: Limits) -> bytes:
    _check_ending(os.fspath(path), limits)
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RequestError("The audio file is gone: choose it again.")
            return file.read(limits.upload_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte, or the error above
        raise RequestError("The audio file is gone: choose it again.") from error


def _checked_bytes(data: bytes, limits: Limits) -> io.BytesIO:
    if not data:
        raise RequestError("The audio file is empty: it has no bytes.")
    if len(data) > limits.upload_bytes:
        raise RequestError(f"The audio file is larger than the limit of {limits.upload_in_words}.")
    demuxer = next((name for at, begin, name in CONTAINERS if data[at : at + len(begin)] == begin), None)
    if demuxer is not None:
        _check_container(data, demuxer, limits)
        return io.BytesIO(data)
    try:
        header = soundfile.info(io.BytesIO(data))
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise RequestError(f"This is no audio file that can be read: send {limits.file_types_in_words}.") from error
    if header.format not in FORMATS:
        raise RequestError(f"The file holds {header.format} audio: send {limits.file_types_in_words}.")
    # A file that was written as a stream may not state its length: decoding it stops after the longest question.
    frames = 0 if header.frames == UNKNOWN_FRAMES else header.frames
    _check_shape(header.samplerate, header.channels, frames, limits)
    return io.BytesIO(data)


def _check_container(data: bytes, demuxer: str, limits: Limits) -> None:
    """Check the first audio of an m4a or webm file, whose length may be unknown until it is decoded."""
    try:
        with av.open(io.BytesIO(data), "r", format=demuxer, io_open=_refuse_other_files) as container:
            if not container.streams.audio:
                raise RequestError("The file has no audio: choose another.")
            audio, seconds = container.streams.audio[0], (container.duration or 0) / av.time_base
            rate, channels = audio.rate or 0, audio.channels
    except (av.error.FFmpegError, ValueError, PermissionError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"This is no audio file that can be read: send {limits.file_types_in_words}.") from error
    _check_shape(rate, channels, int(max(0.0, seconds - CONTAINER_SLACK) * rate), limits)


def _refuse_other_files(url: str, *_: Any) -> Any:
    raise PermissionError(url)


def _checked_samples(rate: Any, array: Any, limits: Limits) -> tuple[int, np.ndarray]:
    is_audio = isinstance(array, np.ndarray) and array.dtype.kind in "fiu" and array.ndim in (1, 2)
    if not is_audio or not isinstance(rate, int | np.integer) or isinstance(rate, bool):
        raise RequestError("The audio must be a pair of its sampling rate and its samples.")
    if array.size == 0:
        raise RequestError("The audio is empty: it has no samples.")
    _check_shape(int(rate), min(array.shape) if array.ndim == 2 else 1, max(array.shape), limits)
    return int(rate), array


def _check_shape(rate: int, channels: int, frames: int, limits: Limits) -> None:
    low, high = SAMPLING_RATES
    if not low <= rate <= high:
        raise RequestError(f"The audio has a sampling rate of {rate} Hz: accepted are {low} to {high} Hz.")
    if channels > MAX_CHANNELS:
        raise RequestError(f"The audio has {channels} channels: accepted are up to {MAX_CHANNELS}.")
    if frames > limits.question_seconds * rate + 1:
        raise RequestError(f"The audio is longer than the limit of {limits.question_seconds:g} s: cut it.")
