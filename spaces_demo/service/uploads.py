"""
A stranger's sound, looked at before it is decoded: how large, of which type, how long.

Knows files and headers. Knows no codec and no model. Decoding itself, with its own checks (silence, NaN, damage), is
`load_audio`'s.
"""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import soundfile

from .limits import DemoError, Limits

FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}  # as soundfile names what it finds in a file
RATES = (1000, 192_000)  # Hz: outside, a second of "sound" could be any amount of memory
MAX_CHANNELS = 8


@dataclass(frozen=True)
class SoundFile:
    """
    A sound file that was uploaded.

    Args:
        data (`bytes`): What it holds.
        name (`str`): The name it came under. Only its ending counts; it is never opened.
    """

    data: bytes
    name: str


def checked_sound(audio: Any, limits: Limits) -> Any:
    """
    Check a sound from outside without decoding it.

    Args:
        audio: A path, bytes, a [`SoundFile`], or `(rate, array)`.
        limits ([`Limits`]): Of the service.

    Returns:
        What `load_audio` takes: an open file in memory, or `(rate, array)`.

    Raises:
        DemoError: If it is too large, too long, or no sound of a type that is taken.
    """
    if isinstance(audio, str | os.PathLike):
        return _checked_bytes(_read(audio, limits), limits)
    if isinstance(audio, SoundFile):
        _check_ending(audio.name, limits)
        return _checked_bytes(audio.data, limits)
    if isinstance(audio, bytes):
        return _checked_bytes(audio, limits)
    if isinstance(audio, tuple) and len(audio) == 2:
        return _checked_samples(*audio, limits)
    raise DemoError("The sound must be a sound file.")


def _check_ending(name: Any, limits: Limits) -> None:
    if not isinstance(name, str) or PurePath(name).suffix.lower() not in limits.file_types:
        raise DemoError(f"We take {limits.file_types_in_words} files: save the sound as one of these.")


def _read(path: str | os.PathLike, limits: Limits) -> bytes:
    _check_ending(os.fspath(path), limits)
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DemoError("The sound file is gone: choose it again.")
            return file.read(limits.upload_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte, or our own sentence
        raise DemoError("The sound file is gone: choose it again.") from error


def _checked_bytes(data: bytes, limits: Limits) -> io.BytesIO:
    if not data:
        raise DemoError("The sound file is empty: it has no bytes.")
    if len(data) > limits.upload_bytes:
        raise DemoError(f"The sound file is larger than {limits.upload_in_words}, which is the most we take.")
    try:
        header = soundfile.info(io.BytesIO(data))
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise DemoError(f"This is no sound file that we can read: send {limits.file_types_in_words}.") from error
    if header.format not in FORMATS:
        raise DemoError(f"The file holds {header.format} sound: send {limits.file_types_in_words}.")
    _check_shape(header.samplerate, header.channels, header.frames, limits)
    return io.BytesIO(data)


def _checked_samples(rate: Any, array: Any, limits: Limits) -> tuple[int, np.ndarray]:
    is_sound = isinstance(array, np.ndarray) and array.dtype.kind in "fiu" and array.ndim in (1, 2)
    if not is_sound or not isinstance(rate, int | np.integer) or isinstance(rate, bool):
        raise DemoError("The sound must be a pair of its sampling rate and its samples.")
    if array.size == 0:
        raise DemoError("The sound is empty: it has no samples.")
    _check_shape(int(rate), min(array.shape) if array.ndim == 2 else 1, max(array.shape), limits)
    return int(rate), array


def _check_shape(rate: int, channels: int, frames: int, limits: Limits) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise DemoError(f"The sound has a sampling rate of {rate} Hz: we take {RATES[0]} to {RATES[1]} Hz.")
    if channels > MAX_CHANNELS:
        raise DemoError(f"The sound has {channels} channels: we take up to {MAX_CHANNELS}.")
    if frames > limits.question_seconds * rate + 1:
        raise DemoError(f"The sound is longer than {limits.question_seconds:g} s, which is the most we take: cut it.")
