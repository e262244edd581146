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

from modeling_ttt.decoding_state_ttt import DecodingPlan, open_states

MARKERS = tiny_config().markers()
WORD, CODE = FIRST_WORD, CODE_0 + 3


def state_after(*prompt, max_new_tokens=20, block_length=4, denoising_steps=2, max_span_length=None, first=None):
    plan = DecodingPlan(max_new_tokens, block_length, denoising_steps, max_span_length, first)
    return open_states([torch.tensor(prompt)], [0], MARKERS, plan)[1][0]


def speak(state, *block):
    """Open a block and let the model's answer be `block`."""
    state.open_block()
    assert state.block_length == len(block)
    state.update_block(torch.tensor(block), torch.ones(len(block)))
    return state.close_block()


def test_proposed_text_is_followed_by_the_block_that_will_be_opened():
    state = state_after(WORD, max_new_tokens=9, first=3)
    state.propose_text([WORD, BEGIN])
    assert state.buffer[: state.draft_end].tolist() == [WORD, WORD, BEGIN, MASK, MASK, MASK]
    assert (state.final_length, state.num_new_tokens, state.draft_length, state.query_length) == (1, 0, 5, 6)
    assert state.num_cacheable == 1 and not state.in_span
    for token_id in state.proposal:
        state.append_text(token_id)
    state.open_block()
    assert state.block.tolist() == [MASK] * 3 and state.draft_end == 6
    state.update_block(torch.tensor([CODE, CODE, END]), torch.ones(3))
    state.close_block()
    state.propose_text([WORD, BEGIN])  # room for two masks
    assert state.buffer[6 : state.draft_end].tolist() == [WORD, BEGIN, MASK, MASK]
    state.final_length = state.draft_end = 6
    state.propose_text([WORD, WORD, WORD, BEGIN])  # and none for these
    assert state.proposal == [] and state.draft_length == 0


# ---------------------------------------------------------------------------------------------- how a prompt leaves off


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
    assert state_after(*prompt).span_start == span_start


# ------------------------------------------------------------------------------------------------------- text and spans


def test_a_word_is_appended_and_only_a_begin_marker_opens_a_span():
    state = state_after(WORD)
    state.append_text(WORD)
    assert (state.span_start, state.num_new_tokens) == (None, 1)
    state.append_text(BEGIN)
    assert (state.span_start, state.num_new_tokens) == (3, 2)
    assert state.buffer[: state.final_length].tolist() == [WORD, WORD, BEGIN]


def test_a_block_is_masks_behind_the_span_with_its_schedule():
    state = state_after(WORD, BEGIN, block_length=5, denoising_steps=2)
    state.open_block()
    assert state.block.tolist() == [MASK] * 5
    assert state.schedule == [3, 2]
    assert state.buffer[: state.final_length].tolist() == [WORD, BEGIN], "masks are not final"


def test_a_block_without_an_end_marker_is_kept_whole_and_the_span_stays_open():
    state = state_after(WORD, BEGIN)
    assert speak(state, CODE, CODE, CODE, CODE) == [[CODE] * 4]
    assert state.span_start == 2
    assert speak(state, CODE, END, CODE, CODE) == [[CODE, END]]
    assert state.span_start is None
    assert state.buffer[: state.final_length].tolist() == [WORD, BEGIN, CODE, CODE, CODE, CODE, CODE, END]


def test_a_block_is_cut_after_the_first_of_several_end_markers():
    state = state_after(WORD, BEGIN)
    assert speak(state, CODE, END_LAST, END, CODE) == [[CODE, END_LAST]]
    assert state.span_start is None


@pytest.mark.parametrize("begin", [BEGIN, BEGIN_LAST])
@pytest.mark.parametrize("end", [END, END_LAST])
def test_either_end_marker_closes_any_span(begin, end):
    state = state_after(WORD, begin)
    assert speak(state, end, CODE, CODE, CODE) == [[end]]
    assert state.span_start is None


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(("begin", "end"), [(BEGIN, END), (BEGIN_LAST, END_LAST)])
def test_a_full_span_is_closed_with_the_marker_of_its_begin(begin, end):
    state = state_after(WORD, begin, max_span_length=4)
    assert speak(state, CODE, CODE, CODE, CODE) == [[CODE] * 4, [end]]
    assert state.span_start is None
    assert state.num_new_tokens == 5


def test_a_generated_end_marker_counts_to_the_span_and_none_is_appended_then():
    state = state_after(WORD, BEGIN, max_span_length=4)
    assert speak(state, CODE, CODE, CODE, END) == [[CODE, CODE, CODE, END]]
    assert state.span_start is None


def test_a_block_is_shortened_to_what_is_left_of_the_span():
    state = state_after(WORD, BEGIN, max_span_length=6)
    speak(state, CODE, CODE, CODE, CODE)
    assert speak(state, CODE, CODE) == [[CODE] * 2, [END]]


def test_what_the_prompt_has_of_the_span_counts_to_its_length():
    state = state_after(WORD, BEGIN, CODE, CODE, max_span_length=5)
    assert speak(state, CODE, CODE, CODE) == [[CODE] * 3, [END]]


@pytest.mark.parametrize("num_codes", [3, 5])
def test_a_span_that_the_prompt_has_filled_is_closed_at_once(num_codes):
    state = state_after(WORD, BEGIN_LAST, *[CODE] * num_codes, max_span_length=3)
    state.open_block()
    assert state.block_length == 0
    assert state.close_block() == [[END_LAST]]
    assert state.span_start is None


def test_a_block_is_shortened_to_what_is_left_of_the_reply():
    state = state_after(WORD, BEGIN, max_new_tokens=6)
    speak(state, CODE, CODE, CODE, CODE)
    assert speak(state, CODE, CODE) == [[CODE] * 2]
    assert state.num_new_tokens == 6


def test_no_end_marker_is_appended_where_the_reply_has_no_room():
    state = state_after(WORD, BEGIN, max_new_tokens=4, max_span_length=4)
    assert speak(state, CODE, CODE, CODE, CODE) == [[CODE] * 4]
    assert state.num_new_tokens == 4


# --------------------------------------------------------------------------------------------------- what may be cached


def test_everything_up_to_the_begin_marker_is_final_while_the_row_speaks():
    state = state_after(WORD, WORD, BEGIN, CODE)
    assert state.num_cacheable == 3
    state.cached_length = 3
    state.open_block()
    assert state.num_cacheable == 0


def test_a_closed_span_is_final_as_a_whole():
    state = state_after(WORD, BEGIN)
    state.cached_length = 2
    speak(state, CODE, CODE, END, CODE)
    assert state.num_cacheable == 3


def test_sequences_share_one_buffer_that_holds_the_longest_reply():
    plan = DecodingPlan(7, 4, 2, None)
    buffer, states = open_states([torch.tensor([WORD] * 3), torch.tensor([WORD])], [0, 0], MARKERS, plan)
    assert buffer.shape == (2, 10)
    states[1].append_text(FIRST_WORD + 1)
    assert buffer[1, :2].tolist() == [WORD, FIRST_WORD + 1]
    assert [state.prompt_length for state in states] == [3, 1]


def test_only_the_first_block_of_a_reply_has_its_own_length():
    state = state_after(WORD, BEGIN, first=2)
    speak(state, CODE, CODE)
    speak(state, CODE, END, CODE, CODE)
    state.append_text(BEGIN)
    speak(state, CODE, CODE, CODE, CODE)
