"""The objective and the decoder together: what is learnt by heart comes back exactly."""

import random

import pytest
import torch
from modeling_fixtures import (
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    CODEBOOK_SIZE,
    END,
    END_LAST,
    EOS,
    FIRST_WORD,
    left_padded,
    tiny_config,
)

from modeling_ttt import TttForConditionalGeneration

WORDS, CODES, LAST_CODES = 4, 8, 13  # four words, eight codes, and so on; the rest of the audio in a last span
STEPS = {"paper": 300, "two_stream": 120}  # of the second, all spans and all text are learnt in every step


def interleaved(seed: int) -> list[int]:
    """A reply of twelve words and its audio, in the project's layout."""
    draw = random.Random(seed)
    ids = []
    for _ in range(2):
        ids += [draw.randrange(FIRST_WORD, 12) for _ in range(WORDS)]
        ids += [BEGIN, *(CODE_0 + draw.randrange(CODEBOOK_SIZE) for _ in range(CODES)), END]
    ids += [draw.randrange(FIRST_WORD, 12) for _ in range(WORDS)]
    ids += [BEGIN_LAST, *(CODE_0 + draw.randrange(CODEBOOK_SIZE) for _ in range(LAST_CODES)), END_LAST]
    return [*ids, EOS]


@pytest.fixture(scope="module", params=STEPS)
def learnt(request):
    """A small model with ordinary initial weights that has learnt two replies by heart, and what it has learnt."""
    prompts = [[FIRST_WORD, FIRST_WORD + 1], [FIRST_WORD + 1, FIRST_WORD]]
    replies = [interleaved(1), interleaved(2)]
    config = tiny_config(
        text_config={"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "initializer_range": 0.02},
        initializer_range=0.02,
        objective=request.param,
    )
    assert (config.clean_audio_prob, config.prefix_preservation_prob) == (0.3, 0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TttForConditionalGeneration._from_config(config, attn_implementation="sdpa").train()
    model.generation_config.block_length = CODES + 1
    rows = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
    input_ids = torch.tensor(rows * 4)
    labels = input_ids.clone()
    labels[:, :2] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    steps = STEPS[request.param]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        loss = model(input_ids, labels=labels, generator=generator).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval(), prompts, replies


@pytest.mark.parametrize("use_cache", [True, False])
def test_two_interleaved_replies_learnt_by_heart_are_generated_exactly(learnt, use_cache):
    model, prompts, replies = learnt
    out = model.generate(
        **left_padded(prompts), max_new_tokens=100, block_length=CODES + 1, denoising_steps=5, use_cache=use_cache
    )
    for row, reply in zip(out[:, 2:].tolist(), replies, strict=True):
        assert row[: len(reply)] == reply
        assert set(row[len(reply) :]) <= {0}


@pytest.mark.parametrize("steps", [1, 9])
def test_they_come_back_in_one_step_per_block_and_in_one_step_per_code(learnt, steps):
    model, prompts, replies = learnt
    for prompt, reply in zip(prompts, replies, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=100, block_length=CODES + 1, denoising_steps=steps)
        assert out[0, 2:].tolist() == reply
