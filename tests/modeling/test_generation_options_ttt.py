"""How `generate` is asked: randomness, options, processors and criteria, errors, and how little it computes."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    BEGIN_LAST,
    CODE_0,
    CODEBOOK_SIZE,
    EOS,
    FIRST_WORD,
    VOCAB_SIZE,
    conversation,
    left_padded,
    script,
    speaking,
    tiny_model,
)
from torch import nn
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria

import modeling_ttt.modeling_ttt as modeling_module

W, C = FIRST_WORD, CODE_0
SPEECH = {"block_length": 5, "denoising_steps": 3, "max_new_tokens": 20}
ROWS = [[W, W + 1], [*conversation(1, 9), W], [W, BEGIN, C + 4, C + 5], [W + 2, BEGIN_LAST]]


def decode(model, prompt=(W, W + 1), **kwargs):
    kwargs = SPEECH | {"logits_processor": speaking()} | kwargs
    return model.generate(torch.tensor([prompt]), **kwargs)


# ----------------------------------------------------------------------------------------------------------- randomness


def test_greedy_decoding_leaves_the_global_random_state_alone(model):
    before = torch.get_rng_state()
    decode(model)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "sampling", [{"do_sample": True}, {"audio_temperature": 1.0}, {"remasking": "random"}], ids=lambda o: next(iter(o))
)
def test_a_generator_makes_each_kind_of_sampling_reproducible_and_leaves_the_global_state_alone(model, sampling):
    before = torch.get_rng_state()
    replies = [
        decode(model, generator=torch.Generator().manual_seed(seed), eos_token_id=[], **sampling).tolist()
        for seed in (1, 1, 2, 3, 4, 5)
    ]
    assert replies[0] == replies[1]
    assert any(reply != replies[0] for reply in replies[2:])
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_generator_the_global_seed_decides(model):
    options = {"do_sample": True, "audio_temperature": 1.0}
    with torch.random.fork_rng():
        drawn = []
        for seed in (1, None, 1):
            if seed is not None:
                torch.manual_seed(seed)
            drawn.append(decode(model, **options).tolist())
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_generator_that_is_not_needed_is_not_used(model):
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    decode(model, generator=generator)
    assert torch.equal(before, generator.get_state())


def test_several_samples_of_one_prompt_are_drawn_with_one_generator_each(model):
    def generators():
        return [torch.Generator().manual_seed(seed) for seed in range(3)]

    options = {"do_sample": True, "audio_temperature": 1.0, "eos_token_id": []}
    together = decode(model, num_return_sequences=3, generator=generators(), **options)
    assert together.shape == (3, 2 + 20)
    for row, generator in zip(together, generators(), strict=True):
        assert row.tolist() == decode(model, generator=generator, **options)[0].tolist()


def test_a_prompt_without_its_batch_axis_is_refused_with_the_way_out(model):
    with pytest.raises(ValueError, match=r"got the shape \(3,\).*input_ids\[None\]"):
        model.generate(torch.tensor([5, 6, 7]), max_new_tokens=2)


def test_generators_must_be_as_many_as_rows(model):
    with pytest.raises(ValueError, match="2 generators for 1 sequences"):
        decode(model, do_sample=True, generator=[torch.Generator(), torch.Generator()])


# --------------------------------------------------------------------------------------------------- where options live


def test_options_come_from_the_call_before_the_generation_config_before_the_defaults(model):
    by_call = decode(model, [W, BEGIN], block_length=3, denoising_steps=1).tolist()
    by_default = decode(model, [W, BEGIN], block_length=None, denoising_steps=None).tolist()
    assert by_default == decode(model, [W, BEGIN], block_length=32, denoising_steps=10).tolist() != by_call

    model.generation_config.block_length = 3
    model.generation_config.denoising_steps = 1
    assert decode(model, [W, BEGIN], block_length=None, denoising_steps=None).tolist() == by_call
    assert decode(model, [W, BEGIN], block_length=32, denoising_steps=10).tolist() == by_default

    given = GenerationConfig(block_length=3, denoising_steps=1, max_new_tokens=20, eos_token_id=EOS, pad_token_id=0)
    ids = tiny_model().generate(torch.tensor([[W, BEGIN]]), generation_config=given, logits_processor=speaking())
    assert ids.tolist() == by_call


@pytest.mark.parametrize("shipped", [{"entropy_bound": 1e9}, {"confidence_threshold": 0.0}], ids=str)
@pytest.mark.parametrize("name", ["entropy_bound", "confidence_threshold"])
def test_what_the_checkpoint_switches_on_a_caller_switches_off_or_replaces(shipped, name):
    model = tiny_model()

    def forwards(**options):
        out = decode(model, [W, BEGIN], max_span_length=5, return_dict_in_generate=True, max_new_tokens=5, **options)
        return out.num_forwards

    assert forwards(denoising_steps=5) == 5
    model.generation_config.update(**shipped, allow_custom_entries=True)
    assert forwards(denoising_steps=5) == 1  # everything in one step
    assert forwards(denoising_steps=5, **dict.fromkeys(shipped)) == 5
    assert forwards(denoising_steps=5, reveal_schedule="linear") == 5
    assert forwards(denoising_steps=5, **{name: 0.0 if name == "entropy_bound" else 1.0}) == 5
    given = GenerationConfig(**{name: 0.0 if name == "entropy_bound" else 1.0}, eos_token_id=EOS, pad_token_id=0)
    assert forwards(denoising_steps=5, generation_config=given) == 5
    assert forwards(denoising_steps=5, audio_temperature=None) == 1  # what cannot be off stays what it is


def test_a_call_does_not_change_the_models_generation_config(model):
    before = model.generation_config.to_dict()
    decode(model, block_length=3)
    assert model.generation_config.to_dict() == before


def test_more_steps_than_masks_reveal_one_position_each(model):
    assert decode(model, denoising_steps=5).tolist() == decode(model, denoising_steps=50).tolist()


# ------------------------------------------------------------------------------------- processors and stopping criteria


def test_logits_processors_see_the_rows_own_ids_and_act_on_text_only(endless):
    calls = []

    def words_only(ids, scores):
        calls.append((ids.tolist(), scores.clone()))
        forced = torch.full_like(scores, -torch.inf)
        forced[:, (W + 1, BEGIN, W + 2, EOS)[len(calls) - 1]] = 0.0
        return forced

    ids = decode(endless, [W], logits_processor=[words_only], max_span_length=6)[0].tolist()
    assert [seen[0] for seen, _ in calls] == [ids[:1], ids[:2], ids[:-2], ids[:-1]]
    for _, scores in calls:
        assert scores.shape == (1, VOCAB_SIZE) and scores.dtype == torch.float32
        assert scores[:, :AUDIO_START].isfinite().all() and (scores[:, AUDIO_START:] == -torch.inf).all()


def test_transformers_own_processors_work_beside_audio(model):
    ids = decode(model, repetition_penalty=1.3, no_repeat_ngram_size=2, bad_words_ids=[[W + 2]], min_new_tokens=15)
    assert ids.shape[1] >= 2 + 15
    assert W + 2 not in ids[0].tolist()


class Asked(StoppingCriteria):
    def __init__(self, stops_at=None):
        self.lengths, self.stops_at = [], stops_at

    def __call__(self, input_ids, scores, **kwargs):
        self.lengths.append(input_ids.shape[1])
        return torch.full((len(input_ids),), input_ids.shape[1] >= (self.stops_at or 10**6))


def test_stopping_criteria_are_asked_after_each_word_and_each_block(endless):
    asked = Asked()
    ids = decode(
        endless, [W], logits_processor=script(W + 1, BEGIN, W + 2, EOS), max_span_length=10, stopping_criteria=[asked]
    )
    assert asked.lengths == [2, 3, 8, 14, 15, 16]  # the second block brings the appended end marker
    assert ids.shape[1] == 16


def test_a_stopping_criterion_ends_the_reply_after_the_block_in_which_it_is_met(endless):
    ids = decode(endless, [W], logits_processor=script(W + 1, BEGIN), stopping_criteria=[Asked(stops_at=5)])
    assert ids.shape[1] == 8


# -------------------------------------------------------------------------------------------------- how little it takes


def test_a_denoising_step_projects_the_blocks_rows_onto_the_audio_alphabet_only(endless, monkeypatch):
    seen, whole = [], []

    def linear(hidden, weight):
        seen.append((tuple(hidden.shape[:-1]), len(weight)))
        return nn.functional.linear(hidden, weight)

    shim = SimpleNamespace(linear=linear, pad=nn.functional.pad)
    monkeypatch.setattr(modeling_module, "F", shim)
    endless.lm_head.register_forward_hook(lambda *args: whole.append(args))
    decode(endless, [*conversation(1, 20), W], logits_processor=script(W, BEGIN, EOS), max_span_length=8)
    text, blocks = ((1,), AUDIO_START), []
    for length in (5, 3):
        for _ in range(3):
            blocks += [((1, length), CODEBOOK_SIZE), ((1, length), 2)]
    assert seen == [text, text, *blocks, text]
    assert not whole, "the whole vocabulary is never scored"


def test_a_denoising_step_runs_the_span_alone(model, forwards):
    """
    Whatever the prompt's length: after the first, which takes the begin marker along, only span and block are queries.
    """
    prompt = [*conversation(1, 60), W, BEGIN]
    decode(model, prompt, max_new_tokens=14, max_span_length=14)
    assert forwards[0] == len(prompt) + 5
    assert max(forwards[1:]) <= 14 + 1


class Wrapped(nn.Module):
    """What an adapter or a quantized layer looks like from outside: no `weight`, and outputs of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states):
        return self.inner(hidden_states)


def test_a_wrapped_output_projection_is_called_as_a_whole_and_decodes_the_same():
    model = tiny_model()
    expected = decode(model).tolist()
    model.lm_head = Wrapped(model.lm_head)
    assert decode(model).tolist() == expected


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "not by beam search"),
        ({"num_beams": 2, "do_sample": True}, "not by beam sample"),
        ({"prompt_lookup_num_tokens": 2}, "not by assisted generation"),
        ({"confidence_threshold": 1.1}, "confidence_threshold"),
        ({"entropy_bound": -0.1}, "entropy_bound"),
        ({"confidence_threshold": 0.9, "entropy_bound": 0.1}, "pass one of them"),
        ({"audio_guidance_scale": -0.1}, "audio_guidance_scale"),
        ({"audio_top_k": 0}, "audio_top_k"),
        ({"audio_top_p": 1.5}, "audio_top_p"),
        ({"reveal_schedule": "cosine"}, "`reveal_schedule` must be 'linear', got 'cosine'"),
        ({"first_block_length": 0}, "first_block_length"),
        ({"return_dict_in_generate": True, "output_scores": True}, "output_scores"),
        ({"return_dict_in_generate": True, "output_logits": True}, "output_logits"),
        ({"return_dict_in_generate": True, "output_attentions": True}, "output_attentions"),
        ({"return_dict_in_generate": True, "output_hidden_states": True}, "output_hidden_states"),
        ({"remasking": "nonsense"}, "must be 'low_confidence' or 'random' or 'calibrated', got 'nonsense'"),
        ({"block_length": 0}, "block_length"),
        ({"denoising_steps": 0}, "denoising_steps"),
        ({"max_span_length": 0}, "max_span_length"),
        ({"audio_temperature": -0.5}, "audio_temperature"),
        ({"block_length": 3.5}, "block_length"),
        ({"denoising_steps": "3"}, "denoising_steps"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"denosing_steps": 3}, "denosing_steps"),
        ({"block_length": 10**6}, "`block_length` must be at most 4096"),
        ({"first_block_length": 10**6}, "`first_block_length` must be at most 4096"),
        ({"audio_temperature": 1e-300}, "`audio_temperature` must be a number from 1e-05 to 100, or 0"),
        ({"audio_temperature": float("inf")}, "`audio_temperature` must be a number from"),
        ({"do_sample": True, "temperature": 1e-300}, "`temperature` must be a number from 1e-05 to 100, got"),
        ({"do_sample": True, "temperature": float("inf")}, "`temperature` must be a number from"),
        ({"eos_token_id": 1e300}, "`eos_token_id` must be a token id, a list of them or None"),
        ({"eos_token_id": [1, None]}, "`eos_token_id` must be a token id"),
        ({"pad_token_id": 10**30}, "`pad_token_id` must be a token id"),
        ({"audio_guidance_scale": 1e38}, "`audio_guidance_scale` must be a number between 0 and 100"),
    ],
)
def test_what_is_not_supported_is_an_error_that_names_it(model, options, message):
    with pytest.raises(ValueError, match=message):
        decode(model, **options)


def test_assisted_decoding_is_an_error(model):
    with pytest.raises(ValueError, match="assisted"):
        decode(model, assistant_model=tiny_model())


@pytest.mark.parametrize(
    "name",
    [
        "mask_token_id",
        "begin_audio_token_id",
        "begin_last_audio_token_id",
        "end_audio_token_id",
        "end_last_audio_token_id",
    ],
)
def test_a_config_without_its_markers_says_how_to_get_them(name):
    with pytest.raises(ValueError, match=f"{name}.*`ttt convert`"):
        decode(tiny_model(**{name: None}))


def test_a_config_without_an_audio_alphabet_says_how_to_get_it():
    with pytest.raises(ValueError, match=r"audio_token_start_id.*`ttt convert`"):
        decode(tiny_model(audio_token_start_id=None, audio_code_offset=None))


def test_a_prompt_of_embeddings_is_an_error_that_says_why(model):
    embeddings = model.get_input_embeddings()(torch.tensor([[W, W]]))
    with pytest.raises(ValueError, match="needs `input_ids`"):
        model.generate(inputs_embeds=embeddings, **SPEECH)


def test_an_empty_prompt_is_an_error(model):
    inputs = left_padded([[], [W]])
    with pytest.raises(ValueError, match="prompt is empty"):
        model.generate(**inputs, **SPEECH)


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE, 2**40])
def test_a_token_id_outside_the_vocabulary_is_named(model, token_id):
    with pytest.raises(ValueError, match=rf"`input_ids` must be from 0 to {VOCAB_SIZE - 1}, .*got {token_id}"):
        model.generate(torch.tensor([[W, token_id]]), **SPEECH)


def test_token_ids_that_are_hidden_may_be_anything(model):
    prompts, mask = torch.tensor([[-100, W, W], [W, W, W]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    padded = torch.where(mask == 1, prompts, 0)
    replies = [model.generate(ids, attention_mask=mask, **SPEECH)[:, 3:] for ids in (prompts, padded)]
    assert torch.equal(*replies)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_token_ids_that_are_no_integers_are_refused(model, dtype):
    with pytest.raises(ValueError, match="`input_ids` must be integers"):
        model.generate(torch.ones(1, 3, dtype=dtype), **SPEECH)


def test_a_logits_processor_that_changes_the_shape_is_named(model):
    processors = LogitsProcessorList([lambda input_ids, scores: scores[..., :1]])
    with pytest.raises(ValueError, match=r"must keep the shape of its scores, \(1, 36\), but returned \(1, 1\)"):
        decode(model, logits_processor=processors)


def test_an_argument_goes_before_the_other_way_in_a_passed_config(model):
    config = copy.deepcopy(model.generation_config)
    config.entropy_bound = 3.0
    asked = {"confidence_threshold": 0.9}
    assert torch.equal(decode(model, generation_config=config, **asked), decode(model, **asked))


@pytest.mark.parametrize("name", ["audio_temperature", "audio_guidance_scale", "confidence_threshold", "audio_top_p"])
@pytest.mark.parametrize("value", [float("nan"), "a"])
def test_what_is_no_number_is_refused(model, name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number"):
        decode(model, **{name: value})


def test_counts_may_be_numpys(model):
    assert torch.equal(decode(model, block_length=np.int64(4)), decode(model, block_length=4))
