"""
The speech that nano is trained and measured on, written to disk once, resumably.

    python -m finetune.nano.speech.synthesise questions --out data/questions --count 40000

| corpus | what | voices |
|---|---|---|
| codec | WordNet phrases and sentences of the domain, for the codec | four |
| questions, wrapped | training questions; the same with other words around them | those of the questions |
| free, indirect | freely worded and indirect questions, also ones that nano cannot answer | those of the questions |
| small-talk, outside | small talk, and questions that nano cannot answer, in all wordings | those of the questions |
| repeat | "Repeat after me, ..." with general English | those of the questions |
| follow-ups | second questions | those of the questions |
| drills, dictation | words in random order; general English: to be written down | those of the questions |
| answers, sentences, phrases | answers, training questions and general English, to be spoken | one |
| test, repeat-test, follow-ups-test, dictation-test | for measuring only | as above |

Format of an output folder, 16 kHz mono:
- `shard-00000.npy`: int16 `(samples,)`, the utterances one after the other.
- `shard-00000.jsonl`: one line per utterance, `{"id", "voice", "stretch", "text", "start", "samples", "words",
  "split", ...}`: `start` is the first sample in the shard, `words` is `[[word, start_s, end_s], ...]`, contiguous
  from 0 to the utterance's end, and `" ".join` of the words is the text; a synthesiser without word times
  gives no `words`. All but codec add `kind` and `answer` (of the question; of what is only spoken, the text
  itself). Wrapped questions also have `question`, what was wrapped; second questions `first_question` and
  `first_answer`. `split` is "train", "test" or one of `domain.SPLITS`; in test, "train" marks a seen question.
- `time.json`: seconds spent, seconds of audio, utterances.
A shard's `.jsonl` is renamed into place last: where it exists the shard is complete, so a reader may start while more
shards are written, and a run that was killed goes on where it stopped. A larger `--count` extends a folder.

Depends on the format of shards. Independent of texts (`corpora.py`), codecs and token ids.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from .corpora import CORPORA
from .jobs import Job
from .voices import SAMPLING_RATE, Utterance, Voice

UTTERANCES_PER_SHARD = 200


class Speaker(Protocol):
    """A voice of any synthesiser."""

    def speak(self, text: str, stretch: float) -> Utterance:
        """Speak a text; durations are multiplied by `stretch`."""
        ...


def write_shards(jobs: list[Job], out: Path, make_voice: Callable[[str], Speaker] = Voice) -> None:
    """
    Synthesise jobs into shards; finished shards are kept.

    Args:
        jobs (`list[Job]`): The utterances, in order; the same list (or a longer one with the same beginning) resumes.
        out (`Path`): Folder of the shards.
        make_voice (`Callable[[str], Speaker]`, *optional*): From a voice's name to the voice; flite's by default.

    Raises:
        ValueError: The folder holds shards made from other jobs.
    """
    out.mkdir(parents=True, exist_ok=True)
    voices = lru_cache(maxsize=32)(make_voice)
    shards = [jobs[i : i + UTTERANCES_PER_SHARD] for i in range(0, len(jobs), UTTERANCES_PER_SHARD)]
    for number, shard in enumerate(tqdm(shards, desc=out.name, unit="shard")):
        path = out / f"shard-{number:05d}.npy"
        if path.with_suffix(".jsonl").exists() and _is_whole(path.with_suffix(".jsonl"), shard):
            continue
        began = time.perf_counter()
        samples = _write_shard(shard, voices, path)
        _count_time(out / "time.json", time.perf_counter() - began, samples / SAMPLING_RATE, len(shard))


def _write_shard(shard: list[Job], voices: Callable[[str], Speaker], path: Path) -> int:
    utterances = []
    for number, job in enumerate(shard):
        spoken = voices(job.voice).speak(job.text, job.stretch)
        line = {"id": f"{path.stem}-{number:03d}", "voice": job.voice, "stretch": job.stretch, "text": job.text}
        if spoken.words is not None:
            line["words"] = [[w.text, round(w.start, 4), round(w.end, 4)] for w in spoken.words]
        line["split"] = job.split
        utterances.append((line | job.fields, spoken.audio))
    return save_shard(utterances, path)


def save_shard(utterances: Iterable[tuple[dict, np.ndarray]], path: Path) -> int:
    """
    Write one shard, index last.

    Args:
        utterances (`Iterable[tuple[dict, np.ndarray]]`): Index lines without `start` and `samples`, and float32
            `(samples,)` in [-1, 1].
        path (`Path`): A `shard-*.npy`.

    Returns:
        `int`: Samples in the shard.
    """
    lines, waves, start = [], [], 0
    for line, audio in utterances:
        waves.append(np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16))
        lines.append(json.dumps(line | {"start": start, "samples": len(waves[-1])}))
        start += len(waves[-1])
    with _renamed_into(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, np.concatenate(waves))
    with _renamed_into(path.with_suffix(".jsonl")) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n")
    return start


@contextmanager
def _renamed_into(path: Path) -> Iterator[Path]:
    """A temporary path that takes its final name when the block ends well."""
    unfinished = path.with_name(path.name + ".tmp")
    yield unfinished
    os.replace(unfinished, path)


def _is_whole(index: Path, shard: list[Job]) -> bool:
    """Whether all of a shard is there; the last one of a smaller corpus is not, and is made again."""
    done = [(line["text"], line["voice"], line["stretch"]) for line in read_index(index)]
    wanted = [(job.text, job.voice, job.stretch) for job in shard]
    if done != wanted[: len(done)]:
        raise ValueError(f"{index} was made from other texts: remove its folder or choose another --out.")
    return len(done) == len(wanted)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--count", type=int, help="utterances, if there are as many")
    options = parser.parse_args(arguments)
    make_jobs, default_count = CORPORA[options.corpus]
    write_shards(make_jobs(options.count or default_count), options.out)


if __name__ == "__main__":
    main()
