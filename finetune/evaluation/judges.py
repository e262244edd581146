"""
Judges of speech: they transcribe it, or rate its quality.

    model                          the checkpoint that is evaluated, transcribing its own speech
    pocketsphinx                   an independent recogniser for English, on a CPU, whose model comes with its wheel
    whisper-base                   Whisper base from PyPI packages, on a CPU and without the Hub; multilingual
    openai/whisper-large-v3        any speech recognition model of transformers, by folder or Hub id

Depends on waveforms and texts. Independent of training.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from finetune.data.languages import base_language
from processing_ttt.device_ttt import choose_device
from processing_ttt.resampling_ttt import resample

from .batched_model import Checkpoint, Question
from .pocketsphinx import PocketsphinxJudge
from .whisper_base import WhisperBaseJudge

JUDGE_RATE = 16_000
WHISPER_SECONDS = 30.0  # the longest input of Whisper


class Judge(Protocol):
    """Transcribes speech."""

    name: str

    def supports(self, language: str | None) -> bool:
        """
        Ask whether it supports a language; `True` where that is unknown.

        Args:
            language (`str`, *optional*): Tag.

        Returns:
            `bool`
        """
        ...

    def transcribe(self, waveforms: Sequence[np.ndarray], sampling_rate: int, language: str | None) -> list[str]:
        """
        Transcribe speech.

        Args:
            waveforms (`Sequence[np.ndarray]`): Float32 samples, mono.
            sampling_rate (`int`): Of all of them, in Hz.
            language (`str`, *optional*): Tag of the language spoken.

        Returns:
            `list[str]`: A text each.
        """
        ...


def make_judge(name: str, checkpoint: Checkpoint | None = None) -> Judge:
    """
    Find a judge by name.

    Args:
        name (`str`): See the module's docstring.
        checkpoint ([`Checkpoint`], *optional*): Who judges if the name is `model`.

    Returns:
        `Judge`

    Raises:
        ImportError: If it is not installed.
        OSError: If there is no such model.
    """
    if name == "model":
        if checkpoint is None:
            raise ValueError("The judge `model` needs a model: name one, or choose another judge.")
        return ModelJudge(checkpoint)
    independent = {judge.name: judge for judge in (PocketsphinxJudge, WhisperBaseJudge)}
    return independent[name]() if name in independent else PipelineJudge(name)


class ModelJudge:
    """
    A Text-to-Talk model as recogniser, through its own codec. It is biased in favour of its own voice.

    Args:
        checkpoint ([`Checkpoint`]): The model.
    """

    name = "model"

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint

    def supports(self, language: str | None) -> bool:
        """See `Judge`."""
        return True

    def transcribe(self, waveforms: Sequence[np.ndarray], sampling_rate: int, language: str | None) -> list[str]:
        """See `Judge`."""
        encode = self.checkpoint.processor.encode_audio
        questions = [
            Question("asr", codes=encode(waveform, sampling_rate), language=language) for waveform in waveforms
        ]
        return [answer.text for answer in self.checkpoint.ask(questions)]


class PipelineJudge:
    """
    A speech recognition model of transformers.

    Args:
        name (`str`): Folder or Hub id.
        batch_size (`int`): Waveforms transcribed together, by models that generate text.
    """

    def __init__(self, name: str, batch_size: int = 8):
        from transformers import pipeline

        self.name = name
        self.batch_size = batch_size
        self.recogniser: Any = pipeline(
            "automatic-speech-recognition", model=name, device=choose_device(), trust_remote_code=False
        )

    def supports(self, language: str | None) -> bool:
        """See `Judge`."""
        generates = getattr(self.recogniser.model, "generation_config", None)  # a CTC model does not
        tokens = getattr(generates, "lang_to_id", None)  # of Whisper, if it is multilingual
        return language is None or not tokens or f"<|{base_language(language)}|>" in tokens

    def transcribe(self, waveforms: Sequence[np.ndarray], sampling_rate: int, language: str | None) -> list[str]:
        """See `Judge`."""
        inputs = [
            {"raw": _at_judge_rate(waveform, sampling_rate), "sampling_rate": JUDGE_RATE} for waveform in waveforms
        ]
        options: dict[str, Any] = {}
        generates = getattr(self.recogniser.model, "generation_config", None)  # a CTC model does not
        if language is not None and getattr(generates, "is_multilingual", False):
            options["generate_kwargs"] = {"language": base_language(language), "task": "transcribe"}
        longest = max((len(waveform) for waveform in waveforms), default=0) / sampling_rate
        if self.recogniser.type == "seq2seq_whisper" and longest > WHISPER_SECONDS:
            options["return_timestamps"] = True  # for longer audio Whisper moves its window by its own timestamps
        # In a batch of a CTC model the pipeline also transcribes the padding of a shorter waveform: there each goes
        # alone.
        batch_size = 1 if self.recogniser.type.startswith("ctc") else self.batch_size
        return [result["text"].strip() for result in self.recogniser(inputs, batch_size=batch_size, **options)]


def mean_opinion(waveforms: Sequence[np.ndarray], sampling_rate: int) -> float | None:
    """
    Estimate the quality of speech as people rate it: DNSMOS P.835, overall, 1 to 5. Audio shorter than nine seconds is
    repeated up to that length.

    UTMOS is not among the measures: the packages of it fetch their weights when they run (`utmos`, `utmos-pytorch`
    and `utmosv2` of PyPI carry none), while those of DNSMOS come with the wheel of `speechmos`.

    Args:
        waveforms (`Sequence[np.ndarray]`): Float32 samples, mono.
        sampling_rate (`int`): Of all of them, in Hz.

    Returns:
        `float` or `None`: Mean; `None` where `speechmos` is not installed, or there is no audio.

    Raises:
        ImportError: If `speechmos` is installed without what it imports, which its wheel does not name.
    """
    if importlib.util.find_spec("speechmos") is None:
        return None
    try:
        from speechmos import dnsmos
    except ModuleNotFoundError as error:
        raise ImportError(
            f"DNSMOS cannot run: speechmos needs {error.name}, which its wheel does not bring: pip install onnxruntime "
            "librosa requests."
        ) from None
    scores = [
        dnsmos.run(np.clip(_at_judge_rate(waveform, sampling_rate), -1, 1), JUDGE_RATE)["ovrl_mos"]
        for waveform in waveforms
        if len(waveform)  # it repeats audio until it is long enough, and would repeat nothing without end
    ]
    return float(np.mean(scores)) if scores else None


def speaker_similarity(
    waveforms: Sequence[np.ndarray], others: Sequence[np.ndarray], sampling_rate: int
) -> float | None:
    """
    Measure the similarity of voices in pairs of waveforms: cosine of Resemblyzer's speaker embeddings (Wan et al.,
    2018, "Generalized End-to-End Loss"). Two recordings of one speaker have some .8 to .9, of two speakers .5 to .7.

    Args:
        waveforms (`Sequence[np.ndarray]`): Float32 samples, mono.
        others (`Sequence[np.ndarray]`): One for each.
        sampling_rate (`int`): Of all of them, in Hz.

    Returns:
        `float` or `None`: Mean over the pairs without silent audio; `None` where `resemblyzer` is not
        installed, or there is none.

    Raises:
        ImportError: If `resemblyzer` is installed without what it imports, which its wheel does not name.
    """
    if importlib.util.find_spec("resemblyzer") is None:
        return None
    try:
        from resemblyzer import VoiceEncoder, normalize_volume
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Resemblyzer cannot run: it needs {error.name}, which its wheel does not bring: pip install "
            "'setuptools<81'."
        ) from None
    encoder = VoiceEncoder("cpu", verbose=False)
    pairs = [
        # Its frames are not logarithmic, so loudness would pass for a difference of voices: -30 dBFS is what it was
        # trained with.
        [encoder.embed_utterance(normalize_volume(_at_judge_rate(waveform, sampling_rate), -30)) for waveform in pair]
        for pair in zip(waveforms, others, strict=True)
        if all(len(waveform) and np.any(waveform) for waveform in pair)
    ]
    return float(np.mean([one @ other for one, other in pairs])) if pairs else None


def _at_judge_rate(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    return resample(waveform, sampling_rate, JUDGE_RATE)
