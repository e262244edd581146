"""What is written in digits and signs is read in words; everything else stays as it is."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing_ttt import spoken_text_ttt
from processing_ttt.spoken_text_ttt import spoken_question, spoken_text


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Dr. Smith has 3 cats.", "doctor Smith has three cats."),
        ("It costs $3.50.", "It costs three dollars and fifty cents."),
        ("Born in 1999, 15% off!", "Born in nineteen ninety nine, fifteen percent off!"),
        ("The 3rd of 12 at 4:30 pm.", "The third of twelve at four thirty PM."),
        ("What is 7+5?", "What is seven plus five?"),
        ("It costs 6€.", "It costs six euros."),
        ("7×8 and 8÷2", "seven times eight and eight divided by two"),
        ("Rooms #3, 4+ and [5]", "Rooms number three, four plus and [five]"),
        ("café 3é", "café threeé"),
    ],
)
def test_digits_signs_and_abbreviations_become_words(written, spoken):
    pytest.importorskip("wetext")
    assert spoken_text(written) == spoken_text(written, "en-US") == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It is 3.\n\nYou go.\r\nNow. 4", "It is three.\n\nYou go.\nNow. four"),
        ("  It\tis  3 ", "It is three"),
        ("a\u00a0\u2009b\0 3", "a b three"),
        ('He said "3" or \\ 4.', 'He said "three" or \\ four.'),
    ],
)
def test_lines_spaces_and_quotation_marks_stay(written, spoken):
    pytest.importorskip("wetext")
    assert spoken_text(written) == spoken


@pytest.mark.parametrize(
    ("typed", "spoken"),
    [
        ("what is 2+3?", "What is two plus three?"),
        ("12-5?", "Twelve minus five?"),
        ("10 / 2 = ?", "Ten divided by two?"),
        ("7 x 8", "Seven times eight"),
        ("7×8 = ?", "Seven times eight?"),
        ("WHAT IS 2 PLUS 2", "What is two plus two"),
        ("WHAT IS THE CAPITAL OF ITALY", "What is the capital of italy"),
        ("OK", "OK"),
        ("Hello.", "Hello."),
        ("on 2026-11-29", "On the twenty ninth of november twenty twenty six"),
        ("", ""),
    ],
)
def test_a_typed_question_becomes_what_its_transcript_would_be(typed, spoken):
    pytest.importorskip("wetext")
    assert spoken_question(typed) == spoken


@given(text=st.text("0123456789+-×÷/=%$€£¥&@°§#.,:'[] abZ漢é²🙂", max_size=12))
def test_no_text_is_too_odd_and_no_digit_is_left(text):
    pytest.importorskip("wetext")
    assert not re.search("[0-9]", spoken_text(text))


@pytest.mark.parametrize("text", ["I'm fine, thank you.", "  It's  a - test:  ", "", "Straße 5"])
def test_words_and_other_languages_stay_as_they_are(text):
    assert spoken_text(text, "de") == text
    assert spoken_text(text) == text or "5" in text


def test_without_the_library_a_text_stays_as_it_is_and_one_warning_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wetext", None)
    spoken_text_ttt._normalizer.cache_clear()
    assert spoken_text("three cats") == "three cats"
    with pytest.warns(UserWarning, match=r"text-to-talk\[numbers\]") as warned:
        assert spoken_text("3 cats") == "3 cats" and spoken_text("4 cats") == "4 cats"
    assert len(warned) == 1
    spoken_text_ttt._normalizer.cache_clear()
