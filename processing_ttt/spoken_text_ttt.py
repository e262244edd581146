"""
Write numbers, dates, money and abbreviations as words, as they are read aloud.

Depends on `wetext`, with the rules of WeTextProcessing: `pip install "text-to-talk[numbers]"`.
"""

import re
import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from .english_forms_ttt import readable_english
from .small_numbers_ttt import small_numbers_in_words

# Text that is not read as it is written: digits, signs between words, and abbreviations.
_WRITTEN_FORM = re.compile(
    r"[\d$€£¥%&@+=°§#×÷¼-¾⅐-⅞]|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|approx|No|e\. ?g|i\. ?e)\.|\b(?:[A-Z]\.){2}"
)
# In a question, small numbers around a dash or a slash are arithmetic; in other text they are a range or a fraction.
_ARITHMETIC = re.compile(r"(?<![\d/-])(\d{1,3}) ?([-−/]) ?(\d{1,3})(?![\d/-])")
_OPERATIONS = {"-": "minus", "−": "minus", "/": "divided by"}
# What `wetext` does not read in any language, in forms that it reads.
_REWRITTEN = (
    (re.compile(r"(\d+(?:[.,]\d+)*) ?([$€£¥])(?!\d)"), r"\2\1"),
    (re.compile(r"([@§])(?=\d)"), r"\1 "),
)
_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*|\D+")
_ESCAPED = re.compile(r"\\([\"\\])")
LANGUAGES = ("en", "zh", "ja")  # with rules in `wetext`


def spoken_text(text: str, language: str | None = None) -> str:
    """
    Write a text as it is read aloud.

    Args:
        text (`str`): Any text.
        language (`str`, *optional*): Its language tag; English by default.

    Returns:
        `str`: `"doctor Smith has three cats."` for `"Dr. Smith has 3 cats."`. A text of words and punctuation stays as
        it is, and so does any text in a language without rules or where `wetext` is not installed.
    """
    language = (language or "en").partition("-")[0].lower()
    if language not in LANGUAGES or not _WRITTEN_FORM.search(text):
        return text
    normalizer = _normalizer(language)
    if normalizer is None:
        return text
    return "\n".join(_spoken_line(line, normalizer, language) for line in text.splitlines())


def spoken_question(text: str) -> str:
    """
    Write a typed English question as its transcript would be, for a model that learnt from speech.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: As `spoken_text`, without capitals throughout, and with a first letter that is one: `"What is two plus
        three?"` for `"what is 2+3?"`, `"Twelve minus five?"` for `"12-5=?"`, `"What is up"` for `"WHAT IS UP"`. Without
        `wetext`, whole numbers up to 999 and the signs between them are words, and all others stay.
    """
    text = re.sub(r"(?<=\d) ?= ?\??$", "?", text.strip())
    text = _ARITHMETIC.sub(lambda found: f"{found[1]} {_OPERATIONS[found[2]]} {found[3]}", text)
    if text.isupper() and len(text.split()) > 1:
        text = text.lower()
    text = spoken_text(text if find_spec("wetext") else small_numbers_in_words(text))
    return text[:1].upper() + text[1:]


def _spoken_line(line: str, normalizer: Any, language: str) -> str:
    """Write a line as it is read: `wetext` drops ends of lines, fails at two spaces, and escapes quotation marks."""
    if not _WRITTEN_FORM.search(line):
        return line
    for written, readable in _REWRITTEN:
        line = written.sub(readable, line)
    if language == "en":
        line = readable_english(line)
    words = line.replace("\0", " ").split()
    spoken = _read(" ".join(words), normalizer)
    if spoken is None:
        spoken = " ".join(_spoken_word(word, normalizer) for word in words)
    return spoken.replace("No .", "No.")  # see `readable_english`


def _spoken_word(word: str, normalizer: Any) -> str:
    """Write a word as it is read; where `wetext` has no reading for the whole word, of its numbers alone."""
    if (spoken := _read(word, normalizer)) is not None:
        return spoken
    parts: list[str] = _NUMBERS.findall(word)
    return "".join(_read(part, normalizer) or part for part in parts)


def _read(text: str, normalizer: Any) -> str | None:
    """Call `wetext`, which fails where it has no reading for a part of the text: then `None`."""
    try:
        return _ESCAPED.sub(r"\1", normalizer.normalize(text))
    except AssertionError:
        return None


@lru_cache(maxsize=len(LANGUAGES))
def _normalizer(language: str) -> Any:
    try:
        from wetext import Normalizer
    except ImportError:
        warnings.warn(
            "Numbers, signs and abbreviations are read as they are written; as words with `pip install "
            '"text-to-talk[numbers]"`.',
            stacklevel=3,
        )
        return None
    return Normalizer(lang=language, operator="tn")
