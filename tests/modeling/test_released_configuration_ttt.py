"""A released checkpoint loads as it is: its fields are mapped, its markers found, its weights exact."""

import json
import logging

import pytest
import torch
from released_fixtures import AUDIO_ALPHABET, CODEBOOK_SIZE, released_tokenizer, write_released

from modeling_ttt import TttConfig, TttForConditionalGeneration
from modeling_ttt.released_configuration_ttt import AUDIO_CODE, MARKERS, nest_language_model
from processing_ttt import RELEASED_SYSTEM_PROMPTS, TttProcessor, TttVocabulary, vocabulary_ttt

PROMPT = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_size", ["50GB", "20KB"])
def test_weights_load_exactly_tied_or_not_sharded_or_not(tmp_path, tied, shard_size):
    language_model = write_released(tmp_path, tied=tied, shard_size=shard_size)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard_size == "50GB" else pytest.approx(6, abs=2))
    model, info = TttForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(model(PROMPT).logits, language_model(PROMPT).logits)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied


def test_fields_are_mapped_and_markers_come_from_the_tokenizer(tmp_path):
    write_released(tmp_path)
    vocab = released_tokenizer().get_vocab()
    config = TttForConditionalGeneration.from_pretrained(tmp_path).config
    assert config.model_type == "ttt"
    assert (config.clean_audio_prob, config.prefix_preservation_prob) == (0.2, 0.25)
    assert config.audio_codebook_size == CODEBOOK_SIZE
    for field, token in {
        "audio_token_start_id": "<|audio|>",
        "audio_code_offset": "<|audio_0|>",
        "mask_token_id": "<|mask_token|>",
        "begin_audio_token_id": "<|begin_of_audio|>",
        "begin_last_audio_token_id": "<|begin_of_quad|>",
        "end_audio_token_id": "<|end_of_audio_new|>",
        "end_last_audio_token_id": "<|end_of_audio_span_last|>",
        "eos_token_id": "<|im_end|>",
        "pad_token_id": "<|endoftext|>",
    }.items():
        assert getattr(config, field) == vocab[token], field


def test_nothing_of_the_release_s_spelling_is_left_in_the_backbone_s_config(tmp_path):
    write_released(tmp_path)
    backbone = TttConfig.from_pretrained(tmp_path).text_config.to_dict()
    assert (
        not {"mask_token", "audio_token_id_start", "unmasked_audio_prob", "prefix_preservation_ratio"} & backbone.keys()
    )
    assert backbone["rope_parameters"]["rope_theta"] == 1_000_000


def test_a_message_names_what_was_mapped(tmp_path, caplog):
    write_released(tmp_path)
    with caplog.at_level(logging.WARNING):
        config = TttConfig.from_pretrained(tmp_path)
    (record,) = [record for record in caplog.records if record.name.endswith("released_configuration_ttt")]
    message = record.getMessage()
    for said in (
        f"mask_token -> mask_token_id {config.mask_token_id}",
        f"audio_token_id_start -> audio_token_start_id {config.audio_token_start_id}",
        "unmasked_audio_prob -> clean_audio_prob 0.2",
        "prefix_preservation_ratio -> prefix_preservation_prob 0.25",
        f"end_audio_token_id {config.end_audio_token_id}",
    ):
        assert said in message


def test_the_end_of_a_reply_stops_generation_though_the_language_model_ended_otherwise(tmp_path):
    write_released(tmp_path)
    model = TttForConditionalGeneration.from_pretrained(tmp_path)
    vocab = released_tokenizer().get_vocab()
    assert set(model.generation_config.eos_token_id) == {vocab["<|endoftext|>"], vocab["<|im_end|>"]}
    assert model.generation_config.max_new_tokens == 2048


def test_it_speaks_without_conversion(tmp_path):
    write_released(tmp_path)
    model = TttForConditionalGeneration.from_pretrained(tmp_path)
    prompt = torch.tensor([[5, model.config.begin_audio_token_id]])
    ids = model.generate(prompt, max_new_tokens=12, block_length=8, denoising_steps=2, do_sample=False)
    assert (ids[0, 2:] >= model.config.audio_token_start_id).any()


def test_its_processor_needs_only_the_name_of_a_codec(tmp_path):
    write_released(tmp_path)
    processor = TttProcessor.from_pretrained(
        tmp_path, codec_name_or_path="some/codec", system_prompts=RELEASED_SYSTEM_PROMPTS
    )
    assert processor.vocabulary == TttVocabulary.from_tokenizer(released_tokenizer())
    assert processor.codec_name_or_path == "some/codec"


@pytest.mark.parametrize("token", ["<|begin_of_audio|>", "<|end_of_audio_span_last|>"])
def test_a_marker_that_the_tokenizer_lacks_is_none_and_generate_says_so(tmp_path, token, caplog):
    write_released(tmp_path, without=token)
    with caplog.at_level(logging.WARNING):
        model = TttForConditionalGeneration.from_pretrained(tmp_path)
    assert f"Not found: {token}" in caplog.text
    field = next(name for name, marker in MARKERS.items() if marker == token)
    assert getattr(model.config, field) is None
    with pytest.raises(ValueError, match=f"{field}.*ttt convert"):
        model.generate(PROMPT, max_new_tokens=4)


def test_without_a_tokenizer_the_mapped_fields_are_there_and_generate_refuses(tmp_path):
    write_released(tmp_path)
    config = TttConfig.from_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    model = TttForConditionalGeneration.from_pretrained(tmp_path)
    for field in ("mask_token_id", "audio_token_start_id", "audio_code_offset", "audio_codebook_size"):
        assert getattr(model.config, field) == getattr(config, field)
    assert model.config.end_audio_token_id is None
    with pytest.raises(ValueError, match="ttt convert"):
        model.generate(PROMPT, max_new_tokens=4)


def test_the_config_file_itself_may_be_named(tmp_path):
    write_released(tmp_path)
    named, beside = TttConfig.from_pretrained(tmp_path / "config.json"), TttConfig.from_pretrained(tmp_path)
    assert named.to_dict() == beside.to_dict()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"mask_token": 5},
            r"`mask_token` in config.json .* is 5, but its tokenizer gives <\|mask_token\|> the id 347",
        ),
        ({"audio_token_id_start": 305}, r"`audio_token_id_start`.*<\|audio\|>"),
        ({"mask_token": "<|mask_token|>"}, r"`mask_token` .* must be a token id, got '<\|mask_token\|>'"),
        ({"vocab_size": 349}, "`end_last_audio_token_id` is 349, outside the vocabulary of 349 ids"),
        ({"unmasked_audio_prob": 1.5}, "`clean_audio_prob` must be a probability"),
    ],
)
def test_a_config_that_contradicts_its_tokenizer_is_refused(tmp_path, fields, expected):
    write_released(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | fields
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=expected):
        TttForConditionalGeneration.from_pretrained(tmp_path)


def test_codes_with_a_gap_are_refused(tmp_path):
    write_released(tmp_path)
    tokenizer = released_tokenizer(without="<|audio_7|>")
    tokenizer.add_tokens("<|audio_7|>", special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"without a gap, but <\|audio_7\|>"):
        TttConfig.from_pretrained(tmp_path)


def test_a_plain_language_model_is_no_released_one():
    nested = nest_language_model(
        {"model_type": "qwen2", "vocab_size": 100, "eos_token_id": 3, "torch_dtype": "bfloat16"}
    )
    config = TttConfig.from_dict(nested)
    assert config.audio_token_start_id is None
    assert config.eos_token_id == 3
    assert config.dtype == torch.bfloat16


def test_both_packages_spell_the_markers_alike():
    names = {value for name, value in vars(vocabulary_ttt).items() if name.isupper() and isinstance(value, str)}
    codes = {AUDIO_CODE.format(0): vocabulary_ttt.AUDIO_CODE.format(0)}
    assert {codes.get(token, token) for token in MARKERS.values()} <= names | set(codes.values())
    assert set(AUDIO_ALPHABET) <= {AUDIO_CODE.format(code) for code in range(CODEBOOK_SIZE)} | names
