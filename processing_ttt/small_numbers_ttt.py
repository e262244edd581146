"""
Small numbers and the signs between them in English words, for typed questions where `wetext` is not installed.

Depends on nothing. Independent of what is read aloud.
"""

import re

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
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
    return _NUMBER.sub(lambda found: number_in_words(int(found[1])), text)


def number_in_words(number: int) -> str:
    """
    Write a number as `wetext` reads it.

    Args:
        number (`int`): 0 to 999.

    Returns:
        `str`: "zero" ... "twenty seven" ... "one hundred", "one hundred and twenty", without hyphens.
    """
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    words = ONES[rest] if rest < 20 else TENS[tens - 2] + (f" {ONES[ones]}" if ones else "")
    if not hundreds:
        return words
    return f"{ONES[hundreds]} hundred" + (f" and {words}" if rest else "")
