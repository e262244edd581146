"""
Change how fast audio is and keep its pitch, piece by piece, by the filter `atempo` of FFmpeg.

Depends on PyAV. Independent of files, codecs and replies.
"""

from typing import Any

import numpy as np

try:
    import av
except ImportError:
    av = None  # type: ignore[assignment]

SLOWEST, FASTEST = 0.25, 4.0


class SpeedChanger:
    """
    Makes audio faster or slower while it arrives.

    Args:
        speed (`float`): From 0.25 to 4; at 2 the audio takes half as long. At 1 it passes through as it is.
        sampling_rate (`int`): Rate of the audio, in Hz.

    Raises:
        ValueError: If the speed is out of its range.
        ImportError: If PyAV is not installed.

    Example:
        ```python
        changer = SpeedChanger(1.5, 16000)
        faster = [changer.push(chunk) for chunk in chunks] + [changer.finish()]
        ```
    """

    def __init__(self, speed: float, sampling_rate: int):
        check_speed(speed)
        self.sampling_rate = sampling_rate
        self._num_samples = 0  # that came
        self._graph: Any = None if speed == 1 else _graph(speed, sampling_rate)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples, float32 of shape `(samples,)`; return those that are final, of the same form."""
        if self._graph is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32)[None], "fltp", "mono")
        frame.sample_rate = self.sampling_rate
        frame.pts = self._num_samples
        self._num_samples += len(samples)
        self._graph.push(frame)
        return self._pull()

    def finish(self) -> np.ndarray:
        """Return the rest of the samples, float32 of shape `(samples,)`."""
        if self._graph is None or not self._num_samples:
            return np.zeros(0, np.float32)
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> np.ndarray:
        pieces = [np.zeros(0, np.float32)]
        while True:
            try:
                pieces.append(self._graph.pull().to_ndarray()[0])
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(pieces)


def change_speed(audio: np.ndarray, speed: float, sampling_rate: int) -> np.ndarray:
    """
    Make audio faster or slower.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): All of it.
        speed (`float`): From 0.25 to 4.
        sampling_rate (`int`): In Hz.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32.

    Raises:
        ValueError: If the speed is out of its range.
        ImportError: If PyAV is not installed.
    """
    changer = SpeedChanger(speed, sampling_rate)
    return np.concatenate([changer.push(audio), changer.finish()])


def check_speed(speed: float) -> None:
    """Raise a `ValueError` for a speed that cannot be had."""
    if not SLOWEST <= speed <= FASTEST:  # NaN is in no range
        raise ValueError(f"The speed must be a number from {SLOWEST:g} to {FASTEST:g}, but is {speed:g}.")


def _graph(speed: float, sampling_rate: int) -> Any:
    if av is None:
        raise ImportError("Another speed than 1 needs PyAV: `pip install av`.")
    graph = av.filter.Graph()
    steps = [graph.add_abuffer(format="fltp", sample_rate=sampling_rate, layout="mono")]
    # `atempo` goes down to 0.5, and above 2 it skips samples: two of them in a row do neither.
    count = 1 if 0.5 <= speed <= 2 else 2
    steps += [graph.add("atempo", f"{speed ** (1 / count):.6f}") for _ in range(count)]
    steps.append(graph.add("abuffersink"))
    graph.link_nodes(*steps).configure()
    return graph
