"""
What the frozen codec leaves of real speech, before anything is trained: the ceiling of what training can reach.

    recording -> codes -> sound again; a judge writes down both, and is compared with the transcript

A model speaks only through its codec's decoder and hears only through its encoder. So its speech in a language is not
understood better than the codec's resynthesis of a person, and what the codec drops it cannot hear.

A judge that does not know the language cannot say what is understood, but it still hears whether two sounds are
alike. Beside the error rates stands therefore how alike it hears recording and resynthesis: 1 if it writes the same
for both, 0 if it does not hear them more alike than two different recordings.

Knows the codec, a judge and texts. Knows no training.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from finetune.data.encoding import encode_sounds
from finetune.data.row_maker import Draft, Limits, Problem, RowMaker
from finetune.data.schema import replace_text
from finetune.data.sources import Source
from processing_ttt import TttProcessor
from processing_ttt.reply_ttt import write_sound

from .codec_measures import code_usage, heard_alike, mel_distance
from .judges import Judge
from .metrics import ErrorRates, error_rates, normalise

SOUNDS_WRITTEN = 5
SOUNDS_AT_ONCE = 8
SCAN = 20  # recordings looked at for each one that is wanted

# Normalised character errors. A judge above the first understands too little to be asked; the others grade what the
# codec adds.
JUDGE_FAILS, KEEPS, LOSES, RUINS = 0.5, 0.02, 0.10, 0.30
ALIKE_KEEPS, ALIKE_LOSES, ALIKE_RUINS = 0.95, 0.85, 0.65


@dataclass(frozen=True)
class CodecCheck:
    """
    What was measured.

    Args:
        codec (`str`): Whose codec.
        judge (`str`): Who listened.
        count (`int`): Recordings.
        seconds (`float`): Their length together.
        original (`ErrorRates`, *optional*): The judge on the recordings; `None` if it was not asked because it does
            not know the language.
        resynthesis (`ErrorRates`, *optional*): The judge on their resynthesis.
        heard_alike (`float`): See above.
        mel_distance_db (`float`): Mean absolute difference of the log-mel spectra, levels matched, in dB.
        codes_used (`int`): Different codes that occurred ...
        codebook_size (`int`): ... out of so many.
        entropy_bits (`float`): Of the distribution of single codes.
        verdict (`str`): What it means.
    """

    codec: str
    judge: str
    count: int
    seconds: float
    original: ErrorRates | None
    resynthesis: ErrorRates | None
    heard_alike: float
    mel_distance_db: float
    codes_used: int
    codebook_size: int
    entropy_bits: float
    verdict: str


def check_codec(
    source: Source,
    processor: TttProcessor,
    judge: Judge,
    count: int = 100,
    limits: Limits | None = None,
    out: Path | None = None,
    codec: str = "",
) -> CodecCheck:
    """
    Send recordings through the codec and ask a judge about both sides.

    Args:
        source ([`Source`]): Recordings with transcripts.
        processor ([`TttProcessor`]): Whose codec.
        judge (`Judge`): From `finetune.evaluation.judges`.
        count (`int`, defaults to 100): Recordings, spread over those at the beginning of the source.
        limits ([`Limits`], *optional*): Which can be used, and their language if they do not say it.
        out (`Path`, *optional*): Folder for `codec_check.json`, `codec_check.md` and some sounds to listen to.
        codec (`str`, *optional*): Name for the report.

    Returns:
        [`CodecCheck`]

    Raises:
        ValueError: If no recording can be used.
    """
    row_maker = RowMaker(processor, limits or Limits())
    drafts = _recordings(source, row_maker, count)
    sounds = [draft.sounds["codes"] for draft in drafts]
    rates = processor.codec_config.sampling_rate, processor.codec_config.output_sampling_rate
    codes: list[list[int]] = []
    resynthesis: list[np.ndarray] = []
    for sound in tqdm(sounds, desc="resynthesise", unit="recording"):
        encoded = encode_sounds(processor, [sound], 1)[0]
        if isinstance(encoded, Exception):
            raise encoded
        codes.append(encoded)
        resynthesis.append(processor.decode_codes(encoded))
    language = drafts[0].row["language"]
    knows = judge.knows(language)
    heard = [
        _listen(judge, both, rate, language if knows else None)
        for both, rate in zip((sounds, resynthesis), rates, strict=True)
    ]
    texts = [draft.row["text"] for draft in drafts]
    original, again = (error_rates(texts, side, language) for side in heard) if knows else (None, None)
    alike = heard_alike(*([normalise(text, language) for text in side] for side in heard))
    distances = [
        mel_distance(sound, rates[0], other, rates[1]) for sound, other in zip(sounds, resynthesis, strict=True)
    ]
    used, entropy = code_usage(codes)
    check = CodecCheck(
        codec=codec or processor.codec_name_or_path,
        judge=judge.name,
        count=len(sounds),
        seconds=sum(map(len, sounds)) / rates[0],
        original=original,
        resynthesis=again,
        heard_alike=alike,
        mel_distance_db=float(np.mean(distances)),
        codes_used=used,
        codebook_size=processor.codec_config.codebook_size,
        entropy_bits=entropy,
        verdict=verdict(original, again, alike, judge.name),
    )
    if out is not None:
        _write(
            out,
            check,
            [(draft.row["id"], *pair) for draft, *pair in zip(drafts, sounds, resynthesis, strict=True)],
            rates,
            texts,
            heard,
        )
    return check


def _listen(judge: Judge, sounds: Sequence[np.ndarray], rate: int, language: str | None) -> list[str]:
    heard: list[str] = []
    with tqdm(total=len(sounds), desc=f"{judge.name} listens", unit="sound") as progress:
        for start in range(0, len(sounds), SOUNDS_AT_ONCE):
            heard += judge.transcribe(sounds[start : start + SOUNDS_AT_ONCE], rate, language)
            progress.update(len(heard) - progress.n)
    return heard


def _recordings(source: Source, row_maker: RowMaker, count: int) -> list[Draft]:
    """Recordings that can be used, evenly spread over the beginning of the source."""
    items = [item for item in islice(source.items(), SCAN * count) if item.kind == "recording"]
    drafts: list[Draft] = []
    problems: list[Problem] = []
    step = max(1, len(items) // count)
    order = [position for first in range(step) for position in range(first, len(items), step)]
    for position in order:
        if len(drafts) == count:
            break
        try:
            drafts.append(row_maker.read(items[position]))
        except Problem as problem:
            problems.append(problem)
    if not drafts:
        why = f" (the first: {problems[0].reason}, {problems[0].detail})" if problems else ""
        raise ValueError(f"{source.name!r} has no recording with a transcript that can be used{why}.")
    return drafts


# -------------------------------------------------------------------------------------------------------- what it means


def verdict(original: ErrorRates | None, resynthesis: ErrorRates | None, alike: float, judge: str) -> str:
    """
    Say in words what the numbers mean for whoever is about to train.

    Args:
        original (`ErrorRates`, *optional*): The judge on the recordings.
        resynthesis (`ErrorRates`, *optional*): The judge on their resynthesis.
        alike (`float`): How alike it hears both.
        judge (`str`): Its name.

    Returns:
        `str`: Some sentences.
    """
    own = (
        " It hears everything through this codec, the recordings too, so what the codec drops at once it never hears."
        if judge == "model"
        else ""
    )
    if original is None or resynthesis is None or original.cer > JUDGE_FAILS:
        why = (
            "does not know the language"
            if original is None
            else f"gets {original.cer:.0%} of the characters of the recordings themselves wrong"
        )
        graded = _graded(-alike, (-ALIKE_KEEPS, -ALIKE_LOSES, -ALIKE_RUINS))
        return (
            f"No ceiling could be measured: {judge} {why}. Choose a judge that knows the language (--judge with a "
            f"speech recognition model). It hears recording and resynthesis {alike:.0%} alike, which is weak evidence, "
            f"but all that such a judge can give: {graded}.{own}"
        )
    added = resynthesis.cer - original.cer
    return (
        f"{_graded(added, (KEEPS, LOSES, RUINS)).capitalize()}: of the recordings {judge} gets {original.cer:.1%} of "
        f"the characters wrong, of their resynthesis {resynthesis.cer:.1%} (words: {original.wer:.1%} and "
        f"{resynthesis.wer:.1%}). That is the ceiling: by this judge, no model trained on these codes will be "
        f"understood better than with {resynthesis.cer:.1%} of the characters wrong, however long it is trained.{own}"
    )


def _graded(value: float, bounds: tuple[float, float, float]) -> str:
    """From good to bad: up to the first bound, the second, the third, and beyond."""
    words = (
        "the codec keeps this speech",
        "the codec loses a little of this speech, and training is worth while",
        "the codec loses much of this speech: train for understanding, and expect unclear speech",
        "the codec does not carry this speech: choose or train another codec before training a model",
    )
    return words[sum(value > bound for bound in bounds)]


def readable(check: CodecCheck) -> str:
    """
    Write a check as Markdown.

    Args:
        check ([`CodecCheck`]): What was measured.

    Returns:
        `str`
    """
    lines = [f"{check.count} recordings, {check.seconds:.0f} s, codec {check.codec}, judge {check.judge}", ""]
    if check.original is not None and check.resynthesis is not None:
        lines += ["| sound | WER | CER | WER, raw | CER, raw |", "|---|---|---|---|---|"]
        for name, side in (("recording", check.original), ("resynthesis", check.resynthesis)):
            lines.append(f"| {name} | {side.wer:.3f} | {side.cer:.3f} | {side.raw_wer:.3f} | {side.raw_cer:.3f} |")
        lines.append("")
    lines += ["| what | measured |", "|---|---|"]
    lines.append(
        "| recording and resynthesis heard alike (1: the same, 0: as two different recordings) | "
        f"{check.heard_alike:.3f} |"
    )
    lines.append(f"| mel distance | {check.mel_distance_db:.1f} dB |")
    lines.append(f"| codes used | {check.codes_used} of {check.codebook_size} |")
    lines.append(f"| entropy of a code | {check.entropy_bits:.2f} of {np.log2(check.codebook_size):.2f} bits |")
    return "\n".join([*lines, "", check.verdict, ""])


def _write(
    out: Path,
    check: CodecCheck,
    sounds: Sequence[tuple[str, np.ndarray, np.ndarray]],
    rates: tuple[int, int],
    texts: Sequence[str],
    heard: Sequence[Sequence[str]],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    each: list[dict[str, Any]] = [
        {"id": id, "text": text, "heard": first, "heard_again": second}
        for (id, _, _), text, first, second in zip(sounds, texts, *heard, strict=True)
    ]
    replace_text(
        out / "codec_check.json", json.dumps(asdict(check) | {"recordings": each}, indent=2, ensure_ascii=False) + "\n"
    )
    replace_text(out / "codec_check.md", readable(check))
    for number, (_, original, again) in enumerate(sounds[:SOUNDS_WRITTEN], start=1):
        write_sound(original, out / f"{number}-recording.wav", rates[0])
        write_sound(again, out / f"{number}-resynthesis.wav", rates[1])
