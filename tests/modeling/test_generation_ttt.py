"""
What `generate` decodes: held against the published procedure, against each row alone and against the slow restatement.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import slow_reference
import torch
from accelerate import cpu_offload
from modeling_fixtures import (
    AUDIO_START,
    BACKBONES,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    CODEBOOK_SIZE,
    END,
    END_LAST,
    EOS,
    FIRST_WORD,
    MASK,
    PAD,
    OpensSpansOften,
    conversation,
    left_padded,
    script,
    speaking,
    tiny_config,
    tiny_model,
)

from modeling_ttt import TttForConditionalGeneration

W, C = FIRST_WORD, CODE_0
SPEECH = {"block_length": 5, "denoising_steps": 3}

# Prompts that end in a word, in a closed span, in a begin marker, and inside an open span.
PROMPTS = [
    [W, W + 1],
    [*conversation(1, 9), W],
    [W, BEGIN, C, C + 1, END],
    [W, W + 2, BEGIN],
    [W, BEGIN_LAST],
    [W, BEGIN, C + 4, C + 5],
    [W + 3, BEGIN_LAST, C + 4],
]


def decode(model, prompt, **kwargs):
    """Decode one row without padding and give its ids, prompt included."""
    kwargs = SPEECH | {"max_new_tokens": 22, "logits_processor": speaking()} | kwargs
    return model.generate(torch.tensor([prompt]), **kwargs)[0].tolist()


def decode_batch(model, prompts, **kwargs):
    """
    Decode a ragged batch, whose rows leave it as they end, and give each row's ids without padding on either side.
    """
    inputs = left_padded(prompts)
    width = inputs["input_ids"].shape[1]
    kwargs = SPEECH | {"max_new_tokens": 22, "logits_processor": speaking()} | kwargs
    rows = []
    for prompt, row in zip(prompts, model.generate(**inputs, **kwargs).tolist(), strict=True):
        end = row.index(EOS, width) + 1 if EOS in row[width:] else len(row)
        assert set(row[end:]) <= {PAD}
        rows.append(row[width - len(prompt) : end])
    return rows


def reply_spans(ids, prompt_length):
    """The spans of a decoded row that begin in its reply, as lists of ids."""
    numbers = slow_reference.spans(ids, AUDIO_START)
    found = {}
    for i, number in enumerate(numbers):
        if number >= 0 and i >= prompt_length:
            found.setdefault(number, []).append(ids[i])
    return list(found.values())


# ----------------------------------------------------------------------------------- one answer, however it is computed


@pytest.mark.parametrize("backbone", BACKBONES)
def test_cached_decoding_equals_recomputing_everything_and_the_slow_restatement(backbone):
    seen = {"spans": 0, "closed": 0, "longer than a block": 0, "ended": 0, "unfinished": 0}
    for seed in range(2):
        model = tiny_model(backbone, seed)
        slow = slow_reference.SlowTtt(model)
        for number, prompt in enumerate(PROMPTS):
            max_span_length = (None, 7)[(number + seed) % 2]
            cached = decode(model, prompt, max_span_length=max_span_length)
            assert cached == decode(model, prompt, max_span_length=max_span_length, use_cache=False)
            assert cached == slow.generate(prompt, 22, 5, 3, max_span_length, OpensSpansOften())
            spans = reply_spans(cached, len(prompt))
            seen["spans"] += len(spans)
            seen["closed"] += sum(span[-1] in (END, END_LAST) for span in spans)
            seen["longer than a block"] += sum(len(span) > 5 for span in spans)
            seen["ended"] += cached[-1] == EOS
            seen["unfinished"] += len(cached) == len(prompt) + 22
    assert all(count >= 2 for count in seen.values()), f"the comparison must meet every case: {seen}"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_rows_of_a_ragged_batch_equal_each_row_alone(backbone):
    for seed in range(2):
        model = tiny_model(backbone, seed)
        max_span_length = (None, 4)[seed]
        alone = [decode(model, prompt, max_span_length=max_span_length) for prompt in PROMPTS]
        assert decode_batch(model, PROMPTS, max_span_length=max_span_length) == alone
        assert decode_batch(model, PROMPTS, max_span_length=max_span_length, use_cache=False) == alone
        assert len({len(row) for row in alone}) > 2, "rows must end at different times"


def test_rows_that_stay_in_the_batch_for_its_cache_decode_as_those_that_leave():
    model = tiny_model()
    options = SPEECH | {"max_new_tokens": 22, "logits_processor": speaking()}
    inputs = left_padded(PROMPTS)
    out = model.generate(**inputs, **options, return_dict_in_generate=True)
    assert out.sequences.tolist() == model.generate(**inputs, **options).tolist()


def test_finished_rows_leave_the_batch():
    model = tiny_model()
    sizes = []
    hook = model.model.register_forward_hook(
        lambda module, args, kwargs, output: sizes.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    out = decode_batch(model, PROMPTS)
    hook.remove()
    ends = sorted({len(row) for row in out})
    assert len(ends) > 2, "rows must end at different times"
    assert sizes[0] == len(PROMPTS) and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < len(PROMPTS)


def test_more_padding_on_the_left_changes_nothing():
    model = tiny_model()
    prompt = PROMPTS[1]
    padded = model.generate(**left_padded([prompt], 25), **SPEECH, max_new_tokens=20, logits_processor=speaking())
    assert padded[0, 25 - len(prompt) :].tolist() == decode(model, prompt, max_new_tokens=20)


@pytest.mark.parametrize(
    ("backbone", "remasking"), [*((name, "low_confidence") for name in BACKBONES), ("qwen2", "random")]
)
def test_sampled_decoding_is_the_same_cached_recomputed_and_in_a_batch(backbone, remasking):
    """With one generator per row, each row draws as if alone."""
    options = {"do_sample": True, "top_k": 8, "temperature": 1.5, "audio_temperature": 0.8, "remasking": remasking}
    model, prompts = tiny_model(backbone), PROMPTS[1::2]

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]

    def rows_alone(**kwargs):
        return [decode(model, p, generator=g, **options, **kwargs) for p, g in zip(prompts, generators(), strict=True)]

    alone = rows_alone()
    assert rows_alone(use_cache=False) == alone
    assert decode_batch(model, prompts, generator=generators(), **options) == alone
    assert decode_batch(model, prompts, generator=generators(), use_cache=False, **options) == alone
    assert alone != [decode(model, prompt) for prompt in prompts], "sampling must differ from the greedy reply"


@pytest.mark.parametrize("attention", ["eager", "flex_attention"])
def test_every_attention_implementation_decodes_the_same(attention, uncompiled_flex_attention):
    expected = decode_batch(tiny_model(), PROMPTS[:4], max_new_tokens=16)
    assert decode_batch(tiny_model(attn_implementation=attention), PROMPTS[:4], max_new_tokens=16) == expected


def test_a_backbone_with_sliding_windows_decodes_single_rows_over_a_cache_and_batches_without():
    config = tiny_config("mistral", text_config={"sliding_window": 6})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TttForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()
    prompts = [PROMPTS[1], PROMPTS[5]]
    alone = [decode(model, prompt) for prompt in prompts]
    assert alone == [decode(model, prompt, use_cache=False) for prompt in prompts]
    assert decode_batch(model, prompts, use_cache=False) == alone
    with pytest.raises(ValueError, match="use_cache=False"):
        decode_batch(model, prompts)


def test_threads_that_share_a_model_do_not_disturb_each_other():
    model = tiny_model()
    alone = [decode(model, prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda prompt: decode(model, prompt), PROMPTS)) == alone


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("max_span_length", [None, 7])
def test_max_new_tokens_is_never_exceeded_wherever_it_falls(max_span_length):
    model = tiny_model(seed=1)
    slow = slow_reference.SlowTtt(model)
    prompt = PROMPTS[0]
    ended_in_a_span = 0
    for limit in range(1, 18):
        ids = decode(model, prompt, max_new_tokens=limit, max_span_length=max_span_length)
        assert len(ids) == len(prompt) + limit or ids[-1] == EOS
        assert len(ids) <= len(prompt) + limit
        assert ids == slow.generate(prompt, limit, 5, 3, max_span_length, OpensSpansOften())
        ended_in_a_span += ids[-1] >= AUDIO_START
        if limit % 4 == 0:
            batch = decode_batch(model, PROMPTS[:4], max_new_tokens=limit, max_span_length=max_span_length)
            assert batch[0] == ids
            assert all(len(row) <= len(p) + limit for row, p in zip(batch, PROMPTS[:4], strict=True))
    assert ended_in_a_span > 3


def test_a_block_is_as_long_as_asked_and_shorter_only_at_the_limits(endless):
    ids = decode(endless, [W], logits_processor=script(BEGIN), max_new_tokens=12, block_length=5)
    assert len(ids) == 13 and all(CODE_0 <= i < CODE_0 + CODEBOOK_SIZE for i in ids[2:])
    masks = []
    hook = endless.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: masks.append(int((args[0] == MASK).sum()))
    )
    decode(endless, [W], logits_processor=script(BEGIN), max_new_tokens=12, block_length=5, denoising_steps=1)
    hook.remove()
    assert [count for count in masks if count] == [5, 5, 1]


@pytest.mark.parametrize(("begin", "end"), [(BEGIN, END), (BEGIN_LAST, END_LAST)])
def test_a_span_without_an_end_is_closed_with_the_marker_that_belongs_to_its_begin(endless, begin, end):
    ids = decode(endless, [W], logits_processor=script(begin, W + 1, EOS), max_span_length=8)
    assert ids[:2] == [W, begin]
    assert all(CODE_0 <= token_id < CODE_0 + CODEBOOK_SIZE for token_id in ids[2:10])
    assert ids[10:] == [end, W + 1, EOS]


def test_the_prompts_part_of_an_open_span_counts_to_its_length(endless):
    ids = decode(endless, [W, BEGIN, C, C, C], logits_processor=script(EOS), max_span_length=5)
    assert len(ids) == 5 + 2 + 1 + 1
    assert ids[7:] == [END, EOS]


@pytest.mark.parametrize("num_codes", [3, 4])
def test_a_span_that_the_prompt_has_filled_is_closed_before_anything_else(endless, num_codes):
    ids = decode(endless, [W, BEGIN_LAST, *[C] * num_codes], logits_processor=script(W, EOS), max_span_length=3)
    assert ids[2 + num_codes :] == [END_LAST, W, EOS]


def test_an_appended_end_marker_counts_to_max_new_tokens(endless):
    for limit, expected in ((5, [4]), (6, [4, END]), (7, [4, END, W])):
        ids = decode(endless, [W], logits_processor=script(BEGIN, W), max_span_length=4, max_new_tokens=limit)
        assert len(ids) == 1 + limit
        assert ids[6:] == expected[1:]


def test_max_length_bounds_prompt_and_reply_together():
    ids = decode(tiny_model(seed=1), PROMPTS[0], max_new_tokens=None, max_length=9)
    assert len(ids) == 9


# ----------------------------------------------------------------------------------------------------- what is eligible


def eager_for_everything_forbidden(seed):
    """
    A model whose projection pulls hard to the mask, the placeholder and the unused ids in audio, and to audio in text.
    """
    model = tiny_model(seed=seed)
    with torch.no_grad():
        model.lm_head.weight[AUDIO_START] *= 50
        model.lm_head.weight[MASK] *= -50
        model.lm_head.weight[W : W + 3] *= 20
        model.lm_head.weight[CODE_0 : CODE_0 + 3] *= 20
    return model


@pytest.mark.parametrize("sampled", [False, True])
def test_text_holds_no_audio_and_blocks_hold_codes_and_at_most_one_end_marker_at_their_end(sampled):
    spans = 0
    for seed in range(6):
        ids = decode(
            eager_for_everything_forbidden(seed),
            [W],
            max_new_tokens=60,
            do_sample=sampled,
            audio_temperature=float(sampled),
            generator=torch.Generator().manual_seed(seed),
        )
        for i, token_id in enumerate(ids[1:], start=1):
            if token_id >= AUDIO_START and ids[i - 1] < AUDIO_START:
                assert ids[i - 1] in (BEGIN, BEGIN_LAST), "audio comes only after a begin marker"
            if ids[i - 1] in (BEGIN, BEGIN_LAST):
                assert token_id >= AUDIO_START, "after a begin marker comes audio"
        for span in reply_spans(ids, 1):
            spans += 1
            assert all(CODE_0 <= token_id < CODE_0 + CODEBOOK_SIZE for token_id in span[:-1])
            assert span[-1] in (*range(CODE_0, CODE_0 + CODEBOOK_SIZE), END, END_LAST)
    assert spans >= 6


def test_audio_takes_no_place_among_the_top_k_of_text():
    """top_k=1 with sampling is greedy text, also where all of the best ids are audio."""
    model = eager_for_everything_forbidden(0)
    sampled = decode(model, [W], do_sample=True, top_k=1, generator=torch.Generator().manual_seed(0))
    assert sampled == decode(model, [W])


def test_text_is_sampled_from_the_softmax_over_text_ids():
    model = tiny_model()
    prompt = torch.tensor([[W, W + 1]]).repeat(4000, 1)
    drawn = model.generate(
        prompt, max_new_tokens=1, do_sample=True, top_k=0, generator=torch.Generator().manual_seed(0)
    )[:, -1]
    expected = slow_reference.SlowTtt(model).logits([W, W + 1])[-1, :AUDIO_START].softmax(-1)
    shares = torch.bincount(drawn, minlength=AUDIO_START) / 4000
    sigma = (expected * (1 - expected) / 4000).sqrt()
    assert ((shares - expected).abs() <= 4 * sigma + 1e-9).all()


def test_audio_is_sampled_from_the_softmax_over_codes_and_end_markers():
    model = tiny_model()
    prompt = torch.tensor([[W, BEGIN]]).repeat(4000, 1)
    drawn = model.generate(
        prompt, max_new_tokens=1, block_length=1, audio_temperature=2.0, generator=torch.Generator().manual_seed(0)
    )[:, -1]
    eligible = [*range(CODE_0, CODE_0 + CODEBOOK_SIZE), END, END_LAST]
    scores = slow_reference.SlowTtt(model).logits([W, BEGIN, MASK])[-1]
    expected = torch.zeros(len(scores)).index_copy(0, torch.tensor(eligible), (scores[eligible] / 2).softmax(-1))
    shares = torch.bincount(drawn, minlength=len(scores)) / 4000
    sigma = (expected * (1 - expected) / 4000).sqrt()
    assert ((shares - expected).abs() <= 4 * sigma + 1e-9).all()


# --------------------------------------------------------------------------------------------------------- ends of rows


def test_a_row_ends_at_eos_and_is_padded_on_the_right_until_the_longest_ends():
    model = tiny_model()
    out = model.generate(
        **left_padded([[W], [W + 1, W + 2]]),
        **SPEECH,
        max_new_tokens=6,
        logits_processor=[lambda ids, scores: _end_when_begun_with_padding(ids, scores)],
    )
    assert out.shape == (2, 2 + 6)
    assert out[0].tolist() == [PAD, W, EOS, PAD, PAD, PAD, PAD, PAD]
    assert out[1].tolist() == [W + 1, W + 2] + [W + 4] * 6


def _end_when_begun_with_padding(ids, scores):
    forced = torch.full_like(scores, -torch.inf)
    forced[torch.arange(len(ids)), torch.where(ids[:, 0] == PAD, EOS, W + 4)] = 0.0
    return forced


@pytest.mark.parametrize("eos", [W + 2, [EOS, W + 2]])
def test_the_caller_may_name_other_ends(eos):
    assert decode(tiny_model(), [W], logits_processor=script(W + 1, W + 2, W), eos_token_id=eos) == [W, W + 1, W + 2]


def test_an_end_marker_may_be_named_as_the_end_of_the_reply(endless):
    ids = decode(
        endless, [W], logits_processor=script(BEGIN, W, BEGIN_LAST), max_span_length=4, eos_token_id=[EOS, END_LAST]
    )
    assert ids[6:9] == [END, W, BEGIN_LAST]
    assert ids[9:] == [*ids[9:13], END_LAST]


def test_text_goes_on_after_a_span():
    model = tiny_model()
    ids = decode(model, [W], logits_processor=script(W + 1, BEGIN, W + 2, EOS), max_span_length=6)
    assert ids[:3] == [W, W + 1, BEGIN]
    assert ids[-2:] == [W + 2, EOS]
    assert ids[-3] in (END, END_LAST)


def test_an_offloaded_model_generates_what_it_does_at_home():
    model = tiny_model()
    prompt = torch.tensor([[5, 6, 7, 8]])
    options = {"max_new_tokens": 24, "block_length": 4, "denoising_steps": 2}
    at_home = model.generate(prompt, **options)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert torch.equal(model.generate(prompt, **options), at_home)
