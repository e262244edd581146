"""
Write numbers, dates, money and abbreviations as words, as they are read aloud.

Depends on `wetext`, with the rules of WeTextProcessing: `pip install "text-to-talk[numbers]"`.
"""

import re
import warnings
from functools import lru_cache
from typing import Any

# Text that is not read as it is written: digits, signs between words, and abbreviations.
_WRITTEN_FORM = re.compile(r"[\d$€£¥%&@+=°§#]|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|approx|No)\.")
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
    return "\n".join(_spoken_line(line, normalizer) for line in text.splitlines())


def _spoken_line(line: str, normalizer: Any) -> str:
    """Write a line as it is read: `wetext` drops ends of lines, fails at two spaces, and escapes quotation marks."""
    if not _WRITTEN_FORM.search(line):
        return line
    return _ESCAPED.sub(r"\1", normalizer.normalize(" ".join(line.replace("\0", " ").split())))


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
