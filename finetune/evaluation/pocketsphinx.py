"""
An independent speech recogniser for English that runs on a CPU: pocketsphinx, whose model comes with its wheel.

Depends on waveforms and texts. Independent of codecs and models.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.data.languages import base_language
from processing_ttt.resampling_ttt import resample

try:
    import pocketsphinx
except ImportError:
    pocketsphinx = None

SAMPLING_RATE = 16_000


def english_model() -> dict[str, Path]:
    """
    Find the files of the general English model.

    Returns:
        `dict[str, Path]`: `hmm` (acoustic model), `dict` (pronunciations) and `lm` (language model).

    Raises:
        ImportError: If pocketsphinx is not installed.
    """
    if pocketsphinx is None:
        raise ImportError("The judge is pocketsphinx, which is not installed: pip install pocketsphinx.")
    folder = Path(pocketsphinx.get_model_path("en-us"))
    return {"hmm": folder / "en-us", "dict": folder / "cmudict-en-us.dict", "lm": folder / "en-us.lm.bin"}


class Recogniser:
    """
    A pocketsphinx decoder.

    Args:
        files (`Path`): `dict` or `lm`, instead of those of the general English model; read at once and not kept open.

    Raises:
        ImportError: If pocketsphinx is not installed.
    """

    def __init__(self, **files: Path):
        paths = {name: str(path) for name, path in (english_model() | files).items()}
        self._decoder = pocketsphinx.Decoder(**paths, loglevel="FATAL")

    def transcribe(self, audio: np.ndarray) -> str:
        """
        Transcribe one utterance.

        Args:
            audio (`np.ndarray` of shape `(samples,)`): 16 kHz, float in [-1, 1] or int16.

        Returns:
            `str`: Lower-case words. Silence may come out as a short word, because a language model expects a sentence.
        """
        if audio.dtype != np.int16:
            audio = np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(audio.tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis is not None else ""


class PocketsphinxJudge:
    """The general English model as a judge of speech, see `finetune.evaluation.judges.Judge`."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        self.recogniser = Recogniser()

    def supports(self, language: str | None) -> bool:
        """See `Judge`."""
        return base_language(language) in ("", "en")

    def transcribe(self, waveforms: Sequence[np.ndarray], sampling_rate: int, language: str | None) -> list[str]:
        """See `Judge`."""
        if not self.supports(language):
            raise ValueError(
                f"pocketsphinx supports English only, but the speech is in {language!r}: choose another judge."
            )
        at_its_rate = [resample(waveform, sampling_rate, SAMPLING_RATE) for waveform in waveforms]
        return [self.recogniser.transcribe(waveform) for waveform in at_its_rate]
