"""Gradients: accumulated, recomputed by checkpointing, in bfloat16."""

import pytest
import torch
from modeling_fixtures import (
    CODE_0,
    FIRST_WORD,
    conversation,
    tiny_model,
)
from transformers import Trainer, TrainingArguments

from modeling_ttt import TttForConditionalGeneration

IGNORED = -100
W, C = FIRST_WORD, CODE_0
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def batch_to_learn(rows=4):
    ids = torch.tensor([conversation(seed, 20) for seed in range(rows)])
    return {"input_ids": ids, "labels": ids.clone()}


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
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
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
    """
    bfloat16 keeps 8 bits: on logits of size about 5, through two layers, a mean error below 0.1 is rounding and not a
    fault.
    """
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
