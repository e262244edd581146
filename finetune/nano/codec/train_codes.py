"""
Train the codes of a codec on Whisper's features to keep the words, whoever speaks, and to decode to one voice.

    python -m finetune.nano.codec.train_codes --start checkpoints/ttt-nano/codec --voice data/nano/phrases \
        --speech data/nano/natural=7 data/nano/dictation=3 data/nano/questions=1 data/nano/recorded=3 \
        --dev data/nano/natural-dev data/nano/recorded --out runs/codes --minutes 30
    python -m finetune.nano.codec.train_voice --codec runs/codes/export --data data/nano/phrases --out runs/voice \
        --minutes 30

This trains the head on Whisper's frozen features, which chooses the digits of each code, and beside it two networks:
one that transcribes the codes of every voice (CTC on characters), and the codec's decoder, which learns the log-mel
frames of one voice alone, that of `--voice`. Gradients pass the choice of a digit as those of its probabilities. What
is encoded is disturbed as recordings are, but for `--voice`. All weights begin as those of `--start`, a codec with
Whisper's encoder; its language model has to learn the codes anew.

A row of a batch is an utterance; `FOLDER=4` means four rows, and there are `VOICE_ROWS` of `--voice`. `--minutes` is
time of this process's CPU, also across restarts. In the folder `--out`:
- `codes.safetensors`, from which the same command goes on; `time.json`.
- `export/`: the codec as `AutoModel.from_pretrained` reads it, and `dev.jsonl`: character error rates of the
  transcriber on `--dev`, every few minutes and at the end. Of a corpus with a split "dev" that is what is measured.
- `ENCODER_READY`: written at the end, when the codes are final.

Depends on the codec and on folders of `synthesise.py`. Independent of token ids, language models and synthesisers.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from torch.nn import functional as F

from processing_ttt.codec_layers_ttt import frame_mask
from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.codec_whisper_ttt import TttCodecWhisperEncoder

from ..speech.acoustics import as_recorded
from ..speech.synthesise import read_corpus
from .codec_stage import Reused, Stage, export
from .train_encoder import HEAD_DROPOUT, RESCAN_BATCHES, Utterance, draw, head, padded, read
from .transcriber import Transcriber, characters, transcribed, words_loss

EXPORT_SECONDS = 600
VOICE_ROWS = 4
USES = 5  # of a batch: computing its features takes longer than a step
DEV_BATCH = 16
VOICE_WEIGHT = 1.0


def trainable(start: TttCodecModel) -> TttCodecModel:
    """
    Prepare a codec for training its head and its decoder.

    Args:
        start ([`TttCodecModel`]): With Whisper's encoder; it is changed.

    Returns:
        [`TttCodecModel`]: `start` in eval mode, its head and decoder with gradients.

    Raises:
        ValueError: If `start` has another encoder.
    """
    encoder = start.encoder
    if not isinstance(encoder, TttCodecWhisperEncoder):
        raise ValueError("The codec of --start has no Whisper encoder: give one that `train_encoder` trained.")
    start.eval().requires_grad_(False)
    head(encoder).requires_grad_(True)
    start.decoder.requires_grad_(True)
    return start


def chosen_digits(logits: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
    """
    The most probable digits of codes, with the gradient of their probabilities (straight through).

    Args:
        logits (`torch.FloatTensor` of shape `(batch, codes, sum(levels))`): From the head.
        levels (`Sequence[int]`): Levels of each digit.

    Returns:
        `torch.FloatTensor` of the same shape: One 1 among the levels of each digit.
    """
    parts = []
    for part in logits.float().split(tuple(levels), dim=-1):
        probabilities = part.softmax(-1)
        highest = F.one_hot(part.argmax(-1), part.shape[-1])
        parts.append(highest + (probabilities - probabilities.detach()))
    return torch.cat(parts, dim=-1)


def voice_loss(decoded: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    L1 of decoded log-mel frames + 0.5 * L1 of their differences in time, over the frames of each row.

    Args:
        decoded (`torch.FloatTensor` of shape `(batch, mel_frames, mel)`): From the decoder.
        target (`torch.FloatTensor` of the same shape): Of the recordings.
        mask (`torch.FloatTensor` of shape `(batch, mel_frames, 1)`): 0 after the end of a shorter row.

    Returns:
        `torch.FloatTensor`: The loss.
    """
    error = (decoded - target) * mask
    change = error.diff(dim=1) * mask[:, 1:]
    bands = target.shape[-1]
    return error.abs().sum() / (bands * mask.sum()) + 0.5 * change.abs().sum() / (bands * mask[:, 1:].sum())


@dataclass(frozen=True)
class Batch:
    """
    Features of utterances.

    Args:
        features (`torch.HalfTensor` of shape `(batch, frames, d_model)`): Whisper's features.
        row_frames (`torch.LongTensor` of shape `(batch,)`): Codes of each row.
        texts (`list[str]`): Of each row.
        mel (`torch.HalfTensor` of shape `(rows, mel_frames, mel)`): Log-mel frames that the last rows are decoded to.
    """

    features: torch.Tensor
    row_frames: torch.Tensor
    texts: list[str]
    mel: torch.Tensor


class Batches:
    """
    Makes batches.

    Args:
        codec ([`TttCodecModel`]): From `trainable`.
        speech (`dict[Path, int]`): Corpora, perhaps still being written, and how many rows of a batch come from each.
        voice (`Path`): Corpus of the voice that is decoded to.
    """

    def __init__(self, codec: TttCodecModel, speech: dict[Path, int], voice: Path):
        self.codec, self.speech, self.voice = codec, speech, voice
        self.made = 0

    def make(self, rng: np.random.Generator) -> Batch:
        """A batch of random utterances."""
        if self.made % RESCAN_BATCHES == 0:
            self.corpora = [(read([folder]), count) for folder, count in self.speech.items()]
            self.own = read([self.voice])
        self.made += 1
        drawn = [utterance for corpus, count in self.corpora for utterance in draw(corpus, count, rng)]
        texts, given = [line["text"] for line, _ in drawn], [as_recorded(audio, rng) for _, audio in drawn]
        own = draw(self.own, VOICE_ROWS, rng)
        clean = [audio for _, audio in own]
        return self.encode(texts + [line["text"] for line, _ in own], given + clean, clean)

    @torch.no_grad()
    def encode(self, texts: list[str], given: Sequence[np.ndarray], wanted: Sequence[np.ndarray] = ()) -> Batch:
        """The batch of some texts, the waveforms to encode, and those that the last ones are decoded to."""
        encoder = self.codec.encoder
        assert isinstance(encoder, TttCodecWhisperEncoder)
        samples, row_frames = padded([*given, *wanted], self.codec.config.samples_per_code)
        with torch.autocast("cpu", enabled=False):
            samples, targets = self.codec.standard_level(samples).split([len(given), len(wanted)])
            features = encoder.features(samples, row_frames[: len(given)])
            mel = self.codec.log_mel(targets) if wanted else torch.zeros(0)
        return Batch(features.half(), row_frames[: len(given)], texts, mel.half())


class CodesTraining:
    """
    The codec, its transcriber, and their losses.

    Args:
        codec ([`TttCodecModel`]): From `trainable`.
    """

    def __init__(self, codec: TttCodecModel):
        self.codec, self.transcriber = codec, Transcriber(codec.config)
        encoder = codec.encoder
        assert isinstance(encoder, TttCodecWhisperEncoder)
        self.encoder = encoder
        self.parts = {"head": head(encoder), "decoder": codec.decoder, "transcriber": self.transcriber}

    def digits(self, features: torch.Tensor, row_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Chosen digits `(batch, codes, sum(fsq_levels))` of features, and their mask `(batch, codes, 1)`."""
        digits = chosen_digits(self.encoder.head(features, row_frames), self.codec.config.fsq_levels)
        return digits, frame_mask(row_frames, digits.shape[1]).to(digits.dtype)[..., None]

    def latents(self, digits: torch.Tensor) -> torch.Tensor:
        """Chosen digits -> quantised latents `(batch, codes, dims)`."""
        parts = digits.split(tuple(self.codec.config.fsq_levels), dim=-1)
        bins = [part @ torch.arange(part.shape[-1], dtype=part.dtype) for part in parts]
        return self.codec.quantizer.centres(torch.stack(bins, dim=-1))

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a batch, and its parts."""
        features = F.dropout(batch.features.float(), HEAD_DROPOUT)
        digits, mask = self.digits(features, batch.row_frames)
        words = words_loss(self.transcriber(digits, mask), batch.row_frames, batch.texts)
        rows = len(batch.mel)
        voice = self.voice_loss(self.latents(digits[-rows:]), mask[-rows:], batch.mel)
        losses = {"words": words.item(), "voice": voice.item()}
        return words + VOICE_WEIGHT * voice, losses

    def voice_loss(self, latents: torch.Tensor, mask: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """How far decoded latents are from log-mel frames."""
        frames = mask.repeat_interleave(self.codec.config.mel_frames_per_code, dim=1)
        return voice_loss(self.codec.decoder(latents, mask).float(), mel.float(), frames)

    @torch.no_grad()
    def error_rate(self, batches: Iterable[Batch]) -> float:
        """Character errors of the transcriber per character of the texts."""
        texts: list[str] = []
        found: list[str] = []
        for batch in batches:
            digits, mask = self.digits(batch.features.float(), batch.row_frames)
            found += transcribed(self.transcriber(digits, mask), batch.row_frames)
            texts += map(characters, batch.texts)
        return float(jiwer.cer(texts, found))


def dev_batches(batches: Batches, folder: Path) -> list[Batch]:
    """Batches of a corpus to measure on: its split "dev", or all of it where it has none."""
    corpus: list[Utterance] = list(read_corpus(folder))
    chosen = [found for found in corpus if found[0]["split"] == "dev"] or corpus
    chosen = sorted(chosen, key=lambda found: len(found[1]))
    texts = [line["text"] for line, _ in chosen]
    waveforms = [samples.astype(np.float32) / 32768 for _, samples in chosen]
    return [
        batches.encode(texts[start : start + DEV_BATCH], waveforms[start : start + DEV_BATCH])
        for start in range(0, len(texts), DEV_BATCH)
    ]


def train(options: argparse.Namespace) -> None:
    """Train, export and measure until the budget is spent."""
    torch.manual_seed(options.seed)
    codec = trainable(TttCodecModel.from_pretrained(options.start))
    training = CodesTraining(codec)
    batches = Batches(codec, dict(options.speech), options.voice)
    dev = {folder.name: dev_batches(batches, folder) for folder in options.dev}
    reused = Reused(batches.make, USES)
    stage = Stage("codes", options.out, training.parts, options.minutes, options.learning_rate)

    def keep() -> None:
        export(codec, options.out / "export")
        rates: dict[str, Any] = {name: round(training.error_rate(found), 4) for name, found in dev.items()}
        with (options.out / "dev.jsonl").open("a") as file:
            file.write(json.dumps({"minutes": round(stage.cpu_seconds / 60, 1), "step": stage.step} | rates) + "\n")

    stage.run(lambda rng: training.loss(reused.draw(rng)), {keep: EXPORT_SECONDS})
    keep()
    (options.out / "ENCODER_READY").touch()


def corpus_rows(argument: str) -> tuple[Path, int]:
    """Read `FOLDER=ROWS`."""
    folder, _, rows = argument.rpartition("=")
    return Path(folder), int(rows)


def main(arguments: Iterable[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="folder of a codec with Whisper's encoder")
    parser.add_argument("--voice", type=Path, required=True, help="corpus of the voice that is decoded to")
    parser.add_argument("--speech", type=corpus_rows, nargs="+", required=True, metavar="FOLDER=ROWS")
    parser.add_argument("--dev", type=Path, nargs="+", required=True, help="corpora to measure on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes, restarts included")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(None if arguments is None else list(arguments))
    if (options.out / "ENCODER_READY").exists():
        parser.error(f"The codes of {options.out} are final: train into another folder.")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train(options)


if __name__ == "__main__":
    main()
