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
    samples = samples.squeeze()
    if samples.size == 0:
        raise ValueError(f"There is no sound to write to {os.fspath(path)!r}: the reply is text only.")
    if samples.ndim != 1:
        raise ValueError(
            f"One sound has the shape (samples,), but {samples.shape} came: save each sound to its own file."
        )
    ending = os.path.splitext(os.fspath(path))[1][1:].upper()
    if ending not in soundfile.available_formats():
        raise ValueError(f"No sound format goes by the ending of {os.fspath(path)!r}: use .wav, .flac, .ogg or .mp3.")
    soundfile.write(os.fspath(path), samples, sampling_rate, format=ending)
