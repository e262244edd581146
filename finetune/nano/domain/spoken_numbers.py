"""Numbers in words, as they are spoken."""

from processing_ttt.small_numbers_ttt import ONES, TENS, number_in_words

NUMBER_WORDS = {*ONES, *TENS, "hundred"}


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
    return number_in_words(number).replace(" and ", " ")
