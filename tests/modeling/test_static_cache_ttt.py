"""`cache_implementation="static"`: shapes that never change, the same ids."""

import threading

import pytest
import torch
from modeling_fixtures import (
    BACKBONES,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    FIRST_WORD,
    conversation,
    left_padded,
    script,
    speaking,
    tiny_model,
)
from transformers import CompileConfig

W, C = FIRST_WORD, CODE_0
SPEECH = {"block_length": 5, "denoising_steps": 3, "max_new_tokens": 22}
PROMPTS = [[W, W + 1], [*conversation(1, 9), W], [W, W + 2, BEGIN], [W, BEGIN_LAST, C + 4, C + 5]]
STATIC = {"cache_implementation": "static"}


def decode(model, prompts, **options):
    options = SPEECH | {"logits_processor": speaking()} | options
    return model.generate(**left_padded(prompts), **options)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_static_cache_decodes_the_same_rows(backbone, attention):
    for seed in range(2):
        model = tiny_model(backbone, seed, attention)
        for prompts in (PROMPTS[:1], PROMPTS[2:3], PROMPTS):
            assert decode(model, prompts, **STATIC).tolist() == decode(model, prompts).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"audio_guidance_scale": 0.7},
        {"remasking": "calibrated", "confidence_threshold": 0.5, "block_early_stop": True},
        {"first_block_length": 2, "max_span_length": 8},
    ],
    ids=str,
)
def test_every_rule_works_on_a_static_cache(options):
    model = tiny_model()
    assert decode(model, PROMPTS, **options, **STATIC).tolist() == decode(model, PROMPTS, **options).tolist()


def test_block_causal_spans_work_on_a_static_cache():
    model = tiny_model(span_attention="block", span_block_length=5)
    assert decode(model, PROMPTS, **STATIC).tolist() == decode(model, PROMPTS).tolist()


def test_forwards_have_the_shape_of_a_text_id_or_of_a_block_and_its_marker(endless, forwards):
    """The marker of a span runs with its first block; a second block of the same span takes a second shape."""
    text = script(W + 1, BEGIN, W + 2, BEGIN_LAST, W)
    options = SPEECH | {"max_new_tokens": 17} | STATIC
    endless.generate(torch.tensor([[W, W, W]]), **options, logits_processor=text, max_span_length=5)
    assert forwards[0] == 3 and set(forwards[1:]) == {1, 6}
    forwards.clear()
    options["max_new_tokens"] = 13
    endless.generate(torch.tensor([[W, W, W]]), **options, logits_processor=script(BEGIN, W), max_span_length=10)
    assert set(forwards[1:]) == {6, 11}


def test_the_cache_is_used_again_and_says_nothing_of_the_call_before():
    model = tiny_model()
    expected = decode(model, PROMPTS[1:2]).tolist()
    decode(model, PROMPTS[:1], **STATIC)
    keys = model._static_cache.cache.layers[0].keys
    assert decode(model, PROMPTS[1:2], **STATIC).tolist() == expected
    assert model._static_cache.cache.layers[0].keys is keys
    decode(model, PROMPTS, **STATIC)
    assert model._static_cache.cache.layers[0].keys.shape[0] == len(PROMPTS)


def test_two_threads_do_not_share_a_static_cache():
    model = tiny_model()
    alone = [decode(model, [prompt], **STATIC).tolist() for prompt in PROMPTS]
    found = [None] * len(PROMPTS)

    def run(number):
        for _ in range(3):
            found[number] = decode(model, [PROMPTS[number]], **STATIC).tolist()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_the_cache_that_comes_back_continues_exactly():
    model = tiny_model()
    options = SPEECH | {"logits_processor": speaking(), "return_dict_in_generate": True}
    static = model.generate(**left_padded(PROMPTS), **options, **STATIC)
    dynamic = model.generate(**left_padded(PROMPTS), **options)
    assert static.cache.get_seq_length() == dynamic.cache.get_seq_length()
    for mine, theirs in zip(static.cache.layers, dynamic.cache.layers, strict=True):
        real = dynamic.attention_mask[:, None, : mine.keys.shape[2], None].bool()
        torch.testing.assert_close(mine.keys.where(real, 0), theirs.keys.where(real, 0))
        torch.testing.assert_close(mine.values.where(real, 0), theirs.values.where(real, 0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"attn_implementation": "flex_attention"}, "sdpa"),
        ({"text_config": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}}, "windows"),
    ],
)
def test_what_a_static_cache_cannot_do_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        decode(tiny_model(**model), PROMPTS[:1], **STATIC)


def test_a_static_cache_is_not_asked_for_beside_another_or_none():
    model = tiny_model()
    cache = model.generate(torch.tensor([[5, 6]]), max_new_tokens=2, return_dict_in_generate=True).cache
    for other in ({"use_cache": False}, {"cache": cache}):
        with pytest.raises(ValueError, match="a cache of its own"):
            model.generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=2, cache_implementation="static", **other)


def test_the_backbone_is_compiled_only_where_asked_for_on_a_cpu(monkeypatch):
    compiled = []

    def fake_compile(function, **options):
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", fake_compile)
    model = tiny_model()
    expected = decode(model, PROMPTS).tolist()
    decode(model, PROMPTS, **STATIC)
    assert not compiled
    for _ in range(2):
        config = CompileConfig(mode="default", dynamic=False)
        assert decode(model, PROMPTS, **STATIC, compile_config=config).tolist() == expected
    assert [options["mode"] for options in compiled] == ["default"]


@pytest.mark.slow
def test_compiled_steps_decode_the_same_ids_and_compile_a_bounded_number_of_times():
    model = tiny_model()
    config = CompileConfig(mode=None, dynamic=False)
    torch._dynamo.utils.counters.clear()
    for prompts in (PROMPTS[:1], PROMPTS[1:2], PROMPTS[2:3]):
        options = {"max_span_length": 5}
        expected = decode(model, prompts, **options).tolist()
        assert decode(model, prompts, **options, **STATIC, compile_config=config).tolist() == expected
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 1 <= graphs <= 3, "one for a text id, one for a block, none for another prompt"
