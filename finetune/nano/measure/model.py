"""
Measure a nano checkpoint, from waveform to waveform, on what training never saw, and on seen questions apart.

    python -m finetune.nano.measure.model --model checkpoints/ttt-nano --speech data/nano --out measured.json

| what | corpus | measured |
|---|---|---|
| answer | test | is the answer's text exactly right? By split, kind and voice, and with noise at 10 dB |
| turns | follow-ups-test | two turns: is the second answer exactly right? |
| talks | test | conversations of four questions, each about something else: are the answers exactly right? By turn |
| repeat | repeat-test | general English that is to be repeated: the text's error rates |
| reply | test | spoken answers, transcribed by `judge.py` |
| `hear` | test, dictation-test | transcription: questions, and general English by voice |
| `speak` | voice-test | unseen answers and general English read aloud, transcribed by the judges |
| codec | voice-test | the synthesiser itself, and through the codec: what speech could be at best |
| speed | test | one question at a time, waveform to waveform: seconds over seconds of speech; time to the first audio |

The corpora are those of `speech.synthesise`; `voice-test` is in the voice that nano speaks with, by `speech.natural
answers-test`. Beside the error rates of what is spoken is DNSMOS, where `speechmos` is installed. `card.py` makes the
tables of docs/nano.md of it.

Depends on the processor, the model and the judges. Changes nothing.
"""

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import modeling_ttt  # noqa: F401 - registers the model that the talker loads
from finetune.evaluation.judges import mean_opinion
from finetune.nano.codec.encode import encode
from finetune.nano.domain.questions import normalise
from finetune.nano.speech.acoustics import with_noise
from finetune.nano.speech.jobs import TEST_STRETCHES
from finetune.nano.speech.synthesise import read_corpus
from finetune.nano.speech.voices import SAMPLING_RATE, Voice
from processing_ttt import TttReply, TttTalker
from processing_ttt.reply_stream_ttt import TttAudioChunk

from .card import card_tables
from .confusion import confusions
from .judge import Judge, WhisperJudge, all_judges, score

Judges = dict[str, Judge | WhisperJudge]

BATCH_SIZE = 16
NOISE_DB = 10.0
JUDGED = 150  # spoken replies that the judges transcribe
RATED = 40  # utterances of each kind that DNSMOS rates
TIMED = 20
TALKS, TURNS_OF_A_TALK = 50, 4


class Checkpoint(TttTalker):
    """A talker that answers many questions, in batches of similar length."""

    @torch.inference_mode()
    def resynthesise(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Send recordings through the codec alone."""
        return [self.processor.decode_codes(codes) for codes in encode(self.processor.codec, list(waveforms))]

    def ask_all(
        self, task: str, waveforms: Sequence[np.ndarray] | None = None, texts: Sequence[str] | None = None
    ) -> list[TttReply]:
        """Answer many questions, in batches of similar length."""
        name = "text" if waveforms is None else "audio"
        questions: list[Any] = (
            list(texts or []) if waveforms is None else [with_rate(waveform) for waveform in waveforms]
        )
        lengths = [len(question) for question in (waveforms if waveforms is not None else texts or [])]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        replies: dict[int, TttReply] = {}
        for start in tqdm(range(0, len(order), BATCH_SIZE), desc=task, unit="batch"):
            chosen = order[start : start + BATCH_SIZE]
            asked: dict[str, Any] = {name: [questions[i] for i in chosen]}
            batch = self.reply_batch(**asked, task=task)
            replies.update(zip(chosen, batch, strict=True))
        return [replies[i] for i in range(len(order))]


def with_rate(waveform: np.ndarray) -> dict[str, Any]:
    """Audio of the corpora, as the processor takes it."""
    return {"array": waveform, "sampling_rate": SAMPLING_RATE}


def exact_by(lines: Sequence[dict], replies: Sequence[TttReply], field: str) -> dict[str, dict[str, float]]:
    """Share of answers whose text is exactly right, by a field of the questions."""
    right: dict[str, list[bool]] = defaultdict(list)
    for line, reply in zip(lines, replies, strict=True):
        right[line[field]].append(is_exact(line, reply))
    return {name: {"exact": sum(hits) / len(hits), "n": len(hits)} for name, hits in sorted(right.items())}


def is_exact(line: dict, reply: TttReply) -> bool:
    """Compare a reply's text with the one right answer, letter by letter."""
    return reply.text.strip() == line["answer"]


def transcribe(waveforms: Sequence[np.ndarray], judges: Judges) -> dict[str, list[str]]:
    """Let the judges transcribe; a reply without audio gets an empty transcript: judges find words even in silence."""
    return {
        name: [
            judge.transcribe(waveform) if len(waveform) else "" for waveform in tqdm(waveforms, desc=name, leave=False)
        ]
        for name, judge in judges.items()
    }


def rated(waveforms: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """DNSMOS of some of the waveforms, evenly chosen, where it is installed."""
    chosen = waveforms[:: max(1, len(waveforms) // RATED)]
    overall = mean_opinion(chosen, SAMPLING_RATE)
    return {} if overall is None else {"DNSMOS": {"overall": overall, "n": len(chosen)}}


def intelligibility(
    waveforms: Sequence[np.ndarray], texts: Sequence[str], judges: Judges
) -> dict[str, dict[str, float]]:
    """Compare the judges' transcripts with the right texts, and rate the audio."""
    return compared(transcribe(waveforms, judges), texts) | rated(waveforms)


def compared(transcripts: dict[str, list[str]], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compare each judge's transcripts with the right texts, where these have words."""
    spoken = [i for i, text in enumerate(texts) if normalise(text)]
    return {
        name: _errors([texts[i] for i in spoken], [found[i] for i in spoken]) for name, found in transcripts.items()
    }


def _errors(references: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    return asdict(score(list(references), list(found))) | {"n": len(references)}


def speed(checkpoint: Checkpoint, waveforms: Sequence[np.ndarray]) -> dict[str, float]:
    """Medians of one question at a time, from waveform to waveform, and to the first audio of a stream."""
    factors, seconds, first_audio = [], [], []
    for waveform in waveforms:
        began = time.perf_counter()
        reply = checkpoint.reply(with_rate(waveform))
        seconds.append(time.perf_counter() - began)
        if len(reply.audio):
            factors.append(seconds[-1] / reply.seconds)
            first_audio.append(_seconds_to_audio(checkpoint, waveform))
    return {
        "real_time_factor": statistics.median(factors) if factors else float("nan"),
        "seconds": statistics.median(seconds),
        "first_audio_seconds": statistics.median(first_audio) if first_audio else float("nan"),
        "threads": torch.get_num_threads(),
    }


def _seconds_to_audio(checkpoint: Checkpoint, waveform: np.ndarray) -> float:
    began = time.perf_counter()
    with checkpoint.stream(with_rate(waveform)) as stream:
        for event in stream:
            if isinstance(event, TttAudioChunk):
                return time.perf_counter() - began
    return float("inf")


def second_turns(checkpoint: Checkpoint, lines: Sequence[dict], waveforms: Sequence[np.ndarray]) -> list[TttReply]:
    """Ask each first question, synthesised now, then the second one; give the second replies."""
    replies = []
    for number, (line, waveform) in enumerate(tqdm(list(zip(lines, waveforms, strict=True)), desc="turns")):
        first = Voice(line["voice"]).speak(line["first_question"], TEST_STRETCHES[number % len(TEST_STRETCHES)])
        conversation = checkpoint.conversation()
        conversation.say(audio=with_rate(first.audio))
        replies.append(conversation.say(audio=with_rate(waveform)))
    return replies


def talks(checkpoint: Checkpoint, lines: Sequence[dict], waveforms: Sequence[np.ndarray]) -> list[float]:
    """Share of right answers by turn, in conversations of unrelated held-out questions."""
    held_out = [i for i, line in enumerate(lines) if line["split"] != "train"]
    rng = random.Random(0)
    right = []
    for _ in tqdm(range(TALKS), desc="talks"):
        conversation = checkpoint.conversation()
        asked = rng.sample(held_out, TURNS_OF_A_TALK)
        replies = [conversation.say(audio=with_rate(waveforms[i])) for i in asked]
        right.append([is_exact(lines[i], reply) for i, reply in zip(asked, replies, strict=True)])
    return np.mean(right, axis=0).tolist()


def measure(folder: Path, speech: Path, limit: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """
    Run every measurement.

    Args:
        folder (`Path`): The checkpoint.
        speech (`Path`): Holds the corpora of the table above.
        limit (`int`, *optional*): Use about so many utterances of each at most.
        options (`dict`): For `generate`.

    Returns:
        `dict`: Numbers, nested; what `card_tables` takes.
    """
    checkpoint = Checkpoint.from_pretrained(folder, device="cpu", **options)
    judges = all_judges()
    lines, waveforms = _read(speech / "test", limit)
    result: dict[str, Any] = {"speed": speed(checkpoint, waveforms[:: max(1, len(waveforms) // TIMED)][:TIMED])}
    result |= _answers(checkpoint, lines, waveforms, judges)
    result |= _transcription(checkpoint, lines, waveforms, speech, limit)
    result["talks"] = {"exact by turn": talks(checkpoint, lines, waveforms), "n": TALKS}

    lines, waveforms = _read(speech / "follow-ups-test", limit)
    right = [
        is_exact(line, reply) for line, reply in zip(lines, second_turns(checkpoint, lines, waveforms), strict=True)
    ]
    result["second turn"] = {"exact": sum(right) / len(right), "n": len(right)}
    lines, waveforms = _read(speech / "repeat-test", limit)
    repeated = [reply.text for reply in checkpoint.ask_all("chat", waveforms)]
    result["repeat"] = _errors([line["answer"] for line in lines], repeated)
    return result | _reading_aloud(checkpoint, *_read(speech / "voice-test", limit), judges)


def _answers(checkpoint: Checkpoint, lines: list[dict], waveforms: list[np.ndarray], judges: Judges) -> dict[str, Any]:
    replies = checkpoint.ask_all("chat", waveforms)
    held_out = [i for i, line in enumerate(lines) if line["split"] != "train"]
    unseen = [lines[i] for i in held_out], [replies[i] for i in held_out]
    rng = np.random.default_rng(0)
    noisy = [with_noise(waveforms[i], NOISE_DB, float(np.sqrt(np.mean(waveforms[i] ** 2))), rng) for i in held_out[::3]]
    in_noise = checkpoint.ask_all("chat", noisy)
    judged = list(zip(lines, replies, strict=True))[:: max(1, len(lines) // JUDGED)]
    transcripts = transcribe([reply.audio for _, reply in judged], judges)
    return {
        "answer by split": exact_by(lines, replies, "split"),
        "answer by kind": exact_by(*unseen, "kind"),
        "answer by voice": exact_by(*unseen, "voice"),
        "wrong answers by kind": confusions(unseen[0], [reply.text for reply in unseen[1]]),
        "answer in noise": {
            "exact": sum(is_exact(lines[i], reply) for i, reply in zip(held_out[::3], in_noise, strict=True))
            / len(noisy),
            "quiet": sum(is_exact(lines[i], replies[i]) for i in held_out[::3]) / len(noisy),
            "n": len(noisy),
        },
        "finished": sum(reply.finished for reply in replies) / len(replies),
        "reply, against its own text": compared(transcripts, [reply.text for _, reply in judged])
        | rated([reply.audio for _, reply in judged]),
        "reply, against the right answer": compared(transcripts, [line["answer"] for line, _ in judged]),
    }


def _transcription(
    checkpoint: Checkpoint, lines: list[dict], waveforms: list[np.ndarray], speech: Path, limit: int | None
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    written = [reply.text for reply in checkpoint.ask_all("asr", waveforms)]
    for name, seen in (("hear, seen questions", True), ("hear, unseen questions", False)):
        chosen = [i for i, line in enumerate(lines) if (line["split"] == "train") == seen]
        result[name] = _errors([lines[i]["text"] for i in chosen], [written[i] for i in chosen])
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for line, text in zip(lines, written, strict=True):
        if line["split"] != "train":
            by_kind[line["kind"]].append(normalise(text) == normalise(line["text"]))
    result["hear, unseen questions, exact by kind"] = {kind: sum(hits) / len(hits) for kind, hits in by_kind.items()}
    lines, waveforms = _read(speech / "dictation-test", limit)
    written = [reply.text for reply in checkpoint.ask_all("asr", waveforms)]
    result["hear, general English"] = _errors([line["text"] for line in lines], written)
    by_voice: dict[str, list[int]] = defaultdict(list)
    for i, line in enumerate(lines):
        by_voice[line["voice"]].append(i)
    result["hear, general English, by voice"] = {
        voice: _errors([lines[i]["text"] for i in chosen], [written[i] for i in chosen])
        for voice, chosen in sorted(by_voice.items())
    }
    return result


def _reading_aloud(
    checkpoint: Checkpoint, lines: list[dict], originals: list[np.ndarray], judges: Judges
) -> dict[str, Any]:
    general = {name: judge for name, judge in judges.items() if name != "domain bigram"}
    result: dict[str, Any] = {}
    for what, is_phrase, heard_by in (("answers", False, judges), ("general English", True, general)):
        chosen = [i for i, line in enumerate(lines) if (line["kind"] == "phrase") == is_phrase]
        texts, spoken = [lines[i]["text"] for i in chosen], [originals[i] for i in chosen]
        aloud = [reply.audio for reply in checkpoint.ask_all("tts", texts=texts)]
        result |= {
            f"speak, unseen {what}": intelligibility(aloud, texts, heard_by),
            f"{what}, the synthesiser itself": intelligibility(spoken, texts, heard_by),
            f"{what}, the synthesiser through the codec": intelligibility(
                checkpoint.resynthesise(spoken), texts, heard_by
            ),
        }
    return result


def _read(folder: Path, limit: int | None) -> tuple[list[dict], list[np.ndarray]]:
    corpus = list(read_corpus(folder))
    chosen = corpus[:: max(1, len(corpus) // limit)] if limit else corpus
    return [line for line, _ in chosen], [np.asarray(waveform, np.float32) / 32768 for _, waveform in chosen]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="folder with the corpora")
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
