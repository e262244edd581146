"""
The rules of denoising inside `generate`: each held against the slow restatement, against decoding without a cache, and
row by row.
"""

import pytest
import slow_reference
import torch
from modeling_fixtures import (
    BACKBONES,
    BEGIN,
    CODE_0,
    END,
    EOS,
    FIRST_WORD,
    OpensSpansOften,
    left_padded,
    script,
    speaking,
    tiny_model,
)

from modeling_ttt.denoising_rules_ttt import REMASKING_RULES

W, C = FIRST_WORD, CODE_0
SPEECH = {"block_length": 5, "denoising_steps": 3, "max_new_tokens": 24}
PROMPTS = [[W, W + 1], [W, BEGIN, C, C + 1, END], [W, W + 2, BEGIN], [W, BEGIN, C + 4, C + 5], [W + 3, W + 4, W + 5, W]]
RULES = [
    {"remasking": "calibrated"},
    {"confidence_threshold": 0.5},
    {"confidence_threshold": 0.5, "remasking": "calibrated"},
    {"entropy_bound": 1.0},
    {"entropy_bound": 1.0, "remasking": "calibrated"},
    {"audio_guidance_scale": 0.7},
    {"audio_guidance_scale": 0.7, "remasking": "calibrated", "confidence_threshold": 0.5},
]
GENERATE_ONLY = [{"block_early_stop": True}, {"first_block_length": 2}]
each_rule = pytest.mark.parametrize("rule", RULES, ids=str)
any_rule = pytest.mark.parametrize("rule", RULES + GENERATE_ONLY, ids=str)


def decode(model, prompt, **options):
    options = SPEECH | {"logits_processor": speaking()} | options
    return model.generate(torch.tensor([prompt]), **options)[0].tolist()


@each_rule
@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_rule_decodes_as_its_slow_restatement(backbone, rule):
    model = tiny_model(backbone)
    slow = slow_reference.SlowTtt(model)
    changed = 0
    for prompt in PROMPTS:
        ids = decode(model, prompt, **rule)
        assert ids == slow.generate(prompt, 24, 5, 3, text_rule=OpensSpansOften(), **rule)
        changed += ids != decode(model, prompt)
    assert changed, "a rule that changes nothing is not compared"


@any_rule
def test_a_ragged_batch_and_no_cache_decode_as_each_row_alone(rule):
    for seed in range(2):
        model = tiny_model(seed=seed)
        alone = [decode(model, prompt, **rule) for prompt in PROMPTS]
        assert alone == [decode(model, prompt, use_cache=False, **rule) for prompt in PROMPTS]
        inputs = left_padded(PROMPTS)
        width = inputs["input_ids"].shape[1]
        for use_cache in (True, False):
            out = model.generate(
                **inputs,
                **SPEECH,
                **rule,
                use_cache=use_cache,
                logits_processor=speaking(),
                return_dict_in_generate=True,
            )
            for prompt, ids, row in zip(PROMPTS, alone, out.sequences.tolist(), strict=True):
                assert row[width - len(prompt) :][: len(ids)] == ids


def test_guidance_of_scale_zero_changes_nothing_and_costs_nothing(model, forwards):
    plain = decode(model, PROMPTS[0])
    count = len(forwards)
    forwards.clear()
    assert decode(model, PROMPTS[0], audio_guidance_scale=0.0) == plain
    assert len(forwards) == count


def test_what_guidance_and_the_prior_cost_in_forwards(endless, forwards):
    """Queries of each forward: the masked context doubles the forwards of denoising, the prior comes once."""

    def cost(**options):
        forwards.clear()
        text = script(W + 1, BEGIN, W + 2, BEGIN, EOS)
        options = SPEECH | {"logits_processor": text, "max_span_length": 5, "return_dict_in_generate": True} | options
        out = endless.generate(torch.tensor([[W]]), **options)
        assert out.num_forwards == len(forwards)
        assert out.tokens_per_forward.tolist() == [pytest.approx((out.sequences.shape[1] - 1) / len(forwards))]
        return list(forwards)

    span, next_span = [1 + 5, 5, 5], [1 + 5, 5, 5]
    assert cost() == [1, 1, *span, 6, 1, *next_span, 6]
    masked = cost(audio_guidance_scale=0.1)
    assert masked == [1, 1, 6, 8, 5, 8, 5, 8, 6, 1, 6, 16, 5, 16, 5, 16, 6]
    assert cost(remasking="calibrated") == [1, 1, 6, 6, 5, 5, 6, 1, 6, 5, 5, 6]


def test_the_prior_counts_for_each_row_as_if_it_were_alone():
    model = tiny_model()
    options = SPEECH | {"remasking": "calibrated", "return_dict_in_generate": True}
    alone = [
        model.generate(torch.tensor([prompt]), **options, logits_processor=speaking()).tokens_per_forward.item()
        for prompt in PROMPTS
    ]
    batch = model.generate(**left_padded(PROMPTS), **options, logits_processor=speaking())
    assert batch.tokens_per_forward.tolist() == pytest.approx(alone)


def test_acceptance_saves_forwards_and_never_needs_more_than_the_schedule(endless):
    def forwards(**options):
        text = script(W + 1, BEGIN, EOS)
        options = {"block_length": 12, "denoising_steps": 12, "max_span_length": 12, "max_new_tokens": 20} | options
        return endless.generate(
            torch.tensor([[W]]), logits_processor=text, return_dict_in_generate=True, **options
        ).num_forwards

    text_only = 3
    assert forwards() == text_only + 12
    assert forwards(confidence_threshold=0.0) == forwards(entropy_bound=1e9) == text_only + 1
    assert text_only + 1 < forwards(confidence_threshold=0.3) < text_only + 12
    assert forwards(confidence_threshold=1.0) == text_only + 12
    assert forwards(confidence_threshold=1.0, denoising_steps=4) == text_only + 4


def test_stopping_a_block_early_changes_no_id_and_saves_forwards():
    saved = 0
    for seed in range(4):
        model = tiny_model(seed=seed)
        options = {"return_dict_in_generate": True, "logits_processor": speaking()}
        inputs = left_padded(PROMPTS)
        full = model.generate(**inputs, **SPEECH, **options)
        early = model.generate(**inputs, **SPEECH, **options, block_early_stop=True)
        assert early.sequences.tolist() == full.sequences.tolist()
        assert early.num_forwards <= full.num_forwards
        saved += full.num_forwards - early.num_forwards
    assert saved


@pytest.mark.parametrize("rule", list(REMASKING_RULES))
def test_draws_repeat_with_the_seed_under_every_rule(model, rule):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return decode(model, PROMPTS[0], remasking=rule, audio_temperature=1.0, audio_top_p=0.9, generator=generator)

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(5)}) > 1


def test_top_k_of_one_is_greedy_at_any_temperature(model):
    assert decode(model, PROMPTS[0], audio_temperature=2.0, audio_top_k=1) == decode(model, PROMPTS[0])
