import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_ttt.guidance_ttt import guide
from modeling_ttt.samplers_ttt import audio_warpers, is_settled, next_text_ids, propose, reveal_schedule


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def logs(*rows):
    """Logits whose softmax is the given probabilities."""
    return torch.tensor([rows]).log()


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


# --------------------------------------------------------------------------------------------------------- when to stop

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
