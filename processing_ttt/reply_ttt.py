"""
A decoded reply: text and audio.

Independent of token ids, codes and codecs.
"""

import base64
import html
import io
import os
from dataclasses import dataclass

import numpy as np
import soundfile

from .audio_output_ttt import write_audio


@dataclass(frozen=True)
class TttWordTime:
    """
    A word of a reply with the place of its audio.

    Args:
        word (`str`): The text before an audio span, without space around it: usually one word, several where the model
            gives several words one span, and a part of one where it divides a word.
        start (`float`): Where the span begins in the reply's audio, in seconds.
        end (`float`): Where it ends, pauses included.
    """

    word: str
    start: float
    end: float


@dataclass(frozen=True, repr=False)
class TttReply:
    """
    A decoded reply of the model.

    Args:
        text (`str`): The text of all segments, joined.
        audio (`np.ndarray` of shape `(samples,)`, float32): The audio of all spans, joined; empty for a text reply.
        sampling_rate (`int`): Rate of `audio`, in Hz.
        finished (`bool`): Whether the model ended the reply (it was not cut off).
        timings (`tuple[TttWordTime, ...]`): When each word is audible; only words whose audio is known.
    """

    text: str
    audio: np.ndarray
    sampling_rate: int
    finished: bool = True
    timings: tuple[TttWordTime, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the audio, in seconds."""
        return len(self.audio) / self.sampling_rate

    def __repr__(self) -> str:
        audio = f"{self.seconds:.2f} s of audio at {self.sampling_rate} Hz" if len(self.audio) else "no audio"
        return f"TttReply({self.text!r}, {audio}{'' if self.finished else ', unfinished'})"

    def _repr_html_(self) -> str:
        """Show the text and a player in a notebook."""
        text = f"<p>{html.escape(self.text)}</p>"
        if not len(self.audio):
            return text
        with io.BytesIO() as file:
            soundfile.write(file, self.audio, self.sampling_rate, format="WAV")
            encoded = base64.b64encode(file.getvalue()).decode()
        return f'{text}<audio controls src="data:audio/wav;base64,{encoded}"></audio>'

    def save(self, path: str | os.PathLike) -> None:
        """
        Write the audio to a file, in the format of its extension (wav, flac, ogg, mp3).

        Args:
            path (`str` or `os.PathLike`): The file.

        Raises:
            ValueError: If the reply has no audio, or the extension is unknown.
        """
        write_audio(self.audio, path, self.sampling_rate)
