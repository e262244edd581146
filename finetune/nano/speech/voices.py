"""
Synthetic speech with word times, from the flite voices that Debian ships.

Depends on flite's C library (through ctypes). Independent of texts, codecs and files. The library is not thread-safe:
one process synthesises one utterance at a time.
"""

import ctypes
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from processing_ttt.resampling_ttt import resample

SAMPLING_RATE = 16_000
VOICES = ("slt", "rms", "awb", "kal16")
EDGE_SILENCE = 0.08  # seconds kept before the first and after the last word: two frames of a 25 Hz codec

# Paths of flite's feature language, seen from a token: its words' first and last segments.
_SEGMENTS_START = b"daughter1.R:SylStructure.daughter1.daughter1.R:Segment.p.end"
_SEGMENTS_END = b"daughtern.R:SylStructure.daughtern.daughtern.R:Segment.end"


@dataclass(frozen=True)
class Word:
    """
    One word of the text, with its punctuation, and its interval in the audio.

    Args:
        text (`str`): The word as it is written; `" ".join` of all words is the text.
        start (`float`): Seconds from the beginning of the audio.
        end (`float`): Seconds; the start of the next word, so a pause belongs to the word before it.
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Utterance:
    """
    Spoken text.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): The waveform at 16 kHz, in [-1, 1].
        words (`list[Word]`, *optional*): Contiguous intervals from 0 to the end of the audio, where the synthesiser
            gives them.
    """

    audio: np.ndarray
    words: list[Word] | None = None


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


class _VoiceHead(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


_SIGNATURES = {
    "flite_init": (ctypes.c_int, []),
    "flite_synth_text": (ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p]),
    "delete_utterance": (None, [ctypes.c_void_p]),
    "utt_wave": (ctypes.POINTER(_Wave), [ctypes.c_void_p]),
    "utt_relation": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    "relation_head": (ctypes.c_void_p, [ctypes.c_void_p]),
    "item_next": (ctypes.c_void_p, [ctypes.c_void_p]),
    "item_daughter": (ctypes.c_void_p, [ctypes.c_void_p]),
    "flite_ffeature_float": (ctypes.c_float, [ctypes.c_void_p, ctypes.c_char_p]),
    "flite_get_param_float": (ctypes.c_float, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]),
    "flite_feat_set_float": (None, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]),
}


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise OSError(f"{name} cannot be loaded: install the Debian package `flite` (apt install flite).") from error


@lru_cache(maxsize=1)
def _flite() -> ctypes.CDLL:
    library = _load("libflite.so.1")
    for dependency in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
        _load(dependency)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@lru_cache(maxsize=len(VOICES))
def _register(name: str) -> int:
    library = _load(f"libflite_cmu_us_{name}.so.1")
    register = getattr(library, f"register_cmu_us_{name}")
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    return register(None)


class Voice:
    """
    One flite voice.

    Args:
        name (`str`): One of `VOICES`: "slt" (a woman), "rms", "awb" (a Scot), "kal16" (a diphone voice).

    Raises:
        ValueError: The name is unknown.
        OSError: The Debian package `flite` is not installed.
    """

    def __init__(self, name: str):
        if name not in VOICES:
            raise ValueError(f"There is no voice {name!r}: choose one of {', '.join(VOICES)}.")
        self.name = name
        self._flite = _flite()
        self._voice = _register(name)
        self._features = ctypes.cast(self._voice, ctypes.POINTER(_VoiceHead)).contents.features
        self._own_stretch = self._flite.flite_get_param_float(self._features, b"duration_stretch", 1.0)

    def speak(self, text: str, stretch: float = 1.0) -> Utterance:
        """
        Speak a text.

        Args:
            text (`str`): English in ASCII; every word holds a letter or a digit.
            stretch (`float`, *optional*, defaults to 1.0): Durations are multiplied by it: 1.2 is slower.

        Returns:
            `Utterance`: The audio, with `EDGE_SILENCE` at both ends, and the interval of each word.

        Raises:
            ValueError: The text has a word that is not pronounced, or is not ASCII, or `stretch` is not positive.
        """
        spoken_words = _check(text, stretch)
        # A voice's features outlive the call, so `stretch` is set before every utterance.
        self._flite.flite_feat_set_float(self._features, b"duration_stretch", stretch * self._own_stretch)
        utterance = self._flite.flite_synth_text(text.encode("ascii"), self._voice)
        try:
            audio = _audio(self._flite.utt_wave(utterance).contents)
            intervals = self._spoken_intervals(utterance)
        finally:
            self._flite.delete_utterance(utterance)
        if len(intervals) != len(spoken_words):
            raise ValueError(
                f"flite speaks {text!r} as {len(intervals)} tokens, not {len(spoken_words)}: "
                "write numbers and symbols as words."
            )
        return _trimmed(audio, spoken_words, intervals)

    def _spoken_intervals(self, utterance: int) -> list[tuple[float, float]]:
        """Start and end in seconds of each token's speech, without the pauses around it."""
        intervals = []
        token = self._flite.relation_head(self._flite.utt_relation(utterance, b"Token"))
        while token:
            if self._flite.item_daughter(token):
                start = self._flite.flite_ffeature_float(token, _SEGMENTS_START)
                intervals.append((start, self._flite.flite_ffeature_float(token, _SEGMENTS_END)))
            token = self._flite.item_next(token)
        return intervals


def _check(text: str, stretch: float) -> list[str]:
    spoken_words = text.split()
    if not text.isascii():
        raise ValueError(f"flite speaks ASCII only, and {text!r} is not.")
    if not spoken_words or not all(any(c.isalnum() for c in word) for word in spoken_words):
        raise ValueError(f"Every word needs a letter or a digit to be spoken, and one in {text!r} has none.")
    if not (math.isfinite(stretch) and stretch > 0):
        raise ValueError(f"`stretch` multiplies durations and must be a positive number, not {stretch}.")
    return spoken_words


def _audio(wave: _Wave) -> np.ndarray:
    samples = np.ctypeslib.as_array(wave.samples, shape=(wave.num_samples,)).astype(np.float32) / 32768.0
    if wave.sample_rate == SAMPLING_RATE:
        return samples
    return resample(samples, wave.sample_rate, SAMPLING_RATE)


def _trimmed(audio: np.ndarray, spoken_words: list[str], intervals: list[tuple[float, float]]) -> Utterance:
    """Cut (or pad) to `EDGE_SILENCE` at both ends and make the words' intervals contiguous."""
    edge = round(EDGE_SILENCE * SAMPLING_RATE)
    first = round(intervals[0][0] * SAMPLING_RATE) - edge
    last = round(intervals[-1][1] * SAMPLING_RATE) + edge
    kept = audio[max(first, 0) : last]
    audio = np.pad(kept, (max(-first, 0), last - max(first, 0) - len(kept)))
    starts = [0.0, *(start - first / SAMPLING_RATE for start, _ in intervals[1:])]
    ends = [*starts[1:], len(audio) / SAMPLING_RATE]
    return Utterance(audio, [Word(*word) for word in zip(spoken_words, starts, ends, strict=True)])
