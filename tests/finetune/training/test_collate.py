import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from modeling_fixtures import tiny_config, tiny_model

from finetune.training.collate import assign_rows, fill_blocks, lay_rows, pad_batch, truncate_last_span
from modeling_ttt.masking_ttt import audio_span_ids
from modeling_ttt.objective_ttt import corrupt
from processing_ttt.vocabulary_ttt import TttVocabulary

IGNORED = -100
# The ids of the tiny models: the vocabulary and the configuration describe the same layout.
CONFIG = tiny_config()
VOCABULARY = TttVocabulary(
    begin_audio_token_id=CONFIG.begin_audio_token_id,
    end_user_audio_token_id=4,
    begin_last_audio_token_id=CONFIG.begin_last_audio_token_id,
    audio_token_start_id=CONFIG.audio_token_start_id,
    audio_code_offset=CONFIG.audio_code_offset,
    codebook_size=CONFIG.audio_codebook_size,
    mask_token_id=CONFIG.mask_token_id,
    end_audio_token_id=CONFIG.end_audio_token_id,
    end_last_audio_token_id=CONFIG.end_last_audio_token_id,
    begin_message_token_id=5,
    eos_token_id=CONFIG.eos_token_id,
    pad_token_id=CONFIG.pad_token_id,
    vocab_size=CONFIG.vocab_size,
)
PAD, EOS, BEGIN, BEGIN_LAST, END_USER = 0, 1, 2, 3, 4
W, C, END, END_LAST = 6, CONFIG.audio_code_offset, CONFIG.end_audio_token_id, CONFIG.end_last_audio_token_id


def example(prompt, reply):
    return {"input_ids": prompt + reply, "labels": [IGNORED] * len(prompt) + reply}


ASKED = [W, BEGIN, C, C + 1, C + 2, END_USER, W]
ANSWERED = example(ASKED, [W, BEGIN, C + 3, C + 4, END, W, BEGIN_LAST, *[C + 5] * 10, END_LAST, EOS])
WRITTEN = example([W, W], [W, W + 1, EOS])
SHORT = example([W], [BEGIN_LAST, C + 6, END_LAST, EOS])


# -------------------------------------------------------------------------------------------------------------- padding


def test_padding_fills_ids_mask_and_labels_on_the_right():
    batch = pad_batch([example([W], [W + 1]), example([W], [BEGIN_LAST, C, END_LAST])], PAD)
    assert batch["input_ids"].tolist() == [[W, W + 1, PAD, PAD], [W, BEGIN_LAST, C, END_LAST]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED, W + 1, IGNORED, IGNORED], [IGNORED, BEGIN_LAST, C, END_LAST]]
    assert all(tensor.dtype == torch.long for tensor in batch.values())


# -------------------------------------------------------------------------------------------------------------- packing


def pack(examples, row_length, pad_token_id):
    """Packed rows as a run lays them: first fit, then side by side."""
    assigned = assign_rows([len(example["input_ids"]) for example in examples], row_length)
    return lay_rows([[examples[i] for i in row] for row in assigned], row_length, pad_token_id)


def test_packing_lays_the_longest_first_wherever_there_is_room():
    a, b, c = example([W], [W + 1] * 4), example([W], [W + 2] * 2), example([W], [W + 3])
    batch = pack([c, a, b], 8, PAD)
    assert batch["input_ids"].tolist() == [[*a["input_ids"], *b["input_ids"]], [*c["input_ids"], *[PAD] * 6]]
    assert batch["labels"].tolist() == [[*a["labels"], *b["labels"]], [*c["labels"], *[IGNORED] * 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 0, 1, 2, 3, 4, 5]]
    assert batch["sample_ids"].tolist() == [[0] * 5 + [1] * 3, [0] * 2 + [-1] * 6]
    assert "attention_mask" not in batch


def test_an_example_longer_than_a_row_is_an_error():
    with pytest.raises(ValueError, match="5 tokens, a packed row only 4"):
        pack([example([W], [W] * 4)], 4, PAD)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_packing_loses_nothing_and_mixes_nothing(lengths):
    examples = [example([n % 7], [W + n % 5] * (length - 1)) for n, length in enumerate(lengths)]
    batch = pack(examples, 12, PAD)
    found = []
    for row in range(len(batch["input_ids"])):
        samples = batch["sample_ids"][row]
        assert (samples[samples >= 0].diff() >= 0).all()
        for sample in range(int(samples.max()) + 1):
            here = samples == sample
            assert batch["position_ids"][row][here].tolist() == list(range(int(here.sum())))
            found.append((batch["input_ids"][row][here].tolist(), batch["labels"][row][here].tolist()))
        assert (batch["labels"][row][samples < 0] == IGNORED).all()
    assert sorted(found) == sorted((e["input_ids"], e["labels"]) for e in examples)


def test_packed_and_padded_batches_have_the_same_losses():
    """The noise is drawn on the padded batch and carried over, so that both see the same."""
    model = tiny_model()
    examples = [ANSWERED, WRITTEN, SHORT]  # longest first: the order in which they are packed
    padded = pad_batch(examples, PAD)
    noised = corrupt(
        padded["input_ids"], padded["labels"], audio_span_ids(padded["input_ids"], VOCABULARY.audio_token_start_id),
        VOCABULARY.mask_token_id, clean_audio_prob=0.0, prefix_preservation_prob=0.0,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert noised.audio_mask.any()
    probs = noised.mask_prob[:, 0]
    with torch.no_grad():
        apart = model(
            noised.input_ids, padded["attention_mask"], labels=padded["labels"], audio_mask=noised.audio_mask,
            mask_prob=probs,
        )  # fmt: skip
    packed = pack(examples, 31, PAD)
    audio_mask = torch.zeros_like(packed["labels"], dtype=torch.bool)
    mask_prob = torch.ones(packed["labels"].shape)
    places = [(0, 0), (0, 1), (1, 0)]  # row and sample of each example: two fill the first row
    for number, (row, sample) in enumerate(places):
        here = packed["sample_ids"][row] == sample
        length = int(here.sum())
        assert packed["input_ids"][row][here].tolist() == examples[number]["input_ids"]
        audio_mask[row, here] = noised.audio_mask[number, :length]
        mask_prob[row, here] = probs[number]
    packed["input_ids"] = packed["input_ids"].masked_fill(audio_mask, VOCABULARY.mask_token_id)
    with torch.no_grad():
        together = model(**packed, audio_mask=audio_mask, mask_prob=mask_prob)
    for name in ("text_loss", "audio_loss", "loss"):
        torch.testing.assert_close(together[name], apart[name], atol=1e-5, rtol=1e-5)
    assert float(apart.audio_loss) > 0


def test_packed_batches_train():
    model = tiny_model().train()
    loss = model(**pack([ANSWERED, WRITTEN, SHORT, ANSWERED], 31, PAD), generator=torch.Generator().manual_seed(0)).loss
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())


# --------------------------------------------------------------------------------------------------------- whole blocks


def test_end_markers_of_the_reply_are_repeated_until_whole_blocks_are_full():
    filled = fill_blocks(ANSWERED, 4, VOCABULARY)
    reply = [W, BEGIN, C + 3, C + 4, END, END, W, BEGIN_LAST, *[C + 5] * 10, END_LAST, END_LAST, EOS]
    assert filled == example(ASKED, reply)


def test_a_span_that_fills_its_blocks_stays_as_it_is():
    whole = example([W], [BEGIN, C, C, C, END, W])
    assert fill_blocks(whole, 4, VOCABULARY) == whole
    assert fill_blocks(whole, 2, VOCABULARY) == whole
    assert fill_blocks(whole, 1, VOCABULARY) == whole


def test_spans_of_the_prompt_are_not_filled():
    earlier_turn = example([W, BEGIN_LAST, C, C, END_LAST, W], [W, EOS])
    assert fill_blocks(earlier_turn, 8, VOCABULARY) == earlier_turn


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 9))
def test_every_filled_span_is_a_multiple_of_the_block_and_ends_in_its_marker(lengths, block_length):
    reply = []
    for number, length in enumerate(lengths):
        is_last = number == len(lengths) - 1
        reply += [W, BEGIN_LAST if is_last else BEGIN, *[C] * length, END_LAST if is_last else END]
    before = example(ASKED, [*reply, EOS])
    filled = fill_blocks(before, block_length, VOCABULARY)
    span_ids = audio_span_ids(torch.tensor([filled["input_ids"]]), VOCABULARY.audio_token_start_id)[0]
    for number, length in enumerate(lengths, start=1):  # span 0 is the user's
        span = [i for i, s in zip(filled["input_ids"], span_ids.tolist(), strict=True) if s == number]
        end = END_LAST if number == len(lengths) else END
        assert len(span) % block_length == 0
        assert len(span) - (length + 1) < block_length
        assert span == [C] * length + [end] * (len(span) - length)
    assert filled["labels"][: len(ASKED)] == [IGNORED] * len(ASKED)
    assert filled["labels"][len(ASKED) :] == filled["input_ids"][len(ASKED) :]


def test_the_example_itself_is_left_alone():
    before = {name: list(values) for name, values in ANSWERED.items()}
    fill_blocks(ANSWERED, 8, VOCABULARY)
    truncate_last_span(ANSWERED, VOCABULARY, random.Random(0))
    assert before == ANSWERED


# ---------------------------------------------------------------------------------------------------------------- SST


def last_span_length(cut, whole):
    assert cut["input_ids"] == whole["input_ids"][: len(cut["input_ids"])]
    assert cut["labels"] == whole["labels"][: len(cut["labels"])]
    length = 0
    for token_id in reversed(cut["input_ids"]):
        if token_id < C:
            return length
        length += 1
    return length


def test_the_last_span_is_cut_between_30_and_90_percent_and_nothing_follows_it():
    whole = example(ASKED, [W, BEGIN, C, C, END, W, BEGIN_LAST, *[C + 5] * 100, END_LAST, EOS])
    rng = random.Random(0)
    lengths = [last_span_length(truncate_last_span(whole, VOCABULARY, rng), whole) for _ in range(2000)]
    assert min(lengths) >= 30 and max(lengths) <= 90
    assert min(lengths) <= 31 and max(lengths) >= 89, "both ends of the range are met"
    assert sum(lengths) / 2000 == pytest.approx(60, abs=4 * 60 / 12**0.5 / 2000**0.5)  # uniform: mean 60 %


def test_each_cut_is_equally_likely():
    whole = example([W], [BEGIN_LAST, *[C] * 100, END_LAST])
    rng = random.Random(1)
    lengths = [last_span_length(truncate_last_span(whole, VOCABULARY, rng), whole) for _ in range(6000)]
    for low in range(30, 90, 10):
        share = sum(low <= length < low + 10 for length in lengths) / 6000
        assert share == pytest.approx(1 / 6, abs=4 * (5 / 36 / 6000) ** 0.5 + 0.5 / 60)


@pytest.mark.parametrize("codes", [1, 2, 3])
def test_a_very_short_span_keeps_at_least_one_code(codes):
    whole = example([W], [BEGIN_LAST, *[C] * codes, END_LAST, EOS])
    for seed in range(50):
        length = last_span_length(truncate_last_span(whole, VOCABULARY, random.Random(seed)), whole)
        assert 1 <= length <= codes


def test_text_after_the_last_span_goes_too():
    whole = example([W], [W, BEGIN_LAST, *[C] * 10, END_LAST, W, W, EOS])
    cut = truncate_last_span(whole, VOCABULARY, random.Random(0))
    assert C <= cut["input_ids"][-1] < END and END_LAST not in cut["input_ids"] and EOS not in cut["input_ids"]


def test_a_reply_without_audio_is_left_as_it_is_also_after_a_spoken_question():
    written = example(ASKED, [W, W + 1, EOS])
    assert truncate_last_span(written, VOCABULARY, random.Random(0)) == written


def test_a_given_source_of_randomness_decides_the_cut():
    cuts = [truncate_last_span(ANSWERED, VOCABULARY, random.Random(seed)) for seed in (1, 1, 2, 3, 4)]
    assert cuts[0] == cuts[1]
    assert any(cut != cuts[0] for cut in cuts)
