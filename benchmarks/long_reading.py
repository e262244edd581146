"""
Is a long text read aloud whole: is no part of it skipped or repeated?

    python benchmarks/long_reading.py --judges pocketsphinx whisper-base --out benchmarks/results/long_reading.json

`TttTalker.stream` reads a page (`long_page.txt`, which is no training data) as one reply. Then

- the text of the reply must be the given one, with numbers and abbreviations as words, and its word times must have all
  of its letters once, in order, from the first sample to the last;
- the parts that are read one by one must be spoken at a plausible rate: audio that were missing or repeated would show
  as characters per second;
- judges transcribe each part. Nano's general English is hard for them, so what counts is not each word: how many words
  they write for those that were given, whether a transcript resembles its own part more than every other part, and how
  many words in a row are missing or too many, as skipped and repeated phrases would be.

It takes five minutes of one core.
"""

import argparse
import json
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Indel, Levenshtein

from finetune.evaluation.judges import Judge, make_judge
from finetune.nano.domain.questions import normalise
from modeling_ttt import nano_checkpoint
from processing_ttt import TttAudioChunk, TttTalker, TttTextDelta, TttWordTime
from processing_ttt.reading_ttt import split_sentences
from processing_ttt.spoken_text_ttt import spoken_text

PAGE = Path(__file__).with_name("long_page.txt")


def read(talker: TttTalker, text: str) -> tuple[str, np.ndarray, list[TttWordTime]]:
    """Read a text; returns the text of the reply, its audio of shape `(samples,)`, and the times of its words."""
    written, chunks, timings = "", [], list[TttWordTime]()
    with talker.stream(text=text, task="tts") as stream:
        for event in stream:
            if isinstance(event, TttTextDelta):
                written += event.text
            elif isinstance(event, TttAudioChunk):
                chunks.append(event.audio)
                timings += event.timings
    return written, np.concatenate(chunks), timings


def parts_of(text: str, timings: list[TttWordTime]) -> list[tuple[str, float, float]]:
    """
    Find the parts that are read one by one.

    Args:
        text (`str`): The given text, with numbers and abbreviations as words.
        timings (`list[TttWordTime]`): Times of its words.

    Returns:
        `list[tuple[str, float, float]]`: Of each part its text, and where it begins and ends in seconds.

    Raises:
        ValueError: If the times are not those of the words of the text, each once and in order.
    """
    parts, rest = [], list(timings)
    for part in split_sentences(text):
        taken, letters = list[TttWordTime](), ""
        while rest and len(letters) < len(part.replace(" ", "")):
            taken.append(rest.pop(0))
            letters += taken[-1].word.replace(" ", "")
        if letters != part.replace(" ", ""):
            raise ValueError(f"The word times of {part!r} have the letters {letters!r}.")
        parts.append((part, taken[0].start, taken[-1].end))
    if rest or any(first[2] != second[1] for first, second in pairwise(parts)):
        raise ValueError("The times of the words have gaps, or there are more of them than words.")
    return parts


def measure(talker: TttTalker, judges: list[Judge]) -> dict[str, Any]:
    """Read the page, and compare."""
    text = PAGE.read_text(encoding="utf-8")
    given = spoken_text(text)
    written, audio, timings = read(talker, text)
    rate = talker.processor.codec_config.output_sampling_rate
    parts = parts_of(given, timings)
    spoken = [audio[round(begin * rate) : round(end * rate)] for _, begin, end in parts]
    rates = [len(part) / (end - begin) for part, begin, end in parts]
    return {
        "words": len(given.split()),
        "parts": len(parts),
        "seconds": round(len(audio) / rate, 1),
        "text is the given one": written.split() == given.split(),
        "audio is all of its words": abs(parts[0][1]) + abs(parts[-1][2] - len(audio) / rate) < 0.01,
        "characters per second": _spread(rates),
        "judges": {
            judge.name: judged([part for part, _, _ in parts], judge.transcribe(spoken, rate, "en")) for judge in judges
        },
    }


def judged(parts: list[str], transcripts: list[str]) -> dict[str, Any]:
    """
    Compare transcripts with the parts that were read.

    Args:
        parts (`list[str]`): Given texts.
        transcripts (`list[str]`): What a judge wrote for each.

    Returns:
        `dict`: Words that are right, replaced, missing and too many; the most of them in a row; and how transcripts
        resemble their parts.
    """
    texts = [normalise(part) for part in parts]
    lines = [normalise(spoken_text(line)) for line in transcripts]
    kinds = {"equal": "right", "replace": "replaced", "delete": "missing", "insert": "too many"}
    counts, longest = dict.fromkeys(kinds.values(), 0), {"missing": 0, "too many": 0}
    for edit in Levenshtein.opcodes(" ".join(texts).split(), " ".join(lines).split()):
        kind = kinds[edit.tag]
        count = max(edit.src_end - edit.src_start, edit.dest_end - edit.dest_start)
        counts[kind] += count
        if kind in longest:
            longest[kind] = max(longest[kind], count)
    words = [len(line.split()) / len(text.split()) for line, text in zip(lines, texts, strict=True)]
    alike = np.array([[Indel.normalized_similarity(line, text) for text in texts] for line in lines])
    return {
        "words": counts,
        "words in a row": longest,
        "transcribed words per given word": _spread(words),
        "parts that resemble their own text most": int((alike.argmax(axis=1) == np.arange(len(parts))).sum()),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "lowest": round(min(values), 2),
        "median": round(statistics.median(values), 2),
        "highest": round(max(values), 2),
    }


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_checkpoint())
    parser.add_argument("--judges", nargs="+", default=["pocketsphinx"], help="as of `ttt evaluate`")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    talker = TttTalker.from_pretrained(options.model, device="cpu")
    result = measure(talker, [make_judge(name) for name in options.judges])
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
