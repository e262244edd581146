"""
A typed question as its transcript would be, with small numbers in words also where `wetext` is not installed.

Depends on `spoken_text_ttt`, which reads all other numbers. Independent of what is read aloud.
"""

import re
from importlib.util import find_spec

from .spoken_text_ttt import spoken_question

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SIGNS = {"+": "plus", "×": "times", "*": "times", "x": "times", "÷": "divided by", "=": "equals"}
_OTHERS = {"-": "minus", "−": "minus", "/": "divided by"}  # between small numbers alone: no date, no range
_SIGN = re.compile(r"(?<=\d) ?([+×*x÷=]) ?(?=\d)")
_OTHER = re.compile(r"(?<![\d/-])(\d{1,3}) ?([-−/]) ?(\d{1,3})(?![\d/-])")
# No part of a longer number, of a time or a date, of money, of a name.
_NUMBER = re.compile(r"(?<![\w.,:/$€£¥#-])(0|[1-9]\d{0,2})(?![\w/€$£¥°-]|[.,:]\d| ?%)")


def typed_question(text: str) -> str:
    """
    Write a typed English question as its transcript would be, for a model that learnt from speech.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: As `spoken_question`. Without `wetext`, only whole numbers up to 999 and the signs between them are
        words: `"What is two plus three?"` for `"what is 2+3?"`; years, dates and money stay as they are written.
    """
    return spoken_question(text if find_spec("wetext") else _small_numbers_in_words(text))


def _small_numbers_in_words(text: str) -> str:
    has_capitals_throughout = text.isupper()
    text = re.sub(r"(?<=\d) ?= ?\??$", "?", text.strip())
    text = _OTHER.sub(lambda found: f"{found[1]} {_OTHERS[found[2]]} {found[3]}", text)
    text = _SIGN.sub(lambda found: f" {_SIGNS[found[1]]} ", text)
    text = _NUMBER.sub(lambda found: _in_words(int(found[1])), text)
    return text.upper() if has_capitals_throughout else text


def _in_words(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    words = _ONES[rest] if rest < 20 else _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    if not hundreds:
        return words
    return f"{_ONES[hundreds]} hundred" + (f" and {words}" if rest else "")
