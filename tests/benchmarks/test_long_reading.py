"""What the benchmark of a long text rests on: a word that is skipped or said twice is found."""

import sys

import pytest
from checkout import ROOT

from processing_ttt import TttWordTime

pytest.importorskip("rapidfuzz", reason="the finetune extra is not installed")
sys.path.append(str(ROOT / "benchmarks"))

import long_reading

WORDS = ("The", "shop", "opens,", "and", "closes.", "Nobody knows", "when", ".")


def times(words):
    return [TttWordTime(word, float(place), place + 1.0) for place, word in enumerate(words)]


def test_the_parts_of_a_text_are_found_by_their_words():
    parts = long_reading.parts_of("The shop opens, and closes. Nobody knows when.", times(WORDS))
    assert parts == [("The shop opens, and closes.", 0.0, 5.0), ("Nobody knows when.", 5.0, 8.0)]


@pytest.mark.parametrize("said", [WORDS[:3] + WORDS[4:], WORDS[:4] + WORDS[3:], (*WORDS, "when"), WORDS[:5]])
def test_a_word_that_is_skipped_or_said_twice_is_found(said):
    with pytest.raises(ValueError, match="times of"):
        long_reading.parts_of("The shop opens, and closes. Nobody knows when.", times(said))


def test_a_gap_between_two_parts_is_found():
    said = times(WORDS)
    said[5] = TttWordTime("Nobody knows", 5.5, 6.0)
    with pytest.raises(ValueError, match="gaps"):
        long_reading.parts_of("The shop opens, and closes. Nobody knows when.", said)


def test_a_phrase_that_a_judge_misses_or_hears_twice_is_counted():
    parts = ["The shop opens at six.", "Nobody knows when it closes."]
    whole = long_reading.judged(parts, ["The shop opens at 6", "Nobody nose when it closes."])
    assert whole["words"] == {"right": 9, "replaced": 1, "missing": 0, "too many": 0}
    skipped = long_reading.judged(parts, ["The shop at six.", "Nobody closes."])
    assert skipped["words in a row"] == {"missing": 3, "too many": 0}
    twice = long_reading.judged(parts, ["The shop opens at six, opens at six.", "Nobody knows when it closes."])
    assert twice["words in a row"] == {"missing": 0, "too many": 3}
    assert twice["transcribed words per given word"]["highest"] == 1.6
