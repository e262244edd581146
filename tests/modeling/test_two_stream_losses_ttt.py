"""The objective `two_stream` in the model: what copies see, and what is learnt from them."""

import math

import pytest
import slow_reference
import torch
from modeling_fixtures import AUDIO_START, BACKBONES, BEGIN, END, MASK, PAD, tiny_model
from two_stream_fixtures import BLOCKS, NO, RULE, SAMPLES, C, W, drawn, rows_with_copies, seeded

from modeling_ttt.decoding_ttt import BlockDecoder
from modeling_ttt.masking_ttt import attention_span_ids, copies_mask, number_copies
from modeling_ttt.two_streams_ttt import CopyRule, append_copies, draw_copies, find_copy_targets

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
ATTENTION = ("sdpa", "eager", "flex_attention")


def matrix_of(batch, text_config, embeds, rule=RULE):
    block_length = rule.block_length if rule.is_block_causal else None
    apart = number_copies(batch["sample_ids"], batch["copy_ids"])
    spans = attention_span_ids(batch["input_ids"], AUDIO_START, block_length, apart)
    mask = copies_mask(text_config, embeds, spans, batch["position_ids"], batch["sample_ids"], batch["copy_ids"])
    return next(iter(mask.values())) if isinstance(mask, dict) else mask


def test_the_mask_of_a_worked_example():
    model = tiny_model()
    batch = {
        #             sample 0          its copies           sample 1   a copy    padding
        "input_ids": [W, BEGIN, C, END, MASK, END, C, MASK, BEGIN, END, MASK, PAD, PAD],
        "sample_ids": [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, -1, -1],
        "copy_ids": [0, 0, 0, 0, 1, 1, 2, 2, 0, 0, 1, 0, 0],
        "position_ids": [0, 1, 2, 3, 2, 3, 2, 3, 0, 1, 1, 0, 1],
    }
    expected = [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0],  # a copy: what is before the span, and itself in both directions
        [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    ]  # fmt: skip
    tensors = {name: torch.tensor([values]) for name, values in batch.items()}
    embeds = model.get_input_embeddings()(tensors["input_ids"])
    assert matrix_of(tensors, model.model.config, embeds)[0, 0].int().tolist() == expected
    eager = tiny_model(attn_implementation="eager")
    with torch.no_grad():
        attentions = eager(**tensors, output_attentions=True).attentions
    for attention in attentions:
        assert (attention[0] > 0).int().tolist() == [expected] * attention.shape[1]


@pytest.mark.parametrize("fields", [{}, BLOCKS], ids=["full", "block"])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_equal_the_slow_restatement_copy_by_copy(backbone, attention, fields, uncompiled_flex_attention):
    model = tiny_model(backbone, attn_implementation=attention, **fields)
    rule = CopyRule.from_config(model.config, 4)
    assert rule.is_block_causal == bool(fields)
    slow = slow_reference.SlowTtt(model)
    expected = slow_reference.two_stream_loss(
        slow, [(ids, labels, drawn(ids, labels, rule, seed)) for seed, (ids, labels) in enumerate(SAMPLES)]
    )
    for behind_each in (False, True):
        with torch.no_grad():
            out = model(**rows_with_copies(SAMPLES, rule, behind_each))
        assert (float(out.text_loss), float(out.audio_loss)) == pytest.approx(expected, rel=1e-4)
        assert float(out.loss) == pytest.approx(sum(expected), rel=1e-4)


WINDOWED = {
    "mistral": {"sliding_window": 5},
    "qwen2": {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 4,
        "use_sliding_window": True,
    },
    "llama4_text": {
        "layer_types": ["chunked_attention", "full_attention"],
        "attention_chunk_size": 4,
        "num_local_experts": 2,
        "intermediate_size_mlp": 48,
        "moe_layers": [],
    },
}


@pytest.mark.parametrize("backbone", WINDOWED)
def test_windows_of_a_backbone_are_counted_in_positions(backbone):
    model = tiny_model(backbone, text_config=WINDOWED[backbone])
    batch = rows_with_copies(SAMPLES, behind_each=True)
    with torch.no_grad():
        logits = model(**batch).logits[0]
        for number, (ids, labels) in enumerate(SAMPLES):
            here = batch["sample_ids"][0] == number
            clean = logits[here & (batch["copy_ids"][0] == 0)]
            torch.testing.assert_close(clean, model(torch.tensor([ids])).logits[0], **CLOSE)
            for copy, (position, copy_ids, _) in enumerate(drawn(ids, labels, seed=number), 1):
                alone = model(torch.tensor([ids[:position] + copy_ids])).logits[0, position:]
                torch.testing.assert_close(logits[here & (batch["copy_ids"][0] == copy)], alone, **CLOSE)


@pytest.mark.parametrize("fields", [{}, BLOCKS], ids=["full", "block"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_copy_has_the_token_ids_positions_mask_and_logits_of_the_decoders_query_at_its_block(
    use_cache, fields, monkeypatch
):
    model = tiny_model(**fields)
    rule = CopyRule.from_config(model.config, 4)
    ids, labels = SAMPLES[0]
    batch = rows_with_copies([(ids, labels)], rule)
    copy_ids = batch["copy_ids"][0]
    visible = matrix_of(batch, model.model.config, model.get_input_embeddings()(batch["input_ids"]), rule)[0, 0]
    with torch.no_grad():
        logits = model(**batch).logits[0]
    compared = []

    def run_at_block(decoder: BlockDecoder) -> None:
        """One step, which fills the cache; then the query of the block as the copy has it."""
        decoder.step()
        (state,) = decoder.states
        state.block.copy_(torch.tensor(copy[-4:]))
        query, token_ids = decoder._lay_out()
        decoder._mask = mask = decoder.cache.prepare(query, model.get_input_embeddings()(token_ids))
        mask = next(iter(mask.values())) if isinstance(mask, dict) else mask
        hidden = decoder._forward(query, token_ids)
        compared.append((query, token_ids, mask[0, 0], model.lm_head(hidden[0])))

    monkeypatch.setattr(BlockDecoder, "run", run_at_block)
    for number, (position, copy, _) in enumerate(drawn(ids, labels, rule), 1):
        start = position + len(copy) - 4
        model.generate(torch.tensor([ids[:start]]), max_new_tokens=20, block_length=4, use_cache=use_cache)
        query, token_ids, mask, scores = compared.pop()
        own = slice(-len(copy), None)
        assert token_ids[0, own].tolist() == copy
        assert query.position_ids[0, own].tolist() == batch["position_ids"][0][copy_ids == number].tolist()
        rows = visible[copy_ids == number]
        before, itself = rows[:, copy_ids == 0], rows[:, copy_ids == number]
        assert torch.equal(mask[own], torch.cat([before[:, :position], itself], dim=1))
        assert rows.sum() == mask[own].sum(), "and it sees nothing else"
        torch.testing.assert_close(logits[copy_ids == number], scores[own], **CLOSE)
    assert number >= 2 and not compared


# -------------------------------------------------------------------------------------------------------- the losses


def test_the_loss_of_a_worked_example():
    """Text: 1 and 3 bits of one sample, 4 bits of the other. Audio: masks of 2, 4 and 6 bits in one sample, none."""
    labels = torch.tensor([[NO, 1, 12, 3, NO, 13, 14, 15, NO, 2]])
    copy_ids = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 0, 0]])
    sample_ids = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0, 1, 1]])
    targets = find_copy_targets(labels, copy_ids, AUDIO_START, sample_ids)
    assert targets.text_labels.tolist() == [1, 3, 2] and targets.audio_labels.tolist() == [13, 14, 15]
    bits = torch.tensor([1.0, 3, 4, 2, 4, 6])
    logits = torch.zeros(6, 36).fill_(-1e9)
    logits[torch.arange(6), [1, 3, 2, 13, 14, 15]] = -bits * math.log(2)
    logits[:, 35] = torch.log1p(-(2.0**-bits))  # the rest of the probability
    losses = targets.loss(logits)
    assert float(losses.text_loss) / math.log(2) == pytest.approx(((1 + 3) / 2 + 4) / 2)
    assert float(losses.audio_loss) / math.log(2) == pytest.approx(((2 + 4 + 6) / 3 + 0) / 2)


def two_stream_model(**fields):
    model = tiny_model(objective="two_stream", **fields)
    model.generation_config.block_length = 4
    return model


def losses_of(model, **batch):
    with torch.no_grad():
        out = model(**batch)
    return torch.stack([out.loss, out.text_loss, out.audio_loss])


def padded(samples, left=False):
    longest = max(len(ids) for ids, _ in samples)

    def stack(rows, fill):
        pads = [[fill] * (longest - len(row)) for row in rows]
        return torch.tensor([pad + row if left else row + pad for pad, row in zip(pads, rows, strict=True)])

    ids, labels = zip(*samples, strict=True)
    return {
        "input_ids": stack(ids, PAD),
        "labels": stack(labels, NO),
        "attention_mask": stack([[1] * len(row) for row in ids], 0),
    }


@pytest.mark.parametrize("fields", [{}, BLOCKS], ids=["full", "block"])
def test_evaluation_losses_of_a_sample_are_the_same_alone_padded_and_packed(fields):
    model = two_stream_model(**fields)
    alone = torch.stack([losses_of(model, **padded([sample])) for sample in SAMPLES])
    assert (alone[:2, 2] > 0).all() and float(alone[2, 2]) == 0
    packed = rows_with_copies(SAMPLES)
    is_clean = packed["copy_ids"][0] == 0
    packed = {name: values[:, is_clean] for name, values in packed.items() if name != "copy_ids"}
    for batch in (padded(SAMPLES), padded(SAMPLES[::-1], left=True), packed):
        torch.testing.assert_close(losses_of(model, **batch), alone.mean(0), **CLOSE)


def test_packed_rows_that_position_ids_alone_mark_are_told_apart():
    model = two_stream_model()
    packed = rows_with_copies(SAMPLES)
    is_clean = packed["copy_ids"][0] == 0
    packed = {name: values[:, is_clean] for name, values in packed.items() if name != "copy_ids"}
    by_samples = losses_of(model, **packed)
    del packed["sample_ids"]
    torch.testing.assert_close(losses_of(model, **packed), by_samples, **CLOSE)


def test_in_train_mode_copies_are_drawn_from_the_generator_and_the_logits_are_those_of_the_clean_sequences():
    model = two_stream_model().train()
    batch = padded(SAMPLES)
    before = torch.get_rng_state()
    out = [model(**batch, generator=seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    audio = [float(one.audio_loss.detach()) for one in out]
    assert audio[0] == audio[1] != audio[2]
    text = [float(one.text_loss.detach()) for one in out]
    assert text[0] == text[1] == pytest.approx(text[2]), "text always follows clean audio"
    clean = model(batch["input_ids"], batch["attention_mask"]).logits
    assert out[0].logits.shape == clean.shape
    is_real = batch["attention_mask"] > 0
    torch.testing.assert_close(out[2].logits[is_real], clean[is_real], **CLOSE)


def test_appended_copies_are_those_that_are_drawn_for_each_sample():
    batch = padded(SAMPLES[:2])
    sample_ids = batch["attention_mask"] - 1
    positions = torch.arange(sample_ids.shape[1]).expand_as(sample_ids)
    streams = append_copies(batch["input_ids"], batch["labels"], sample_ids, positions, RULE, [7, 8])
    for row, (seed, (ids, labels)) in enumerate(zip((7, 8), SAMPLES[:2], strict=True)):
        copies, is_copy = draw_copies(ids, labels, RULE, seeded(seed)), streams.copy_ids[row] > 0
        for name, values in vars(copies).items():
            assert getattr(streams, name)[row][is_copy].tolist() == values
        assert (streams.labels[row, sample_ids.shape[1] :][~is_copy[sample_ids.shape[1] :]] == NO).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_the_same_without_logits_and_with_recomputed_activations(checkpointing):
    gradients = []
    for skip_logits in (False, True):
        model = two_stream_model().train()
        if checkpointing and skip_logits:
            model.gradient_checkpointing_enable()
        model(**padded(SAMPLES), generator=seeded(3), skip_logits=skip_logits).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, **CLOSE)
    assert all(gradient.abs().max() > 0 for gradient in gradients[0])


def test_what_does_not_fit_together_is_an_error():
    model = tiny_model()
    ids = torch.tensor([[W, BEGIN, C, END]])
    with pytest.raises(ValueError, match="`copy_ids` need `position_ids` and `sample_ids`"):
        model(ids, copy_ids=torch.zeros_like(ids))
    given = {"copy_ids": ids * 0, "position_ids": ids * 0, "sample_ids": ids * 0}
    with pytest.raises(ValueError, match="leave out `audio_mask`"):
        model(ids, labels=ids, audio_mask=ids > 0, mask_prob=torch.ones(1), **given)
    with pytest.raises(ValueError, match="`objective` is one of paper, two_stream, got 'two_streams'"):
        tiny_model(objective="two_streams")
    for mask, reason in (([[1, 0, 1, 1]], "between others"), ([[[[1] * 4] * 4]], "four dimensions")):
        with pytest.raises(ValueError, match=reason):
            two_stream_model()(ids, labels=ids, attention_mask=torch.tensor(mask))
    with pytest.raises(ValueError, match="mask_token_id"):
        tiny_model(objective="two_stream", mask_token_id=None)(ids, labels=ids)
