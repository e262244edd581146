"""Typed questions where no library for numbers is installed."""

import sys
import warnings

import pytest

from processing_ttt import spoken_text_ttt
from processing_ttt.spoken_text_ttt import spoken_question

SMALL = [
    "7+5", "what is 2+3?", "12-5=?", "10 / 2 = ?", "7 x 8", "7*8", "7×8 = ?", "8÷2", "2+3+4", "4 + 4 = 8", "Hello.", "",
    "WHAT IS 2 PLUS 2", "I am 5.", "Is it 3, 4 or 5?", "(2+3)", "What is 100 - 1?", "3 − 2", "room 101",
]  # fmt: skip


@pytest.fixture
def without_wetext(monkeypatch):
    def hide():
        monkeypatch.setitem(sys.modules, "wetext", None)
        spoken_text_ttt._normalizer.cache_clear()

    yield hide
    spoken_text_ttt._normalizer.cache_clear()


def test_small_numbers_and_signs_are_read_as_the_library_reads_them_and_without_a_warning(without_wetext):
    pytest.importorskip("wetext")
    texts = SMALL + [f"What is {number}?" for number in range(1000)]
    read = {text: spoken_question(text) for text in texts}
    without_wetext()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {text: spoken_question(text) for text in texts} == read


@pytest.mark.parametrize("text", ["In 1984", "$5", "3.5", "1,234", "At 5:30", "15%", "2nd", "2026-11-29", "007"])
def test_other_numbers_stay_and_a_warning_says_what_reads_them(without_wetext, text):
    without_wetext()
    with pytest.warns(UserWarning, match=r"text-to-talk\[numbers\]"):
        assert spoken_question(text) == text
