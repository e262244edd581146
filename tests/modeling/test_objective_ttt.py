import math

import pytest
import slow_reference
import torch

from modeling_ttt import audio_span_ids
from modeling_ttt.objective_ttt import MIN_MASK_PROB, corrupt, joint_loss

LN2 = math.log(2)
# Ids of these tests: words below 10, the mask is 99, every other id is a code.
START, MASK, NO = 10, 99, -100
WORD, CODE = 3, 20


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(ids, labels, clean=0.0, ppm=0.0, samples=None, generator=None):
    span_ids = audio_span_ids(ids, START, samples)
    return corrupt(ids, labels, span_ids, MASK, clean, ppm, samples, generator or seeded())


def many(ids, labels, rows):
    return torch.tensor([ids]).repeat(rows, 1), torch.tensor([labels]).repeat(rows, 1)


def four_sigma(share, count):
    return 4 * math.sqrt(share * (1 - share) / count)


# ------------------------------------------------------------------------------------------------- the loss, by hand


def logits_of_bits(bits, targets, vocab_size=5):
    """
    Give each position's target the probability 2 ** -bits, the other ids equal shares of the rest: `bits` is the loss
    in bits.
    """
    logits = torch.empty(len(bits), vocab_size)
    for row, n, target in zip(logits, bits, targets, strict=True):
        row[:] = math.log((1 - 2.0**-n) / (vocab_size - 1))
        row[target] = -n * LN2
    return logits


# Vocabulary of the worked example: words 0 and 1, codes 2 and 3, mask 4.
#                    prompt  word  code    code  word
IDS_A, LABELS_A = [0, 1, 2, 3, 0], [NO, 1, 2, 3, 0]
IDS_B, LABELS_B = [1, 0, 1, 1, 0], [NO, 0, 1, 1, 0]
# Row A. Words: position 1 from the logits at 0 (1 bit), position 4 from the logits at 3 (3 bits): (1 + 3) / 2 = 2
# bits. Audio: position 2 masked with p = 0.5, from its own logits (2 bits): 2 / 0.5 = 4, over two maskable positions:
# 2 bits.
LOGITS_A = logits_of_bits([1, 9, 2, 3, 9], [1, 0, 2, 0, 0])
# Row B. Words only, from the logits at 0 to 3: (1 + 2 + 4 + 5) / 4 = 3 bits. Audio: none, adds 0 and stays in the mean.
LOGITS_B = logits_of_bits([1, 2, 4, 5, 9], [0, 1, 1, 0, 0])
MASKED_A, MASKED_B = [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]


def losses_in_bits(logits, labels, audio_mask, mask_prob, samples=None):
    samples = None if samples is None else torch.tensor(samples)
    losses = joint_loss(logits, torch.tensor(labels), torch.tensor(audio_mask).bool(), mask_prob, 2, samples)
    torch.testing.assert_close(losses.loss, losses.text_loss + losses.audio_loss)
    return float(losses.text_loss) / LN2, float(losses.audio_loss) / LN2


def test_the_worked_example_of_one_sample():
    text, audio = losses_in_bits(LOGITS_A[None], [LABELS_A], [MASKED_A], torch.tensor([0.5]))
    assert (text, audio) == (pytest.approx(2), pytest.approx(2))


def test_losses_are_means_over_samples_and_a_sample_without_masks_counts():
    logits = torch.stack([LOGITS_A, LOGITS_B])
    text, audio = losses_in_bits(logits, [LABELS_A, LABELS_B], [MASKED_A, MASKED_B], torch.tensor([0.5, 0.25]))
    assert (text, audio) == (pytest.approx((2 + 3) / 2), pytest.approx((2 + 0) / 2))


def test_packed_in_one_row_the_samples_have_the_same_losses():
    logits = torch.cat([LOGITS_A, LOGITS_B])[None]
    mask_prob = torch.tensor([[0.5] * 5 + [0.25] * 5])
    samples = [[0] * 5 + [1] * 5]
    text, audio = losses_in_bits(logits, [LABELS_A + LABELS_B], [MASKED_A + MASKED_B], mask_prob, samples)
    assert (text, audio) == (pytest.approx((2 + 3) / 2), pytest.approx((2 + 0) / 2))


def test_padding_of_packed_rows_adds_nothing_and_is_no_sample():
    logits = torch.cat([LOGITS_A, torch.zeros(3, 5)])[None]
    mask_prob = torch.full((1, 8), 0.5)
    text, audio = losses_in_bits(logits, [LABELS_A + [NO] * 3], [MASKED_A + [0] * 3], mask_prob, [[0] * 5 + [-1] * 3])
    assert (text, audio) == (pytest.approx(2), pytest.approx(2))


def test_the_first_word_of_a_packed_sample_is_not_predicted_by_the_sample_before_it():
    logits = torch.cat([LOGITS_A, LOGITS_B])[None]
    labels_b = [1, *LABELS_B[1:]]  # also the first word has a label, as in plain text training
    text, _ = losses_in_bits(
        logits, [LABELS_A + labels_b], [MASKED_A + MASKED_B], torch.full((1, 10), 0.5), [[0] * 5 + [1] * 5]
    )
    assert text == pytest.approx((2 + 3) / 2)


def test_weights_are_one_over_the_mask_probability():
    _, at_half = losses_in_bits(LOGITS_A[None], [LABELS_A], [MASKED_A], torch.tensor([0.5]))
    _, at_tenth = losses_in_bits(LOGITS_A[None], [LABELS_A], [MASKED_A], torch.tensor([0.1]))
    assert at_tenth == pytest.approx(5 * at_half)


def test_the_audio_loss_divides_by_maskable_and_not_by_masked_positions():
    logits = logits_of_bits([9, 9, 2, 4, 9], [0, 0, 2, 3, 0])
    _, both = losses_in_bits(logits[None], [LABELS_A], [[0, 0, 1, 1, 0]], torch.tensor([1.0]))
    _, one = losses_in_bits(logits[None], [LABELS_A], [[0, 0, 1, 0, 0]], torch.tensor([1.0]))
    assert (both, one) == (pytest.approx((2 + 4) / 2), pytest.approx(2 / 2))


def test_audio_without_a_label_neither_counts_nor_divides():
    labels = [NO, 1, 2, NO, 0]  # position 3: preserved
    logits = logits_of_bits([9, 9, 2, 4, 9], [0, 0, 2, 3, 0])
    _, audio = losses_in_bits(logits[None], [labels], [[0, 0, 1, 1, 0]], torch.tensor([1.0]))
    assert audio == pytest.approx(2)


def test_one_probability_per_row_is_the_same_as_one_per_position():
    logits = torch.stack([LOGITS_A, LOGITS_A])
    labels, masks = [LABELS_A] * 2, [MASKED_A] * 2
    per_row = losses_in_bits(logits, labels, masks, torch.tensor([0.5, 0.2]))
    per_position = losses_in_bits(logits, labels, masks, torch.tensor([[0.5] * 5, [0.2] * 5]))
    assert per_row == per_position
    assert per_row[1] == pytest.approx((2 / 0.5 / 2 + 2 / 0.2 / 2) / 2)


def test_labels_without_anything_to_learn_give_zero_and_no_nan():
    text, audio = losses_in_bits(LOGITS_A[None], [[NO] * 5], [[0] * 5], torch.tensor([0.5]))
    assert (text, audio) == (0, 0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_the_slow_restatement_on_random_batches(seed, packed):
    generator = seeded(seed)
    rows, length, vocab_size = 4, 15, 30
    labels = torch.randint(0, vocab_size, (rows, length), generator=generator)
    labels[torch.rand(rows, length, generator=generator) < 0.3] = NO
    audio_mask = (labels >= START) & (torch.rand(rows, length, generator=generator) < 0.5)
    samples = torch.tensor([[0] * 4 + [1] * 5 + [2] * 4 + [-1] * 2]).repeat(rows, 1) if packed else None
    if packed:
        labels[samples < 0] = NO
        audio_mask &= samples >= 0
    mask_prob = torch.rand(rows, 3, generator=generator) + 0.01
    mask_prob = mask_prob.gather(1, samples.clamp(min=0)) if packed else mask_prob[:, :1].expand(rows, length)
    logits = torch.randn(rows, length, vocab_size, generator=generator)

    losses = joint_loss(logits, labels, audio_mask, mask_prob, START, samples)
    text, audio = slow_reference.joint_loss(
        logits, labels.tolist(), audio_mask.tolist(), mask_prob.tolist(), START, samples.tolist() if packed else None
    )
    assert float(losses.text_loss) == pytest.approx(text, rel=1e-5)
    assert float(losses.audio_loss) == pytest.approx(audio, rel=1e-5)


# ------------------------------------------------------------------------------------------- corruption: what is noised

# A prompt with the user's audio, two spans of a reply, padding.
PROMPT = [WORD, CODE, CODE, CODE, WORD]
REPLY = [WORD, *[CODE] * 20, WORD, WORD, *[CODE] * 20, WORD]
IDS = [*PROMPT, *REPLY, 0, 0]
LABELS = [*[NO] * len(PROMPT), *REPLY, NO, NO]
FIRST, SECOND = slice(6, 26), slice(28, 48)
MASKABLE = torch.zeros(len(IDS), dtype=torch.bool)
MASKABLE[FIRST], MASKABLE[SECOND] = True, True


def test_only_audio_with_a_label_is_ever_masked():
    drawn = draw(*many(IDS, LABELS, 2000))
    assert drawn.audio_mask.any(0).tolist() == MASKABLE.tolist()


def test_masked_positions_hold_the_mask_and_all_others_their_ids():
    ids, labels = many(IDS, LABELS, 50)
    drawn = draw(ids, labels, clean=0.3, ppm=0.3)
    assert (drawn.input_ids[drawn.audio_mask] == MASK).all()
    assert (drawn.input_ids[~drawn.audio_mask] == ids[~drawn.audio_mask]).all()
    assert not (ids == MASK).any(), "the caller's ids are left alone"


def test_end_markers_of_a_reply_are_maskable_as_any_audio_id():
    end = 50
    drawn = draw(*many([WORD, CODE, end], [WORD, CODE, end], 500))
    assert drawn.audio_mask.any(0).tolist() == [False, True, True]


def test_the_share_of_masked_positions_is_the_mean_of_p():
    rows = 4000
    drawn = draw(*many(IDS, LABELS, rows))
    # p is uniform on [eps, 1]: mean (1 + eps) / 2, variance 1 / 12 shared by all positions of a row.
    shares = drawn.audio_mask[:, MASKABLE].float().mean(1)
    sigma = math.sqrt((1 / 12 + 1 / 6 / 40) / rows)
    assert float(shares.mean()) == pytest.approx((1 + MIN_MASK_PROB) / 2, abs=4 * sigma)


def test_each_sample_is_masked_with_its_own_p_and_p_is_uniform():
    rows = 8000
    drawn = draw(*many(IDS, LABELS, rows))
    p = drawn.mask_prob[:, 0]
    assert (drawn.mask_prob == p[:, None]).all()
    assert float(p.min()) >= MIN_MASK_PROB and float(p.max()) <= 1
    shares = drawn.audio_mask[:, MASKABLE].float().mean(1)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        members = (p >= low) & (p < low + 0.2)
        assert float(members.float().mean()) == pytest.approx(0.2, abs=four_sigma(0.2, rows))
        assert float(shares[members].mean()) == pytest.approx(
            float(p[members].mean()), abs=4 * 0.5 / math.sqrt(40 * rows * 0.2)
        )


def test_positions_of_a_sample_are_masked_independently():
    drawn = draw(*many(IDS, LABELS, 8000))
    p = drawn.mask_prob[:, 0]
    here, next_to_it = drawn.audio_mask[:, 10], drawn.audio_mask[:, 11]
    members = (p > 0.4) & (p < 0.6)
    both = float((here & next_to_it)[members].float().mean())
    expected = float((p[members] ** 2).mean())
    assert both == pytest.approx(expected, abs=four_sigma(0.25, int(members.sum())))


def test_the_weight_of_a_barely_noised_sample_stays_finite():
    drawn = draw(*many([WORD, CODE], [WORD, CODE], 20000))
    assert float((1 / drawn.mask_prob).max()) <= 1 / MIN_MASK_PROB == 1000


# ---------------------------------------------------------------------------------------------------------------- BANOM


def test_banom_keeps_whole_samples_clean_with_its_probability():
    rows, count = 6000, int(MASKABLE.sum())
    drawn = draw(*many(IDS, LABELS, rows), clean=0.3)
    by_chance = (1 - MIN_MASK_PROB) ** count / (count + 1)  # integral of (1 - p) ** count over t
    expected = 0.3 + 0.7 * by_chance
    share = float((~drawn.audio_mask.any(1)).float().mean())
    assert share == pytest.approx(expected, abs=four_sigma(expected, rows))


def test_banom_tosses_a_coin_per_sample_and_not_per_batch():
    for seed in range(20):
        drawn = draw(*many(IDS, LABELS, 200), clean=0.3, generator=seeded(seed))
        assert 0.1 < float((~drawn.audio_mask.any(1)).float().mean()) < 0.55


def test_banom_does_not_look_at_the_noise_level():
    drawn = draw(*many(IDS, LABELS, 6000), clean=0.3)
    clean = ~drawn.audio_mask.any(1) & (drawn.mask_prob[:, 0] > 0.5)  # above 0.5 nothing is clean by chance
    assert float(clean.float().mean()) == pytest.approx(0.3 * 0.5, abs=four_sigma(0.15, 6000))


def test_clean_samples_keep_their_labels():
    ids, labels = many(IDS, LABELS, 50)
    drawn = draw(ids, labels, clean=1.0)
    assert not drawn.audio_mask.any()
    assert (drawn.labels == labels).all() and (drawn.input_ids == ids).all()


# ------------------------------------------------------------------------------------------------------------------ PPM

THREE_SPANS = [WORD, *[CODE] * 20, WORD, *[CODE] * 20, WORD, *[CODE] * 20, WORD]
SPANS = [slice(1, 21), slice(22, 42), slice(43, 63)]


def preserved_spans(drawn, ids):
    """Number of leading spans without labels, per row; every span is preserved whole or not at all."""
    lost = (drawn.labels == NO) & (ids != NO)
    per_span = torch.stack([lost[:, span].float().mean(1) for span in SPANS], dim=1)
    assert ((per_span == 0) | (per_span == 1)).all()
    assert (per_span.diff(dim=1) <= 0).all(), "only a prefix of the spans is preserved"
    return per_span.sum(1)


def test_ppm_preserves_the_spans_before_a_uniformly_drawn_one():
    rows = 6000
    ids, labels = many(THREE_SPANS, THREE_SPANS, rows)
    counts = preserved_spans(draw(ids, labels, ppm=1.0), ids)
    for count in (0, 1, 2):
        assert float((counts == count).float().mean()) == pytest.approx(1 / 3, abs=four_sigma(1 / 3, rows))


def test_ppm_happens_with_its_probability_and_per_sample():
    rows = 6000
    ids, labels = many(THREE_SPANS, THREE_SPANS, rows)
    counts = preserved_spans(draw(ids, labels, ppm=0.3), ids)
    expected = 0.3 * 2 / 3  # a third of the draws picks the first span and preserves nothing
    assert float((counts > 0).float().mean()) == pytest.approx(expected, abs=four_sigma(expected, rows))


def test_preserved_spans_stay_clean_and_the_others_are_masked_at_rate_p():
    rows = 6000
    ids, labels = many(THREE_SPANS, THREE_SPANS, rows)
    drawn = draw(ids, labels, ppm=1.0)
    counts = preserved_spans(drawn, ids)
    for number, span in enumerate(SPANS):
        preserved = counts > number
        assert not drawn.audio_mask[preserved][:, span].any()
        rest = ~preserved
        shares, p = drawn.audio_mask[rest][:, span].float().mean(1), drawn.mask_prob[rest][:, 0]
        assert float((shares - p).mean()) == pytest.approx(0, abs=4 * math.sqrt(1 / 6 / 20 / int(rest.sum())))


def test_ppm_takes_no_label_from_text():
    ids, labels = many(THREE_SPANS, THREE_SPANS, 200)
    drawn = draw(ids, labels, ppm=1.0)
    assert (drawn.labels[ids < START] == WORD).all()


def test_ppm_counts_the_spans_of_the_reply_and_not_the_users():
    ids, labels = many(IDS, LABELS, 3000)
    drawn = draw(ids, labels, ppm=1.0)
    first_preserved = (drawn.labels[:, FIRST] == NO).all(1)
    assert float(first_preserved.float().mean()) == pytest.approx(0.5, abs=four_sigma(0.5, 3000))
    assert (drawn.labels[:, SECOND] != NO).all(), "the drawn span and all after it keep their labels"


def test_ppm_leaves_a_reply_of_one_span_alone():
    ids, labels = many([WORD, CODE, CODE], [WORD, CODE, CODE], 200)
    assert (draw(ids, labels, ppm=1.0).labels == labels).all()


def test_samples_without_audio_pass_through_beside_others():
    ids = torch.tensor([[WORD] * 4, [WORD, CODE, CODE, WORD], [WORD] * 4])
    drawn = draw(ids, ids, clean=0.3, ppm=1.0)
    assert not drawn.audio_mask[[0, 2]].any()
    assert (drawn.labels == ids).all()
    assert not draw(ids[:1], ids[:1], clean=0.3, ppm=1.0).audio_mask.any()


# ---------------------------------------------------------------------------------------------------------- packed rows


def packed(rows):
    """Three samples with audio in each row, and padding behind them."""
    sample = [WORD, *[CODE] * 10, WORD, *[CODE] * 10]
    ids = torch.tensor([sample * 3 + [0] * 4]).repeat(rows, 1)
    samples = torch.tensor([[0] * 22 + [1] * 22 + [2] * 22 + [-1] * 4]).repeat(rows, 1)
    return ids, ids.masked_fill(samples < 0, NO), samples


def test_packed_samples_have_their_own_noise_coins_and_prefixes():
    rows = 2000
    ids, labels, samples = packed(rows)
    drawn = draw(ids, labels, clean=0.3, ppm=1.0, samples=samples)
    assert not drawn.audio_mask[:, 66:].any()
    p, clean, preserved = [], [], []
    for start in (0, 22, 44):
        here = slice(start, start + 22)
        assert (drawn.mask_prob[:, here] == drawn.mask_prob[:, start : start + 1]).all()
        p.append(drawn.mask_prob[:, start])
        clean.append(~drawn.audio_mask[:, here].any(1) & (p[-1] > 0.6))
        preserved.append((drawn.labels[:, start + 1 : start + 11] == NO).all(1))
        assert (drawn.labels[:, start + 12 : start + 22] != NO).all()
        assert float(p[-1].mean()) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / rows))
        assert float(clean[-1].float().mean()) == pytest.approx(0.4 * 0.3, abs=four_sigma(0.12, rows))
        assert float(preserved[-1].float().mean()) == pytest.approx(0.5, abs=four_sigma(0.5, rows))
    assert abs(float(torch.corrcoef(torch.stack(p))[0, 1])) < 4 / math.sqrt(rows)
    together = float((clean[0] & clean[1]).float().mean())
    assert together == pytest.approx(0.12**2, abs=four_sigma(0.12**2, rows))
    together = float((preserved[0] & preserved[1]).float().mean())
    assert together == pytest.approx(0.25, abs=four_sigma(0.25, rows))


def test_a_span_that_touches_the_next_sample_is_not_joined_with_it():
    ids = torch.tensor([[WORD, CODE, CODE, CODE, CODE, WORD]]).repeat(2000, 1)
    samples = torch.tensor([[0, 0, 0, 1, 1, 1]]).repeat(2000, 1)
    drawn = draw(ids, ids, ppm=1.0, samples=samples)
    assert (drawn.labels == ids).all(), "each sample has one span only, so nothing is preserved"
    assert (drawn.mask_prob[:, 2] != drawn.mask_prob[:, 3]).all()


# ----------------------------------------------------------------------------------------------------------- randomness


def test_a_generator_makes_the_draw_reproducible_and_leaves_the_global_state_alone():
    ids, labels = many(IDS, LABELS, 20)
    before = torch.get_rng_state()
    first = draw(ids, labels, 0.3, 0.3, generator=seeded(1))
    again = draw(ids, labels, 0.3, 0.3, generator=seeded(1))
    other = draw(ids, labels, 0.3, 0.3, generator=seeded(2))
    assert torch.equal(first.input_ids, again.input_ids) and torch.equal(first.mask_prob, again.mask_prob)
    assert not torch.equal(first.input_ids, other.input_ids)
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_generator_torchs_global_one_is_used():
    ids, labels = many(IDS, LABELS, 20)
    spans = audio_span_ids(ids, START)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        first = corrupt(ids, labels, spans, MASK, 0.3, 0.3)
        second = corrupt(ids, labels, spans, MASK, 0.3, 0.3)
        torch.manual_seed(7)
        again = corrupt(ids, labels, spans, MASK, 0.3, 0.3)
    assert torch.equal(first.input_ids, again.input_ids)
    assert not torch.equal(first.input_ids, second.input_ids)
