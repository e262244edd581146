"""
A new Text-to-Talk model out of a language model: the text side stays, the new rows are harmless, the ids are the
tokenizer's.
"""

import pytest
import torch
from processing_fixtures import CORPUS, tiny_tokenizer
from released_fixtures import write_language_model, write_released
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Gemma3Config

from modeling_ttt import TttForConditionalGeneration
from modeling_ttt.initialization_ttt import extend_tokenizer, initialise_new_rows
from processing_ttt import add_ttt_tokens

CODEBOOK_SIZE = 24
FAMILIES = ["qwen2", "qwen3", "llama", "gemma3_text"]


def started(folder, **kwargs) -> TttForConditionalGeneration:
    return TttForConditionalGeneration.from_language_model(
        folder, CODEBOOK_SIZE, generator=torch.Generator().manual_seed(0), **kwargs
    )


@pytest.fixture
def text_ids() -> torch.Tensor:
    return torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_text_logits_on_text_ids_are_the_language_models_own(tmp_path, text_ids, family, tied):
    language_model = write_language_model(tmp_path, family, tied)
    num_text_ids = len(AutoTokenizer.from_pretrained(tmp_path))
    model = started(tmp_path)
    expected = language_model(text_ids).logits[..., :num_text_ids]
    torch.testing.assert_close(model(text_ids).logits[..., :num_text_ids], expected, rtol=0, atol=1e-6)
    assert torch.equal(
        model.lm_head.weight[:num_text_ids], language_model.get_output_embeddings().weight[:num_text_ids]
    )
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == model.config.tie_word_embeddings == tied


def test_of_a_model_that_also_sees_only_the_language_model_is_taken(tmp_path, text_ids):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
    }
    config = Gemma3Config(text_config=text, vision_config={**vision, "patch_size": 14}, mm_tokens_per_image=4)
    whole = AutoModelForCausalLM.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = started(tmp_path)
    assert not [name for name, _ in model.named_parameters() if "vision" in name]
    expected = whole(text_ids).logits
    torch.testing.assert_close(model(text_ids).logits[..., : len(tokenizer)], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_saves_loads_and_speaks(tmp_path, family, tied):
    write_language_model(tmp_path / "lm", family, tied)
    model = started(tmp_path / "lm")
    model.save_pretrained(tmp_path / "ttt")
    loaded, info = TttForConditionalGeneration.from_pretrained(tmp_path / "ttt", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    prompt = torch.tensor([[7, 8, model.config.begin_audio_token_id]])
    options = {"max_new_tokens": 12, "block_length": 8, "denoising_steps": 2, "do_sample": False}
    ids = loaded.generate(prompt, **options)
    assert torch.equal(ids, model.generate(prompt, **options))
    assert (ids[0, 3:] >= model.config.audio_token_start_id).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_probability_of_text_hardly_changes(tmp_path, text_ids, family):
    """By Jensen's inequality n rows at the mean take at most n / (n + V); the noise adds a little."""
    language_model = write_language_model(tmp_path, family)
    num_text_ids = len(AutoTokenizer.from_pretrained(tmp_path))
    model = started(tmp_path)
    new = model(text_ids).logits.softmax(-1)[..., num_text_ids:].sum(-1)
    num_new_ids = model.config.vocab_size - num_text_ids
    assert new.max() <= 1.1 * num_new_ids / (num_new_ids + num_text_ids)
    assert language_model.config.vocab_size < model.config.vocab_size


def test_new_rows_are_the_mean_with_a_little_noise_and_old_rows_are_untouched():
    weight = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 2, 16) + 3
    before = weight.clone()
    initialise_new_rows(weight, 1000, torch.Generator().manual_seed(1))
    assert torch.equal(weight[:1000], before[:1000])
    std, mean = torch.std_mean(before[:1000], 0)
    torch.testing.assert_close(weight[1000:].mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(weight[1000:].std(0), 0.1 * std, rtol=0.1, atol=0)
    assert len(weight[1000:].unique(dim=0)) == 3000


def test_a_generator_repeats_the_rows_and_leaves_the_global_one_alone(tmp_path):
    write_language_model(tmp_path, "qwen2")
    torch.manual_seed(5)
    first = started(tmp_path).lm_head.weight
    drawn = torch.rand(1)
    torch.manual_seed(6)
    assert torch.equal(started(tmp_path).lm_head.weight, first)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)


def test_rows_that_a_checkpoint_holds_in_reserve_are_used_and_set_anew(tmp_path):
    language_model = write_language_model(tmp_path, "qwen2", spare_rows=CODEBOOK_SIZE + 50)
    model = started(tmp_path)
    rows = language_model.config.vocab_size
    assert model.config.vocab_size == rows
    first_new = model.config.eos_token_id - 1  # <|im_start|>
    changed = (model.lm_head.weight != language_model.lm_head.weight).any(-1)
    assert torch.equal(changed.nonzero().flatten(), torch.arange(first_new, rows))


@pytest.mark.parametrize("eos", ["<|endoftext|>", None, "<|im_end|>"])
@pytest.mark.parametrize("pad", ["<|pad|>", None])
def test_tokens_get_the_ids_that_the_processor_s_package_gives_them(eos, pad):
    ours, theirs = tiny_tokenizer(), tiny_tokenizer()
    for tokenizer in (ours, theirs):
        tokenizer.add_special_tokens({name: token for name, token in (("eos_token", eos), ("pad_token", pad)) if token})
    joint = extend_tokenizer(ours, CODEBOOK_SIZE)
    vocabulary = add_ttt_tokens(theirs, CODEBOOK_SIZE)
    assert ours.get_vocab() == theirs.get_vocab()
    assert joint.config_fields == vocabulary.config_kwargs()
    assert joint.size == vocabulary.vocab_size
    assert (ours.eos_token, ours.pad_token) == (theirs.eos_token, theirs.pad_token)


def test_the_tokenizer_is_extended_in_place_and_reads_text_as_before(tmp_path):
    write_language_model(tmp_path, "qwen2")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    before = [tokenizer(text).input_ids for text in CORPUS]
    model = started(tmp_path, tokenizer=tokenizer)
    assert [tokenizer(text).input_ids for text in CORPUS] == before
    assert tokenizer("<|audio_3|>").input_ids == [model.config.audio_code_offset + 3]
    assert add_ttt_tokens(tokenizer, CODEBOOK_SIZE).config_kwargs() == {
        name: getattr(model.config, name) for name in add_ttt_tokens(tokenizer, CODEBOOK_SIZE).config_kwargs()
    }


def test_it_has_the_papers_generation_settings(tmp_path):
    write_language_model(tmp_path, "qwen2")
    generation = started(tmp_path).generation_config
    assert (generation.block_length, generation.denoising_steps) == (32, 10)
    assert (generation.do_sample, generation.top_k, generation.top_p) == (True, 10, 0.95)


def test_weights_keep_their_dtype_unless_another_is_asked_for(tmp_path):
    write_language_model(tmp_path, "llama")
    assert started(tmp_path).dtype == torch.float32
    assert started(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_it_can_be_trained_at_once(tmp_path):
    write_language_model(tmp_path, "gemma3_text", tied=True)
    model = started(tmp_path).train()
    config = model.config
    codes = list(range(config.audio_code_offset, config.audio_code_offset + 6))
    ids = torch.tensor([[5, 6, config.begin_audio_token_id, *codes, config.end_audio_token_id, 7, config.eos_token_id]])
    loss = model(ids, labels=ids, generator=torch.Generator().manual_seed(0)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert model.get_input_embeddings().weight.grad[config.mask_token_id].abs().sum() > 0


def test_a_released_checkpoint_and_one_of_ours_are_no_language_models(tmp_path):
    write_released(tmp_path / "released")
    with pytest.raises(ValueError, match=r"<\|begin_of_audio\|> already.*from_pretrained"):
        started(tmp_path / "released")
    TttForConditionalGeneration.from_pretrained(tmp_path / "released").save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="Text-to-Talk checkpoint already"):
        started(tmp_path / "ours", tokenizer=tiny_tokenizer())


def test_a_projection_with_a_bias_is_refused(tmp_path):
    config = AutoConfig.for_model(
        "phi", vocab_size=310, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="linear output projection without bias"):
        started(tmp_path, tokenizer=tiny_tokenizer())


def test_an_empty_codebook_is_refused(tmp_path):
    write_language_model(tmp_path, "qwen2")
    with pytest.raises(ValueError, match="`audio_codebook_size` must be at least 1"):
        TttForConditionalGeneration.from_language_model(tmp_path, audio_codebook_size=0)


def test_a_short_context_leaves_room_for_a_prompt(tmp_path):
    language_model = write_language_model(tmp_path, "llama", tied=False)
    context = language_model.config.max_position_embeddings
    model = started(tmp_path)
    assert context <= 2048 and model.generation_config.max_new_tokens == context // 2
    assert model.generate(torch.tensor([[5, 6, 7]]), max_time=0.0).shape[1] > 3
