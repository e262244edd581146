import random
from collections import Counter

import pytest

from finetune.training.batch_plan import RowPlan, shuffled

RNG = random.Random(0)
LENGTHS = [RNG.randint(5, 60) for _ in range(200)]


@pytest.mark.parametrize("row_length", [64, None])
def test_every_example_comes_once_an_epoch_in_another_order_each_time(row_length):
    plan = RowPlan(LENGTHS, shuffled(200, 0), 4, row_length)
    epochs = [[position for row in plan.epoch(epoch) for position in row] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(200))
    assert epochs[0] != epochs[1]


def test_packed_rows_are_full_and_never_too_long():
    plan = RowPlan(LENGTHS, shuffled(200, 0), 4, 256)
    sums = [sum(LENGTHS[position] for position in row) for row in plan.epoch(0)]
    assert max(sums) <= 256
    assert sum(sums) / (256 * len(sums)) > 0.95


def test_rows_of_an_update_are_of_like_length_where_they_are_padded():
    plan = RowPlan(LENGTHS, shuffled(200, 0), 4)
    rows = plan.epoch(0)
    padded = sum(4 * max(LENGTHS[row[0]] for row in rows[start : start + 4]) for start in range(0, 200, 4))
    assert all(len(row) == 1 for row in rows)
    assert sum(LENGTHS) / padded > 0.9
    assert [LENGTHS[row[0]] for row in rows] != sorted(LENGTHS), "batches are shuffled"


def test_a_row_is_found_wherever_one_begins_to_look():
    """What a resumed run needs: the same rows without going through those before."""
    plan = RowPlan(LENGTHS, shuffled(200, 0), 4, 64)
    rows = [(epoch, row) for epoch in range(3) for row in plan.epoch(epoch)]
    for number in (0, 70, len(rows) - 1):
        assert RowPlan(LENGTHS, shuffled(200, 0), 4, 64).locate(number) == rows[number]
    per_epoch = [len(plan.epoch(epoch)) for epoch in range(3)]
    assert plan.rows_of(2.5) == per_epoch[0] + per_epoch[1] + round(per_epoch[2] / 2)
    assert plan.progress(per_epoch[0]) == 1.0
    assert plan.progress(0) == 0.0
    assert plan.progress(per_epoch[0] + 1) == pytest.approx(1 + 1 / per_epoch[1])


def test_the_seed_decides_the_order():
    first, same, other = (RowPlan(LENGTHS, shuffled(200, seed), 4, 64, seed).epoch(0) for seed in (0, 0, 1))
    assert first == same != other


def test_an_order_may_take_an_example_several_times():
    plan = RowPlan([10, 20], lambda epoch: [0, 0, 1], 1, 64)
    assert Counter(position for row in plan.epoch(0) for position in row) == {0: 2, 1: 1}


def test_no_examples_are_an_error():
    with pytest.raises(ValueError, match="no examples"):
        RowPlan([], shuffled(0, 0), 1).locate(0)
