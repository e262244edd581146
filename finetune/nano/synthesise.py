"""
The speech that nano is trained and measured on, written to disk once, resumably.

    python -m finetune.nano.synthesise codec --out data/codec             # WordNet phrases and domain sentences, four voices
    python -m finetune.nano.synthesise questions --out data/questions     # training questions, four voices
    python -m finetune.nano.synthesise answers --out data/answers         # every answer once, voice slt; held-out ones in data/answers-heldout
    python -m finetune.nano.synthesise test --out data/test               # held-out questions, and seen ones spoken anew

Format of an output folder, 16 kHz mono:
- `shard-00000.npy`: int16 `(samples,)`, the utterances one after the other.
- `shard-00000.jsonl`: one line per utterance, `{"id", "voice", "stretch", "text", "start", "samples", "words", "split", ...}`:
  `start` is the first sample in the shard, `words` is `[[word, start_s, end_s], ...]`, contiguous from 0 to the utterance's end, and
  `" ".join` of the words is the text. Questions and test add `kind` and `answer`; answers add `kind`.
- `time.json`: seconds spent, seconds of audio, utterances.
A shard's `.jsonl` is renamed into place last: where it exists the shard is complete, so a reader may start while more shards are
written, and a run that was killed goes on where it stopped.

Knows: which texts are spoken by which voice. Does not know: codecs, tokens.
"""

import argparse
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .voices import SAMPLING_RATE, Voice

WORDNET = Path("/usr/share/wordnet")
UTTERANCES_PER_SHARD = 200
CODEC_VOICES = {"slt": 0.55, "rms": 0.15, "awb": 0.15, "kal16": 0.15}
CODEC_TEST_SHARE = 0.03


@dataclass(frozen=True)
class Job:
    """
    One utterance to synthesise.

    Args:
        text (`str`): What is said.
        voice (`str`): Who says it.
        stretch (`float`): How slowly.
        split (`str`): Which part of the data it belongs to.
        fields (`dict[str, str]`, *optional*): Copied into the index.
    """

    text: str
    voice: str
    stretch: float
    split: str
    fields: dict[str, str] = field(default_factory=dict)


def wordnet_phrases(folder: Path = WORDNET) -> list[str]:
    """
    Definitions of WordNet that are plain phrases of 4 to 14 words.

    Args:
        folder (`Path`): Holds WordNet's `data.noun`, `data.verb`, `data.adj` and `data.adv`.

    Returns:
        `list[str]`: Distinct phrases of letters and spaces, capitalised, with a full stop; sorted.

    Raises:
        FileNotFoundError: WordNet is not installed.
    """
    phrases = set()
    for part in ("noun", "verb", "adj", "adv"):
        path = folder / f"data.{part}"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: install the Debian package `wordnet-base`.")
        for line in path.read_text(encoding="latin-1").splitlines():
            phrase = re.sub(r"\([^)]*\)", " ", line.partition("|")[2].partition(";")[0]).strip()
            spoken_words = phrase.split()
            if 4 <= len(spoken_words) <= 14 and re.fullmatch(r"[a-zA-Z ]+", phrase):
                phrase = " ".join(spoken_words)
                phrases.add(phrase[0].upper() + phrase[1:] + ".")
    return sorted(phrases)


def codec_jobs(texts: list[str], count: int, seed: int) -> list[Job]:
    """
    What a codec is trained on: distinct texts, mostly in the voice that answers, half of them at its own pace.

    Args:
        texts (`list[str]`): Sentences to choose from.
        count (`int`): How many to say; texts are used once, or evenly often if there are fewer.
        seed (`int`): Of the choice.

    Returns:
        `list[Job]`: Split "test" for about 3 % of the texts (by a hash of the text), else "train".
    """
    rng = random.Random(seed)
    order: list[str] = []
    while len(order) < count:
        order += rng.sample(texts, len(texts))
    jobs = []
    for text in order[:count]:
        (voice,) = rng.choices(list(CODEC_VOICES), list(CODEC_VOICES.values()))
        stretch = 1.0 if rng.random() < 0.5 else round(rng.uniform(0.85, 1.2), 2)
        hashed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
        jobs.append(Job(text, voice, stretch, "test" if hashed < CODEC_TEST_SHARE else "train"))
    return jobs


def write_shards(jobs: list[Job], out: Path) -> None:
    """
    Synthesise jobs into shards; finished shards are kept.

    Args:
        jobs (`list[Job]`): What to say, in order; the same list (or a longer one with the same beginning) resumes.
        out (`Path`): Folder of the shards.

    Raises:
        ValueError: The folder holds shards made from other jobs.
    """
    out.mkdir(parents=True, exist_ok=True)
    voices = {name: Voice(name) for name in sorted({job.voice for job in jobs})}
    shards = [jobs[i : i + UTTERANCES_PER_SHARD] for i in range(0, len(jobs), UTTERANCES_PER_SHARD)]
    for number, shard in enumerate(tqdm(shards, desc=out.name, unit="shard")):
        path = out / f"shard-{number:05d}.npy"
        if path.with_suffix(".jsonl").exists():
            _check_same(path.with_suffix(".jsonl"), shard)
            continue
        began = time.perf_counter()
        samples = _write_shard(shard, voices, path)
        _count_time(out / "time.json", time.perf_counter() - began, samples / SAMPLING_RATE, len(shard))


def _write_shard(shard: list[Job], voices: dict[str, Voice], path: Path) -> int:
    lines, waves, start = [], [], 0
    for number, job in enumerate(shard):
        spoken = voices[job.voice].speak(job.text, job.stretch)
        waves.append(np.clip(np.rint(spoken.audio * 32768), -32768, 32767).astype(np.int16))
        line = {"id": f"{path.stem}-{number:03d}", "voice": job.voice, "stretch": job.stretch, "text": job.text}
        line |= {"start": start, "samples": len(waves[-1])}
        line |= {"words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in spoken.words], "split": job.split}
        lines.append(json.dumps(line | job.fields))
        start += len(waves[-1])
    with _renamed_into(path) as unfinished:
        with unfinished.open("wb") as file:
            np.save(file, np.concatenate(waves))
    with _renamed_into(path.with_suffix(".jsonl")) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n")
    return start


class _renamed_into:
    """A temporary path that takes its final name when the block ends well."""

    def __init__(self, path: Path):
        self.path, self.unfinished = path, path.with_name(path.name + ".tmp")

    def __enter__(self) -> Path:
        return self.unfinished

    def __exit__(self, error_type, error, trace) -> None:
        if error_type is None:
            os.replace(self.unfinished, self.path)


def _check_same(index: Path, shard: list[Job]) -> None:
    done = [(line["text"], line["voice"], line["stretch"]) for line in read_index(index)]
    if done != [(job.text, job.voice, job.stretch) for job in shard]:
        raise ValueError(f"{index} was made from other texts: remove its folder or choose another --out.")


def _count_time(path: Path, seconds: float, audio_seconds: float, utterances: int) -> None:
    total = json.loads(path.read_text()) if path.exists() else {}
    for key, value in (("seconds", seconds), ("audio_seconds", audio_seconds), ("utterances", utterances)):
        total[key] = round(total.get(key, 0) + value, 2)
    with _renamed_into(path) as unfinished:
        unfinished.write_text(json.dumps(total, indent=1) + "\n")


def read_index(index: Path) -> Iterator[dict]:
    """
    The lines of one shard's index.

    Args:
        index (`Path`): A `shard-*.jsonl`.

    Returns:
        `Iterator[dict]`: One per utterance, as in the module's docstring.
    """
    with index.open() as file:
        yield from map(json.loads, file)


def read_corpus(folder: Path) -> Iterator[tuple[dict, np.ndarray]]:
    """
    Every finished utterance of a folder.

    Args:
        folder (`Path`): Written by `write_shards`, perhaps still being written.

    Returns:
        `Iterator[tuple[dict, np.ndarray]]`: The index line and the audio, int16 `(samples,)` at 16 kHz.
    """
    for index in sorted(folder.glob("shard-*.jsonl")):
        audio = np.load(index.with_suffix(".npy"), mmap_mode="r")
        for line in read_index(index):
            yield line, audio[line["start"] : line["start"] + line["samples"]]


def main(arguments: Iterable[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Synthesise nano's speech.")
    parser.add_argument("corpus", choices=("codec",))
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--phrases", type=int, default=4000, help="WordNet phrases of the codec corpus")
    options = parser.parse_args(arguments)
    write_shards(codec_jobs(wordnet_phrases(), options.phrases, seed=0), options.out)


if __name__ == "__main__":
    main()
