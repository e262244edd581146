import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_ttt.samplers_ttt import (
    REMASKING_RULES,
    choose_revealed,
    most_confident_first,
    next_text_ids,
    propose,
    random_order,
    reveal_schedule,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def logs(*rows):
    """Logits whose softmax is the given probabilities."""
    return torch.tensor([rows]).log()


# --------------------------------------------------------------------------------------------------------------- schedule


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


# --------------------------------------------------------------------------------------------------------------- proposal


def test_the_best_id_is_proposed_with_its_probability_as_confidence():
    logits = logs([0.1, 0.7, 0.2], [0.5, 0.2, 0.3])
    proposed, confidence = propose(logits + 4.0, [2], 0.0, [None])
    assert proposed.tolist() == [[1, 0]]
    torch.testing.assert_close(confidence, torch.tensor([[0.7, 0.5]]))


def test_of_equal_scores_the_lower_id_is_proposed():
    assert propose(torch.zeros(1, 1, 5), [1], 0.0, [None])[0].tolist() == [[0]]


def test_confidence_is_taken_before_temperature_and_noise():
    probs = torch.tensor([0.1, 0.7, 0.2])
    logits = probs.log().expand(1, 200, 3)
    proposed, confidence = propose(logits, [200], 3.0, [seeded()])
    assert set(proposed[0].tolist()) == {0, 1, 2}
    torch.testing.assert_close(confidence, probs[proposed])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_are_drawn_from_the_softmax_at_the_temperature(temperature):
    count = 20000
    probs = torch.tensor([0.1, 0.6, 0.3])
    proposed, _ = propose(probs.log().expand(1, count, 3), [count], temperature, [seeded()])
    expected = probs ** (1 / temperature) / (probs ** (1 / temperature)).sum()
    shares = torch.bincount(proposed[0], minlength=3) / count
    for share, target in zip(shares.tolist(), expected.tolist(), strict=True):
        assert share == pytest.approx(target, abs=4 * math.sqrt(target * (1 - target) / count))


def test_the_logits_are_left_as_they_were():
    logits = torch.randn(2, 4, 5, generator=seeded())
    before = logits.clone()
    propose(logits, [4, 3], 1.0, [seeded(), seeded(1)])
    assert torch.equal(logits, before)


def test_scores_in_half_precision_are_compared_in_float32():
    logits = torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16)
    confidence = propose(logits, [1], 0.0, [None])[1]
    assert confidence.dtype == torch.float32
    assert float(confidence) == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-6)


def test_a_row_draws_the_same_ids_alone_and_beside_a_longer_block():
    logits = torch.randn(1, 3, 8, generator=seeded())
    longer = torch.randn(1, 6, 8, generator=seeded(1))
    generator = seeded(5)
    alone, _ = propose(logits, [3], 1.0, [generator])
    after = torch.rand(1, generator=generator)
    beside_generator = seeded(5)
    padded = torch.cat([torch.nn.functional.pad(logits, (0, 0, 0, 3)), longer])
    beside, _ = propose(padded, [3, 6], 1.0, [beside_generator, seeded(9)])
    assert beside[0, :3].tolist() == alone[0].tolist()
    assert torch.rand(1, generator=beside_generator) == after, "padding must not use up randomness"


def test_greedy_proposals_touch_no_generator():
    generator, state = seeded(), seeded().get_state()
    before = torch.get_rng_state()
    propose(torch.randn(1, 2, 3, generator=seeded(1)), [2], 0.0, [generator])
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------------------------------------------------- acceptance


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


def test_low_confidence_remasking_reveals_by_confidence():
    confidence = torch.rand(2, 5, generator=seeded())
    assert REMASKING_RULES["low_confidence"] is most_confident_first
    assert torch.equal(most_confident_first(confidence, [5, 5], [None, None]), confidence)


def test_random_remasking_reveals_every_position_equally_often_whatever_its_confidence():
    count, generator = 6000, seeded()
    confidence = torch.tensor([[0.9, 0.5, 0.1, 0.0]])
    first = torch.zeros(4)
    for _ in range(count):
        first[random_order(confidence, [4], [generator])[0].argmax()] += 1
    for share in (first / count).tolist():
        assert share == pytest.approx(1 / 4, abs=4 * math.sqrt(3 / 16 / count))


def test_random_remasking_draws_only_for_the_true_block():
    generator = seeded(3)
    alone = random_order(torch.zeros(1, 3), [3], [generator])
    after = torch.rand(1, generator=generator)
    generator = seeded(3)
    padded = random_order(torch.zeros(1, 7), [3], [generator])
    assert torch.equal(alone[0], padded[0, :3])
    assert torch.equal(after, torch.rand(1, generator=generator))


# ------------------------------------------------------------------------------------------------------------------- text


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
