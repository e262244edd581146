"""
What a person gets: a reply's text and sound, and the sound as a file.

Knows waveforms and files. Knows no ids, no codes and no codec.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import torch

SOUND_FORMATS = ("WAV", "FLAC", "OGG", "MP3")


@dataclass(frozen=True)
class TttReply:
    """
    A reply as a person gets it.

    Args:
        text (`str`): The text of all stretches.
        audio (`np.ndarray` of shape `(samples,)`, float32): The sound of all spans; empty for a reply of text only.
        sampling_rate (`int`): Rate of `audio`, in Hz.
        finished (`bool`): Whether the model ended the reply (it was not cut off).
    """

    text: str
    audio: np.ndarray
    sampling_rate: int
    finished: bool = True

    @property
    def seconds(self) -> float:
        """Length of the sound, in seconds."""
        return len(self.audio) / self.sampling_rate

    def save(self, path: str | os.PathLike) -> None:
        """
        Write the audio to a file; the file name's ending says the format (wav, flac, ogg, mp3).

        Args:
            path (`str` or `os.PathLike`): The file.

        Raises:
            ValueError: If the reply has no audio, or the ending is no known format.
        """
        write_sound(self.audio, path, self.sampling_rate)


def write_sound(audio: Any, path: str | os.PathLike, sampling_rate: int) -> None:
    """
    Write a sound to a file; the name's ending says the format (wav, flac, ogg, mp3).

    Args:
        audio (`np.ndarray` or `torch.Tensor` of shape `(samples,)`): The sound.
        path (`str` or `os.PathLike`): The file.
        sampling_rate (`int`): Rate of the sound, in Hz.

    Raises:
        ValueError: If there is no sound, or more than one, or no format goes by the file's ending.
    """
    samples = audio.detach().float().cpu().numpy() if isinstance(audio, torch.Tensor) else np.asarray(audio)
    samples = samples.squeeze() if samples.ndim > 1 else samples
    if samples.size == 0:
        raise ValueError(f"There is no sound to write to {os.fspath(path)!r}: the reply is text only.")
    if samples.ndim != 1:
        raise ValueError(
            f"One sound has the shape (samples,), but {samples.shape} came: save each sound to its own file."
        )
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise ValueError(f"There are NaN or infinite samples in the sound for {os.fspath(path)!r}: it is damaged.")
    if samples.dtype.kind != "f" and samples.dtype not in (np.int16, np.int32):
        raise ValueError(f"The samples to write are {samples.dtype}: convert them to float in [-1, 1], int16 or int32.")
    soundfile.write(os.fspath(path), samples, sampling_rate, format=sound_format(path))


class SoundWriter:
    """
    Writes a sound to a file as it comes: the file appears with the first samples, and is whole when the writer is
    closed, at whatever point.

    Args:
        path (`str` or `os.PathLike`): The file; its ending says the format (wav, flac, ogg, mp3).
        sampling_rate (`int`): Rate of the sound, in Hz.

    Raises:
        ValueError: If no format goes by the file's ending.

    Example:
        ```python
        with SoundWriter("reply.wav", 16000) as writer:
            for chunk in chunks:
                writer.write(chunk)
        ```
    """

    def __init__(self, path: str | os.PathLike, sampling_rate: int):
        self.path = path
        self.sampling_rate = sampling_rate
        self._format = sound_format(path)
        self._file: soundfile.SoundFile | None = None
        self.num_samples = 0  # that the file holds

    def write(self, samples: np.ndarray) -> None:
        """Write the next samples, float32 of shape `(samples,)`."""
        if self._file is None:
            self._file = self._open()
        # Counted before: whoever interrupts a write finds them in the file sooner than `write` returns, and `close`
        # must not remove them.
        self.num_samples += len(samples)
        try:
            self._file.write(samples)
        except Exception:  # a full disk: they are not in the file
            self.num_samples -= len(samples)
            raise

    def _open(self) -> soundfile.SoundFile:
        is_new = not os.path.lexists(self.path)
        try:
            return soundfile.SoundFile(os.fspath(self.path), "w", self.sampling_rate, channels=1, format=self._format)
        except soundfile.LibsndfileError:
            if is_new and os.path.lexists(self.path):  # there was no room for the header
                os.remove(self.path)
            raise

    @property
    def seconds(self) -> float:
        """Length of what was written, in seconds."""
        return self.num_samples / self.sampling_rate

    def close(self) -> None:
        """Complete the file, if there is one; one that never got its first samples goes."""
        if self._file is not None and not self._file.closed:
            try:
                self._file.close()
            finally:
                if not self.num_samples:
                    os.remove(self.path)

    def __enter__(self) -> "SoundWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def sound_format(path: str | os.PathLike) -> str:
    """
    Name the format that goes by a file's ending.

    Args:
        path (`str` or `os.PathLike`): The file.

    Returns:
        `str`: As soundfile names it.

    Raises:
        ValueError: If there is none.
    """
    ending = os.path.splitext(os.fspath(path))[1][1:].upper()
    if ending not in SOUND_FORMATS or ending not in soundfile.available_formats():
        raise ValueError(f"No sound format goes by the ending of {os.fspath(path)!r}: use .wav, .flac, .ogg or .mp3.")
    return ending
