"""
Transcripts of nano's speech by an independent recogniser, pocketsphinx, and their error rates.

    # the judge's own floor: errors on the synthesiser's speech, by kind
    python -m finetune.nano.measure.judge --speech data/answers

The judge with a bigram of the domain expects what may be said, so its error rates are too low. Beside it are those of
the same recogniser with the general English model of its wheel, those of Whisper base where it is installed, and the
share of utterances whose numbers and content words are all right.

Depends on waveforms at 16 kHz and texts. Independent of codecs, models and token ids.
"""

import argparse
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
from tqdm import tqdm

from finetune.evaluation.pocketsphinx import Recogniser, english_model
from finetune.evaluation.whisper_base import WhisperBaseJudge
from finetune.nano.domain.questions import keywords, normalise, text_corpus
from finetune.nano.speech.synthesise import read_corpus
from finetune.nano.speech.voices import SAMPLING_RATE
from processing_ttt.spoken_text_ttt import spoken_text

DISCOUNT = 0.5


def bigram_arpa(sentences: Iterable[str]) -> str:
    """
    A bigram language model with absolute discounting, interpolated with unigrams: p(w|v) = (c(vw) - d) / c(v) +
    bow(v) p(w).

    Args:
        sentences (`Iterable[str]`): Texts; they are normalised.

    Returns:
        `str`: The model in the ARPA format, logarithms to base 10; each history's probabilities sum to one.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        words = ["<s>", *normalise(sentence).split(), "</s>"]
        pairs.update(pairwise(words))
    followed: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    unigrams: Counter[str] = Counter()
    for (first, second), count in pairs.items():
        followed[first] += count
        kinds[first] += 1
        unigrams[second] += count
    total = unigrams.total()
    backoff = {v: DISCOUNT * kinds[v] / followed[v] for v in followed}

    lines = ["\\data\\", f"ngram 1={len(unigrams) + 1}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    lines.append(f"-99 <s> {math.log10(backoff['<s>']):.4f}")
    for word, count in sorted(unigrams.items()):
        weight = f" {math.log10(backoff[word]):.4f}" if word in backoff else ""
        lines.append(f"{math.log10(count / total):.4f} {word}{weight}")
    lines += ["", "\\2-grams:"]
    for (first, second), count in sorted(pairs.items()):
        prob = (count - DISCOUNT) / followed[first] + backoff[first] * unigrams[second] / total
        lines.append(f"{math.log10(prob):.4f} {first} {second}")
    return "\n".join([*lines, "", "\\end\\", ""])


class Judge(Recogniser):
    """
    Transcribes English.

    Args:
        corpus (`Sequence[str]`, *optional*): Sentences of the domain, for a bigram model; without them the
            recogniser's general English model is used.

    Raises:
        ImportError: pocketsphinx is not installed.
        ValueError: The corpus has a word that the recogniser's dictionary lacks.
    """

    def __init__(self, corpus: Sequence[str] | None = None):
        if corpus is None:
            super().__init__()
            return
        pronunciations = _pronunciations(corpus, english_model()["dict"])
        with tempfile.TemporaryDirectory() as temporary:
            words, bigrams = Path(temporary) / "words.dict", Path(temporary) / "bigram.arpa"
            words.write_text(pronunciations)
            bigrams.write_text(bigram_arpa(corpus))
            super().__init__(dict=words, lm=bigrams)


class WhisperJudge:
    """
    Whisper base, which transcribes English.

    Raises:
        ImportError: It is not installed.
    """

    def __init__(self) -> None:
        self.recogniser = WhisperBaseJudge()

    def transcribe(self, audio: np.ndarray) -> str:
        """Transcribe one utterance, float32 `(samples,)` at 16 kHz: a text with numbers in words, "18-3" as minus."""
        (text,) = self.recogniser.transcribe([audio], SAMPLING_RATE, "en")
        return spoken_text(re.sub(r"(?<=\d) ?[-−–] ?(?=\d)", " minus ", text))


def all_judges() -> dict[str, Judge | WhisperJudge]:
    """
    Every judge there is.

    Returns:
        `dict[str, Judge | WhisperJudge]`: "domain bigram", "general English", and "Whisper base" where it is installed.
    """
    judges: dict[str, Judge | WhisperJudge] = {"domain bigram": Judge(text_corpus()), "general English": Judge()}
    with suppress(ImportError):
        judges["Whisper base"] = WhisperJudge()
    return judges


def _pronunciations(corpus: Sequence[str], path: Path) -> str:
    """The dictionary's lines, `word phones` and `word(2) phones`, of the corpus's words: a small one loads fast."""
    wanted = {word for sentence in corpus for word in normalise(sentence).split()}
    with path.open() as file:
        lines = [line for line in file if line.split(maxsplit=1)[0].partition("(")[0] in wanted]
    unknown = wanted - {line.split(maxsplit=1)[0] for line in lines}
    if unknown:
        raise ValueError(f"The judge's dictionary lacks {', '.join(sorted(unknown))}: say it in other words.")
    return "".join(lines)


@dataclass(frozen=True)
class Scores:
    """
    How well texts were recognised.

    Args:
        wer (`float`): Word errors per word.
        cer (`float`): Character errors per character.
        exact (`float`): Share of texts without any error.
        keywords (`float`): Share of texts whose numbers and content words are all right, see `domain.keywords`.
    """

    wer: float
    cer: float
    exact: float
    keywords: float


def score(references: Sequence[str], transcripts: Sequence[str]) -> Scores:
    """
    Compare transcripts with the right texts; case and punctuation do not count.

    Args:
        references (`Sequence[str]`): The right texts, none empty.
        transcripts (`Sequence[str]`): A judge's texts, in the same order.

    Returns:
        `Scores`: Over all of them.
    """
    wanted, got = [normalise(text) for text in references], [normalise(text) for text in transcripts]
    pairs = list(zip(wanted, got, strict=True))
    return Scores(
        wer=jiwer.wer(wanted, got),
        cer=jiwer.cer(wanted, got),
        exact=sum(w == g for w, g in pairs) / len(pairs),
        keywords=sum(keywords(w) == keywords(g) for w, g in pairs) / len(pairs),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Measure the judge's error on a folder of synthesised speech.")
    parser.add_argument(
        "--speech", type=Path, required=True, help="a folder written by finetune.nano.speech.synthesise"
    )
    parser.add_argument("--per-kind", type=int, default=25, help="utterances of each kind to transcribe")
    options = parser.parse_args(arguments)
    by_kind: dict[str, list[tuple[dict, np.ndarray]]] = {}
    for line, audio in read_corpus(options.speech):
        same = by_kind.setdefault(line.get("kind", "any"), [])
        if len(same) < options.per_kind:
            same.append((line, audio))

    print("| judge | kind | n | WER | CER | exact | numbers and keywords | x real time |\n" + "|---" * 8 + "|")
    for name, corpus in (("domain bigram", text_corpus()), ("general English", None)):
        judge, began = Judge(corpus), time.perf_counter()
        references: list[str] = []
        transcripts: list[str] = []
        for kind, spoken in sorted(by_kind.items()):
            texts = [line["text"] for line, _ in spoken]
            found = [judge.transcribe(audio) for _, audio in tqdm(spoken, desc=f"{name}: {kind}", leave=False)]
            references, transcripts = references + texts, transcripts + found
            print(_row(name, kind, score(texts, found), len(texts)) + " |")
        seconds = sum(len(audio) for spoken in by_kind.values() for _, audio in spoken) / SAMPLING_RATE
        speed = seconds / (time.perf_counter() - began)
        print(_row(name, "all", score(references, transcripts), len(transcripts)) + f" {speed:.1f} |")


def _row(judge: str, kind: str, s: Scores, count: int) -> str:
    return f"| {judge} | {kind} | {count} | {s.wer:.3f} | {s.cer:.3f} | {s.exact:.3f} | {s.keywords:.3f} |"


if __name__ == "__main__":
    main()
