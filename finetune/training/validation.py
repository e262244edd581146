"""
Replies during validation: a few recordings transcribed, a few texts read aloud.

Speech is judged by the model's own transcription of its codes, which needs no codec and no second model; `ttt evaluate`
has better judges. The audio goes to files and to the curves, because a number does not describe a voice.

Depends on prepared records and a processor. Independent of training.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from finetune.data.schema import Record
from finetune.evaluation.batched_model import Answer, Checkpoint, Question
from finetune.evaluation.metrics import error_rates
from processing_ttt import TttProcessor
from processing_ttt.audio_output_ttt import write_audio


class AudioSink(Protocol):
    """What audio is logged to: TensorBoard's `SummaryWriter`, [`TrackerAudio`]."""

    def add_audio(self, tag: str, waveform: np.ndarray, step: int, /, *, sample_rate: int) -> object:
        """Log a waveform `(samples,)` under a tag."""
        ...


class TrackerAudio:
    """
    Logs audio to wandb or trackio, which have the same interface, with the method of TensorBoard's writer.

    Args:
        name (`str`): `wandb` or `trackio`.
    """

    def __init__(self, name: str):
        self.tracker = importlib.import_module(name)

    def add_audio(self, tag: str, waveform: np.ndarray, step: int, sample_rate: int) -> None:
        """Log audio to the run that the Trainer has opened."""
        self.tracker.log({tag: self.tracker.Audio(waveform, sample_rate=sample_rate), "train/global_step": step})


@dataclass
class Validation:
    """
    Lets a model transcribe and read aloud. Every process of a run asks the same questions, so that a model that is
    sharded over them stays in step.

    Args:
        processor ([`TttProcessor`]): The model's.
        recordings (`Sequence[Record]`): Records to transcribe; the first ones' texts are also spoken.
        num_spoken (`int`): How many texts.
        folder (`Path`, *optional*): Where audio is written, `step-N-1.wav`; without it none is.
        sinks (`list[AudioSink]`): Get the audio too.
        options (`dict`): For `generate`.
    """

    processor: TttProcessor
    recordings: Sequence[Record]
    num_spoken: int = 2
    folder: Path | None = None
    sinks: list[AudioSink] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    default_language: str = "en"

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """
        Ask everything once.

        Args:
            model: The model, in eval mode.
            step (`int`): Updates so far; part of the file names.

        Returns:
            `dict[str, float]`: `wer` and `cer` of the transcripts; `tts_cer` of the model's transcripts of its speech.
        """
        checkpoint = Checkpoint(
            model, self.processor, default_language=self.default_language, options={"do_sample": False} | self.options
        )
        asked = [Question("asr", codes=record["codes"], language=record["language"]) for record in self.recordings]
        transcripts = [answer.text for answer in checkpoint.ask(asked)]
        rates = error_rates(_texts(self.recordings), transcripts, _languages(self.recordings))
        metrics = {"wer": rates.wer, "cer": rates.cer}
        chosen = self.recordings[: self.num_spoken]
        if chosen:
            spoken = checkpoint.ask(
                [Question("tts", text=record["text"], language=record["language"]) for record in chosen]
            )
            metrics["tts_cer"] = self._speech_cer(checkpoint, chosen, spoken)
            self._keep(spoken, step)
        return metrics

    def _speech_cer(self, checkpoint: Checkpoint, records: Sequence[Record], spoken: Sequence[Answer]) -> float:
        """Transcribe the model's own speech; the transcript of a reply without audio is empty."""
        audible = [i for i, answer in enumerate(spoken) if answer.codes]
        asked = [Question("asr", codes=spoken[i].codes, language=records[i]["language"]) for i in audible]
        texts = dict(zip(audible, (answer.text for answer in checkpoint.ask(asked)), strict=True))
        written = [texts.get(i, "") for i in range(len(records))]
        return error_rates(_texts(records), written, _languages(records)).cer

    def _keep(self, spoken: Sequence[Answer], step: int) -> None:
        """Write the audio to files and sinks."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        rate = self.processor.codec_config.output_sampling_rate
        for number, answer in enumerate(spoken, 1):
            if not answer.codes:
                continue
            waveform = self.processor.decode_codes(answer.codes)
            write_audio(waveform, self.folder / f"step-{step}-{number}.wav", rate)
            for sink in self.sinks:
                sink.add_audio(f"speech/{number}", waveform, step, sample_rate=rate)


def _texts(records: Sequence[Record]) -> list[str]:
    return [record["text"] or "" for record in records]


def _languages(records: Sequence[Record]) -> list[str | None]:
    return [record["language"] for record in records]
