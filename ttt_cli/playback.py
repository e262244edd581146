"""
Play what is said: `--play`.

Depends on sounddevice (the extra `mic`) and a loudspeaker. Independent of models and files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def check_player() -> None:
    """Refuse to play where there is no loudspeaker, before a model is loaded."""
    _sounddevice()


class Player:
    """
    An open loudspeaker.

    Args:
        stream (`sounddevice.OutputStream`): Takes samples as fast as they are played.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, samples: "np.ndarray") -> None:
        """Play samples, float32 of shape `(samples,)`; returns when the loudspeaker has taken them."""
        self.stream.write(samples.reshape(-1, 1))


@contextmanager
def player(sampling_rate: int) -> Iterator[Player]:
    """
    Open the loudspeaker; closing it waits until all has been played, except after an error or Ctrl-C.

    Args:
        sampling_rate (`int`): Rate of the samples, in Hz.
    """
    sounddevice = _sounddevice()
    try:
        stream = sounddevice.OutputStream(sampling_rate, channels=1, dtype="float32")
        stream.start()
    except sounddevice.PortAudioError as error:
        raise RuntimeError(_cannot_play(error)) from error
    try:
        yield Player(stream)
        stream.stop()
    finally:
        stream.close()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:  # its wheel for Linux comes without the library
        raise RuntimeError(f"--play needs PortAudio ({error}): apt install libportaudio2.") from error
    try:
        sounddevice.query_devices(kind="output")
    except sounddevice.PortAudioError as error:
        raise RuntimeError(_cannot_play(error)) from error
    return sounddevice


def _cannot_play(error: Exception) -> str:
    return f"This machine has no loudspeaker that can be used ({error}): leave out --play, and play the file."
