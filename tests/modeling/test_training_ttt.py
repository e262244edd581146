"""What the model learns from: its losses, its noise, its gradients, and its precision."""

import pytest
import slow_reference
import torch
from modeling_fixtures import (
    AUDIO_START,
    BACKBONES,
    BEGIN,
    CODE_0,
    FIRST_WORD,
    MASK,
    conversation,
    tiny_model,
)

from modeling_ttt import TttForConditionalGeneration
from modeling_ttt.objective_ttt import corrupt, fixed_noise

IGNORED = -100
W, C = FIRST_WORD, CODE_0
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def labels_of(ids, learnt_from):
    return [IGNORED] * learnt_from + ids[learnt_from:]


# ----------------------------------------------------------------------------------------------------------------- loss


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


def test_the_papers_objective_keeps_its_losses():
    """Recorded: what the model draws by itself, in training and in evaluation, and what it loses, stay the same."""
    ids = torch.tensor([conversation(seed, 30) for seed in range(4)])
    labels = torch.tensor([labels_of(row, 4) for row in ids.tolist()])
    model = tiny_model()
    assert model.config.objective == "paper"
    with torch.no_grad():
        learnt = model.train()(ids, labels=labels, generator=torch.Generator().manual_seed(5))
        measured = model.eval()(ids, labels=labels)
    assert (float(learnt.text_loss), float(learnt.audio_loss)) == pytest.approx((7.5247092, 3.4068844), rel=1e-5)
    assert (float(measured.text_loss), float(measured.audio_loss)) == pytest.approx((7.5175705, 5.9350228), rel=1e-5)


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
    """Two samples of two spans each, the last of one touching the first of the other."""
    model.config.clean_audio_prob, model.config.prefix_preservation_prob = 0.0, 1.0
    model.train()
    ids = torch.tensor([[W, C, C + 1, W, C + 2, C + 3, C + 4, W, C + 5, C + 6]])
    span_ids = torch.tensor([[-1, 0, 0, -1, 1, 2, 2, -1, 3, 3]])
    sample_ids = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]])
    position_ids = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]])
    for seed in range(8):
        packed = {"position_ids": position_ids, "sample_ids": sample_ids}
        own = model(ids, labels=ids, generator=torch.Generator().manual_seed(seed), **packed)
        noised = corrupt(
            ids,
            ids,
            span_ids,
            MASK,
            clean_audio_prob=0.0,
            prefix_preservation_prob=1.0,
            sample_ids=sample_ids,
            generator=torch.Generator().manual_seed(seed),
        )
        given = model(
            noised.input_ids,
            labels=noised.labels,
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


@pytest.mark.parametrize("packed", [False, True])
def test_losses_and_gradients_without_logits_are_those_with_them(model, packed):
    """Scored are the positions that predict something, and no others: as many as there are targets."""
    rows = [conversation(0, 24), conversation(3, 20)]
    if packed:
        ids = torch.tensor([rows[0] + rows[1]])
        sample_ids = torch.tensor([[0] * len(rows[0]) + [1] * len(rows[1])])
    else:
        ids, sample_ids = torch.tensor([rows[0], rows[0]]), None
    labels = ids.clone()
    labels[:, :4] = -100
    audio_mask = (ids >= model.audio_token_start_id) & (torch.arange(ids.shape[1]) % 2 == 0) & (labels != -100)
    given = {
        "input_ids": ids.masked_fill(audio_mask, model.config.mask_token_id),
        "labels": labels,
        "audio_mask": audio_mask,
        "mask_prob": torch.full(ids.shape, 0.5),
        "sample_ids": sample_ids,
    }
    scored = []
    hook = model.lm_head.register_forward_hook(lambda module, args, output: scored.append(output.shape[:-1].numel()))
    results = []
    for skip in (False, True):
        model.zero_grad()
        output = model(**given, skip_logits=skip)
        output.loss.backward()
        results.append((output, [parameter.grad.clone() for parameter in model.parameters()]))
    hook.remove()
    (whole, gradients), (short, short_gradients) = results
    assert short.logits is None and whole.logits.shape[:2] == ids.shape
    assert float(whole.text_loss.detach()) > 0 and float(whole.audio_loss.detach()) > 0
    for name in ("loss", "text_loss", "audio_loss"):
        torch.testing.assert_close(short[name], whole[name], **CLOSE)
    torch.testing.assert_close(short_gradients, gradients, **CLOSE)
    assert scored[0] == ids.numel()
    assert 0 < scored[1] < ids.numel() - 8, "not the prompt, and not the audio that was not masked"


def test_without_labels_the_logits_cannot_be_skipped(model):
    with pytest.raises(ValueError, match="`skip_logits` leaves nothing to return without `labels`"):
        model(torch.tensor([[W, W]]), skip_logits=True)


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


def test_a_tuple_is_returned_where_it_is_asked_for(model):
    ids = torch.tensor([conversation(0)])
    expected = model(ids, labels=ids)
    loss, logits, *_ = model(ids, labels=ids, return_dict=False)
    assert loss == expected.loss
    assert torch.equal(logits, expected.logits)


def test_a_plain_language_model_loads_as_the_backbone(model, tmp_path):
    model.model.save_pretrained(tmp_path)
    loaded, report = TttForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    apart = {"dtype": None, "architectures": None}
    assert loaded.config.text_config.to_dict() | apart == model.model.config.to_dict() | apart
    assert loaded.config.eos_token_id == model.model.config.eos_token_id
    assert report["missing_keys"] == {"lm_head.weight"}
    ids = torch.tensor([conversation(0)])
    assert torch.equal(loaded.model(ids).last_hidden_state, model.model(ids).last_hidden_state)
    with pytest.raises(ValueError, match="audio_token_start_id"):
        loaded(ids)


def test_evaluation_noise_belongs_to_the_sample_wherever_it_is(model):
    """
    Losses of a sample alone, at any place of a batch, behind padding and packed with others are the same, and not all
    samples are clean.
    """
    rows = [conversation(seed, 20) for seed in range(6)]
    padded = [[*row, 0, 0, 0] for row in rows]
    labels = [[*labels_of(row, 4), *[IGNORED] * 3] for row in rows]
    alone = [fixed_noise(torch.tensor([row]), torch.tensor([labels_of(row, 4)])) for row in rows]
    together = fixed_noise(torch.tensor(padded[::-1]), torch.tensor(labels[::-1]))
    packed = fixed_noise(
        torch.tensor([rows[2] + rows[5]]),
        torch.tensor([labels_of(rows[2], 4) + labels_of(rows[5], 4)]),
        torch.tensor([[0] * 20 + [1] * 20]),
    )
    for number, noise in enumerate(alone):
        assert torch.equal(noise.samples[:, 0], together.samples[:, 5 - number])
        assert torch.equal(noise.positions[0, 4:], together.positions[5 - number, 4:20])
    assert torch.equal(packed.samples, torch.cat([alone[2].samples, alone[5].samples], dim=1))
    assert torch.equal(packed.positions[0, 24:], alone[5].positions[0, 4:])
    assert len({float(noise.samples[0, 0]) for noise in alone}) == 6
    with torch.no_grad():
        mean = (
            sum(float(model(torch.tensor([row]), labels=torch.tensor([labels_of(row, 4)])).audio_loss) for row in rows)
            / 6
        )
        whole = model(torch.tensor(rows), labels=torch.tensor([labels_of(row, 4) for row in rows])).audio_loss
    assert float(whole) == pytest.approx(mean, rel=1e-5) and mean > 0


def test_packed_samples_are_apart_whatever_mask_and_positions_come_with_them(model):
    one, two = conversation(1, 20), conversation(2, 17)
    ids, sample_ids = torch.tensor([one + two + [0, 0]]), torch.tensor([[0] * 20 + [1] * 17 + [-1] * 2])
    positions = torch.tensor([[*range(20), *range(17), 0, 1]])
    ones = torch.ones_like(ids)
    with torch.no_grad():
        alone = model(torch.tensor([two])).logits[0]
        for options in (
            {},
            {"position_ids": positions},
            {"attention_mask": ones},
            {"attention_mask": ones, "position_ids": positions},
        ):
            packed = model(ids, sample_ids=sample_ids, **options).logits[0, 20:37]
            torch.testing.assert_close(packed, alone, **CLOSE)
