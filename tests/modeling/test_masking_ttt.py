import slow_reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modeling_fixtures import AUDIO_START, VOCAB_SIZE

from modeling_ttt import audio_span_ids

T, A = 5, AUDIO_START + 1

rows_of_ids = st.integers(1, 12).flatmap(
    lambda length: st.lists(
        st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=length, max_size=length), min_size=1, max_size=3
    )
)


def span_ids(rows, sample_ids=None):
    samples = None if sample_ids is None else torch.tensor(sample_ids)
    return audio_span_ids(torch.tensor(rows), AUDIO_START, samples).tolist()


def test_spans_are_numbered_from_zero_and_text_is_minus_one():
    assert span_ids([[T, A, A, T, A, T, T, A]]) == [[-1, 0, 0, -1, 1, -1, -1, 2]]


def test_the_first_audio_id_is_audio_and_the_one_before_it_is_text():
    assert span_ids([[AUDIO_START - 1, AUDIO_START]]) == [[-1, 0]]


def test_a_row_may_begin_and_end_inside_a_span():
    assert span_ids([[A, A, T, A]]) == [[0, 0, -1, 1]]


def test_rows_are_numbered_apart_although_one_ends_and_the_next_begins_with_audio():
    assert span_ids([[T, A], [A, T], [T, T]]) == [[-1, 0], [0, -1], [-1, -1]]


def test_a_span_ends_where_a_packed_sample_ends_and_numbers_go_on():
    assert span_ids([[A, A, A, T, A, A]], [[0, 0, 1, 1, 1, 2]]) == [[0, 0, 1, -1, 2, 3]]


def test_the_ids_are_left_as_they_were():
    ids = torch.tensor([[T, A, A]])
    audio_span_ids(ids, AUDIO_START)
    assert ids.tolist() == [[T, A, A]]


@settings(deadline=None, max_examples=100)
@given(rows_of_ids)
def test_spans_are_the_maximal_runs_of_audio_ids(rows):
    assert span_ids(rows) == [slow_reference.spans(row, AUDIO_START) for row in rows]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, VOCAB_SIZE - 1), st.booleans()), min_size=1, max_size=20))
def test_packed_spans_are_the_runs_within_a_sample(row):
    ids = [token_id for token_id, _ in row]
    samples = torch.tensor([int(is_new) for _, is_new in row]).cumsum(0).tolist()
    assert span_ids([ids], [samples]) == [slow_reference.spans(ids, AUDIO_START, samples)]
