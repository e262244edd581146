"""
Measure how well a nano checkpoint understands natural voices, in quiet and in noise, and a recorded person.

    python -m finetune.nano.measure.natural_voices --model checkpoints/ttt-nano --speech data/nano/natural-test \
        data/nano/natural-free --recorded data/nano/recorded --out benchmarks/results/natural_voices.json

| what | of the corpus | measured |
|---|---|---|
| unseen questions | splits `unseen_*` | answer's text exactly right, by voice and by kind; in noise of 20, 10, 5 dB |
| freely worded | splits `free`, `free apart`, `free dev` | the same |
| outside the domain | split `outside` | whether nano answers that it cannot |
| dictation | split `dictation` | word and character error rate of the transcript of general English |
| recorded person | `recorded`, split `test` | the same |

Nothing of these splits of the corpus `test`, and none of its voices, was trained on or used to choose settings; of the
recorded speaker other prompts were trained on.

Depends on folders of `natural.py` and `recorded.py`, and a checkpoint. Independent of how it was trained.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from processing_ttt.reply_ttt import TttReply

from ..speech.acoustics import with_noise
from ..speech.synthesise import read_corpus
from .card import interval
from .judge import score
from .model import Checkpoint, exact_by, is_exact

FREE_SPLITS = {
    "freely worded": "free",
    "freely worded, written apart": "free apart",
    "freely worded, to choose by": "free dev",
    "outside the domain": "outside",
}
NOISES_DB = (20.0, 10.0, 5.0)
Corpus = tuple[list[dict[str, Any]], list[np.ndarray]]


def measure(folder: Path, speech: Sequence[Path], recorded: Path | None = None) -> dict[str, Any]:
    """
    Run every measurement.

    Args:
        folder (`Path`): The checkpoint.
        speech (`Sequence[Path]`): Corpora as `natural.py` writes `test`, `free`, `dev` or `free-dev`.
        recorded (`Path`, *optional*): A corpus of `recorded.py`.

    Returns:
        `dict`: Numbers, nested.
    """
    checkpoint = Checkpoint.from_pretrained(folder, device="cpu")
    lines, waveforms = read(*speech)
    asked = [i for i, line in enumerate(lines) if line["split"].startswith("unseen")]
    questions = {"unseen questions": asked}
    for name, split in FREE_SPLITS.items():
        questions[name] = [i for i, line in enumerate(lines) if line["split"] == split]
    result: dict[str, Any] = {}
    for name, chosen in questions.items():
        if not chosen:
            continue
        corpus = [lines[i] for i in chosen], [waveforms[i] for i in chosen]
        replies = checkpoint.ask_all("chat", corpus[1])
        result[name] = share(exact(corpus[0], replies))
        for field in ("voice", "kind"):
            result[f"{name}, by {field}"] = exact_by(corpus[0], replies, field)
        result[f"{name}, wrong answers"] = [
            {"voice": line["voice"], "question": line["text"], "reply": reply.text.strip()}
            for line, reply in zip(corpus[0], replies, strict=True)
            if not is_exact(line, reply)
        ]
        for decibels in NOISES_DB:
            noisy = corpus[0], in_noise(corpus[1], decibels)
            result[f"{name}, noise at {decibels:.0f} dB"] = share(exact(noisy[0], checkpoint.ask_all("chat", noisy[1])))
    spoken = [i for i, line in enumerate(lines) if line["kind"] == "phrase"]
    if spoken:
        result["dictation"] = transcription(checkpoint, ([lines[i] for i in spoken], [waveforms[i] for i in spoken]))
    if recorded is not None:
        lines, waveforms = read(recorded)
        kept = [i for i, line in enumerate(lines) if line["split"] == "test"]
        result["recorded person"] = transcription(checkpoint, ([lines[i] for i in kept], [waveforms[i] for i in kept]))
    return result


def read(*folders: Path) -> Corpus:
    """Index lines, and float32 audio `(samples,)` at 16 kHz, of some corpora."""
    corpus = [utterance for folder in folders for utterance in read_corpus(folder)]
    return [line for line, _ in corpus], [samples.astype(np.float32) / 32768 for _, samples in corpus]


def exact(lines: Sequence[dict[str, Any]], replies: Sequence[TttReply]) -> list[bool]:
    """Whether each spoken question is answered exactly right."""
    return [is_exact(line, reply) for line, reply in zip(lines, replies, strict=True)]


def in_noise(waveforms: Sequence[np.ndarray], decibels: float) -> list[np.ndarray]:
    """Add noise at a ratio to the mean power of each recording."""
    rng = np.random.default_rng(0)
    return [with_noise(audio, decibels, float(np.sqrt(np.mean(audio**2))), rng) for audio in waveforms]


def transcription(checkpoint: Checkpoint, corpus: Corpus) -> dict[str, float]:
    """Error rates of the transcripts, case and punctuation apart."""
    lines, waveforms = corpus
    written = [reply.text for reply in checkpoint.ask_all("asr", waveforms)]
    found = score([line["text"] for line in lines], written)
    return {"wer": round(found.wer, 4), "cer": round(found.cer, 4), "n": len(lines)}


def share(right: Sequence[bool]) -> dict[str, Any]:
    """A share with its 95 % interval."""
    low, high = interval(sum(right) / len(right), len(right))
    return {"right": round(sum(right) / len(right), 4), "interval": [round(low, 4), round(high, 4)], "n": len(right)}


def table(result: dict[str, Any]) -> str:
    """The main numbers as a Markdown table."""
    rows = ["| what | measured |", "|---|---|"]
    for name, found in result.items():
        if "interval" in found:
            low, high = found["interval"]
            rows.append(f"| {name} | {found['right']:.3f} ({low:.3f} to {high:.3f}, n = {found['n']}) |")
        elif "wer" in found:
            rows.append(f"| {name}, WER / CER (n = {found['n']}) | {found['wer']:.3f} / {found['cer']:.3f} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="corpora of finetune.nano.speech.natural")
    parser.add_argument("--recorded", type=Path, help="a corpus of finetune.nano.speech.recorded")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = measure(options.model, options.speech, options.recorded)
    print(table(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
