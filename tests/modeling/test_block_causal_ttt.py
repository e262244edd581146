"""
`config.span_attention = "block"`: a position sees its own block and what comes before, in training and in decoding
alike.
"""

import pytest
import slow_reference
import torch
from modeling_fixtures import (
    AUDIO_START,
    BACKBONES,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    END,
    EOS,
    FIRST_WORD,
    OpensSpansOften,
    conversation,
    left_padded,
    script,
    speaking,
    tiny_config,
    tiny_model,
)

from modeling_ttt.masking_ttt import audio_span_ids, split_spans

W, C = FIRST_WORD, CODE_0
BLOCKS = {"span_attention": "block", "span_block_length": 4}
SPEECH = {"denoising_steps": 3, "max_new_tokens": 26}
PROMPTS = [
    [W, W + 1],
    [*conversation(1, 15), W],
    [W, W + 2, BEGIN],
    [W, BEGIN, C + 4, C + 5],
    [W, BEGIN_LAST, *range(C, C + 4)],
    [W, BEGIN_LAST, *range(C, C + 9)],
]


def decode(model, prompt, **options):
    options = SPEECH | {"logits_processor": speaking()} | options
    return model.generate(torch.tensor([prompt]), **options)[0].tolist()


def test_blocks_are_counted_from_the_first_position_of_their_span():
    ids = torch.tensor([[W, C, C, C, C, C, W, C, C, END, W], [C, C, C, W, C, C, C, C, C, C, C]])
    blocks = split_spans(audio_span_ids(ids, AUDIO_START), 3)
    assert [[len(set(row[:k])) for k in (4, 6, 10)] for row in blocks.tolist()] == [[2, 3, 4], [2, 3, 4]]
    assert (blocks < 0).tolist() == (ids < AUDIO_START).tolist()
    assert blocks[0, 1] == blocks[0, 3] != blocks[0, 4] == blocks[0, 5]
    assert blocks[0, 7] == blocks[0, 9] != blocks[0, 4]
    assert blocks[1, 0] == blocks[1, 2] != blocks[1, 4] == blocks[1, 6] != blocks[1, 7] == blocks[1, 9] != blocks[1, 10]


def test_blocks_of_packed_samples_begin_with_the_sample():
    ids = torch.full((1, 6), C)
    blocks = split_spans(audio_span_ids(ids, AUDIO_START, torch.tensor([[0, 0, 0, 1, 1, 1]])), 2)[0].tolist()
    assert [blocks[i] == blocks[i + 1] for i in range(5)] == [True, False, False, True, False]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_logits_are_those_of_the_slow_restatement_and_not_those_of_full_spans(backbone):
    model = tiny_model(backbone, **BLOCKS)
    ids = [W, BEGIN, *range(C, C + 10), END, W + 1, BEGIN, C, C + 1, END, W]
    logits = model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(logits, slow_reference.SlowTtt(model).logits(ids), atol=1e-4, rtol=1e-4)
    full = tiny_model(backbone)
    assert not torch.allclose(logits, full(torch.tensor([ids])).logits[0], atol=1e-2)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_cached_decoding_equals_recomputing_everything_and_the_slow_restatement(backbone):
    multi_block = 0
    for seed in range(2):
        model = tiny_model(backbone, seed, **BLOCKS)
        slow = slow_reference.SlowTtt(model)
        for number, prompt in enumerate(PROMPTS):
            max_span_length = (None, 7)[(number + seed) % 2]
            ids = decode(model, prompt, max_span_length=max_span_length)
            assert ids == decode(model, prompt, max_span_length=max_span_length, use_cache=False)
            assert ids == slow.generate(prompt, 26, 4, 3, max_span_length, OpensSpansOften())
            multi_block += len(ids) - len(prompt) > 12
    assert multi_block > 3


def test_a_ragged_batch_decodes_as_each_row_alone():
    model = tiny_model(**BLOCKS)
    inputs = left_padded(PROMPTS)
    width = inputs["input_ids"].shape[1]
    rows = model.generate(**inputs, **SPEECH, logits_processor=speaking()).tolist()
    for prompt, row in zip(PROMPTS, rows, strict=True):
        alone = decode(model, prompt)
        assert row[width - len(prompt) :][: len(alone)] == alone


def test_a_long_span_costs_the_same_for_each_block(endless, forwards):
    endless.config.span_attention, endless.config.span_block_length = "block", 4
    endless.generate(torch.tensor([[W]]), logits_processor=script(BEGIN), **SPEECH | {"max_new_tokens": 17})
    assert forwards == [1, 1 + 4, 4, 4, 4 + 4, 4, 4, 4 + 4, 4, 4, 4 + 4, 4, 4], (
        "the block before is run once more, as it is"
    )


def test_the_cache_that_comes_back_continues_exactly():
    model = tiny_model(**BLOCKS)
    options = SPEECH | {"logits_processor": speaking()}
    cached_inside_a_span = 0
    for prompt in PROMPTS:
        out = model.generate(torch.tensor([prompt]), **options | {"max_new_tokens": 13}, return_dict_in_generate=True)
        if int(out.sequences[0, -1]) == EOS:
            continue
        inputs = {"input_ids": out.sequences, "attention_mask": out.attention_mask}
        fresh = model.generate(**inputs, **options)
        assert model.generate(**inputs, **options, cache=out.cache).tolist() == fresh.tolist()
        cached_inside_a_span += int(out.sequences[0, -1]) >= AUDIO_START
    assert cached_inside_a_span


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"span_attention": "blocks"}, "span_attention"),
        ({"span_attention": "block"}, "span_block_length"),
        ({"span_block_length": 4}, "span_block_length"),
        ({"span_attention": "block", "span_block_length": 0}, "at least 1"),
    ],
)
def test_a_config_that_does_not_fit_together_is_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_length": 5}, "trained on blocks of 4"),
        ({"first_block_length": 2}, "first_block_length"),
        ({"audio_guidance_scale": 0.1}, 'needs `config.span_attention="full"`'),
    ],
)
def test_other_blocks_than_those_of_training_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        decode(tiny_model(**BLOCKS), PROMPTS[0], **options)


def test_the_prior_works_in_blocks():
    model = tiny_model(**BLOCKS)
    ids = decode(model, PROMPTS[0], remasking="calibrated")
    assert ids == decode(model, PROMPTS[0], remasking="calibrated", use_cache=False)
    slow = slow_reference.SlowTtt(model)
    assert ids == slow.generate(PROMPTS[0], 26, 4, 3, text_rule=OpensSpansOften(), remasking="calibrated")
