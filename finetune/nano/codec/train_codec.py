"""
Train nano's speech codec on a CPU, in two stages, each resumable.

    python -m finetune.nano.codec.train_codec codec --data data/codec --out runs/codec --minutes 19
    python -m finetune.nano.codec.train_codec vocoder --data data/codec --out runs/codec --minutes 40

1. `codec` trains encoder, quantiser and decoder on random crops at the standard level. The encoder gets them a little
   louder or softer and sometimes with light noise, the decoder learns the clean log-mel frames: L1 + 0.5 * L1 of the
   difference in time, AdamW 2e-3 with a cosine, bf16 where the CPU has it. From its end on the codes never change.
2. `vocoder` freezes them; the vocoder learns the recorded waveform from the frames that the frozen codec decodes:
   magnitudes of STFTs of several resolutions and log-mel frames. No adversarial loss: intelligible, a little buzzy;
   `train_voice.py` goes on from there.

`--minutes` is time of this process's CPU; the cosine runs over it, also across restarts. In the folder `--out`:
- `codec.safetensors`, `vocoder.safetensors`: weights, optimizer state and progress of a stage, written every two
  minutes and at the end; the same command goes on from there.
- `export/`: the codec as `AutoModel.from_pretrained` reads it, written at the end of `codec` and every few minutes of
  `vocoder`.
- `time.json`: per stage steps, CPU and wall seconds, and the last losses.
- `ENCODER_READY`, `VOCODER_READY`: empty files, written when the codes, and when the audio, are final.

Depends on the codec and on `codec_stage.py`, which resumes a stage. Independent of token ids, language models and
judges.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel

from .codec_stage import Stage, Utterances, crop, export

EXPORT_SECONDS = 300
RESCAN_STEPS = 200
STFT_SIZES = (256, 512, 1024, 2048)
VOCODER_UTTERANCES = 1500


def codec_batch(
    model: TttCodecModel, utterances: Utterances, batch: int, samples: int, rng: np.random.Generator
) -> torch.Tensor:
    """Crops of random utterances, at the standard level of the whole utterance: float32 `(batch, samples)`."""
    crops = []
    for number in rng.integers(len(utterances), size=batch):
        waveform = model.standard_level(utterances.read(int(number), model.config.samples_per_code)[None])[0]
        crops.append(crop(waveform, int(rng.integers(max(1, waveform.shape[0] - samples + 1))), samples))
    return torch.stack(crops)


def disturb(clean: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """
    The encoder's input: up to 4 dB louder or softer (the error of a measured level), and in 3 of 10 rows light
    noise, white or falling, 15 to 40 dB under the speech.
    """
    batch, samples = clean.shape
    noise = torch.from_numpy(rng.standard_normal((batch, samples), dtype=np.float32))
    falling = F.avg_pool1d(noise[:, None], 9, stride=1, padding=4)[:, 0] * 3
    noise = torch.where(torch.from_numpy(rng.random((batch, 1)) < 0.5), noise, falling)
    loudness = clean.square().mean(-1, keepdim=True).sqrt() * decibels(rng.uniform(-40, -15, (batch, 1)))
    noise = noise * loudness * torch.from_numpy(rng.random((batch, 1)) < 0.3)
    return (clean + noise) * decibels(rng.uniform(-4, 4, (batch, 1)))


def silence(config: TttCodecConfig) -> float:
    """What normalised log-mel frames are of silence."""
    return (math.log(config.mel_floor) - config.mel_mean) / config.mel_std


def decibels(value: np.ndarray) -> torch.Tensor:
    """dB -> factor on amplitudes, float32."""
    return torch.from_numpy(10 ** (value / 20)).float()


def codec_loss(
    model: TttCodecModel, clean: torch.Tensor, disturbed: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """
    L1 of decoded against clean log-mel frames, + 0.5 * L1 of their differences in time.

    Args:
        model ([`TttCodecModel`]): The codec.
        clean (`torch.Tensor` of shape `(batch, samples)`): What is to be decoded.
        disturbed (`torch.Tensor` of shape `(batch, samples)`): What is encoded.

    Returns:
        `tuple[torch.Tensor, dict[str, float]]`: The loss and its parts.
    """
    with torch.autocast("cpu", enabled=False):
        target, given = model.log_mel(clean), model.log_mel(disturbed)
    decoded = model.decoder(model.quantizer(model.encoder(given))).float()
    value = F.l1_loss(decoded, target)
    change = F.l1_loss(decoded.diff(dim=1), target.diff(dim=1))
    return value + 0.5 * change, {"mel": value.item(), "change": change.item()}


class DecodedMels:
    """
    Crops of utterances beside the mel frames that the frozen codec decodes for them; each utterance is coded once and
    remembered in half precision. Of a large corpus it takes some thousand utterances, spread evenly: coding an
    utterance costs as much as learning from ten crops.

    Args:
        model ([`TttCodecModel`]): The codec, its encoder and decoder final.
        utterances ([`Utterances`]): Where the waveforms come from.
    """

    def __init__(self, model: TttCodecModel, utterances: Utterances):
        self.model, self.utterances = model, utterances
        self.mels: dict[int, torch.Tensor] = {}  # by the utterance's number

    def batch(self, batch: int, samples: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 mel frames `(batch, samples / hop, mel)` and waveforms `(batch, samples)` at the standard level."""
        config = self.model.config
        mels, waveforms = [], []
        stride = max(1, len(self.utterances) // VOCODER_UTTERANCES)
        for number in stride * rng.integers(len(self.utterances) // stride, size=batch):
            waveform = self.model.standard_level(self.utterances.read(int(number), config.samples_per_code)[None])[0]
            if number not in self.mels:
                self.mels[number] = self.decode(waveform).half()
            start = int(rng.integers(max(1, (waveform.shape[0] - samples) // config.hop_length + 1)))
            mel = self.mels[number][start : start + samples // config.hop_length].float()
            mels.append(F.pad(mel, (0, 0, 0, samples // config.hop_length - mel.shape[0]), value=silence(config)))
            waveforms.append(crop(waveform, start * config.hop_length, samples))
        return torch.stack(mels), torch.stack(waveforms)

    @torch.no_grad()
    def decode(self, waveform: torch.Tensor) -> torch.Tensor:
        """Samples at the standard level -> the codec's mel frames `(mel_frames, mel)`."""
        frames = torch.tensor([waveform.shape[0] // self.model.config.samples_per_code])
        return self.model.decoder(self.model.quantizer.centres(self.model.bins(waveform[None], frames)))[0]


def vocoder_loss(
    model: TttCodecModel, mel: torch.Tensor, audio: torch.Tensor, stft_sizes: Sequence[int] = STFT_SIZES
) -> tuple[torch.Tensor, dict[str, float]]:
    """
    Multi-resolution STFT loss (spectral convergence + L1 of log magnitudes; Yamamoto et al., 2020) + L1 of log-mel
    frames.

    Args:
        model ([`TttCodecModel`]): The codec.
        mel (`torch.Tensor` of shape `(batch, mel_frames, mel)`): What the vocoder is given.
        audio (`torch.Tensor` of shape `(batch, samples)`): What it should give.
        stft_sizes (`Sequence[int]`, *optional*): Windows of the STFTs, in samples.

    Returns:
        `tuple[torch.Tensor, dict[str, float]]`: The loss and its parts.
    """
    spoken = model.vocoder(mel)
    with torch.autocast("cpu", enabled=False):
        stft = torch.stack([stft_loss(spoken, audio, size) for size in stft_sizes]).mean()
        mel_error = F.l1_loss(model.log_mel(spoken), model.log_mel(audio))
    return stft + 2 * mel_error, {"stft": stft.item(), "mel": mel_error.item()}


def stft_loss(spoken: torch.Tensor, audio: torch.Tensor, size: int) -> torch.Tensor:
    """Spectral convergence + L1 of log magnitudes at one window size, with hops of a quarter window."""
    window = torch.hann_window(size)
    wanted, given = (
        torch.stft(each, size, size // 4, window=window, return_complex=True).abs().clamp(min=1e-3)
        for each in (audio, spoken)
    )
    convergence = ((wanted - given).square().sum((1, 2)) / wanted.square().sum((1, 2))).sqrt().mean()
    return convergence + F.l1_loss(given.log(), wanted.log())


def train_codec(options: argparse.Namespace) -> None:
    """Stage 1: encoder, quantiser, decoder."""
    if (options.out / "ENCODER_READY").exists():
        raise SystemExit(f"The codes of {options.out} are final: train into another folder, or go on with `vocoder`.")
    torch.manual_seed(options.seed)
    model, utterances = TttCodecModel(TttCodecConfig()), Utterances(options.data)
    parts: dict[str, torch.nn.Module] = {"encoder": model.encoder, "decoder": model.decoder}
    stage = Stage("codec", options.out, parts, options.minutes, options.learning_rate or 2e-3)

    def compute_loss(rng):
        if stage.step % RESCAN_STEPS == 0:
            utterances.rescan()
        clean = codec_batch(model, utterances, options.batch or 16, options.crop or 25600, rng)
        return codec_loss(model, clean, disturb(clean, rng))

    stage.run(compute_loss, {})
    export(model.eval(), options.out / "export")
    (options.out / "ENCODER_READY").touch()


def train_vocoder(options: argparse.Namespace) -> None:
    """Stage 2: the vocoder, on what the frozen codec decodes."""
    folder = options.out / "export"
    if not (options.out / "ENCODER_READY").exists():
        raise SystemExit(f"There is no finished codec in {options.out}: run the stage `codec` first.")
    model, utterances = TttCodecModel.from_pretrained(folder), Utterances(options.data)
    mels = DecodedMels(model.requires_grad_(False), utterances)
    model.vocoder.requires_grad_(True)
    stage = Stage("vocoder", options.out, {"vocoder": model.vocoder}, options.minutes, options.learning_rate or 1e-3)

    def compute_loss(rng):
        if stage.step % RESCAN_STEPS == 0:
            utterances.rescan()
        two_sizes = rng.choice(STFT_SIZES, 2, replace=False).tolist()  # half the resolutions at a time: half the cost
        return vocoder_loss(model, *mels.batch(options.batch or 8, options.crop or 12800, rng), two_sizes)

    stage.run(compute_loss, {lambda: export(model, folder): EXPORT_SECONDS})
    export(model.eval(), folder)
    (options.out / "VOCODER_READY").touch()


def main(arguments: Iterable[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train nano's speech codec.")
    parser.add_argument("stage", choices=("codec", "vocoder"))
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and of export/")
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes of the stage, restarts included")
    parser.add_argument("--batch", type=int, help="crops per step; 16 for codec, 8 for vocoder")
    parser.add_argument("--crop", type=int, help="samples per crop; 25600 for codec, 12800 for vocoder")
    parser.add_argument("--learning-rate", type=float, help="peak; 0.002 for codec, 0.001 for vocoder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    {"codec": train_codec, "vocoder": train_vocoder}[options.stage](options)


if __name__ == "__main__":
    main()
