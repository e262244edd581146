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
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from modeling_ttt import TttForConditionalGeneration
from modeling_ttt.objective_ttt import corrupt

IGNORED = -100
W, C = FIRST_WORD, CODE_0
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
ATTENTION = ("sdpa", "eager", "flex_attention")


def logits_of(model, ids, **kwargs):
    with torch.no_grad():
        return model(torch.tensor([ids]), **kwargs).logits[0]


def labels_of(ids, learnt_from):
    return [IGNORED] * learnt_from + ids[learnt_from:]


# ------------------------------------------------------------------------------------------------------------------- mask


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
    """The negative control: a causal mask, spans that see each other, and everything visible are all far from the model."""
    model = tiny_model(backbone)
    slow = slow_reference.SlowTtt(model)
    ids = [W, BEGIN, C, C + 1, C + 2, END, W, BEGIN_LAST, C + 3, C + 4, END_LAST, W]
    n = range(len(ids))
    sound = [token_id >= AUDIO_START for token_id in ids]
    wrong = {
        "causal": [[j <= i for j in n] for i in n],
        "all sound sees all sound": [[j <= i or (sound[i] and sound[j]) for j in n] for i in n],
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
    causal = model.modality_aware_mask(embeddings, torch.full((1, len(ids)), -1), torch.ones(1, len(ids)))
    visible = [[j <= i for j in range(len(ids))] for i in range(len(ids))]
    expected = slow_reference.SlowTtt(model).logits(ids, visible)
    torch.testing.assert_close(logits_of(model, ids, attention_mask=causal), expected, **CLOSE)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_scoring_in_two_parts_over_the_cache_equals_scoring_at_once(backbone):
    model = tiny_model(backbone)
    ids = [W, BEGIN, C, C, END, W, W, BEGIN, C, MASK, C]
    with torch.no_grad():
        first = model(torch.tensor([ids[:7]]), use_cache=True)
        second = model(torch.tensor([ids[7:]]), past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1)[0], logits_of(model, ids), **CLOSE)


# ---------------------------------------------------------------------------------------------------------------- packing


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


# The first ends and the second begins with sound: only the sample ids tell the two spans apart.
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
        sound = torch.tensor(sample) >= AUDIO_START
        masked = sound & (torch.rand(len(sample), generator=generator) < 0.5)
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
            ids, attention_mask, labels=stacked(clean, 12, IGNORED),
            audio_mask=stacked(masks, 12, False), mask_prob=torch.tensor(probs),
        )  # fmt: skip
    groups = [[0, 1, 2], [3]]
    batch = packed([[noisy[i] for i in group] for group in groups], 22)
    with torch.no_grad():
        together = model(
            **batch, labels=stacked(clean, 22, IGNORED), audio_mask=stacked(masks, 22, False),
            mask_prob=stacked([[p] * len(row) for p, row in zip(probs, noisy, strict=True)], 22, 1.0),
        )  # fmt: skip
    for name in ("text_loss", "audio_loss", "loss"):
        torch.testing.assert_close(together[name], padded[name], **CLOSE)


# ------------------------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_equal_the_slow_restatement(backbone):
    model = tiny_model(backbone)
    slow = slow_reference.SlowTtt(model)
    rows = [conversation(seed, 20) for seed in range(3)] + [[W] * 20]
    labels = [labels_of(row, 4) for row in rows]
    generator = torch.Generator().manual_seed(1)
    draws = torch.rand(4, 20, generator=generator)
    probs = [0.9, 0.3, 0.6, 0.5]
    masks = [
        [label >= AUDIO_START and bool(draws[r, i] < probs[r]) for i, label in enumerate(labels[r])] for r in range(4)
    ]
    noisy = [[MASK if masks[r][i] else token_id for i, token_id in enumerate(rows[r])] for r in range(4)]
    with torch.no_grad():
        out = model(
            torch.tensor(noisy),
            labels=torch.tensor(labels),
            audio_mask=torch.tensor(masks),
            mask_prob=torch.tensor(probs),
        )
    text, audio = slow_reference.joint_loss(
        torch.stack([slow.logits(row) for row in noisy]), labels, masks, [[p] * 20 for p in probs], AUDIO_START
    )
    assert audio > 0
    assert float(out.text_loss) == pytest.approx(text, rel=1e-4)
    assert float(out.audio_loss) == pytest.approx(audio, rel=1e-4)
    assert float(out.loss) == pytest.approx(text + audio, rel=1e-4)


def test_the_text_loss_of_text_is_the_causal_language_models_own():
    model = tiny_model("llama")
    slow = slow_reference.SlowTtt(model).causal_lm
    ids = torch.tensor([[W, W + 2, W + 1, W + 3, W, W + 4]])
    with torch.no_grad():
        ours, theirs = model(ids, labels=ids), slow(ids, labels=ids)
    torch.testing.assert_close(ours.text_loss, theirs.loss, **CLOSE)
    assert float(ours.audio_loss) == 0


def batch_to_learn(rows=4):
    ids = torch.tensor([conversation(seed, 20) for seed in range(rows)])
    return {"input_ids": ids, "labels": ids.clone()}


def test_evaluation_draws_the_same_noise_every_time_and_touches_no_global_randomness(model):
    batch = batch_to_learn()
    before = torch.get_rng_state()
    with torch.no_grad():
        first, second = model(**batch), model(**batch)
    assert first.loss == second.loss and first.audio_loss == second.audio_loss > 0
    assert torch.equal(before, torch.get_rng_state())


def test_training_draws_reproducible_noise_from_a_generator_and_leaves_the_global_one_alone(model):
    model.train()
    batch = batch_to_learn()
    before = torch.get_rng_state()
    losses = [
        float(model(**batch, generator=torch.Generator().manual_seed(seed)).audio_loss.detach()) for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(before, torch.get_rng_state())


def test_training_without_a_generator_draws_from_the_global_one(model):
    model.train()
    batch = batch_to_learn()
    with torch.random.fork_rng():
        losses = []
        for seed in (1, None, 1):
            if seed is not None:
                torch.manual_seed(seed)
            losses.append(float(model(**batch).audio_loss.detach()))
    assert losses[0] == losses[2] != losses[1]


def test_the_model_noises_its_own_input(model):
    """With one maskable position and p = 1 nothing is left to chance: the loss is that of the masked sequence."""
    ids = torch.tensor([[W, BEGIN, C + 7, W]])
    labels = torch.tensor([[IGNORED, IGNORED, C + 7, W]])
    model.config.clean_audio_prob = 0.0
    model.train()
    found = {False: None, True: None}
    masked = torch.tensor([[W, BEGIN, MASK, W]])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        out = model(ids, labels=labels, generator=generator)
        was_masked = float(out.audio_loss.detach()) > 0
        found[was_masked] = out.logits.detach()
    torch.testing.assert_close(found[True], model(masked).logits.detach(), **CLOSE)
    torch.testing.assert_close(found[False], model(ids).logits.detach(), **CLOSE)


def test_the_noise_of_packed_rows_is_drawn_sample_by_sample(model):
    """Two samples whose spans touch: each has one span only, so nothing is preserved, whatever PPM draws."""
    model.config.clean_audio_prob, model.config.prefix_preservation_prob = 0.0, 1.0
    model.train()
    ids = torch.tensor([[W, BEGIN, C, C + 1, C + 2, C + 3, C + 4, W]])
    sample_ids = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    position_ids = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])
    for seed in range(5):
        packed = {"position_ids": position_ids, "sample_ids": sample_ids}
        own = model(ids, labels=ids, generator=torch.Generator().manual_seed(seed), **packed)
        noised = corrupt(
            ids,
            ids,
            torch.tensor([[-1, -1, 0, 0, 0, 1, 1, -1]]),
            MASK,
            clean_audio_prob=0.0,
            prefix_preservation_prob=1.0,
            sample_ids=sample_ids,
            generator=torch.Generator().manual_seed(seed),
        )
        given = model(
            noised.input_ids,
            labels=ids,
            audio_mask=noised.audio_mask,
            mask_prob=noised.mask_prob,
            **packed,
        )
        torch.testing.assert_close(own.audio_loss, given.audio_loss)
        torch.testing.assert_close(own.text_loss, given.text_loss)


def test_given_noise_is_taken_as_it_is(model):
    ids = torch.tensor([[W, BEGIN, MASK, C, W]])
    labels = torch.tensor([[IGNORED, IGNORED, C, C, W]])
    audio_mask = ids == MASK
    with torch.no_grad():
        out = model(ids, labels=labels, audio_mask=audio_mask, mask_prob=torch.tensor([0.25]))
    nats = -out.logits[0, 2].log_softmax(-1)[C]
    torch.testing.assert_close(out.audio_loss, nats / 0.25 / 2)
    per_position = model(ids, labels=labels, audio_mask=audio_mask, mask_prob=torch.full((1, 5), 0.25))
    assert per_position.audio_loss == out.audio_loss


def test_one_of_audio_mask_and_mask_prob_is_not_enough(model):
    ids = torch.tensor([[W, C]])
    with pytest.raises(ValueError, match="`audio_mask` and `mask_prob` belong together"):
        model(ids, labels=ids, audio_mask=ids == C)
    with pytest.raises(ValueError, match="`audio_mask` and `mask_prob` belong together"):
        model(ids, labels=ids, mask_prob=torch.ones(1))


def test_ids_or_embeddings_but_not_both(model):
    ids = torch.tensor([[W, W]])
    embeddings = model.get_input_embeddings()(ids)
    with torch.no_grad():
        torch.testing.assert_close(model(inputs_embeds=embeddings).logits, model(ids).logits)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model(ids, inputs_embeds=embeddings)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model()
    with pytest.raises(ValueError, match="`labels` need `input_ids`"):
        model(inputs_embeds=embeddings, labels=ids)


def test_labels_need_every_position(model):
    ids = torch.tensor([[W, W]])
    with pytest.raises(ValueError, match="logits_to_keep"):
        model(ids, labels=ids, logits_to_keep=1)


def test_missing_ids_are_errors_that_name_the_field():
    model = tiny_model(audio_token_start_id=None, audio_code_offset=None)
    with pytest.raises(ValueError, match=r"config\.audio_token_start_id"):
        model(torch.tensor([[W]]))
    model = tiny_model(mask_token_id=None)
    with pytest.raises(ValueError, match=r"config\.mask_token_id"):
        model(torch.tensor([[W]]), labels=torch.tensor([[W]]))


def test_only_the_asked_positions_are_scored(model):
    ids = torch.tensor([conversation(0, 10)])
    with torch.no_grad():
        whole = model(ids).logits
        torch.testing.assert_close(model(ids, logits_to_keep=3).logits, whole[:, -3:])
        torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([2, 5])).logits, whole[:, [2, 5]])


# ----------------------------------------------------------------------------------------------------- output projection


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


# --------------------------------------------------------------------------------------------------- training and precision


class _Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.rows = [
            {"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)}
            for ids in ([[W, W + 1, W + 2, W + 3]] * 3 + [[W, W + 2, W + 1, W]])
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_accumulating_gradients_over_steps_is_one_large_batch(tmp_path):
    """The loss is a mean over samples, so the trainer must divide by the number of accumulated steps."""
    assert TttForConditionalGeneration.accepts_loss_kwargs is False
    weights = []
    for batch_size, steps in ((4, 1), (1, 4)):
        model = tiny_model()
        arguments = TrainingArguments(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps,
            learning_rate=0.1, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=_Rows()).train()
        weights.append(model.lm_head.weight.detach().clone())
    moved = (weights[0] - tiny_model().lm_head.weight.detach()).abs().max()
    torch.testing.assert_close(weights[0], weights[1], atol=1e-3 * float(moved), rtol=0)


def test_gradient_checkpointing_gives_the_same_gradients(model):
    model.train()
    batch = batch_to_learn(2)
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch, generator=torch.Generator().manual_seed(0)).loss.backward()
        gradients.append(model.lm_head.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bfloat16_scores_and_learns_within_its_precision():
    """bfloat16 keeps 8 bits: on logits of size about 5, through two layers, a mean error below 0.1 is rounding and not a fault."""
    model = tiny_model()
    ids = torch.tensor([conversation(0)])
    with torch.no_grad():
        exact = model(ids, labels=ids)
        half = model.to(torch.bfloat16)(ids, labels=ids)
    assert half.logits.dtype == torch.bfloat16
    assert (half.logits.float() - exact.logits).abs().mean() < 0.1
    assert float(half.loss) == pytest.approx(float(exact.loss), rel=0.05)
    model.train()(ids, labels=ids).loss.backward()
    assert model.lm_head.weight.grad.isfinite().all()
    new_ids = model.eval().generate(ids, max_new_tokens=10, block_length=4)
    assert new_ids.shape[1] <= ids.shape[1] + 10


def test_a_tuple_is_returned_where_it_is_asked_for(model):
    ids = torch.tensor([conversation(0)])
    expected = model(ids, labels=ids)
    loss, logits, *_ = model(ids, labels=ids, return_dict=False)
    assert loss == expected.loss
    assert torch.equal(logits, expected.logits)


def test_a_plain_language_model_loads_as_the_backbone(model, tmp_path):
    model.model.save_pretrained(tmp_path)
    loaded, report = TttForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.config.text_config.to_dict() | {"dtype": None} == model.model.config.to_dict() | {"dtype": None}
    assert loaded.config.eos_token_id == model.model.config.eos_token_id
    assert report["missing_keys"] == {"lm_head.weight"}
    ids = torch.tensor([conversation(0)])
    assert torch.equal(loaded.model(ids).last_hidden_state, model.model(ids).last_hidden_state)
    with pytest.raises(ValueError, match="audio_token_start_id"):
        loaded(ids)
