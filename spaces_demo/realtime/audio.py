"""
Audio of the protocol: 16-bit samples at 24 kHz in base64.

Independent of the network and the model.
"""

import base64
import binascii

import numpy as np

from .protocol import ProtocolError

RATE = 24000  # Hz, both ways


def samples_of(audio: str) -> np.ndarray:
    """
    Decode the audio of an event.

    Args:
        audio (`str`): Base64.

    Returns:
        `np.ndarray` of shape `(samples,)`, int16, at 24 kHz.

    Raises:
        ProtocolError: If it is no base64, or half a sample.
    """
    try:
        data = base64.b64decode(audio, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ProtocolError("invalid_audio", "The audio must be in base64.", "audio") from error
    if len(data) % 2:
        raise ProtocolError("invalid_audio", "The audio must be whole 16-bit samples.", "audio")
    return np.frombuffer(data, "<i2")


def as_float(samples: np.ndarray) -> np.ndarray:
    """Turn 16-bit samples into float32 in [-1, 1]."""
    return samples.astype(np.float32) / 32768


class InputBuffer:
    """
    The user's audio that may still become part of a message; positions count from the begin of the session.

    Args:
        most (`int`): Largest number of samples.
    """

    def __init__(self, most: int):
        self.most = most
        self.start = 0
        self._samples = bytearray()

    @property
    def end(self) -> int:
        """Position after the last sample."""
        return self.start + len(self._samples) // 2

    def append(self, samples: np.ndarray) -> None:
        """
        Add samples.

        Raises:
            ProtocolError: If there is no room; none are added then.
        """
        if self.end - self.start + len(samples) > self.most:
            raise ProtocolError(
                "input_audio_buffer_full",
                f"The buffer holds at most {self.most / RATE:g} s of audio: commit or clear it.",
            )
        self._samples += samples.astype("<i2").tobytes()

    def between(self, start: int, end: int) -> np.ndarray:
        """Return the samples of positions `start` to `end`, as far as they are there."""
        first, last = (2 * max(0, position - self.start) for position in (start, end))
        return np.frombuffer(bytes(self._samples[first:last]), "<i2")

    def drop_before(self, position: int) -> None:
        """Forget what was before a position."""
        count = min(max(0, position - self.start), self.end - self.start)
        del self._samples[: 2 * count]
        self.start += count
