import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_ttt.guidance_ttt import guide
from modeling_ttt.samplers_ttt import (
    REMASKING_RULES,
    ConfidenceThreshold,
    EntropyBound,
    FixedSchedule,
    Proposal,
    acceptance_rule,
    audio_warpers,
    choose_revealed,
    is_settled,
    next_text_ids,
    propose,
    reveal_schedule,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def logs(*rows):
    """Logits whose softmax is the given probabilities."""
    return torch.tensor([rows]).log()


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


# ------------------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize(
    ("masks", "steps", "expected"),
    [
        (32, 10, [4, 4, 3, 3, 3, 3, 3, 3, 3, 3]),
        (26, 10, [3, 3, 3, 3, 3, 3, 2, 2, 2, 2]),
        (6, 3, [2, 2, 2]),
        (7, 1, [7]),
        (3, 10, [1, 1, 1]),
        (1, 1, [1]),
        (0, 10, []),
    ],
)
def test_a_block_is_revealed_as_evenly_as_integers_allow_with_larger_shares_first(masks, steps, expected):
    assert reveal_schedule(masks, steps) == expected


@given(st.integers(0, 200), st.integers(1, 50))
def test_every_schedule_reveals_all_masks_in_at_most_the_asked_steps(masks, steps):
    schedule = reveal_schedule(masks, steps)
    assert sum(schedule) == masks
    assert len(schedule) == min(masks, steps)
    assert schedule == sorted(schedule, reverse=True)
    assert not schedule or max(schedule) - min(schedule) <= 1


@pytest.mark.parametrize(
    ("masks", "steps", "expected"),
    [(10, 3, [2, 3, 5]), (4, 4, [1, 1, 1, 1]), (32, 4, [3, 7, 10, 12]), (1, 1, [1]), (5, 1, [5]), (0, 3, [])],
)
def test_a_cosine_schedule_reveals_few_positions_first(masks, steps, expected):
    assert reveal_schedule(masks, steps, "cosine") == expected


@given(st.integers(0, 200), st.integers(1, 50))
def test_a_cosine_schedule_reveals_all_masks_too_and_at_least_one_each_step(masks, steps):
    schedule = reveal_schedule(masks, steps, "cosine")
    assert sum(schedule) == masks and len(schedule) == min(masks, steps)
    assert all(count >= 1 for count in schedule)


# ------------------------------------------------------------------------------------------------------------- proposal


def test_the_best_id_is_proposed():
    logits = logs([0.1, 0.7, 0.2], [0.5, 0.2, 0.3])
    assert propose(logits + 4.0, [2], 0.0, [None]).tolist() == [[1, 0]]


def test_guidance_pushes_away_from_the_unconditional_logits_and_does_nothing_at_scale_zero():
    conditional, unconditional = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 1.5])
    assert torch.equal(guide(conditional, unconditional, 0.0), conditional)
    torch.testing.assert_close(guide(conditional, unconditional, 0.5), torch.tensor([2.5, 0.75]))


def test_only_the_best_ids_are_drawn_under_top_k_and_top_p():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(1, 500, 4)
    for warpers, expected in (
        (audio_warpers(2, None), {0, 1}),
        (audio_warpers(None, 0.6), {0, 1}),
        (audio_warpers(3, 0.95), {0, 1, 2}),
        (audio_warpers(None, None), {0, 1, 2, 3}),
    ):
        assert set(propose(logits, [500], 1.0, [seeded()], warpers)[0].tolist()) == expected


def test_of_equal_scores_the_lower_id_is_proposed():
    assert propose(torch.zeros(1, 1, 5), [1], 0.0, [None]).tolist() == [[0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_are_drawn_from_the_softmax_at_the_temperature(temperature):
    count = 20000
    probs = torch.tensor([0.1, 0.6, 0.3])
    proposed = propose(probs.log().expand(1, count, 3), [count], temperature, [seeded()])
    expected = probs ** (1 / temperature) / (probs ** (1 / temperature)).sum()
    shares = torch.bincount(proposed[0], minlength=3) / count
    for share, target in zip(shares.tolist(), expected.tolist(), strict=True):
        assert share == pytest.approx(target, abs=4 * math.sqrt(target * (1 - target) / count))


def test_the_logits_are_left_as_they_were():
    logits = torch.randn(2, 4, 5, generator=seeded())
    before = logits.clone()
    propose(logits, [4, 3], 1.0, [seeded(), seeded(1)])
    assert torch.equal(logits, before)


def test_a_row_draws_the_same_ids_alone_and_beside_a_longer_block():
    logits = torch.randn(1, 3, 8, generator=seeded())
    longer = torch.randn(1, 6, 8, generator=seeded(1))
    generator = seeded(5)
    alone = propose(logits, [3], 1.0, [generator])
    after = torch.rand(1, generator=generator)
    beside_generator = seeded(5)
    padded = torch.cat([torch.nn.functional.pad(logits, (0, 0, 0, 3)), longer])
    beside = propose(padded, [3, 6], 1.0, [beside_generator, seeded(9)])
    assert beside[0, :3].tolist() == alone[0].tolist()
    assert torch.rand(1, generator=beside_generator) == after, "padding must not use up randomness"


def test_greedy_proposals_touch_no_generator():
    generator, state = seeded(), seeded().get_state()
    before = torch.get_rng_state()
    propose(torch.randn(1, 2, 3, generator=seeded(1)), [2], 0.0, [generator])
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), before)


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


def test_entropy_and_margin_differ_where_two_ids_share_the_probability():
    three_ways = [0.50, 0.25, 0.25]
    assert order("entropy", three_ways, [0.5, 0.4999, 0.0001]) == [1, 0]
    assert order("margin", three_ways, [0.5, 0.4999, 0.0001]) == [0, 1]


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


MASK_ID, END_ID = 7, 9


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ([1, 2, 3], True),
        ([1, MASK_ID, 3], False),
        ([1, END_ID, MASK_ID], True),
        ([END_ID, MASK_ID, MASK_ID], True),
        ([MASK_ID, END_ID, MASK_ID], False),
        ([1, END_ID, MASK_ID, END_ID], True),
    ],
)
def test_a_block_is_settled_when_nothing_before_its_first_end_marker_is_masked(block, expected):
    assert is_settled(torch.tensor([block]), MASK_ID, [8, END_ID]).tolist() == [expected]


# ----------------------------------------------------------------------------------------------------------------- text


def test_greedy_text_takes_the_best_id_and_no_randomness():
    before = torch.get_rng_state()
    scores = torch.tensor([[0.0, 3.0, -math.inf], [2.0, 1.0, -math.inf]])
    assert next_text_ids(scores, False, [None, None]).tolist() == [1, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_sampled_text_follows_the_softmax_and_never_takes_what_is_not_eligible():
    count, generator = 5000, seeded()
    probs = torch.tensor([0.2, 0.5, 0.3, 0.0])
    drawn = next_text_ids(probs.log().expand(count, 4), True, [generator] * count)
    shares = torch.bincount(drawn, minlength=4) / count
    assert shares[3] == 0
    for share, target in zip(shares[:3].tolist(), probs[:3].tolist(), strict=True):
        assert share == pytest.approx(target, abs=4 * math.sqrt(target * (1 - target) / count))


def test_each_row_draws_from_its_own_generator():
    scores = torch.zeros(2, 1000)
    together = next_text_ids(scores, True, [seeded(1), seeded(2)]).tolist()
    apart = [int(next_text_ids(scores[:1], True, [seeded(seed)])) for seed in (1, 2)]
    assert together == apart
    assert together[0] != together[1]
