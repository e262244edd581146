"""
When a speaker's turn begins and ends, by Silero's voice activity detection: a pure function of the next audio and of
the state so far.

The microphone sends a quarter of a second at a time and carries the state, a few numbers, from call to call: the server
keeps nothing between two calls, and nothing expires. Independent of the browser and of the model that answers.
"""

import base64
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
import torch

from .limits import RequestError

SAMPLING_RATE = 16000
WINDOW = 512  # samples that Silero classifies at once: 32 ms
CONTEXT = 64  # samples before a window that it sees too
MAX_WINDOWS = 100  # of one call
MAX_COUNT = 2**31 - 1  # windows of a turn: two years

BEGIN_PROBABILITY, END_PROBABILITY = 0.5, 0.35  # two thresholds, so that a soft syllable does not end a word
BEGIN_WINDOWS = 4  # 0.13 s of speech begin a turn: a click does not
END_WINDOWS = 36  # 1.15 s of silence end it: someone who pauses to think does not

_STATE_SIZE = 2 * 128 + CONTEXT


@dataclass(frozen=True)
class DetectorState:
    """
    What is carried from call to call.

    Args:
        network (`np.ndarray` of shape `(320,)`, float32): The network's recurrent state and the last samples.
        num_windows (`int`): Windows so far.
        speech_run (`int`): How many of the last windows are speech, without a break.
        silence_run (`int`): How many of the last windows are silence, without a break.
        begin (`int`, *optional*): The window where the turn began.
        num_speech (`int`): Windows since then that are not silence.
    """

    network: np.ndarray
    num_windows: int = 0
    speech_run: int = 0
    silence_run: int = 0
    begin: int | None = None
    num_speech: int = 0

    @property
    def begins(self) -> float | None:
        """When the turn began, in seconds since the first sample."""
        return None if self.begin is None else self.begin * WINDOW / SAMPLING_RATE

    @property
    def is_over(self) -> bool:
        """Whether someone spoke, and has stopped."""
        return self.begin is not None and self.silence_run >= END_WINDOWS

    def after(self, probability: float) -> "DetectorState":
        """Return the state after one more window, given its probability of speech."""
        speech_run = self.speech_run + 1 if probability >= BEGIN_PROBABILITY else 0
        if probability >= BEGIN_PROBABILITY:
            silence_run = 0
        elif probability < END_PROBABILITY:
            silence_run = self.silence_run + 1
        else:
            silence_run = self.silence_run
        begin, num_speech = self.begin, self.num_speech + (self.begin is not None and probability >= END_PROBABILITY)
        if begin is None and speech_run == BEGIN_WINDOWS:
            begin, num_speech = self.num_windows + 1 - BEGIN_WINDOWS, BEGIN_WINDOWS
        return DetectorState(self.network, self.num_windows + 1, speech_run, silence_run, begin, num_speech)


INITIAL_STATE = DetectorState(np.zeros(_STATE_SIZE, np.float32))


class PackedState(TypedDict):
    """A [`DetectorState`] in JSON; `network` is float32 in base64."""

    network: str
    num_windows: int
    speech_run: int
    silence_run: int
    begin: int | None
    num_speech: int


class TurnUpdate(TypedDict):
    """
    What the microphone gets back: the state for its next call; where the turn begins, how much speech it has, how long
    the last silence is, in seconds; whether it is over.
    """

    memory: PackedState
    begins: float | None
    speech: float
    silence: float
    is_over: bool


def detect_turn(samples: np.ndarray, state: DetectorState = INITIAL_STATE) -> DetectorState:
    """
    Process the next audio.

    Args:
        samples (`np.ndarray` of shape `(windows * 512,)`, float32): Audio at 16 kHz.
        state ([`DetectorState`], *optional*): The state after the audio before.

    Returns:
        [`DetectorState`]: For the next call.
    """
    probabilities, network = speech_probabilities(samples, state.network)
    for probability in probabilities:
        state = state.after(probability)
    return replace(state, network=network)


def speech_probabilities(
    samples: np.ndarray, memory: np.ndarray = INITIAL_STATE.network
) -> tuple[list[float], np.ndarray]:
    """
    Classify windows of audio.

    Args:
        samples (`np.ndarray` of shape `(windows * 512,)`, float32): Audio at 16 kHz.
        memory (`np.ndarray` of shape `(320,)`, float32, *optional*): What the call for the audio before returned.

    Returns:
        `tuple`: The probability of speech in each window, and the memory for the next call.
    """
    network = _network()
    recurrent = torch.from_numpy(memory[:-CONTEXT].copy()).view(2, 1, 128)
    context = torch.from_numpy(memory[-CONTEXT:].copy())
    probabilities = []
    with torch.inference_mode():
        for window in torch.from_numpy(samples).split(WINDOW):
            probability, recurrent = network(torch.cat([context, window])[None], recurrent)
            context = window[-CONTEXT:]
            probabilities.append(float(probability))
    return probabilities, torch.cat([recurrent.flatten(), context]).numpy()


def answer_microphone(message: Any) -> TurnUpdate:
    """
    Answer the microphone in the browser, whose script calls this function by its name.

    Args:
        message (`dict`): `audio`, 16-bit samples at 16 kHz in base64, a multiple of 512 of them; and `memory`, from the
            answer before.

    Returns:
        [`TurnUpdate`].

    Raises:
        RequestError: If the message has another form.
    """
    try:
        samples = np.frombuffer(base64.b64decode(message["audio"], validate=True), "<i2")
        state = _unpack(message["memory"]) if message.get("memory") else INITIAL_STATE
    except (TypeError, KeyError, AttributeError, ValueError) as error:  # the last also for letters outside base64
        raise RequestError("The microphone sent something that is not audio: reload the page and try again.") from error
    if not len(samples) or len(samples) % WINDOW or len(samples) > MAX_WINDOWS * WINDOW:
        raise RequestError(
            f"The microphone sends 1 to {MAX_WINDOWS} windows of {WINDOW} samples, but {len(samples)} samples came."
        )
    state = detect_turn(samples.astype(np.float32) / 32768, state)
    return {
        "memory": _pack(state),
        "begins": state.begins,
        "speech": state.num_speech * WINDOW / SAMPLING_RATE,
        "silence": state.silence_run * WINDOW / SAMPLING_RATE,
        "is_over": state.is_over,
    }


def _pack(state: DetectorState) -> PackedState:
    return {
        "network": base64.b64encode(state.network.astype("<f4").tobytes()).decode(),
        "num_windows": state.num_windows,
        "speech_run": state.speech_run,
        "silence_run": state.silence_run,
        "begin": state.begin,
        "num_speech": state.num_speech,
    }


def _unpack(packed: PackedState) -> DetectorState:
    network = np.frombuffer(base64.b64decode(packed["network"], validate=True), "<f4")
    if network.shape != (_STATE_SIZE,) or not np.isfinite(network).all():
        raise ValueError("The network's state is damaged.")
    return DetectorState(
        network.astype(np.float32),
        num_windows=_checked_count(packed["num_windows"]),
        speech_run=_checked_count(packed["speech_run"]),
        silence_run=_checked_count(packed["silence_run"]),
        begin=None if packed["begin"] is None else _checked_count(packed["begin"]),
        num_speech=_checked_count(packed["num_speech"]),
    )


def _checked_count(count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_COUNT:
        raise ValueError("A number of windows is damaged.")
    return count


def load_detector() -> None:
    """Load the detector, so that the first speaker does not wait for it."""
    _network()


_LOADING = threading.Lock()


def _network() -> Any:
    with _LOADING:
        return _load_network()


@lru_cache(maxsize=1)
def _load_network() -> Any:
    """Load the part of Silero's detector that takes its state and returns it, so that all users can share it."""
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # importing the package sets one thread for the whole process
    network = load_silero_vad()._model.eval()
    for _ in range(3):  # TorchScript compiles itself on its first calls
        network(torch.zeros(1, CONTEXT + WINDOW), torch.zeros(2, 1, 128))
    return network
