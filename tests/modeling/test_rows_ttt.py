import pytest
import torch
from modeling_fixtures import (
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    END,
    END_LAST,
    END_USER,
    FIRST_WORD,
    MASK,
    tiny_config,
)

from modeling_ttt.rows_ttt import DecodingPlan, open_rows

CONFIG = tiny_config()
WORD, CODE = FIRST_WORD, CODE_0 + 3


def row_after(*prompt, max_new_tokens=20, block_length=4, denoising_steps=2, max_span_length=None, first=None):
    plan = DecodingPlan(max_new_tokens, block_length, denoising_steps, max_span_length, first)
    return open_rows([torch.tensor(prompt)], [0], CONFIG, plan)[1][0]


def speak(row, *block):
    """Open a block and let the model's answer be `block`."""
    row.open_block()
    assert row.block_length == len(block)
    row.buffer[row.length : row.end] = torch.tensor(block)
    return row.close_block()


# ------------------------------------------------------------------------------------------------- how a prompt leaves off


@pytest.mark.parametrize(
    ("prompt", "span_start"),
    [
        ([WORD], None),
        ([WORD, BEGIN], 2),
        ([WORD, BEGIN_LAST], 2),
        ([WORD, BEGIN, CODE, CODE], 2),
        ([WORD, BEGIN, CODE, END], None),
        ([WORD, BEGIN, CODE, END_LAST], None),
        ([WORD, BEGIN, END], None),
        ([WORD, BEGIN, CODE, END, WORD], None),
        ([WORD, BEGIN, CODE, CODE, END_USER], None),
        ([BEGIN], 1),
    ],
)
def test_a_prompt_leaves_off_in_text_or_in_an_open_span(prompt, span_start):
    assert row_after(*prompt).span_start == span_start


# ----------------------------------------------------------------------------------------------------------- text and spans


def test_a_word_is_appended_and_only_a_begin_marker_opens_a_span():
    row = row_after(WORD)
    row.write(WORD)
    assert (row.span_start, row.num_new_tokens) == (None, 1)
    row.write(BEGIN)
    assert (row.span_start, row.num_new_tokens) == (3, 2)
    assert row.ids.tolist() == [WORD, WORD, BEGIN]


def test_a_block_is_masks_behind_the_span_with_its_schedule():
    row = row_after(WORD, BEGIN, block_length=5, denoising_steps=2)
    row.open_block()
    assert row.buffer[row.length : row.end].tolist() == [MASK] * 5
    assert row.schedule == [3, 2]
    assert row.ids.tolist() == [WORD, BEGIN], "masks are not final"


def test_a_block_without_an_end_marker_is_kept_whole_and_the_span_stays_open():
    row = row_after(WORD, BEGIN)
    assert speak(row, CODE, CODE, CODE, CODE) == [[CODE] * 4]
    assert row.span_start == 2
    assert speak(row, CODE, END, CODE, CODE) == [[CODE, END]]
    assert row.span_start is None
    assert row.ids.tolist() == [WORD, BEGIN, CODE, CODE, CODE, CODE, CODE, END]


def test_a_block_is_cut_after_the_first_of_several_end_markers():
    row = row_after(WORD, BEGIN)
    assert speak(row, CODE, END_LAST, END, CODE) == [[CODE, END_LAST]]
    assert row.span_start is None


@pytest.mark.parametrize("begin", [BEGIN, BEGIN_LAST])
@pytest.mark.parametrize("end", [END, END_LAST])
def test_either_end_marker_closes_any_span(begin, end):
    row = row_after(WORD, begin)
    assert speak(row, end, CODE, CODE, CODE) == [[end]]
    assert row.span_start is None


# ------------------------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(("begin", "end"), [(BEGIN, END), (BEGIN_LAST, END_LAST)])
def test_a_full_span_is_closed_with_the_marker_of_its_begin(begin, end):
    row = row_after(WORD, begin, max_span_length=4)
    assert speak(row, CODE, CODE, CODE, CODE) == [[CODE] * 4, [end]]
    assert row.span_start is None
    assert row.num_new_tokens == 5


def test_a_generated_end_marker_counts_to_the_span_and_none_is_appended_then():
    row = row_after(WORD, BEGIN, max_span_length=4)
    assert speak(row, CODE, CODE, CODE, END) == [[CODE, CODE, CODE, END]]
    assert row.span_start is None


def test_a_block_is_shortened_to_what_is_left_of_the_span():
    row = row_after(WORD, BEGIN, max_span_length=6)
    speak(row, CODE, CODE, CODE, CODE)
    assert speak(row, CODE, CODE) == [[CODE] * 2, [END]]


def test_what_the_prompt_has_of_the_span_counts_to_its_length():
    row = row_after(WORD, BEGIN, CODE, CODE, max_span_length=5)
    assert speak(row, CODE, CODE, CODE) == [[CODE] * 3, [END]]


@pytest.mark.parametrize("sounds", [3, 5])
def test_a_span_that_the_prompt_has_filled_is_closed_at_once(sounds):
    row = row_after(WORD, BEGIN_LAST, *[CODE] * sounds, max_span_length=3)
    row.open_block()
    assert row.block_length == 0
    assert row.close_block() == [[END_LAST]]
    assert row.span_start is None


def test_a_block_is_shortened_to_what_is_left_of_the_reply():
    row = row_after(WORD, BEGIN, max_new_tokens=6)
    speak(row, CODE, CODE, CODE, CODE)
    assert speak(row, CODE, CODE) == [[CODE] * 2]
    assert row.num_new_tokens == 6


def test_no_end_marker_is_appended_where_the_reply_has_no_room():
    row = row_after(WORD, BEGIN, max_new_tokens=4, max_span_length=4)
    assert speak(row, CODE, CODE, CODE, CODE) == [[CODE] * 4]
    assert row.num_new_tokens == 4


# ------------------------------------------------------------------------------------------------------- what may be cached


def test_everything_up_to_the_begin_marker_is_final_while_the_row_speaks():
    row = row_after(WORD, WORD, BEGIN, CODE)
    assert row.num_to_commit == 3
    row.committed = 3
    row.open_block()
    assert row.num_to_commit == 0


def test_a_closed_span_is_final_as_a_whole():
    row = row_after(WORD, BEGIN)
    row.committed = 2
    speak(row, CODE, CODE, END, CODE)
    assert row.num_to_commit == 3


def test_rows_share_one_buffer_that_holds_the_longest_reply():
    plan = DecodingPlan(7, 4, 2, None)
    buffer, rows = open_rows([torch.tensor([WORD] * 3), torch.tensor([WORD])], [0, 0], CONFIG, plan)
    assert buffer.shape == (2, 10)
    rows[1].write(FIRST_WORD + 1)
    assert buffer[1, :2].tolist() == [WORD, FIRST_WORD + 1]
    assert [row.prompt_length for row in rows] == [3, 1]


def test_only_the_first_block_of_a_reply_has_its_own_length():
    row = row_after(WORD, BEGIN, first=2)
    speak(row, CODE, CODE)
    speak(row, CODE, END, CODE, CODE)
    row.write(BEGIN)
    speak(row, CODE, CODE, CODE, CODE)
