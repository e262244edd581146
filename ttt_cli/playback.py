"""
The loudspeaker and the microphone: `--play`, `ttt chat`.

Depends on sounddevice (the extra `mic`) and on devices. Independent of models and files.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

BLOCK_SECONDS = 0.05  # of the microphone's audio that is passed on at once


def check_player() -> None:
    """Refuse to play where there is no loudspeaker, before a model is loaded."""
    _sounddevice("output", _cannot_play)


def check_microphone() -> None:
    """Refuse to listen where there is no microphone, before a model is loaded."""
    _sounddevice("input", _cannot_listen)


class Player:
    """
    An open loudspeaker.

    Args:
        stream (`sounddevice.OutputStream`): Takes samples as fast as they are played.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    @property
    def latency(self) -> float:
        """Seconds between what the loudspeaker has taken and what is audible."""
        return float(self.stream.latency)

    def write(self, samples: "np.ndarray") -> None:
        """Play samples, float32 of shape `(samples,)`; returns when the loudspeaker has taken them."""
        self.stream.write(samples.reshape(-1, 1))

    def drop(self) -> None:
        """Be silent at once: what was taken and is not audible yet is dropped."""
        self.stream.abort()
        self.stream.start()


@contextmanager
def player(sampling_rate: int) -> Iterator[Player]:
    """
    Open the loudspeaker; closing it waits until all has been played, except after an error or Ctrl-C.

    Args:
        sampling_rate (`int`): Rate of the samples, in Hz.
    """
    sounddevice = _sounddevice("output", _cannot_play)
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


@contextmanager
def microphone(sampling_rate: int, take: Callable[[bytes], None]) -> Iterator[None]:
    """
    Open the microphone.

    Args:
        sampling_rate (`int`): Rate of the samples, in Hz.
        take (`Callable`): Takes a block of 16-bit samples, in a thread of PortAudio.
    """
    sounddevice = _sounddevice("input", _cannot_listen)

    def pass_on(block: "np.ndarray", *_: object) -> None:
        take(block.tobytes())

    try:
        block = round(BLOCK_SECONDS * sampling_rate)
        stream = sounddevice.InputStream(sampling_rate, block, channels=1, dtype="int16", callback=pass_on)
        stream.start()
    except sounddevice.PortAudioError as error:
        raise RuntimeError(_cannot_listen(error)) from error
    try:
        yield
    finally:
        stream.close()


def _sounddevice(kind: str, cannot: Callable[[Exception], str]) -> Any:
    try:
        import sounddevice
    except OSError as error:  # its wheel for Linux comes without the library
        raise RuntimeError(f"Audio devices need PortAudio ({error}): apt install libportaudio2.") from error
    try:
        sounddevice.query_devices(kind=kind)
    except sounddevice.PortAudioError as error:
        raise RuntimeError(cannot(error)) from error
    return sounddevice


def _cannot_play(error: Exception) -> str:
    return f"This machine has no loudspeaker that can be used ({error}): leave out --play, and let files be written."


def _cannot_listen(error: Exception) -> str:
    return f"This machine has no microphone that can be used ({error}): give files, or write."
