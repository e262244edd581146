"""
What the frozen codec preserves of real speech: an upper limit for any model trained on its codes.

    recording -> codes -> audio again; a judge transcribes both, and is compared with the transcript

A model's audio goes through its codec's encoder on the way in, and through its decoder on the way out. So its speech in
a language cannot be more intelligible than the codec's resynthesis of a person, and what the codec drops never reaches
the model.

A judge that does not support the language cannot measure that, but it can still compare: the similarity of its
transcripts of recording and resynthesis is 1 if they are the same, and 0 if they are no more similar than those of two
different recordings.

Depends on the codec, a judge and texts. Independent of training.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from finetune.data.encoding import encode_waveforms
from finetune.data.record_maker import Draft, Limits, Problem, RecordMaker
from finetune.data.schema import replace_text
from finetune.data.sources import Source
from finetune.progress import progress_bar
from processing_ttt import TttProcessor
from processing_ttt.audio_output_ttt import write_audio

from .codec_measures import code_usage, mel_distance, transcript_similarity
from .judges import Judge
from .metrics import ErrorRates, error_rates, normalise

FILES_WRITTEN = 5
JUDGED_AT_ONCE = 8
SCAN = 20  # recordings looked at for each one that is wanted

# Normalised character error rates. A judge above the first understands too little; the others grade the errors that
# the codec adds.
JUDGE_FAILS, KEEPS, LOSES, RUINS = 0.5, 0.02, 0.10, 0.30
ALIKE_KEEPS, ALIKE_LOSES, ALIKE_RUINS = 0.95, 0.85, 0.65


@dataclass(frozen=True)
class CodecCheck:
    """
    The measurements.

    Args:
        codec (`str`): Name of the codec's checkpoint.
        judge (`str`): Name of the judge.
        count (`int`): Recordings.
        seconds (`float`): Their length together.
        original (`ErrorRates`, *optional*): The judge on the recordings; `None` if it does not support the
            language.
        resynthesis (`ErrorRates`, *optional*): The judge on their resynthesis.
        transcript_similarity (`float`): From 0 to 1, see above.
        mel_distance_db (`float`): Mean absolute difference of the log-mel spectra, levels matched, in dB.
        codes_used (`int`): Different codes that occurred ...
        codebook_size (`int`): ... out of so many.
        entropy_bits (`float`): Of the distribution of single codes.
        verdict (`str`): The result in words.
    """

    codec: str
    judge: str
    count: int
    seconds: float
    original: ErrorRates | None
    resynthesis: ErrorRates | None
    transcript_similarity: float
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
        limits ([`Limits`], *optional*): Which can be used, and the language of those without one.
        out (`Path`, *optional*): Folder for `codec_check.json`, `codec_check.md` and some audio to listen to.
        codec (`str`, *optional*): Name for the report.

    Returns:
        [`CodecCheck`]

    Raises:
        ValueError: If no recording can be used.
    """
    record_maker = RecordMaker(processor, limits or Limits())
    drafts = _recordings(source, record_maker, count)
    recordings = [draft.waveforms["codes"] for draft in drafts]
    rates = processor.codec_config.sampling_rate, processor.codec_config.output_sampling_rate
    codes, resynthesis = _resynthesised(processor, recordings)
    language = drafts[0].record["language"]
    is_supported = judge.supports(language)
    transcripts = [
        _transcribe(judge, waveforms, rate, language if is_supported else None)
        for waveforms, rate in zip((recordings, resynthesis), rates, strict=True)
    ]
    texts = [draft.record["text"] or "" for draft in drafts]
    original, again = (error_rates(texts, side, language) for side in transcripts) if is_supported else (None, None)
    alike = transcript_similarity(*([normalise(text, language) for text in side] for side in transcripts))
    distances = [
        mel_distance(one, rates[0], other, rates[1]) for one, other in zip(recordings, resynthesis, strict=True)
    ]
    used, entropy = code_usage(codes)
    check = CodecCheck(
        codec=codec or processor.codec_name_or_path,
        judge=judge.name,
        count=len(recordings),
        seconds=sum(map(len, recordings)) / rates[0],
        original=original,
        resynthesis=again,
        transcript_similarity=alike,
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
            [
                (draft.record["id"], one, other)
                for draft, one, other in zip(drafts, recordings, resynthesis, strict=True)
            ],
            rates,
            texts,
            transcripts,
        )
    return check


def _resynthesised(
    processor: TttProcessor, recordings: Sequence[np.ndarray]
) -> tuple[list[list[int]], list[np.ndarray]]:
    """Codes of recordings, and the audio of the codes."""
    codes: list[list[int]] = []
    resynthesis: list[np.ndarray] = []
    for waveform in progress_bar(recordings, desc="resynthesise", unit="recording"):
        encoded = encode_waveforms(processor, [waveform], 1)[0]
        if isinstance(encoded, Exception):
            raise encoded
        codes.append(encoded)
        resynthesis.append(processor.decode_codes(encoded))
    return codes, resynthesis


def _transcribe(judge: Judge, waveforms: Sequence[np.ndarray], rate: int, language: str | None) -> list[str]:
    transcripts: list[str] = []
    with progress_bar(total=len(waveforms), desc=f"{judge.name} transcribes", unit="recording") as progress:
        for start in range(0, len(waveforms), JUDGED_AT_ONCE):
            transcripts += judge.transcribe(waveforms[start : start + JUDGED_AT_ONCE], rate, language)
            progress.update(len(transcripts) - progress.n)
    return transcripts


def _recordings(source: Source, record_maker: RecordMaker, count: int) -> list[Draft]:
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
            drafts.append(record_maker.read(items[position]))
        except Problem as problem:
            problems.append(problem)
    if not drafts:
        why = f" (the first: {problems[0].reason}, {problems[0].detail})" if problems else ""
        raise ValueError(f"{source.name!r} has no recording with a transcript that can be used{why}.")
    return drafts


# -------------------------------------------------------------------------------------------------------- what it means


def verdict(original: ErrorRates | None, resynthesis: ErrorRates | None, alike: float, judge: str) -> str:
    """
    Write what the numbers mean for training.

    Args:
        original (`ErrorRates`, *optional*): The judge on the recordings.
        resynthesis (`ErrorRates`, *optional*): The judge on their resynthesis.
        alike (`float`): Similarity of its transcripts of both.
        judge (`str`): Its name.

    Returns:
        `str`: Some sentences.
    """
    own = (
        " This judge encodes the recordings with the same codec, so it misses what the codec drops from them."
        if judge == "model"
        else ""
    )
    if original is None or resynthesis is None or original.cer > JUDGE_FAILS:
        why = (
            "does not support the language"
            if original is None
            else f"gets {original.cer:.0%} of the characters of the recordings themselves wrong"
        )
        graded = _graded(-alike, (-ALIKE_KEEPS, -ALIKE_LOSES, -ALIKE_RUINS))
        return (
            f"No ceiling could be measured: {judge} {why}. Choose a judge that supports the language (--judge with "
            f"a speech recognition model). Its transcripts of recording and resynthesis are {alike:.0%} similar, which "
            f"is weak evidence: {graded}.{own}"
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
        lines += ["| audio | WER | CER | WER, raw | CER, raw |", "|---|---|---|---|---|"]
        for name, side in (("recording", check.original), ("resynthesis", check.resynthesis)):
            lines.append(f"| {name} | {side.wer:.3f} | {side.cer:.3f} | {side.raw_wer:.3f} | {side.raw_cer:.3f} |")
        lines.append("")
    lines += ["| what | measured |", "|---|---|"]
    lines.append(
        "| similarity of transcripts, recording and resynthesis (1: the same, 0: as two different recordings) | "
        f"{check.transcript_similarity:.3f} |"
    )
    lines.append(f"| mel distance | {check.mel_distance_db:.1f} dB |")
    lines.append(f"| codes used | {check.codes_used} of {check.codebook_size} |")
    lines.append(f"| entropy of a code | {check.entropy_bits:.2f} of {np.log2(check.codebook_size):.2f} bits |")
    return "\n".join([*lines, "", check.verdict, ""])


def _write(
    out: Path,
    check: CodecCheck,
    audio: Sequence[tuple[str, np.ndarray, np.ndarray]],
    rates: tuple[int, int],
    texts: Sequence[str],
    transcripts: Sequence[Sequence[str]],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    each: list[dict[str, Any]] = [
        {"id": id, "text": text, "transcript": first, "transcript_of_resynthesis": second}
        for (id, _, _), text, first, second in zip(audio, texts, *transcripts, strict=True)
    ]
    replace_text(
        out / "codec_check.json", json.dumps(asdict(check) | {"recordings": each}, indent=2, ensure_ascii=False) + "\n"
    )
    replace_text(out / "codec_check.md", readable(check))
    for number, (_, original, again) in enumerate(audio[:FILES_WRITTEN], start=1):
        write_audio(original, out / f"{number}-recording.wav", rates[0])
        write_audio(again, out / f"{number}-resynthesis.wav", rates[1])
