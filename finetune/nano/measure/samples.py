"""
Sentences to listen to and to look at: by the answering voice itself, through the codec, and read aloud by nano.

    python -m finetune.nano.measure.samples --model checkpoints/ttt-nano \
        --speech data/nano/voice-test --out docs/assets

The sentences are the first answer and the first phrase of general English of a corpus that nano's voice speaks;
`--skip` takes later ones. In `--out`: `nano-answer-voice.wav`, `-codec.wav`, `-nano.wav`, the same of
`nano-phrase`, and `nano-spectrograms.svg`, their log-mel frames.

Depends on the checkpoint and on the corpus. Measures nothing.
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch

from finetune.nano.measure.model import Checkpoint
from finetune.nano.speech.synthesise import read_corpus
from finetune.nano.speech.voices import SAMPLING_RATE

WHO = {"voice": "the answering voice", "codec": "through the codec", "nano": "nano"}
KINDS = {"answer": False, "phrase": True}  # whether it is general English


def samples(checkpoint: Checkpoint, corpus: Path, skip: int = 0) -> dict[str, tuple[str, list[np.ndarray]]]:
    """
    Speak the sentences.

    Args:
        checkpoint ([`Checkpoint`]): Nano.
        corpus (`Path`): Where the sentences are from.
        skip (`int`, *optional*, defaults to 0): Sentences of each kind that are left out.

    Returns:
        `dict[str, tuple[str, list[np.ndarray]]]`: Of each kind the text, and the waveforms in the order of `WHO`.
    """
    spoken = {}
    for kind, is_phrase in KINDS.items():
        of_kind = ((line, audio) for line, audio in read_corpus(corpus) if (line["kind"] == "phrase") == is_phrase)
        line, audio = next(islice(of_kind, skip, None))
        original = np.asarray(audio, np.float32) / 32768
        (decoded,) = checkpoint.resynthesise([original])
        (reply,) = checkpoint.ask_all("tts", texts=[line["text"]])
        spoken[kind] = line["text"], [original, decoded, reply.audio]
    return spoken


def draw(checkpoint: Checkpoint, spoken: dict[str, tuple[str, list[np.ndarray]]], path: Path) -> None:
    """Draw the log-mel frames, a row for each sentence and a column for each speaker."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ttt"  # the same audio gives the same file
    from matplotlib import pyplot

    codec = checkpoint.processor.codec
    longest = max(len(audio) for _, audios in spoken.values() for audio in audios) / SAMPLING_RATE
    figure, rows = pyplot.subplots(
        len(spoken), len(WHO), figsize=(11, 4.5), layout="constrained", sharex=True, sharey=True
    )
    for axes, (text, audios) in zip(rows, spoken.values(), strict=True):
        for axis, who, audio in zip(axes, WHO.values(), audios, strict=True):
            mel = codec.log_mel(torch.from_numpy(audio)[None])[0].T.numpy()
            axis.imshow(
                mel,
                origin="lower",
                aspect="auto",
                extent=(0, len(audio) / SAMPLING_RATE, 0, len(mel)),
                interpolation="none",
                vmin=-1.5,
                vmax=1.5,
            )
            axis.set_title(f"{who}: {text}", fontsize=8)
            axis.set_xlim(0, longest)
        axes[0].set_ylabel("mel band")
    for axis in rows[-1]:
        axis.set_xlabel("seconds")
    figure.savefig(path, metadata={"Date": None}, dpi=100)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="corpus of the voice that answers")
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings and the picture")
    parser.add_argument("--skip", type=int, default=0, help="sentences of each kind to leave out")
    options = parser.parse_args(arguments)
    checkpoint = Checkpoint.from_pretrained(options.model, device="cpu")
    spoken = samples(checkpoint, options.speech, options.skip)
    options.out.mkdir(parents=True, exist_ok=True)
    for kind, (text, audios) in spoken.items():
        for who, audio in zip(WHO, audios, strict=True):
            soundfile.write(options.out / f"nano-{kind}-{who}.wav", audio, SAMPLING_RATE)
        print(f"{kind}: {text}")
    draw(checkpoint, spoken, options.out / "nano-spectrograms.svg")


if __name__ == "__main__":
    main()
