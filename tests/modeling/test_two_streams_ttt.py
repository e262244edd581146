"""The objective `two_stream`: which copies of a sequence are drawn."""

import collections
import math

import pytest
import torch
from modeling_fixtures import AUDIO_START, BEGIN, BEGIN_LAST, END, END_LAST, END_USER, EOS, MASK
from two_stream_fixtures import NO, RULE, C, W, drawn, example, seeded

from modeling_ttt.two_streams_ttt import MIN_COPY_MASK_PROB, CopyRule, copies_length, spread_mask_probs


def test_a_copy_is_the_span_up_to_the_end_of_a_block_filled_behind_the_span_as_decoding_opens_it():
    ids, labels = example(codes=(9,))
    first, span = 8, [*ids[8:18], END_LAST, END_LAST]
    assert ids[7] == BEGIN_LAST and ids[17] == END_LAST and len(span) == 12
    seen = set()
    for seed in range(40):
        for position, copy, targets in drawn(ids, labels, seed=seed):
            block = slice(len(copy) - 4, len(copy))
            assert position == first and len(copy) in (4, 8, 12)
            restored = [i if target == NO else target for i, target in zip(copy, targets, strict=True)]
            assert restored == span[: len(copy)]
            assert [i == MASK for i in copy] == [target != NO for target in targets]
            assert MASK not in copy[: block.start] and MASK in copy[block]
            seen.add(len(copy))
    assert seen == {4, 8, 12}


def test_under_block_causal_attention_a_copy_is_a_block_and_every_block_has_one():
    rule = CopyRule(AUDIO_START, MASK, (END, END_LAST), 4, is_block_causal=True)
    ids, labels = example(codes=(3, 9))
    found = drawn(ids, labels, rule)
    assert [position for position, _, _ in found] == [8, 14, 18, 22]
    assert all(len(copy) == 4 and MASK in copy for _, copy, _ in found)
    assert [i if t == NO else t for i, t in zip(*found[3][1:], strict=True)] == [*ids[22:24], END_LAST, END_LAST]


def test_only_spans_that_are_learnt_are_copied_and_a_span_without_its_end_is_not_filled():
    ids, labels = example(codes=(3, 9))
    preserved = [NO if 8 <= i < 12 else label for i, label in enumerate(labels)]
    assert {position for seed in range(9) for position, _, _ in drawn(ids, labels, seed=seed)} == {8, 14}
    assert {position for seed in range(9) for position, _, _ in drawn(ids, preserved, seed=seed)} == {14}
    cut = {len(copy) for seed in range(40) for _, copy, _ in drawn(ids[:23], preserved[:23], seed=seed)}
    assert cut == {4, 8, 9}
    transcript = [W, BEGIN, C, C, END_USER, W, EOS]
    assert drawn(transcript, [NO] * 5 + transcript[5:]) == []


@pytest.mark.parametrize("num_codes", [3, 4, 9, 12, 20])
def test_the_copies_of_a_span_are_as_long_as_the_filled_span_and_each_block_has_as_many(num_codes):
    ids, labels = example(codes=(num_codes,))
    num_blocks, draws = -(-(num_codes + 1) // 4), 3000
    counts = collections.Counter()
    for seed in range(draws):
        found = drawn(ids, labels, seed=seed)
        assert sum(len(copy) for _, copy, _ in found) == 4 * num_blocks == copies_length(ids, labels, RULE)
        counts.update(len(copy) // 4 for _, copy, _ in found)
    mean = 2 / (num_blocks + 1)
    for block in range(1, num_blocks + 1):
        assert counts[block] / draws == pytest.approx(mean, abs=4 * math.sqrt(2 * mean / draws))


def test_noise_levels_are_equally_often_and_spread_over_the_copies_of_a_sequence():
    levels = torch.stack([spread_mask_probs(5, seeded(seed)) for seed in range(2000)])
    unit = (levels - MIN_COPY_MASK_PROB) / (1 - MIN_COPY_MASK_PROB)
    assert float(unit.min()) >= 0 and float(unit.max()) < 1
    assert torch.equal((unit * 5).long().sort(-1).values, torch.arange(5).expand(2000, 5)), "one in each fifth"
    for copy in range(5):
        for low in (0.0, 0.25, 0.5, 0.75):
            share = float(((unit[:, copy] >= low) & (unit[:, copy] < low + 0.25)).float().mean())
            assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 2000))


def test_a_level_is_the_share_of_masks_and_every_copy_has_one():
    """Of a block of 50: p is uniform on (0.02, 1), the number of masks binomial, so each tenth of p has its share."""
    rule = CopyRule(AUDIO_START, MASK, (END, END_LAST), block_length=50)
    ids, labels = example(codes=(49,))
    shares = []
    for seed in range(4000):
        ((_, copy, _),) = drawn(ids, labels, rule, seed)
        shares.append(copy.count(MASK) / 50)
    assert min(shares) == 1 / 50
    for low in (0.1, 0.3, 0.5, 0.7, 0.9):
        expected = 0.1 / (1 - MIN_COPY_MASK_PROB)
        found = sum(low - 0.05 <= share < low + 0.05 for share in shares) / len(shares)
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000) + 0.01)


def test_the_one_mask_of_a_copy_is_at_any_position_of_its_block():
    ids, labels = example(codes=(3,))
    single = [copy.index(MASK) for seed in range(4000) for _, copy, _ in drawn(ids, labels, seed=seed)
              if copy.count(MASK) == 1]  # fmt: skip
    for position in range(4):
        assert single.count(position) / len(single) == pytest.approx(0.25, abs=4 * math.sqrt(0.19 / len(single)))


def test_spans_whose_copies_have_no_room_are_left_out_at_random():
    ids, labels = example(codes=(3, 3, 9))
    assert copies_length(ids, labels, RULE) == 20
    chosen = collections.Counter()
    for seed in range(300):
        found = drawn(ids, labels, seed=seed, room=16)
        assert sum(len(copy) for _, copy, _ in found) <= 16
        chosen.update({position for position, _, _ in found})
    assert len(chosen) == 3 and min(chosen.values()) > 80
    assert drawn(ids, labels, room=3) == [] == drawn(ids, labels, room=-5)


def test_of_a_span_whose_copies_have_no_room_a_random_block_is_copied_that_has_some():
    ids, labels = example(codes=(9,))
    lengths = collections.Counter()
    for seed in range(300):
        ((position, copy, _),) = drawn(ids, labels, seed=seed, room=11)
        assert position == 8
        lengths[len(copy)] += 1
    assert set(lengths) == {4, 8} and min(lengths.values()) > 100
    rule = CopyRule(AUDIO_START, MASK, (END, END_LAST), 4, is_block_causal=True)
    places = collections.Counter()
    for seed in range(300):
        found = drawn(ids, labels, rule, seed, room=11)
        assert [len(copy) for _, copy, _ in found] == [4, 4]
        places.update(position for position, _, _ in found)
    assert set(places) == {8, 12, 16} and min(places.values()) > 150
