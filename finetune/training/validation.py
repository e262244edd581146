"""
What a validation hears: a few recordings transcribed, a few texts spoken.

The speech is judged by the model's own transcription of its codes, which costs no codec and no second model; `ttt
evaluate` has better judges. The sounds themselves go to files and to the curves, because a number does not tell how a
voice sounds.

Knows prepared rows, a processor and where sounds go. Knows no training.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetune.data.schema import Row
from finetune.evaluation.batched_model import Answer, Checkpoint, Question
from finetune.evaluation.metrics import error_rates
from processing_ttt import TttProcessor
from processing_ttt.reply_ttt import write_sound


class TrackerSounds:
    """
    Sends sounds to wandb or trackio, which log alike, as TensorBoard's writer takes them.

    Args:
        name (`str`): `wandb` or `trackio`.
    """

    def __init__(self, name: str):
        self.tracker = importlib.import_module(name)

    def add_audio(self, tag: str, sound: np.ndarray, step: int, sample_rate: int) -> None:
        """Log a sound to the run that the Trainer has opened."""
        self.tracker.log({tag: self.tracker.Audio(sound, sample_rate=sample_rate), "train/global_step": step})


@dataclass
class Validation:
    """
    Listens to a model. Every process of a run asks the same questions, so that a model that is sharded over them
    steps as one.

    Args:
        processor ([`TttProcessor`]): The model's.
        recordings (`Sequence[dict]`): Rows to transcribe; the first ones' texts are also spoken.
        num_sounds (`int`): How many texts.
        folder (`Path`, *optional*): Where sounds are written, `step-N-1.wav`; without it they are not.
        sinks (`list`): What gets the sounds too: TensorBoard's `SummaryWriter`, `TrackerSounds`.
        options (`dict`): For `generate`.
    """

    processor: TttProcessor
    recordings: Sequence[Row]
    num_sounds: int = 2
    folder: Path | None = None
    sinks: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    default_language: str = "en"

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """
        Ask everything once.

        Args:
            model: The model, in eval mode.
            step (`int`): Updates so far; names the sounds.

        Returns:
            `dict[str, float]`: `wer` and `cer` of the transcripts; `tts_cer` of the speech, as the model hears it.
        """
        checkpoint = Checkpoint(
            model, self.processor, default_language=self.default_language, options={"do_sample": False} | self.options
        )
        references = [row["text"] for row in self.recordings]
        heard = checkpoint.ask(
            [Question("asr", codes=row["codes"], language=row["language"]) for row in self.recordings]
        )
        rates = error_rates(references, [answer.text for answer in heard], _languages(self.recordings))
        metrics = {"wer": rates.wer, "cer": rates.cer}
        spoken_rows = self.recordings[: self.num_sounds]
        if spoken_rows:
            spoken = checkpoint.ask(
                [Question("tts", text=row["text"], language=row["language"]) for row in spoken_rows]
            )
            metrics["tts_cer"] = self._speech_cer(checkpoint, spoken_rows, spoken)
            self._keep(spoken, step)
        return metrics

    def _speech_cer(self, checkpoint: Checkpoint, rows: Sequence[Row], spoken: Sequence[Answer]) -> float:
        """Transcribe the model's own speech; a reply without sound is nothing heard."""
        audible = [i for i, answer in enumerate(spoken) if answer.codes]
        heard = checkpoint.ask([Question("asr", codes=spoken[i].codes, language=rows[i]["language"]) for i in audible])
        texts = dict(zip(audible, (answer.text for answer in heard), strict=True))
        written = [texts.get(i, "") for i in range(len(rows))]
        return error_rates([row["text"] for row in rows], written, _languages(rows)).cer

    def _keep(self, spoken: Sequence[Answer], step: int) -> None:
        """Write the sounds where a person listens to them."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        rate = self.processor.codec_config.output_sampling_rate
        for number, answer in enumerate(spoken, 1):
            if not answer.codes:
                continue
            sound = self.processor.decode_codes(answer.codes)
            write_sound(sound, self.folder / f"step-{step}-{number}.wav", rate)
            for sink in self.sinks:
                sink.add_audio(f"speech/{number}", sound, step, sample_rate=rate)


def _languages(rows: Sequence[Row]) -> list[str | None]:
    return [row["language"] for row in rows]
