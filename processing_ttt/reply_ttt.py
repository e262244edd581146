"""
A decoded reply: text and audio.

Independent of token ids, codes and codecs.
"""

import os
from dataclasses import dataclass

import numpy as np

from .audio_output_ttt import write_audio


@dataclass(frozen=True)
class TttReply:
    """
    A decoded reply of the model.

    Args:
        text (`str`): The text of all segments, joined.
        audio (`np.ndarray` of shape `(samples,)`, float32): The audio of all spans, joined; empty for a text reply.
        sampling_rate (`int`): Rate of `audio`, in Hz.
        finished (`bool`): Whether the model ended the reply (it was not cut off).
    """

    text: str
    audio: np.ndarray
    sampling_rate: int
    finished: bool = True

    @property
    def seconds(self) -> float:
        """Length of the audio, in seconds."""
        return len(self.audio) / self.sampling_rate

    def save(self, path: str | os.PathLike) -> None:
        """
        Write the audio to a file, in the format of its extension (wav, flac, ogg, mp3).

        Args:
            path (`str` or `os.PathLike`): The file.

        Raises:
            ValueError: If the reply has no audio, or the extension is unknown.
        """
        write_audio(self.audio, path, self.sampling_rate)
