"""What is drawn of a reply: gathered from its events, exact in its geometry, and harmless whatever was said."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from processing_ttt import TttAudioChunk, TttBlockDraft, TttTextDelta
from spaces_demo.page.pictures import figures, shade, span_cards, timeline
from spaces_demo.page.reply_trace import ReplyTrace

MASK, END, RATE, FRAME_RATE = 99, 50, 1000, 10.0


def draft(ids, confidence=None):
    return TttBlockDraft(ids, [token_id == MASK for token_id in ids], confidence or [0.5] * len(ids))


def trace_of(*events, every=0.1, speed=1.0):
    trace = ReplyTrace(is_code=lambda token_id: token_id < END, frame_rate=FRAME_RATE, speed=speed)
    for i, event in enumerate(events):
        trace.take(event, (i + 1) * every)
    return trace


def two_spans(speed=1.0):
    """Two words with three codes in two steps, then one with two codes in a block of four whose last mask stays."""
    return trace_of(
        TttTextDelta("Two "),
        TttTextDelta("plus"),
        draft([1, MASK, 3], [0.9, 0.1, 0.7]),
        draft([1, 2, 3], [0.2, 0.4, 0.3]),
        TttAudioChunk(np.full(100, 0.5, np.float32), RATE),
        TttTextDelta(" two."),
        draft([MASK, 5, MASK, MASK]),
        draft([4, 5, END, MASK]),
        TttAudioChunk(np.full(400, 0.25, np.float32), RATE),
        speed=speed,
    )


@pytest.mark.parametrize(("speed", "until"), [(1.0, "1.30"), (2.0, "1.10"), (0.5, "1.70")])
def test_the_speed_changes_when_audio_is_played_and_not_its_places(speed, until):
    trace = two_spans(speed)
    assert [trace.begins(i) for i in (0, 1)] == [0.0, 0.3] and trace.seconds_of(1) == 0.2
    assert f"Computed in 0.80 s, played until {until} s." in timeline(trace)
    assert timeline(trace).count('data-begins="0.300" data-seconds="0.200"') == 1


def test_words_belong_to_the_audio_that_follows_them():
    trace = two_spans()
    assert [(span.words, span.num_codes) for span in trace.spans] == [("Two plus", 3), (" two.", 2)]
    assert [trace.begins(i) for i in (0, 1)] == [0.0, 0.3] and trace.seconds_of(1) == 0.2
    assert trace.text == "Two plus two." and len(trace.audio) == 500 and trace.first_audio == pytest.approx(0.5)


def test_a_position_keeps_the_confidence_it_was_revealed_with():
    block = two_spans().spans[0].blocks[0]
    assert block.revealed_at == [0, 1, 0]
    assert block.confidence == [[0.9, 0.1, 0.7], [0.9, 0.4, 0.7]]


@pytest.mark.parametrize(
    "second, num_blocks",
    [
        (draft([1, 2, MASK]), 1),  # one more is revealed
        (draft([MASK, 2, MASK]), 2),  # what was known is masked
        (draft([1, MASK, MASK, MASK]), 2),  # another length
    ],
)
def test_a_draft_goes_on_with_a_block_or_begins_the_next(second, num_blocks):
    assert len(trace_of(draft([1, MASK, MASK]), second).spans[0].blocks) == num_blocks


def test_a_block_of_one_step_is_followed_by_another():
    assert len(trace_of(draft([1, 2]), draft([1, 2])).spans[0].blocks) == 2


def test_a_card_has_a_column_for_each_position_and_a_row_for_each_step():
    card = span_cards(two_spans())[1]
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", card).group())
    squares = {
        path.get("class"): re.findall(r"M(\d+) (\d+)h", path.get("d"))
        for path in svg.iter("path")
        if path.get("class") != "wave"
    }
    # Columns 10 pixels apart: two codes and the end marker, not the mask behind it.
    assert squares == {
        "mask2": [("0", "0"), ("20", "0")],
        "code2": [("10", "0"), ("0", "10"), ("10", "10")],
        "end": [("20", "10")],
    }
    assert 'data-begins="0.300" data-seconds="0.200"' in card
    assert "2 codes, 0.20 s of audio, denoised in 2 steps" in card


def test_finished_cards_stay_as_they_are_while_the_reply_goes_on():
    trace = two_spans()
    before = span_cards(trace)
    trace.take(TttTextDelta(" Three."), 2.0)
    assert span_cards(trace)[:2] == before


def test_a_wave_is_as_high_as_the_audio_and_waits_for_it():
    wave = re.search('class="wave" d="([^"]*)"', span_cards(two_spans())[0]).group(1)
    heights = [float(low) - float(high) for high, low in re.findall(r" ([\d.]+)V([\d.]+)", wave)]
    assert len(heights) == 6  # two for each code; 0.5 until 0.1 s, 0.25 after it, the root of it, of a height of 34
    assert heights == pytest.approx([24, 24, 17, 17, 17, 17], abs=0.11)
    assert "wave" not in span_cards(trace_of(TttTextDelta("a"), draft([1, 2])))[0]


def test_the_timeline_puts_words_over_their_audio():
    svg = ElementTree.fromstring(timeline(two_spans()))
    # Computed until 0.8 s. The first 0.1 s of audio comes at 0.5 s; the rest, which comes at 0.9 s, cannot be played
    # before that.
    computed = [(rect.get("class"), rect.get("x"), rect.get("width")) for rect in svg if rect.tag == "rect"]
    assert computed == [
        ("writes", "0.00%", "15.38%"),
        ("denoises", "15.38%", "15.38%"),
        ("writes", "30.77%", "15.38%"),
        ("denoises", "46.15%", "15.38%"),
    ]
    played = [
        (next(group.iter("text")).text, group.find("rect").get("x"), group.find("rect").get("width"))
        for group in svg.iter("g")
        if group.get("class") == "played"
    ]
    assert played == [("Two plus", "38.46%", "23.08%"), ("two.", "84.62%", "15.38%")]


def test_no_line_of_the_timeline_runs_through_a_word():
    svg = ElementTree.fromstring(timeline(two_spans()))
    lower, upper = [group for group in svg.iter("g") if group.get("class") == "played"]
    assert "stroke-dasharray" not in lower.find("line").attrib  # nothing is below it
    line = upper.find("line")
    drawn, gap, rest = map(int, line.get("stroke-dasharray").split())
    begin, baseline = int(line.get("y1")) + drawn, int(next(lower.iter("text")).get("y"))
    assert begin <= baseline - 13 and begin + gap >= baseline + 3  # letters of 13 pixels
    assert begin + gap + rest >= int(line.get("y2"))


def test_words_at_the_end_of_the_timeline_end_with_it():
    trace = trace_of(TttTextDelta("Wednesday"), draft([1]), TttAudioChunk(np.zeros(100, np.float32), RATE), every=1.0)
    (label,) = [text for text in ElementTree.fromstring(timeline(trace)).iter("text") if text.text == "Wednesday"]
    assert (label.get("x"), label.get("text-anchor")) == ("100%", "end")


def test_audio_is_played_when_it_has_come_and_all_before_it_was_played():
    # 0.2 s every 0.1 s: each waits for the one before
    trace = trace_of(*[TttAudioChunk(np.zeros(200, np.float32), RATE)] * 3, every=0.1)
    assert [trace.played_at(place) for place in (0.0, 0.1, 0.2, 0.5)] == pytest.approx([0.1, 0.2, 0.3, 0.6])
    late = trace_of(*[TttAudioChunk(np.zeros(200, np.float32), RATE)] * 2, every=1.0)
    assert late.played_at(0.3) == pytest.approx(2.1)


def test_nothing_is_drawn_of_nothing():
    assert span_cards(trace_of()) == [] and timeline(trace_of()) == ""


def test_what_is_said_is_text_in_every_picture():
    evil = "<script>alert(1)</script>\"'&{{value}}${1}"
    trace = trace_of(TttTextDelta(evil), draft([1, 2]))
    for picture in (*span_cards(trace), timeline(trace)):
        assert "<script" not in picture and "&lt;script&gt;" in picture
        ElementTree.fromstring(picture)


@pytest.mark.parametrize("confidence, expected", [(0.0, 0), (0.19, 0), (0.2, 1), (0.99, 4), (1.0, 4)])
def test_five_shades_of_confidence(confidence, expected):
    assert shade(confidence) == expected


def test_figures_are_said_or_a_dash():
    assert "<dd>92<small>ms</small></dd>" in figures(first_audio=0.0921)
    assert figures().count("–") == 3
