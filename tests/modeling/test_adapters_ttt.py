"""PEFT on the model: adapters learn, speak, and merge into the same model."""

import pytest
import torch
from modeling_fixtures import BEGIN, END, FIRST_WORD, conversation, speaking, tiny_config, tiny_model

from modeling_ttt import TttForConditionalGeneration

peft = pytest.importorskip("peft")

IDS = torch.tensor([conversation(seed, 20) for seed in range(4)])


def trained(model, steps=15, learning_rate=1e-2):
    """Train a few steps on always the same noise; give the losses."""
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0
    )
    losses = []
    for _ in range(steps):
        loss = model.train()(input_ids=IDS, labels=IDS, generator=torch.Generator().manual_seed(0)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def generated(model):
    return model.generate(
        input_ids=torch.tensor([[FIRST_WORD, FIRST_WORD + 1]]),
        max_new_tokens=20,
        block_length=5,
        denoising_steps=2,
        logits_processor=speaking(),
    ).tolist()


@pytest.mark.parametrize(
    "targets", ["all-linear", ["q_proj", "v_proj", "lm_head"]], ids=["all-linear", "with the head"]
)
def test_a_lora_adapter_learns_speaks_and_merges_into_the_same_model(targets):
    base = tiny_model()
    before, untrained = base.model.layers[0].self_attn.q_proj.weight.detach().clone(), generated(base)
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=32, target_modules=targets, lora_dropout=0.0))
    assert generated(model) == untrained, "a new adapter changes nothing"
    losses = trained(model)
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(base.model.layers[0].self_attn.q_proj.base_layer.weight, before)
    spoken = generated(model)
    assert spoken != untrained
    assert generated(model.merge_and_unload()) == spoken


@pytest.mark.parametrize("tied", [False, True])
def test_new_token_rows_can_be_trained_alone(tied):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = TttForConditionalGeneration(tiny_config(text_config={"tie_word_embeddings": tied}))
    before = base.get_input_embeddings().weight.detach().clone()
    rows = [BEGIN, END]
    model = peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": rows})
    )
    losses = trained(model)
    assert losses[-1] < losses[0]
    spoken = generated(model)
    merged = model.merge_and_unload()
    after = merged.get_input_embeddings().weight.detach()
    moved = (after != before).any(-1).nonzero().flatten().tolist()
    assert moved == rows
    assert (merged.lm_head.weight is merged.get_input_embeddings().weight) == tied
    assert generated(merged) == spoken
