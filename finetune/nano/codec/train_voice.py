"""
Train the voice of nano's codec to be understood, resumably: the codes keep their meaning, the voice becomes clearer.

    python -m finetune.nano.codec.train_voice --codec checkpoints/ttt-nano/codec \\
        --data data/phrases data/answers data/dictation --out runs/voice --minutes 60

Encoder and quantiser are frozen, so every code that a language model has learnt stays valid. Decoder and vocoder are
trained together, from codes to audio: L1 of log-mel frames, a multi-resolution STFT loss, small critics
(`discriminators.py`; hinge loss and distance of features), of which each step uses a few drawn at random, and the
distance of the features that the codec's own Whisper has of decoded and of recorded speech, which is small where the
same words are understood. A crop of two seconds is decoded with the codes before and after it, and compared without
them; the critics judge a second of it.

`--frames` trains the decoder alone before that, from the codes of whole utterances to log-mel frames: cheap steps,
after which the vocoder must learn the decoder's new frames.

Each crop comes from one of `--data`, all equally often: folders of shards, or manifests (`.jsonl`) of recordings. In
`--out`: `voice.safetensors` and `critics.safetensors`, from which the same command goes on; `export/`, the codec as
`AutoModel.from_pretrained` reads it, renewed every few minutes; `time.json`.

Depends on the codec and on `codec_stage.py`, which resumes a stage. Independent of token ids and judges.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.codec_whisper_ttt import TttCodecWhisperEncoder

from .codec_stage import CHECKPOINT_SECONDS, Stage, Utterances, export
from .discriminators import PERIODS, RESOLUTIONS, critic_loss, deception_loss, feature_distance, make_critics
from .train_codec import STFT_SIZES, silence, stft_loss

EXPORT_SECONDS = 300
CRITIC_STEPS = 100  # at first the critics are trained, but not used
CODES_BEFORE = 12  # a crop is decoded after so many codes: not all of `decode_context`, most of which has little effect
BETAS = (0.8, 0.99)
CRITICS_RATE = 2.0  # times the learning rate of the voice
MEL_WEIGHT, STFT_WEIGHT, FEATURE_WEIGHT, WORDS_WEIGHT = 15.0, 1.0, 2.0, 10.0
JUDGED_CODES = 25  # of a crop, by the critics


class CodedCrops:
    """
    Crops of utterances as codes, with what surrounds them, beside the waveform; each utterance is coded once.

    Args:
        model ([`TttCodecModel`]): The codec that is trained.
        corpora (`Sequence[Utterances]`): Where crops come from, each equally often.
    """

    def __init__(self, model: TttCodecModel, corpora: Sequence[Utterances]):
        self.model, self.corpora = model, corpora
        self.codes: dict[tuple[int, int], torch.Tensor] = {}
        self.before, self.after = CODES_BEFORE, model.config.decode_lookahead

    def batch(self, batch: int, codes: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Draw crops.

        Args:
            batch (`int`): How many.
            codes (`int`): Length of each, without its surroundings.
            rng (`np.random.Generator`): Draws them.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Codes `(batch, before + codes + after)`, -1 beyond an utterance's
            ends, and the waveforms of the crops alone, `(batch, codes * samples_per_code)`, at the standard level.
        """
        rows, waveforms = [], []
        for _ in range(batch):
            corpus = int(rng.integers(len(self.corpora)))
            utterance = int(rng.integers(len(self.corpora[corpus])))
            waveform, known = self.read(corpus, utterance)
            start = int(rng.integers(max(1, len(known) - codes + 1)))
            padded = F.pad(known, (self.before, codes + self.after), value=-1)
            rows.append(padded[start : start + self.before + codes + self.after])
            size = self.model.config.samples_per_code
            waveforms.append(F.pad(waveform, (0, codes * size))[start * size : (start + codes) * size])
        return torch.stack(rows), torch.stack(waveforms)

    @torch.no_grad()
    def read(self, corpus: int, utterance: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One utterance: waveform `(samples,)` at the standard level, and its codes."""
        waveform = self.corpora[corpus].read(utterance, self.model.config.samples_per_code)
        if (corpus, utterance) not in self.codes:
            codes = self.model.encode(waveform[None, None]).audio_codes
            assert codes is not None
            self.codes[corpus, utterance] = codes[0, 0]
        return self.model.standard_level(waveform[None])[0], self.codes[corpus, utterance]

    def decode(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Decode the crops: log-mel frames `(batch, mel_frames, mel)`, those beyond an utterance's ends as silence, and
        waveforms `(batch, samples)`.
        """
        config = self.model.config
        ratio, size = config.mel_frames_per_code, config.samples_per_code
        mask = (rows >= 0).float()[..., None]
        mel = self.model.decoder(self.model.quantizer.from_codes(rows.clamp(min=0)), mask)
        audio = self.model.vocoder(mel, mask.repeat_interleave(ratio, dim=1))
        mel = torch.where(mask.repeat_interleave(ratio, dim=1) > 0, mel, silence(config))
        kept = slice(self.before * size, audio.shape[1] - self.after * size)
        return mel[:, self.before * ratio : mel.shape[1] - self.after * ratio], audio[:, kept]


class FramesTraining:
    """
    The decoder alone, on whole utterances.

    Args:
        crops ([`CodedCrops`]): Whose utterances are decoded; the decoder of its model is trained.
        out (`Path`): Folder of the stage.
        minutes (`float`): CPU minutes, restarts included.
        learning_rate (`float`): Peak rate.
    """

    def __init__(self, crops: CodedCrops, out: Path, minutes: float, learning_rate: float):
        self.crops = crops
        decoder = crops.model.requires_grad_(False).decoder.requires_grad_(True)
        self.stage = Stage("frames", out, {"decoder": decoder}, minutes, learning_rate)

    def loss(self, batch: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """
        L1 of decoded log-mel frames, + 0.5 * L1 of their differences in time.

        Args:
            batch (`int`): Utterances.
            rng (`np.random.Generator`): Draws them.

        Returns:
            `tuple[torch.Tensor, dict[str, float]]`: The loss and its parts.
        """
        model, corpora = self.crops.model, self.crops.corpora
        drawn = [int(rng.integers(len(corpora))) for _ in range(batch)]
        pairs = [self.crops.read(corpus, int(rng.integers(len(corpora[corpus])))) for corpus in drawn]
        target = pad_sequence([model.log_mel(waveform[None])[0] for waveform, _ in pairs], batch_first=True)
        codes = pad_sequence([codes for _, codes in pairs], batch_first=True, padding_value=-1)
        mask = (codes >= 0).float()[..., None]
        decoded = model.decoder(model.quantizer.from_codes(codes.clamp(min=0)), mask).float()
        within = mask.repeat_interleave(model.config.mel_frames_per_code, dim=1)
        count = within.sum() * target.shape[-1]
        value = ((decoded - target).abs() * within).sum() / count
        change = ((decoded.diff(dim=1) - target.diff(dim=1)).abs() * within[:, 1:]).sum() / count
        return value + 0.5 * change, {"mel": value.item(), "change": change.item()}


class VoiceTraining:
    """
    One adversarial stage: the critics learn, then the voice.

    Args:
        crops ([`CodedCrops`]): What is decoded; its model is trained.
        out (`Path`): Folder of the stage.
        minutes (`float`): CPU minutes, restarts included.
        learning_rate (`float`): Peak rate of the voice.
    """

    def __init__(self, crops: CodedCrops, out: Path, minutes: float, learning_rate: float):
        self.crops, self.critics = crops, make_critics()
        model = crops.model.requires_grad_(False)
        trained = {"decoder": model.decoder.requires_grad_(True), "vocoder": model.vocoder.requires_grad_(True)}
        self.voice = Stage("voice", out, trained, minutes, learning_rate, BETAS)
        self.judging = Stage("critics", out, {"critics": self.critics}, minutes, CRITICS_RATE * learning_rate, BETAS)

    def loss(self, batch: int, codes: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """
        Update the critics, and give the loss of the voice.

        Args:
            batch (`int`): Crops.
            codes (`int`): Length of a crop.
            rng (`np.random.Generator`): Draws crops and critics.

        Returns:
            `tuple[torch.Tensor, dict[str, float]]`: The loss and its parts.
        """
        rows, audio = self.crops.batch(batch, codes, rng)
        mel, spoken = self.crops.decode(rows)
        loss, losses = self._distance(mel.float(), spoken, audio, rng)
        size = JUDGED_CODES * self.crops.model.config.samples_per_code
        start = int(rng.integers(max(1, audio.shape[1] - size + 1)))
        audio, spoken = audio[:, start : start + size], spoken[:, start : start + size]
        chosen = draw_critics(self.critics, rng)
        self._update_critics(chosen, audio, spoken.detach())
        if self.judging.step <= CRITIC_STEPS:
            return loss, losses
        with torch.no_grad():
            recorded = [critic(audio) for critic in chosen]
        decoded = [critic(spoken) for critic in chosen]
        deception = torch.stack([deception_loss(judged) for judged in decoded]).mean()
        distance = torch.stack([feature_distance(*pair) for pair in zip(recorded, decoded, strict=True)]).mean()
        losses |= {"deception": deception.item(), "features": distance.item()}
        return loss + deception + FEATURE_WEIGHT * distance, losses

    def _distance(
        self, mel: torch.Tensor, spoken: torch.Tensor, audio: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """How far frames and waveforms are from what they should be, without any critic."""
        inner = slice(2, -2)  # frames at the ends look beyond the crop
        sizes = rng.choice(STFT_SIZES, 2, replace=False).tolist()
        with torch.autocast("cpu", enabled=False):
            target, given = (self.crops.model.log_mel(each)[:, inner] for each in (audio, spoken))
            mel_error, decoded_error = F.l1_loss(given, target), F.l1_loss(mel[:, inner], target)
            stft = torch.stack([stft_loss(spoken, audio, size) for size in sizes]).mean()
            words = self.words_distance(spoken, audio)
        loss = MEL_WEIGHT * (mel_error + 0.2 * decoded_error) + STFT_WEIGHT * stft + WORDS_WEIGHT * words
        losses = {"mel": mel_error.item(), "decoded": decoded_error.item(), "stft": stft.item(), "words": words.item()}
        return loss, losses

    def words_distance(self, spoken: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Mean absolute difference of Whisper's features, relative to their size for recorded speech."""
        encoder = self.crops.model.encoder
        if not isinstance(encoder, TttCodecWhisperEncoder):
            return spoken.new_zeros(())
        frames = torch.full((len(audio),), audio.shape[1] // self.crops.model.config.samples_per_code)
        with torch.no_grad():
            recorded = encoder.features(audio, frames)
        return F.l1_loss(encoder.features(spoken, frames), recorded) / recorded.abs().mean()

    def _update_critics(self, chosen: list[nn.Module], audio: torch.Tensor, spoken: torch.Tensor) -> None:
        self.critics.requires_grad_(True)
        judged = [critic_loss(critic(audio), critic(spoken)) for critic in chosen]
        loss = torch.stack(judged).mean()
        self.judging.update(loss, {"critics": loss.item()})
        self.critics.requires_grad_(False)


def draw_critics(critics: nn.ModuleDict, rng: np.random.Generator) -> list[nn.Module]:
    """Two periods and one resolution: a third of all critics, and of their cost."""
    names = [f"period{period}" for period in rng.choice(PERIODS, 2, replace=False)]
    return [critics[name] for name in (*names, f"resolution{rng.choice(RESOLUTIONS)}")]


def train_voice(options: argparse.Namespace) -> None:
    """Train, export and save until the budget is spent."""
    torch.manual_seed(options.seed)
    model = TttCodecModel.from_pretrained(options.codec).eval()
    crops = CodedCrops(model, [Utterances(data) for data in options.data])
    folder = options.out / "export"
    _check_same_codes(crops.model, folder)
    export(crops.model, folder)
    if options.frames:
        frames = FramesTraining(crops, options.out, options.minutes, options.learning_rate)
        frames.stage.run(lambda rng: frames.loss(options.batch, rng), {})
        export(crops.model, folder)
        return
    training = VoiceTraining(crops, options.out, options.minutes, options.learning_rate)
    training.voice.run(
        lambda rng: training.loss(options.batch, options.codes, rng),
        {training.judging.save: CHECKPOINT_SECONDS, lambda: export(crops.model, folder): EXPORT_SECONDS},
    )
    export(crops.model, folder)
    training.judging.save()


def _check_same_codes(model: TttCodecModel, folder: Path) -> None:
    if not (folder / "config.json").exists():
        return
    there = TttCodecModel.from_pretrained(folder).encoder.state_dict()
    own = model.encoder.state_dict()
    if own.keys() != there.keys() or not all(torch.equal(value, there[name]) for name, value in own.items()):
        raise SystemExit(f"{folder} holds the voice of another codec: train into another --out.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train the voice of nano's codec to be understood.")
    parser.add_argument("--codec", type=Path, required=True, help="folder of a finished codec")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of shards, or manifests (.jsonl) of recordings"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and of export/")
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes of the stage, restarts included")
    parser.add_argument("--frames", action="store_true", help="train the decoder alone, on whole utterances")
    parser.add_argument("--batch", type=int, default=4, help="crops, or whole utterances, per step")
    parser.add_argument("--codes", type=int, default=50, help="codes of a crop")
    parser.add_argument("--learning-rate", type=float, default=4e-4, help="peak")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train_voice(options)


if __name__ == "__main__":
    main()
