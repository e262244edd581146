"""
When a speaker's turn begins and ends, by Silero's voice activity detection: a pure function of the next sound and of
what it remembers.

The microphone sends a quarter of a second at a time and keeps, between calls, the few numbers this module hands it:
the server holds nothing for people who are listening to themselves think, and there is nothing to expire. Knows
speech from silence. Knows no browser and no model that answers.
"""

import base64
import binascii
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from .limits import DemoError

SAMPLING_RATE = 16000
WINDOW = 512  # samples that Silero judges at once: 32 ms
CONTEXT = 64  # samples before a window that it sees too
MAX_WINDOWS = 100  # of one call

BEGIN_PROBABILITY, END_PROBABILITY = 0.5, 0.35  # two thresholds, so that a soft syllable does not end a word
BEGIN_WINDOWS = 4  # 0.13 s of speech begin a turn: a click does not
END_WINDOWS = 24  # 0.77 s of silence end it: a breath does not

_MEMORY_SIZE = 2 * 128 + CONTEXT


@dataclass(frozen=True)
class TurnMemory:
    """
    What is remembered from call to call.

    Args:
        network (`np.ndarray` of shape `(320,)`, float32): The network's recurrent state and the last samples.
        num_windows (`int`): Windows heard so far.
        speech_run (`int`): How many of the last windows are speech, without a break.
        silence_run (`int`): How many of the last windows are silence, without a break.
        begin (`int`, *optional*): The window where the turn began.
    """

    network: np.ndarray
    num_windows: int = 0
    speech_run: int = 0
    silence_run: int = 0
    begin: int | None = None

    @property
    def begins(self) -> float | None:
        """When the turn began, in seconds since the first sample."""
        return None if self.begin is None else self.begin * WINDOW / SAMPLING_RATE

    @property
    def is_over(self) -> bool:
        """Whether somebody spoke, and has stopped."""
        return self.begin is not None and self.silence_run >= END_WINDOWS

    def after(self, probability: float) -> "TurnMemory":
        """Take one more window, by how probably it is speech."""
        speech_run = self.speech_run + 1 if probability >= BEGIN_PROBABILITY else 0
        if probability >= BEGIN_PROBABILITY:
            silence_run = 0
        elif probability < END_PROBABILITY:
            silence_run = self.silence_run + 1
        else:
            silence_run = self.silence_run
        begin = self.begin
        if begin is None and speech_run == BEGIN_WINDOWS:
            begin = self.num_windows + 1 - BEGIN_WINDOWS
        return TurnMemory(self.network, self.num_windows + 1, speech_run, silence_run, begin)


NOTHING_HEARD = TurnMemory(np.zeros(_MEMORY_SIZE, np.float32))


def listen(samples: np.ndarray, memory: TurnMemory = NOTHING_HEARD) -> TurnMemory:
    """
    Hear some more.

    Args:
        samples (`np.ndarray` of shape `(windows * 512,)`, float32): Sound at 16 kHz.
        memory ([`TurnMemory`], *optional*): What the call before gave.

    Returns:
        [`TurnMemory`]: For the next call.
    """
    network = _network()
    state = torch.from_numpy(memory.network[:-CONTEXT].copy()).view(2, 1, 128)
    context = torch.from_numpy(memory.network[-CONTEXT:].copy())
    probabilities = []
    with torch.inference_mode():
        for window in torch.from_numpy(samples).split(WINDOW):
            probability, state = network(torch.cat([context, window])[None], state)
            context = window[-CONTEXT:]
            probabilities.append(float(probability))
    for probability in probabilities:
        memory = memory.after(probability)
    return replace(memory, network=torch.cat([state.flatten(), context]).numpy())


def hear(heard: Any) -> dict[str, Any]:
    """
    Answer the microphone in the browser.

    Args:
        heard (`dict`): `sound`, 16-bit samples at 16 kHz in base64, a multiple of 512 of them; and `memory`, from the
            answer before.

    Returns:
        `dict`: `memory`, `begins` in seconds or `None`, and whether the turn `is_over`.

    Raises:
        DemoError: If what came is not that.
    """
    try:
        sound = np.frombuffer(base64.b64decode(heard["sound"], validate=True), "<i2")
        memory = _unpack(heard["memory"]) if heard.get("memory") else NOTHING_HEARD
    except (TypeError, KeyError, AttributeError, ValueError, binascii.Error) as error:
        raise DemoError("The microphone sent something that is not sound: reload the page and try again.") from error
    if not len(sound) or len(sound) % WINDOW or len(sound) > MAX_WINDOWS * WINDOW:
        raise DemoError(f"The microphone sends 1 to {MAX_WINDOWS} windows of {WINDOW} samples, but {len(sound)} came.")
    memory = listen(sound.astype(np.float32) / 32768, memory)
    return {"memory": _pack(memory), "begins": memory.begins, "is_over": memory.is_over}


def _pack(memory: TurnMemory) -> dict[str, Any]:
    return {
        "network": base64.b64encode(memory.network.astype("<f4").tobytes()).decode(),
        "num_windows": memory.num_windows,
        "speech_run": memory.speech_run,
        "silence_run": memory.silence_run,
        "begin": memory.begin,
    }


def _unpack(packed: dict[str, Any]) -> TurnMemory:
    network = np.frombuffer(base64.b64decode(packed["network"], validate=True), "<f4")
    if network.shape != (_MEMORY_SIZE,) or not np.isfinite(network).all():
        raise ValueError("not a state of the network")
    counts = [int(packed[name]) for name in ("num_windows", "speech_run", "silence_run")]
    begin = None if packed["begin"] is None else int(packed["begin"])
    return TurnMemory(network.astype(np.float32), *counts, begin)


_LOADING = threading.Lock()


def _network() -> Any:
    with _LOADING:
        return _load_network()


@lru_cache(maxsize=1)
def _load_network() -> Any:
    """Load the detector that Silero's wheel carries: the part that takes its state and gives it back, so that any number of people share it."""
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # importing the package sets one thread for the whole process
    network = load_silero_vad()._model.eval()
    for _ in range(3):  # TorchScript compiles itself on its first calls
        network(torch.zeros(1, CONTEXT + WINDOW), torch.zeros(2, 1, 128))
    return network
