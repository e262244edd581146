"""Numbers in words, as they are spoken."""

_SMALL_NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]  # fmt: skip
NUMBER_WORDS = {*_SMALL_NUMBERS, *_TENS, "hundred"}


def number_words(number: int) -> str:
    """
    A number in words, as it is spoken.

    Args:
        number (`int`): 0 to 999.

    Returns:
        `str`: "zero" ... "twenty seven" ... "one hundred", "one hundred twenty", without hyphens.

    Raises:
        ValueError: The number is out of range.
    """
    if not 0 <= number <= 999:
        raise ValueError(f"Numbers from 0 to 999 have words here, {number} has none.")
    hundreds, rest = divmod(number, 100)
    if hundreds:
        return f"{_SMALL_NUMBERS[hundreds]} hundred" + (f" {number_words(rest)}" if rest else "")
    if number < 20:
        return _SMALL_NUMBERS[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f" {_SMALL_NUMBERS[ones]}" if ones else "")
