"""
Put a handful of spoken questions beside the checkpoint, to try it with: one of each kind, unseen in training, among
those it answers right.

    python -m finetune.nano.speech.natural shipped --voices package/voices --out data/nano/shipped
    python -m finetune.nano.checkpoint.ship_questions --model checkpoints/ttt-nano --speech data/nano/shipped

Writes `questions/1.wav`, ..., what it answered as `questions/1-reply.wav`, ..., and `questions/questions.jsonl`
(file, reply, question, answer, kind, split, voice). They are chosen among the right answers on purpose: they show
what the checkpoint does, and `measure/model.py` counts how often.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from finetune.nano.measure.model import Checkpoint, with_rate
from finetune.nano.speech.synthesise import read_corpus
from finetune.nano.speech.voices import SAMPLING_RATE


def ship(folder: Path, speech: Path, kinds: Sequence[str]) -> None:
    """Choose a question of each kind and write it."""
    checkpoint = Checkpoint.from_pretrained(folder, device="cpu")
    out = folder / "questions"
    out.mkdir(exist_ok=True)
    lines: list[dict[str, Any]] = []
    for kind in kinds:
        for line, samples in read_corpus(speech):
            if line["kind"] != kind or line["split"] == "train":
                continue
            reply = checkpoint.reply(with_rate(np.asarray(samples, np.float32) / 32768))
            if reply.text.strip() == line["answer"] and reply.finished:
                name, reply_name = f"{len(lines) + 1}.wav", f"{len(lines) + 1}-reply.wav"
                soundfile.write(out / name, samples, SAMPLING_RATE)
                reply.save(out / reply_name)
                fields = {
                    "reply": reply_name,
                    "question": line["text"],
                    "answer": line["answer"],
                    "kind": kind,
                    "split": line["split"],
                    "voice": line["voice"],
                }
                lines.append({"file": name, **fields})
                break
    (out / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    print("\n".join(f"{line['file']}: {line['question']} -> {line['answer']}" for line in lines))


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="folder of the shards")
    parser.add_argument(
        "--kinds",
        nargs="+",
        default=["sum", "difference", "time", "day", "unit", "capital", "opposite", "spelling", "rhyme", "joke"],
    )
    given = parser.parse_args()
    ship(given.model, given.speech, given.kinds)


if __name__ == "__main__":
    main()
