"""What happens to an example before it is learnt from, drawn from (seed, epoch, row) alone."""

import pytest
import torch
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    CODEBOOK_SIZE,
    END,
    END_LAST,
    END_USER,
    EOS,
    FIRST_WORD,
    MASK,
    PAD,
    VOCAB_SIZE,
    tiny_model,
)

from finetune.training.collate import lay_rows, pad_batch
from finetune.training.corruption import Objective, corrupt_example, longest_length
from finetune.training.training_data import VALIDATION_EPOCH, Keyed, NoisingCollator
from modeling_ttt.two_streams_ttt import CopyRule
from processing_ttt.vocabulary_ttt import TttVocabulary

VOCABULARY = TttVocabulary(
    audio_token_start_id=AUDIO_START, audio_code_offset=CODE_0, codebook_size=CODEBOOK_SIZE, mask_token_id=MASK,
    end_audio_token_id=END, end_last_audio_token_id=END_LAST, begin_message_token_id=FIRST_WORD,
    begin_audio_token_id=BEGIN,
    begin_last_audio_token_id=BEGIN_LAST, end_user_audio_token_id=END_USER, eos_token_id=EOS, pad_token_id=PAD,
    vocab_size=VOCAB_SIZE,
)  # fmt: skip
W, C = FIRST_WORD + 1, CODE_0
PLAIN = Objective(clean_audio_prob=0.0, prefix_preservation_prob=0.0, span_truncation_prob=0.0)


def spoken(codes=6, words=2):
    """A prompt and a reply of two spans."""
    prompt = [W] * 3
    reply = [W] * words + [BEGIN, *range(C, C + codes), END] + [W, BEGIN_LAST, *range(C, C + codes), END_LAST, EOS]
    return {"input_ids": prompt + reply, "labels": [-100] * 3 + reply}


def transcript():
    prompt = [W, BEGIN, C, C + 1, C + 2, END_USER]
    return {"input_ids": [*prompt, W, W, EOS], "labels": [-100] * 6 + [W, W, EOS]}


def draws(objective, count=400, example=None):
    return [corrupt_example(example or spoken(), 0, 0, row, objective, VOCABULARY) for row in range(count)]


def test_noise_is_decided_by_seed_epoch_and_row_and_not_by_torchs_generator():
    torch.manual_seed(1)
    first = corrupt_example(spoken(), 3, 1, 7, Objective(), VOCABULARY)
    torch.manual_seed(2)
    assert first == corrupt_example(spoken(), 3, 1, 7, Objective(), VOCABULARY)
    others = [
        corrupt_example(spoken(30), *key, PLAIN, VOCABULARY) for key in ((3, 1, 7), (4, 1, 7), (3, 2, 7), (3, 1, 8))
    ]
    assert all(others[0]["audio_mask"] != other["audio_mask"] for other in others[1:])


def test_the_papers_noise_of_an_example_stays_what_it_is():
    """Recorded: a change of it would end resumed runs with other losses than runs that were not stopped."""
    mixed = Objective(block_fill_prob=0.5, block_length=5, replaced_prompt_codes=0.5)
    noised = [corrupt_example(asked(6), 3, 1, row, mixed, VOCABULARY) for row in range(3)]
    assert ["".join(str(int(masked)) for masked in one["audio_mask"]) for one in noised] == [
        "00000000000001011001001000",
        "000000000000000000000000000000",
        "000000000000011010110011010000",
    ]
    assert noised[0]["input_ids"] == [
        *(6, 2, 13, 14, 15, 16, 26, 18, 4, 6, 6, 6, 2),
        *(33, 14, 33, 33, 17, 18, 33, 6, 3, 33, 14, 15, 16),
    ]
    probs = [corrupt_example(asked(6), 3, 1, row, Objective(), VOCABULARY)["mask_prob"][0] for row in range(3)]
    assert probs == pytest.approx([0.3189651, 0.5314761, 0.4819605], rel=1e-6)


def test_only_audio_of_the_reply_is_masked_and_its_labels_stay_clean():
    example = spoken()
    for noised in draws(PLAIN, 50):
        for position, masked in enumerate(noised["audio_mask"]):
            clean = example["input_ids"][position]
            assert noised["input_ids"][position] == (MASK if masked else clean)
            assert not masked or (clean >= AUDIO_START and example["labels"][position] != -100)
        assert noised["labels"] == example["labels"]
        assert len(set(noised["mask_prob"])) == 1
    drawn = draws(PLAIN, 50, transcript())
    assert not any(any(noised["audio_mask"]) for noised in drawn), "a user's audio is given"


def test_each_strategy_happens_as_often_as_asked():
    """Of 400 draws with probability 0.3 the count has a standard deviation of 9.2: four of them on each side."""
    clean = sum(not any(noised["audio_mask"]) for noised in draws(Objective(0.3, 0.0, 0.0), example=spoken(60)))
    assert 83 <= clean <= 157
    preserved = sum(noised["labels"][6] == -100 for noised in draws(Objective(0.0, 0.6, 0.0)))
    assert 83 <= preserved <= 157, "half of the prefixes that are preserved end before the second span"
    cut = sum(EOS not in noised["labels"] for noised in draws(Objective(0.0, 0.0, 0.3)))
    assert 83 <= cut <= 157


def test_truncation_leaves_transcripts_alone():
    assert all(
        noised["labels"] == transcript()["labels"] for noised in draws(Objective(0.0, 0.0, 1.0), 20, transcript())
    )


def test_blocks_are_filled_with_end_markers_where_asked():
    (filled,) = draws(Objective(0.0, 0.0, 0.0, block_fill_prob=1.0, block_length=5), 1)
    assert filled["labels"].count(END) == 4 and filled["labels"].count(END_LAST) == 4, (
        "6 codes and 4 markers are two blocks"
    )


@pytest.fixture(scope="module")
def examples():
    return [spoken(4), transcript(), spoken(9, 4), spoken(2, 1), transcript(), spoken(7, 3)]


def losses(batch):
    model = tiny_model()
    with torch.no_grad():
        out = model(**batch)
    return torch.stack([out.loss, out.text_loss, out.audio_loss])


def test_the_loss_of_a_packed_batch_is_the_mean_over_its_samples_run_alone(examples):
    noised = [corrupt_example(example, 5, 2, row, Objective(), VOCABULARY) for row, example in enumerate(examples)]
    alone = torch.stack([losses(pad_batch([example], PAD)) for example in noised])
    assert float(alone[:, 2].max()) > 0
    for rows in ([[0, 1, 2], [3, 4, 5]], [[5, 0], [4, 3, 2, 1]]):
        packed = lay_rows([[noised[i] for i in row] for row in rows], 90, PAD)
        torch.testing.assert_close(losses(packed), alone.mean(0), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(losses(pad_batch(noised, PAD)), alone.mean(0), atol=2e-5, rtol=1e-5)


def test_padded_and_packed_batches_of_the_collator_learn_the_same(examples):
    keyed = [Keyed(2, row, example) for row, example in enumerate(examples)]
    packs = NoisingCollator(VOCABULARY, Objective(), 5, packs=True)([keyed[:3], keyed[3:]])
    pads = NoisingCollator(VOCABULARY, Objective(), 5, packs=False)([[one] for one in keyed])
    assert "position_ids" in packs and "attention_mask" in pads
    torch.testing.assert_close(losses(packs), losses(pads), atol=2e-5, rtol=1e-5)


def test_rows_of_one_length_learn_the_same(examples):
    keyed = [Keyed(2, row, example) for row, example in enumerate(examples)]
    shortest = NoisingCollator(VOCABULARY, Objective(), 5, packs=True)([keyed[:3], keyed[3:]])
    filled = NoisingCollator(VOCABULARY, Objective(), 5, packs=True, row_length=120)([keyed[:3], keyed[3:]])
    assert shortest["input_ids"].shape[1] < 120 and filled["input_ids"].shape == (2, 120)
    unseen = [[Keyed(VALIDATION_EPOCH, 0, examples[0])]]
    shapes = {
        NoisingCollator(VOCABULARY, Objective(), 5, True, row_length)(unseen)["input_ids"].shape
        for row_length in (None, 120)
    }
    assert len(shapes) == 1  # validation is not compiled
    torch.testing.assert_close(losses(filled), losses(shortest), atol=2e-5, rtol=1e-5)


def asked(codes=400):
    """A spoken question and a reply whose first span may be preserved."""
    reply = spoken()["labels"][3:]
    prompt = [W, BEGIN, *(C + code % CODEBOOK_SIZE for code in range(codes)), END_USER, W]
    return {"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply}


def test_replaced_codes_are_of_the_prompt_alone_and_become_other_codes():
    clean = asked()
    objective = Objective(0.0, 1.0, 0.0, replaced_prompt_codes=1.0)
    first_code, after_codes = 2, 402
    for noised in draws(objective, 20, clean):
        changed = [a != b for a, b in zip(noised["input_ids"], clean["input_ids"], strict=True)]
        assert any(changed[first_code:after_codes])
        assert all(CODE_0 <= i < CODE_0 + CODEBOOK_SIZE for i in noised["input_ids"][first_code:after_codes])
        assert not any(changed[:first_code]) and not any(changed[after_codes : after_codes + 2])
        assert changed[after_codes:] == noised["audio_mask"][after_codes:]  # the reply is masked and nothing else


def test_the_share_of_replaced_codes_is_uniform_up_to_the_largest():
    clean = asked()["input_ids"][2:402]
    shares = [
        sum(a != b for a, b in zip(noised["input_ids"][2:402], clean, strict=True)) / 400 / (1 - 1 / CODEBOOK_SIZE)
        for noised in draws(Objective(0.0, 0.0, 0.0, replaced_prompt_codes=0.2), 200, asked())
    ]
    assert max(shares) < 0.27 and abs(sum(shares) / len(shares) - 0.1) < 0.015
    assert min(shares) < 0.02 and sum(share > 0.1 for share in shares) in range(70, 131)


def test_without_replaced_codes_all_else_is_drawn_alike():
    drawn = draws(Objective(0.3, 0.3, 0.5), 50, asked())
    replaced = draws(Objective(0.3, 0.3, 0.5, replaced_prompt_codes=0.3), 50, asked())
    for plain, other in zip(drawn, replaced, strict=True):
        assert plain["audio_mask"] == other["audio_mask"] and plain["labels"] == other["labels"]
        assert plain["input_ids"][402:] == other["input_ids"][402:]


# ------------------------------------------------------------------------------------------------ copies of the blocks

RULE = CopyRule(AUDIO_START, MASK, (END, END_LAST), block_length=5)
COPIES = Objective(copies=RULE)  # of the strategies' default probabilities none may show


def test_copies_are_behind_the_clean_example_and_decided_by_seed_epoch_and_row():
    example = spoken()
    length = len(example["input_ids"])
    first = corrupt_example(example, 3, 1, 7, COPIES, VOCABULARY)
    assert first == corrupt_example(example, 3, 1, 7, COPIES, VOCABULARY)
    views = [
        corrupt_example(spoken(30), *key, COPIES, VOCABULARY) for key in ((3, 1, 7), (4, 1, 7), (3, 2, 7), (3, 1, 8))
    ]
    assert all(views[0]["input_ids"] != other["input_ids"] for other in views[1:])
    for noised in draws(COPIES, 50):
        assert noised["input_ids"][:length] == example["input_ids"] and noised["labels"][:length] == example["labels"]
        assert noised["position_ids"][:length] == list(range(length)) and set(noised["copy_ids"][:length]) == {0}
        assert len(noised["input_ids"]) == length + 20 == longest_length(example, COPIES, VOCABULARY)
        assert 0 not in noised["copy_ids"][length:] and MASK in noised["input_ids"][length:]


def test_copies_that_do_not_fit_are_left_out_and_codes_of_the_prompt_are_replaced():
    example = asked(6)
    length = len(example["input_ids"])
    short = Objective(copies=RULE, max_length=length + 12, replaced_prompt_codes=1.0)
    views = draws(short, 40, example)
    assert all(len(noised["input_ids"]) == length + 10 < longest_length(example, short, VOCABULARY) for noised in views)
    assert longest_length(example, Objective(copies=RULE, max_length=length - 1), VOCABULARY) == length
    assert len({noised["position_ids"][length] for noised in views}) == 2, "of both spans now and then"
    changed = [
        a != b for noised in views for a, b in zip(noised["input_ids"][:length], example["input_ids"], strict=True)
    ]
    assert any(changed) and not any(changed[i] for i in range(len(changed)) if not 2 <= i % length < 8)


def test_packed_and_padded_batches_with_copies_learn_the_mean_over_samples_run_alone(examples):
    keyed = [Keyed(2, row, example) for row, example in enumerate(examples)]
    collators = [NoisingCollator(VOCABULARY, COPIES, 5, packs) for packs in (True, False)]
    alone = torch.stack([losses(collators[0]([[one]])) for one in keyed])
    assert float(alone[:, 2].max()) > 0
    packed, padded = collators[0]([keyed[:3], keyed[3:]]), collators[1]([[one] for one in keyed])
    fixed = NoisingCollator(VOCABULARY, COPIES, 5, True, row_length=240)([keyed[:3], keyed[3:]])
    assert packed["input_ids"].shape[0] == 2 and padded["input_ids"].shape[0] == 6
    assert fixed["input_ids"].shape == (2, 240)
    for batch in (packed, padded, fixed):
        torch.testing.assert_close(losses(batch), alone.mean(0), atol=2e-5, rtol=1e-5)
