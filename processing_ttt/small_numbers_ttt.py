"""
Small numbers and the signs between them in English words, for typed questions where `wetext` is not installed.

Depends on nothing. Independent of what is read aloud.
"""

import re

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_OPERATIONS = {"+": "plus", "×": "times", "*": "times", "x": "times", "÷": "divided by", "=": "equals"}
_OPERATION = re.compile(r"(?<=\d) ?([+×*x÷=]) ?(?=\d)")
# No part of a longer number, of a time or a date, of money, of a name.
_NUMBER = re.compile(r"(?<![\w.,:/$€£¥#-])(0|[1-9]\d{0,2})(?![\w/€$£¥°-]|[.,:]\d| ?%)")


def small_numbers_in_words(text: str) -> str:
    """
    Write whole numbers up to 999, and the signs of arithmetic between them, as words.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: `"What is two plus three?"` for `"What is 2+3?"`; years, dates and money stay as they are written.
    """
    text = _OPERATION.sub(lambda found: f" {_OPERATIONS[found[1]]} ", text)
    return _NUMBER.sub(lambda found: _in_words(int(found[1])), text)


def _in_words(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    words = _ONES[rest] if rest < 20 else _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    if not hundreds:
        return words
    return f"{_ONES[hundreds]} hundred" + (f" and {words}" if rest else "")
