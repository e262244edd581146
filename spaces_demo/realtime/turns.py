"""
Where turns begin and end in a stream of audio, by Silero's detector.

    silence │ speech ... │ silence: paused, 0.32 s after the last speech │ stopped, after the silence that is asked for
            └ started, once enough of it is speech                         or resumed, if speech goes on before

Depends on the probability of speech in each window. Independent of the network and the model that answers.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from processing_ttt.resampling_ttt import ResamplingStream

from ..service.turn_detection import INITIAL_STATE, SAMPLING_RATE, WINDOW, speech_probabilities
from .audio import RATE
from .protocol import TurnDetection

WINDOW_SECONDS = WINDOW / SAMPLING_RATE
SAMPLES_PER_WINDOW = WINDOW * RATE // SAMPLING_RATE  # of the protocol's audio
BEGIN_WINDOWS = 4  # 0.13 s of speech begin a turn: a click does not
INTERRUPTING_WINDOWS = 16  # 0.51 s of speech interrupt a reply: a short "mhm" does not
BREAK_WINDOWS = 6  # 0.19 s of silence before a turn has begun forget the speech before
TAIL_WINDOWS = 10  # 0.32 s of silence after speech belong to the turn; then its audio can be encoded
HYSTERESIS = 0.15  # between the thresholds of speech and silence, so that a soft syllable does not end a word


@dataclass(frozen=True)
class Mark:
    """
    Something that the detector noticed.

    Args:
        kind (`str`): `started`, `paused`, `resumed` or `stopped`.
        begin (`int`): First sample of speech, at 24 kHz from the begin of the session.
        end (`int`): Where the turn's audio ends, if it ends here.
    """

    kind: Literal["started", "paused", "resumed", "stopped"]
    begin: int
    end: int


class TurnTracker:
    """
    Finds turns.

    Args:
        settings ([`TurnDetection`]): Threshold and silence.
        position (`int`): Position of the next sample, at 24 kHz.
    """

    def __init__(self, settings: TurnDetection, position: int):
        self.settings = settings
        self.origin = position
        self.is_speaking = False
        self.num_windows = 0
        self._resampling = ResamplingStream(RATE, SAMPLING_RATE)
        self._waiting = np.zeros(0, dtype=np.float32)
        self._memory = INITIAL_STATE.network
        self._candidate: int | None = None  # window of the first speech
        self._num_speech = self._silence_run = 0

    @property
    def earliest(self) -> int:
        """First sample that a turn can begin with, without its padding."""
        return self._position(self.num_windows if self._candidate is None else self._candidate)

    @property
    def certain_end(self) -> int:
        """Position up to which the audio belongs to the turn, however it goes on, while there is one."""
        last_speech = self.num_windows - self._silence_run
        return self._position(last_speech + min(self._silence_run, self._tail))

    def push(self, samples: np.ndarray, is_interrupting: bool) -> list[Mark]:
        """
        Take audio.

        Args:
            samples (`np.ndarray` of shape `(samples,)`, float32): At 24 kHz.
            is_interrupting (`bool`): Whether a turn that begins now interrupts a reply, which takes more speech.

        Returns:
            `list[Mark]`: What was noticed.
        """
        waiting = np.concatenate([self._waiting, self._resampling.push(samples)])
        count = len(waiting) // WINDOW * WINDOW
        self._waiting = waiting[count:]
        if not count:
            return []
        probabilities, self._memory = speech_probabilities(waiting[:count], self._memory)
        needed = INTERRUPTING_WINDOWS if is_interrupting else BEGIN_WINDOWS
        marks = [self._after(probability, needed) for probability in probabilities]
        return [mark for mark in marks if mark is not None]

    def stop(self) -> Mark:
        """End the turn here, whether or not there is speech."""
        begin = 0 if self._candidate is None else self._candidate
        self._forget()
        return Mark("stopped", self._position(begin), self._position(self.num_windows))

    def _after(self, probability: float, needed: int) -> Mark | None:
        self.num_windows += 1
        is_speech = probability >= self.settings.threshold
        was_paused = self.is_speaking and self._silence_run >= self._tail
        if is_speech:
            self._candidate = self.num_windows - 1 if self._candidate is None else self._candidate
            self._num_speech += 1
            self._silence_run = 0
        elif probability < self.settings.threshold - HYSTERESIS:
            self._silence_run += 1
        if self._candidate is None:
            return None
        if not self.is_speaking:
            return self._before_the_turn(needed)
        if is_speech:
            return self._mark("resumed") if was_paused else None
        if self._silence_run >= self._end:
            mark = self._mark("stopped")
            self._forget()
            return mark
        return self._mark("paused") if self._silence_run == self._tail and not was_paused else None

    def _before_the_turn(self, needed: int) -> Mark | None:
        if self._silence_run >= BREAK_WINDOWS:
            self._forget()
        elif self._num_speech >= needed:
            self.is_speaking = True
            return self._mark("started")
        return None

    @property
    def _end(self) -> int:
        return max(1, round(self.settings.silence_duration_ms / 1000 / WINDOW_SECONDS))

    @property
    def _tail(self) -> int:
        return min(TAIL_WINDOWS, self._end)

    def _mark(self, kind: Literal["started", "paused", "resumed", "stopped"]) -> Mark:
        return Mark(kind, self._position(self._candidate or 0), self.certain_end)

    def _forget(self) -> None:
        self.is_speaking, self._candidate = False, None
        self._num_speech = self._silence_run = 0

    def _position(self, window: int) -> int:
        return self.origin + window * SAMPLES_PER_WINDOW
