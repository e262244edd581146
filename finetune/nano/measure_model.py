"""
Measure a nano checkpoint, from waveform to waveform, on questions and answers that training never saw, and on seen ones apart.

    python -m finetune.nano.measure_model --model checkpoints/ttt-nano --speech data/nano --out measured.json

- answer: spoken questions of `test` -> is the answer's text exactly right? By split and by kind.
- reply: the spoken answers to them, heard by the judges of `judge.py` against the reply's own text.
- hear: the same questions transcribed (task asr).
- speak: unseen sentences of `answers-heldout` read aloud (task tts), heard by the judges.
- speed: one question at a time, from waveform to waveform, seconds over seconds of speech, median.

Knows the processor, the model and the judges. Changes nothing.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoProcessor

from modeling_ttt import TttForConditionalGeneration
from processing_ttt import TttProcessor, TttReply

from .domain import normalise, text_corpus
from .judge import Judge, score
from .synthesise import read_corpus
from .voices import SAMPLING_RATE

BATCH_SIZE = 16


class Checkpoint:
    """A model with its processor, asked in batches."""

    def __init__(self, folder: Path, **options: Any):
        self.model = TttForConditionalGeneration.from_pretrained(folder).eval()
        self.processor: TttProcessor = AutoProcessor.from_pretrained(folder)
        self.options = options

    def ask(
        self, task: str, sounds: Sequence[np.ndarray] | None = None, texts: Sequence[str] | None = None
    ) -> list[TttReply]:
        """Answer a batch of questions, given as sound at 16 kHz or as text."""
        count = len(sounds if sounds is not None else texts or [])
        conversations = [
            self.processor.conversation(
                task,
                text=texts[i] if texts is not None else None,
                audio={"array": sounds[i], "sampling_rate": SAMPLING_RATE} if sounds is not None else None,
            )
            for i in range(count)
        ]
        inputs = self.processor.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        ids = self.model.generate(**inputs, **self.options)
        return self.processor.batch_decode_reply(ids[:, inputs["input_ids"].shape[1] :])

    def ask_all(
        self, task: str, sounds: Sequence[np.ndarray] | None = None, texts: Sequence[str] | None = None
    ) -> list[TttReply]:
        """Answer many questions, in batches of similar length."""
        lengths = [len(question) for question in (sounds if sounds is not None else texts or [])]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        replies: dict[int, TttReply] = {}
        for start in tqdm(range(0, len(order), BATCH_SIZE), desc=task, unit="batch"):
            chosen = order[start : start + BATCH_SIZE]
            batch = self.ask(task, [sounds[i] for i in chosen] if sounds is not None else None,
                             [texts[i] for i in chosen] if texts is not None else None)  # fmt: skip
            replies.update(zip(chosen, batch, strict=True))
        return [replies[i] for i in range(len(order))]


def exact_by(lines: Sequence[dict], replies: Sequence[TttReply], field: str) -> dict[str, dict[str, float]]:
    """Share of answers whose text is exactly right, by a field of the questions."""
    right: dict[str, list[bool]] = defaultdict(list)
    for line, reply in zip(lines, replies, strict=True):
        right[line[field]].append(reply.text.strip() == line["answer"])
    return {name: {"exact": sum(hits) / len(hits), "n": len(hits)} for name, hits in sorted(right.items())}


def transcribe(replies: Sequence[TttReply], judges: dict[str, Judge]) -> dict[str, list[str]]:
    """Let the judges write down spoken replies. A reply without sound is nothing heard: a judge would find a word even in silence."""
    return {
        name: [
            judge.transcribe(reply.audio) if len(reply.audio) else "" for reply in tqdm(replies, desc=name, leave=False)
        ]
        for name, judge in judges.items()
    }


def heard(transcripts: dict[str, list[str]], references: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compare what the judges heard with what should have been said."""
    spoken = [i for i, reference in enumerate(references) if normalise(reference)]
    return {
        name: vars(score([references[i] for i in spoken], [texts[i] for i in spoken]))
        for name, texts in transcripts.items()
    }


def speed(checkpoint: Checkpoint, sounds: Sequence[np.ndarray]) -> dict[str, float]:
    """Medians of one question at a time, from waveform to waveform."""
    factors, seconds = [], []
    for sound in sounds:
        began = time.perf_counter()
        (reply,) = checkpoint.ask("chat", [sound])
        seconds.append(time.perf_counter() - began)
        if len(reply.audio):
            factors.append(seconds[-1] / reply.seconds)
    return {
        "real_time_factor": statistics.median(factors) if factors else float("nan"),
        "seconds": statistics.median(seconds),
        "threads": torch.get_num_threads(),
    }


def measure(folder: Path, speech: Path, limit: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Run every measurement; returns a nested dict of numbers."""
    checkpoint = Checkpoint(folder, **options)
    judges = {"domain bigram": Judge(text_corpus()), "general English": Judge()}
    lines, sounds = _read(speech / "test", limit)
    result: dict[str, Any] = {"speed": speed(checkpoint, sounds[:20])}

    replies = checkpoint.ask_all("chat", sounds)
    result["answer by split"] = exact_by(lines, replies, "split")
    result["answer by kind"] = exact_by(lines, replies, "kind")
    result["finished"] = sum(reply.finished for reply in replies) / len(replies)
    transcripts = transcribe(replies, judges)
    result["reply, against its own text"] = heard(transcripts, [reply.text for reply in replies])
    result["reply, against the right answer"] = heard(transcripts, [line["answer"] for line in lines])

    written = [reply.text for reply in checkpoint.ask_all("asr", sounds)]
    for name, seen in (("hear, seen sentences", True), ("hear, unseen sentences", False)):
        chosen = [i for i, line in enumerate(lines) if (line["split"] == "train") == seen]
        result[name] = vars(score([lines[i]["text"] for i in chosen], [written[i] for i in chosen]))

    lines, originals = _read(speech / "answers-heldout", limit and limit // 2)
    spoken = checkpoint.ask_all("tts", texts=[line["text"] for line in lines])
    texts = [line["text"] for line in lines]
    result["speak, unseen sentences"] = heard(transcribe(spoken, judges), texts)
    natural = [TttReply(line["text"], sound, SAMPLING_RATE) for line, sound in zip(lines, originals, strict=True)]
    result["the synthesiser itself"] = heard(transcribe(natural, judges), texts)
    return result


def _read(folder: Path, limit: int | None) -> tuple[list[dict], list[np.ndarray]]:
    corpus = list(read_corpus(folder))
    step = max(1, len(corpus) // limit) if limit else 1
    chosen = corpus[::step]
    return [line for line, _ in chosen], [
        np.asarray(sound, np.float32) / (32768 if sound.dtype == np.int16 else 1) for _, sound in chosen
    ]


SPLIT_NAMES = {
    "unseen_sentence": "unseen sentence",
    "unseen_template": "unseen template",
    "unseen_fact": "unseen fact",
    "train": "seen question, new sound",
}


def card_tables(result: dict[str, Any]) -> str:
    """
    Write the two tables of the model card.

    Args:
        result (`dict`): What `measure` returned.

    Returns:
        `str`: Markdown.
    """
    splits, kinds = result["answer by split"], result["answer by kind"]
    held_out = [split for name, split in splits.items() if name != "train"]
    count = sum(split["n"] for split in held_out)
    right = sum(split["exact"] * split["n"] for split in held_out) / count
    reply, answer, aloud, natural = (
        result[name]
        for name in (
            "reply, against its own text",
            "reply, against the right answer",
            "speak, unseen sentences",
            "the synthesiser itself",
        )
    )
    bigram, english = "domain bigram", "general English"
    unseen, seen = (result[f"hear, {kind} sentences"] for kind in ("unseen", "seen"))
    rows = [
        (f"answer's text exactly right, held-out spoken questions (n = {count})", f"{right:.2f}"),
        *((f"– {SPLIT_NAMES[name]} (n = {splits[name]['n']})", f"{splits[name]['exact']:.2f}") for name in SPLIT_NAMES),
        (
            "spoken reply against its own text, WER: domain bigram / general English",
            f"{reply[bigram]['wer']:.3f} / {reply[english]['wer']:.3f} (CER {reply[english]['cer']:.3f})",
        ),
        ("– numbers and keywords all heard right (domain bigram)", f"{reply[bigram]['keywords']:.2f}"),
        ("spoken reply against the right answer, WER (domain bigram)", f"{answer[bigram]['wer']:.3f}"),
        *(
            (
                f"{label}, WER: domain bigram / general English",
                f"{heard[bigram]['wer']:.3f} / {heard[english]['wer']:.3f}",
            )
            for label, heard in (
                ("unseen sentences read aloud", aloud),
                ("the synthesiser's own speech of these", natural),
            )
        ),
        ("transcription WER: unseen / seen sentences", f"{unseen['wer']:.3f} / {seen['wer']:.3f}"),
        ("replies that end by themselves", f"{result['finished']:.2f}"),
        (
            f"real-time factor, one question at a time, waveform to waveform, {result['speed']['threads']} thread(s), median",
            f"{result['speed']['real_time_factor']:.2f}",
        ),
    ]
    by_kind = [f"| {kind} | {value['n']} | {value['exact']:.2f} |" for kind, value in kinds.items()]
    return "\n".join(
        [
            "| what | measured |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            "| kind of question | n | answer exact |",
            "|---|---|---|",
            *by_kind,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--speech", type=Path, required=True, help="folder with the corpora `test` and `answers-heldout`"
    )
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--limit", type=int, help="use about so many test questions only")
    parser.add_argument("--denoising-steps", type=int)
    parser.add_argument("--remasking")
    parser.add_argument("--audio-temperature", type=float)
    given = parser.parse_args(arguments)
    names = ("denoising_steps", "remasking", "audio_temperature")
    options = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    result = measure(given.model, given.speech, given.limit, options)
    print(card_tables(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
