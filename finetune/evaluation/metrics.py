"""
Error rates of transcripts, raw and normalised as Whisper's papers do.

Depends on texts and languages alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import jiwer
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from finetune.data.languages import base_language

# Written without spaces between words: a word error rate counts characters there.
UNSPACED = ("zh", "cmn", "yue", "ja", "th", "lo", "km", "my", "bo")


@dataclass(frozen=True)
class ErrorRates:
    """
    How far transcripts are from their references, over all of them: errors per word and per character of the
    references.

    Args:
        wer (`float`): Word errors after normalisation (no case, no punctuation; in English also numbers and
            contractions).
        cer (`float`): Character errors after normalisation.
        raw_wer (`float`): Word errors of the texts as they are.
        raw_cer (`float`): Character errors of the texts as they are.
        exact (`float`): Share of texts that are right after normalisation.
        count (`int`): Texts that were compared.
    """

    wer: float
    cer: float
    raw_wer: float
    raw_cer: float
    exact: float
    count: int

    def as_dict(self) -> dict[str, float]:
        """Give the numbers by name."""
        return asdict(self)


def normalise(text: str, language: str | None = None) -> str:
    """
    Write a text as Whisper's evaluation does.

    Args:
        text (`str`): Any text.
        language (`str`, *optional*): Tag of its language, as `en` or `zh-TW`. English has a normaliser of its own;
            British spellings stay as they are, because the table for them is not part of transformers.

    Returns:
        `str`: Lower-case words without punctuation; single characters in languages without spaces.
    """
    base = base_language(language)
    if base == "en":
        return EnglishTextNormalizer({})(text).strip()
    return BasicTextNormalizer(split_letters=base in UNSPACED)(text).strip()


def error_rates(
    references: Sequence[str], transcripts: Sequence[str], language: str | Sequence[str | None] | None = None
) -> ErrorRates:
    """
    Compare transcripts with their references.

    Args:
        references (`Sequence[str]`): The right texts. One that holds no word after normalisation is left out.
        transcripts (`Sequence[str]`): In the same order.
        language (`str` or `Sequence[str]`, *optional*): Tag of the language, or of each text's.

    Returns:
        `ErrorRates`: Over all texts.

    Raises:
        ValueError: If there is no reference to compare with.
    """
    languages = [language] * len(references) if language is None or isinstance(language, str) else language
    pairs = [
        (reference, text, normalise(reference, tag), normalise(text, tag))
        for reference, text, tag in zip(references, transcripts, languages, strict=True)
    ]
    pairs = [pair for pair in pairs if pair[2]]
    if not pairs:
        raise ValueError("There are no reference texts to compare with.")
    raw_references, raw_transcripts, plain_references, plain_transcripts = map(list, zip(*pairs, strict=True))
    return ErrorRates(
        wer=jiwer.wer(plain_references, plain_transcripts),
        cer=jiwer.cer(plain_references, plain_transcripts),
        raw_wer=jiwer.wer(raw_references, raw_transcripts),
        raw_cer=jiwer.cer(raw_references, raw_transcripts),
        exact=sum(reference == text for reference, text in zip(plain_references, plain_transcripts, strict=True))
        / len(pairs),
        count=len(pairs),
    )
