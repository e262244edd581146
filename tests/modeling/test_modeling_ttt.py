import copy

import pytest
import slow_reference
import torch
from modeling_fixtures import (
    AUDIO_START,
    BACKBONES,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    CODEBOOK_SIZE,
    END,
    END_LAST,
    FIRST_WORD,
    MASK,
    PAD,
    VOCAB_SIZE,
    conversation,
    left_padded,
    tiny_config,
    tiny_model,
)
from transformers import AutoModelForCausalLM

from modeling_ttt import TttForConditionalGeneration
from modeling_ttt.masking_ttt import modality_aware_mask

IGNORED = -100
W, C = FIRST_WORD, CODE_0
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
ATTENTION = ("sdpa", "eager", "flex_attention")


def logits_of(model, ids, **kwargs):
    with torch.no_grad():
        return model(torch.tensor([ids]), **kwargs).logits[0]


def labels_of(ids, learnt_from):
    return [IGNORED] * learnt_from + ids[learnt_from:]


# ----------------------------------------------------------------------------------------------------------------- mask


def test_the_mask_of_a_worked_example():
    #        word  begin code code word  code
    ids = [W, BEGIN, C, C, W, C]
    expected = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],  # the first code sees the second: one span
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
    ]
    assert [[int(sees) for sees in row] for row in slow_reference.may_see(ids, AUDIO_START)] == expected
    model = tiny_model()
    with torch.no_grad():
        out = tiny_model(attn_implementation="eager")(torch.tensor([ids]), output_attentions=True)
    for attention in out.attentions:
        assert (attention[0] > 0).int().tolist() == [expected] * attention.shape[1]
    torch.testing.assert_close(out.logits, model(torch.tensor([ids])).logits, **CLOSE)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_logits_equal_the_slow_restatement(backbone, attention, uncompiled_flex_attention):
    model = tiny_model(backbone, attn_implementation=attention)
    slow = slow_reference.SlowTtt(model)
    for seed in range(3):
        ids = conversation(seed)
        torch.testing.assert_close(logits_of(model, ids), slow.logits(ids), **CLOSE)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_wrong_masks_give_other_logits(backbone):
    """
    The negative control: a causal mask, spans that see each other, and everything visible are all far from the model.
    """
    model = tiny_model(backbone)
    slow = slow_reference.SlowTtt(model)
    ids = [W, BEGIN, C, C + 1, C + 2, END, W, BEGIN_LAST, C + 3, C + 4, END_LAST, W]
    n = range(len(ids))
    is_audio = [token_id >= AUDIO_START for token_id in ids]
    wrong = {
        "causal": [[j <= i for j in n] for i in n],
        "all audio sees all audio": [[j <= i or (is_audio[i] and is_audio[j]) for j in n] for i in n],
        "bidirectional": [[True for j in n] for i in n],
        "begin marker sees its span": [
            [j <= i or (6 < i < 11 and 6 < j < 11) or (1 < i < 6 and 1 < j < 6) for j in n] for i in n
        ],
    }
    for name, visible in wrong.items():
        assert (slow.logits(ids, visible) - logits_of(model, ids)).abs().max() > 0.1, name


def test_masked_spans_see_themselves_whole_as_clean_ones_do():
    model = tiny_model()
    ids = [W, BEGIN, MASK, MASK, C, MASK]
    torch.testing.assert_close(logits_of(model, ids), slow_reference.SlowTtt(model).logits(ids), **CLOSE)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_left_padding_changes_nothing(backbone, attention, uncompiled_flex_attention):
    model = tiny_model(backbone, attn_implementation=attention)
    rows = [conversation(1, 17), conversation(2, 9), conversation(3, 12)]
    with torch.no_grad():
        batch = model(**left_padded(rows, width=20)).logits
    for logits, row in zip(batch, rows, strict=True):
        torch.testing.assert_close(logits[-len(row) :], logits_of(model, row), **CLOSE)


def test_right_padding_changes_nothing():
    model = tiny_model()
    rows = [conversation(1, 17), conversation(2, 9)]
    ids = torch.tensor([row + [PAD] * (20 - len(row)) for row in rows])
    with torch.no_grad():
        batch = model(ids, (ids != PAD).long()).logits
    for logits, row in zip(batch, rows, strict=True):
        torch.testing.assert_close(logits[: len(row)], logits_of(model, row), **CLOSE)


def test_a_left_padded_batch_has_finite_gradients(model):
    inputs = left_padded([conversation(1, 17), conversation(2, 9)], width=20)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
    model.train()(**inputs, labels=labels, generator=torch.Generator().manual_seed(0)).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_ready_mask_passes_through(backbone, attention):
    """Also one that says something else than the ids: here that no audio span is seen whole."""
    model = tiny_model(backbone, attn_implementation=attention)
    ids = [W, BEGIN, C, C + 1, C + 2, END, W]
    embeddings = model.get_input_embeddings()(torch.tensor([ids]))
    causal = modality_aware_mask(model.model.config, embeddings, torch.full((1, len(ids)), -1), torch.ones(1, len(ids)))
    visible = [[j <= i for j in range(len(ids))] for i in range(len(ids))]
    expected = slow_reference.SlowTtt(model).logits(ids, visible)
    torch.testing.assert_close(logits_of(model, ids, attention_mask=causal), expected, **CLOSE)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_scoring_in_two_parts_over_the_cache_equals_scoring_at_once(backbone):
    model = tiny_model(backbone)
    ids = [W, BEGIN, C, C, END, W, W, BEGIN, C, MASK, C]
    with torch.no_grad():
        first = model(torch.tensor([ids[:7]]), use_cache=True)
        second = model(torch.tensor([ids[7:]]), cache=first.cache)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1)[0], logits_of(model, ids), **CLOSE)


@pytest.mark.filterwarnings("ignore:.*past_key_values:FutureWarning")
def test_the_cache_is_also_known_by_its_old_name():
    model = tiny_model()
    first = model(torch.tensor([[W, W + 1]]), use_cache=True)
    assert first.past_key_values is first.cache
    second = model(torch.tensor([[W + 2]]), past_key_values=first.past_key_values)
    torch.testing.assert_close(second.logits[0, 0], logits_of(model, [W, W + 1, W + 2])[2], **CLOSE)


# -------------------------------------------------------------------------------------------------------------- packing


def packed(rows, length):
    """Rows of samples, one after the other, with what the model needs to keep them apart."""
    batch = {name: [] for name in ("input_ids", "position_ids", "sample_ids")}
    for samples in rows:
        ids = [token_id for sample in samples for token_id in sample]
        fill = length - len(ids)
        batch["input_ids"].append(ids + [PAD] * fill)
        batch["position_ids"].append([i for sample in samples for i in range(len(sample))] + list(range(fill)))
        batch["sample_ids"].append([n for n, sample in enumerate(samples) for _ in sample] + [-1] * fill)
    return {name: torch.tensor(values) for name, values in batch.items()}


# The first ends and the second begins with audio: only the sample ids separate the two spans.
SAMPLES = [[W, BEGIN, C, C + 1, C + 2], [C + 3, C + 4, W, W + 1, BEGIN, C + 5], conversation(4, 9), conversation(5, 12)]


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_packed_samples_are_scored_as_if_alone(backbone, attention, uncompiled_flex_attention):
    model = tiny_model(backbone, attn_implementation=attention)
    batch = packed([SAMPLES[:3], SAMPLES[3:]], 22)
    with torch.no_grad():
        logits = model(**batch).logits
    for row, samples in enumerate([SAMPLES[:3], SAMPLES[3:]]):
        start = 0
        for sample in samples:
            torch.testing.assert_close(logits[row, start : start + len(sample)], logits_of(model, sample), **CLOSE)
            start += len(sample)


def test_packed_samples_lose_as_padded_ones_do(model):
    generator = torch.Generator().manual_seed(0)
    noisy, masks, clean = [], [], []
    for sample in SAMPLES:
        is_audio = torch.tensor(sample) >= AUDIO_START
        masked = is_audio & (torch.rand(len(sample), generator=generator) < 0.5)
        masks.append(masked.tolist())
        noisy.append(torch.tensor(sample).masked_fill(masked, MASK).tolist())
        clean.append(labels_of(sample, 1))
    probs = [0.2, 0.5, 0.7, 0.9]

    def stacked(rows, length, fill):
        return torch.tensor(
            [[x for i in row for x in rows[i]] + [fill] * (length - sum(len(rows[i]) for i in row)) for row in groups]
        )

    groups = [[0], [1], [2], [3]]
    ids = stacked(noisy, 12, PAD)
    attention_mask = stacked([[1] * len(row) for row in noisy], 12, 0)
    with torch.no_grad():
        padded = model(
            ids,
            attention_mask,
            labels=stacked(clean, 12, IGNORED),
            audio_mask=stacked(masks, 12, False),
            mask_prob=torch.tensor(probs),
        )
    groups = [[0, 1, 2], [3]]
    batch = packed([[noisy[i] for i in group] for group in groups], 22)
    with torch.no_grad():
        together = model(
            **batch,
            labels=stacked(clean, 22, IGNORED),
            audio_mask=stacked(masks, 22, False),
            mask_prob=stacked([[p] * len(row) for p, row in zip(probs, noisy, strict=True)], 22, 1.0),
        )
    for name in ("text_loss", "audio_loss", "loss"):
        torch.testing.assert_close(together[name], padded[name], **CLOSE)


# ---------------------------------------------------------------------------------------------------- output projection


def test_text_and_audio_logits_are_the_columns_of_the_whole_projection(model):
    hidden = torch.randn(2, 3, model.config.text_config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, text, audio = model.lm_head(hidden), model.text_logits(hidden), model.audio_logits(hidden)
    torch.testing.assert_close(text[..., :AUDIO_START], whole[..., :AUDIO_START])
    assert text.shape == whole.shape and (text[..., AUDIO_START:] == -torch.inf).all()
    eligible = [*range(CODE_0, CODE_0 + CODEBOOK_SIZE), END, END_LAST]
    assert model.eligible_audio_ids().tolist() == eligible
    torch.testing.assert_close(audio, whole[..., eligible])


@pytest.mark.parametrize(
    ("backbone", "fields"),
    [
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {"logit_scale": 0.25}),
        ("gemma2", {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}),
    ],
)
def test_backbones_that_scale_their_logits_do_so_here_too(backbone, fields):
    config = tiny_config(backbone, text_config=fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TttForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    theirs = AutoModelForCausalLM.from_config(copy.deepcopy(config.text_config), attn_implementation="eager").eval()
    theirs.load_state_dict(model.state_dict())
    ids = torch.tensor([[W, W + 2, W + 1, W + 3]])
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(model(ids).logits, expected, **CLOSE)
        hidden = model.model(ids).last_hidden_state
        torch.testing.assert_close(model.text_logits(hidden)[..., :AUDIO_START], expected[..., :AUDIO_START], **CLOSE)
        torch.testing.assert_close(model.audio_logits(hidden), expected[..., model.eligible_audio_ids()], **CLOSE)


def test_the_vocabulary_can_grow(model):
    before = logits_of(model, [W, BEGIN, C, C])
    model.resize_token_embeddings(VOCAB_SIZE + 12, mean_resizing=False)
    assert model.config.vocab_size == VOCAB_SIZE + 12
    after = logits_of(model, [W, BEGIN, C, C])
    assert after.shape == (4, VOCAB_SIZE + 12)
    torch.testing.assert_close(after[:, :VOCAB_SIZE], before)
    ids = model.generate(torch.tensor([[W, BEGIN]]), max_new_tokens=8, block_length=4)
    assert ids.max() < VOCAB_SIZE


def test_flash_attention_is_refused_with_the_reason(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    for name in ("flash_attention_2", "kernels-community/flash-attn3"):
        with pytest.raises(ValueError, match=r"takes no mask.*sdpa \(the default\), flex_attention or eager"):
            TttForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=name)
    with pytest.raises(ValueError, match="takes no mask"):
        tiny_model().set_attn_implementation("flash_attention_2")
