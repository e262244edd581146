"""The rules of a denoising step on hand-made probabilities: which positions come first, and how many of them."""

import math

import pytest
import torch

from modeling_ttt.denoising_rules_ttt import (
    REMASKING_RULES,
    ConfidenceThreshold,
    EntropyBound,
    FixedSchedule,
    Proposal,
    acceptance_rule,
    choose_revealed,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def proposal(*rows, masked=None, proposed=None, lengths=None, generators=None, log_prior=None):
    """A proposal of one sequence per argument; each row is a list of the positions' probabilities."""
    log_probs = torch.tensor(rows).log()
    return Proposal(
        is_masked=torch.ones(log_probs.shape[:2], dtype=torch.bool) if masked is None else torch.tensor(masked).bool(),
        proposed=log_probs.argmax(-1) if proposed is None else torch.tensor(proposed),
        log_probs=log_probs,
        lengths=lengths or [log_probs.shape[1]] * len(rows),
        generators=generators or [None] * len(rows),
        log_prior=log_prior,
    )


# ----------------------------------------------------------------------------------------------------------- acceptance


def revealed(priority, masked, count):
    return choose_revealed(
        torch.tensor([priority]), torch.tensor([masked], dtype=torch.bool), torch.tensor([count])
    ).tolist()[0]


def test_the_surest_masked_positions_are_revealed():
    assert revealed([0.1, 0.9, 0.5, 0.7], [1, 1, 1, 1], 2) == [False, True, False, True]


def test_positions_that_are_not_masked_any_more_are_passed_over():
    assert revealed([0.1, 0.9, 0.5, 0.7], [1, 0, 1, 0], 1) == [False, False, True, False]


def test_ties_go_to_the_lower_position():
    assert revealed([0.5] * 40, [1] * 40, 3) == [True] * 3 + [False] * 37
    assert revealed([0.5, 0.9, 0.5, 0.5], [1] * 4, 2) == [True, True, False, False]


def test_never_more_than_what_is_masked_is_revealed():
    assert revealed([0.1, 0.9, 0.5], [0, 1, 0], 3) == [False, True, False]
    assert revealed([0.1, 0.9, 0.5], [1, 1, 1], 0) == [False, False, False]


def test_each_row_reveals_its_own_count():
    priority = torch.tensor([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]])
    chosen = choose_revealed(priority, torch.ones(2, 3, dtype=torch.bool), torch.tensor([1, 2]))
    assert chosen.tolist() == [[True, False, False], [False, True, True]]


# ---------------------------------------------------------------------------------------------------------------- order

SURE_OF_A_FREQUENT_ID = [0.80, 0.15, 0.05]
UNDECIDED_BETWEEN_TWO = [0.45, 0.10, 0.45]
SURE_OF_A_RARE_ID = [0.20, 0.30, 0.50]


def order(rule, *positions, **fields):
    """The positions of one row, first to last."""
    priority = REMASKING_RULES[rule](proposal(list(positions), **fields))
    return priority[0].argsort(descending=True).tolist()


def test_a_proposal_knows_the_confidence_and_entropy_of_its_positions():
    positions = proposal([SURE_OF_A_FREQUENT_ID, [1 / 3] * 3], proposed=[[0, 2]])
    torch.testing.assert_close(positions.confidence, torch.tensor([[0.8, 1 / 3]]))
    expected = -sum(p * math.log(p) for p in SURE_OF_A_FREQUENT_ID)
    torch.testing.assert_close(positions.entropy, torch.tensor([[expected, math.log(3)]]))


def test_low_confidence_reveals_the_most_probable_proposals_first():
    positions = (SURE_OF_A_RARE_ID, UNDECIDED_BETWEEN_TWO, SURE_OF_A_FREQUENT_ID)
    assert order("low_confidence", *positions) == [2, 0, 1]
    assert order("low_confidence", *positions, proposed=[[0, 2, 2]]) == [1, 0, 2], (
        "of what is proposed, not of the best"
    )


def test_calibrated_reveals_first_what_is_likelier_here_than_anywhere():
    log_prior = torch.tensor([[0.90, 0.05, 0.05]]).log()
    assert order("calibrated", SURE_OF_A_FREQUENT_ID, SURE_OF_A_RARE_ID, log_prior=log_prior) == [1, 0]
    uniform = torch.full((1, 3), 1 / 3).log()
    assert order("calibrated", SURE_OF_A_RARE_ID, SURE_OF_A_FREQUENT_ID, log_prior=uniform) == [1, 0]


def test_calibrated_orders_even_what_is_too_unlikely_for_a_probability():
    """exp(-200) is 0 in float32, and its logarithm would be that of a position that is not masked."""
    unlikely = Proposal(
        is_masked=torch.tensor([[True, True]]),
        proposed=torch.tensor([[0, 0]]),
        log_probs=torch.tensor([[[-210.0, 0.0], [-200.0, 0.0]]]),
        lengths=[2],
        generators=[None],
        log_prior=torch.tensor([[0.5, 0.5]]).log(),
    )
    assert REMASKING_RULES["calibrated"](unlikely)[0].tolist() == pytest.approx(
        [-210 - math.log(0.5), -200 - math.log(0.5)]
    )


def test_calibrated_without_a_prior_is_an_error():
    with pytest.raises(ValueError, match="prior"):
        REMASKING_RULES["calibrated"](proposal([SURE_OF_A_RARE_ID]))


def test_random_reveals_every_position_equally_often_whatever_its_confidence():
    count, generator = 6000, seeded()
    positions = proposal([[p, 1 - p] for p in (0.9, 0.7, 0.5, 0.1)], generators=[generator])
    first = torch.zeros(4)
    for _ in range(count):
        first[REMASKING_RULES["random"](positions)[0].argmax()] += 1
    for share in (first / count).tolist():
        assert share == pytest.approx(1 / 4, abs=4 * math.sqrt(3 / 16 / count))


def test_random_draws_only_for_the_true_block():
    def draw(block):
        generator = seeded(3)
        priority = REMASKING_RULES["random"](proposal([[0.5, 0.5]] * block, lengths=[3], generators=[generator]))
        return priority[0, :3].tolist(), float(torch.rand(1, generator=generator))

    assert draw(3) == draw(7)


# --------------------------------------------------------------------------------------------------------------- number


def accept(rule, *positions, masked=None, priority=None, count=1):
    row = proposal(list(positions), masked=masked)
    priority = row.confidence if priority is None else torch.tensor([priority])
    return rule(row, priority, torch.tensor([count]))[0].tolist()


A, B, C = [0.9, 0.1], [0.7, 0.3], [0.5, 0.5]  # confidence .9, .7, .5; entropy .325, .611, .693


def test_a_fixed_schedule_reveals_its_count_by_priority():
    assert accept(FixedSchedule(), A, B, C, count=2) == [True, True, False]
    assert accept(FixedSchedule(), A, B, C, priority=[0.0, 1.0, 2.0]) == [False, False, True]


def test_a_confidence_threshold_reveals_all_that_reach_it():
    assert accept(ConfidenceThreshold(0.69), A, B, C) == [True, True, False]
    assert accept(ConfidenceThreshold(0.69), A, B, C, masked=[[0, 1, 1]]) == [False, True, False]
    assert accept(ConfidenceThreshold(0.0), A, B, C) == [True, True, True]


def test_a_confidence_threshold_that_none_reaches_reveals_the_first_by_priority():
    assert accept(ConfidenceThreshold(0.99), A, B, C) == [True, False, False]
    assert accept(ConfidenceThreshold(0.99), A, B, C, priority=[0.0, 1.0, 2.0]) == [False, False, True]
    assert accept(ConfidenceThreshold(0.99), A, B, C, masked=[[0, 0, 0]]) == [False, False, False]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(0.0, [True, False, False]), (0.33, [True, True, False]), (0.93, [True, True, False]), (0.94, [True, True, True])],
)
def test_an_entropy_bound_reveals_by_priority_as_long_as_all_but_the_largest_entropy_sum_to_it(bound, expected):
    assert accept(EntropyBound(bound), A, B, C) == expected
    assert accept(EntropyBound(bound), C, B, A) == expected[::-1]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (0.0, [False, False, True]),
        (0.61, [False, False, True]),
        (0.62, [False, True, True]),
        (0.94, [True, True, True]),
    ],
)
def test_an_entropy_bound_keeps_to_the_order_that_is_asked_for(bound, expected):
    assert accept(EntropyBound(bound), A, B, C, priority=[0.0, 1.0, 2.0]) == expected


def test_an_entropy_bound_counts_only_masked_positions():
    assert accept(EntropyBound(0.0), A, B, C, masked=[[0, 1, 1]]) == [False, True, False]
    assert accept(EntropyBound(9.0), A, B, C, masked=[[0, 1, 0]]) == [False, True, False]


def test_the_acceptance_rule_is_chosen_by_its_parameter():
    assert acceptance_rule(0.9, None) == ConfidenceThreshold(0.9)
    assert acceptance_rule(None, 0.1) == EntropyBound(0.1)
    assert isinstance(acceptance_rule(None, None), FixedSchedule)
