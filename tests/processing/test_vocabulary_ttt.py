import time

import numpy as np
import pytest
import torch
from processing_fixtures import tiny_tokenizer
from transformers import AutoTokenizer

from modeling_ttt import TttConfig, audio_span_ids
from processing_ttt.vocabulary_ttt import TttVocabulary, add_ttt_tokens


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


def test_new_tokens_have_consecutive_ids_in_the_agreed_order(tokenizer):
    size = len(tokenizer)
    vocabulary = add_ttt_tokens(tokenizer, 4)
    expected = [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|begin_of_audio|>",
        "<|end_of_audio|>",
        "<|begin_of_quad|>",
        "<|audio|>",
        "<|audio_0|>",
        "<|audio_1|>",
        "<|audio_2|>",
        "<|audio_3|>",
        "<|mask_token|>",
        "<|end_of_audio_new|>",
        "<|end_of_audio_span_last|>",
    ]
    assert tokenizer.convert_ids_to_tokens(list(range(size, len(tokenizer)))) == expected
    assert vocabulary.audio_token_start_id == size + expected.index("<|audio|>")
    assert vocabulary.audio_code_offset == vocabulary.audio_token_start_id + 1
    assert vocabulary.vocab_size == len(tokenizer)


def test_text_keeps_its_ids(tokenizer):
    text = "Seven plus five is twelve. 你好"
    before = tokenizer(text).input_ids
    add_ttt_tokens(tokenizer, 8)
    assert tokenizer(text).input_ids == before


def test_markers_are_never_split_and_are_skipped_in_decoding(tokenizer):
    vocabulary = add_ttt_tokens(tokenizer, 8)
    ids = tokenizer("Hi<|begin_of_audio|><|audio_7|><|end_of_audio_new|> there<|im_end|>").input_ids
    audio = [vocabulary.begin_audio_token_id, vocabulary.audio_code_offset + 7, vocabulary.end_audio_token_id]
    assert [token_id for token_id in ids if token_id >= vocabulary.begin_message_token_id] == [
        *audio,
        vocabulary.eos_token_id,
    ]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hi there"


def test_a_saved_tokenizer_gives_the_same_vocabulary(tokenizer, tmp_path):
    vocabulary = add_ttt_tokens(tokenizer, 16)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert TttVocabulary.from_tokenizer(loaded) == vocabulary
    assert loaded.decode(loaded("a<|audio_3|>b").input_ids, skip_special_tokens=True) == "ab"


def test_adding_twice_changes_nothing(tokenizer):
    vocabulary = add_ttt_tokens(tokenizer, 8)
    size = len(tokenizer)
    assert add_ttt_tokens(tokenizer, 8) == vocabulary
    assert len(tokenizer) == size


def test_another_codebook_size_on_the_same_tokenizer_is_an_error(tokenizer):
    add_ttt_tokens(tokenizer, 8)
    with pytest.raises(ValueError, match="8 codes already"):
        add_ttt_tokens(tokenizer, 16)


def test_a_tokenizer_with_chat_markers_and_padding_keeps_them(tokenizer):
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    before = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    vocabulary = add_ttt_tokens(tokenizer, 8)
    assert [vocabulary.begin_message_token_id, vocabulary.eos_token_id, vocabulary.pad_token_id] == before
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_a_tokenizer_without_padding_pads_with_its_former_end_token(tokenizer):
    tokenizer.add_special_tokens({"eos_token": "</s>"})
    vocabulary = add_ttt_tokens(tokenizer, 8)
    assert vocabulary.pad_token_id == tokenizer.convert_tokens_to_ids("</s>")
    assert vocabulary.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id


def test_released_layout_with_other_tokens_between_codes_and_mask_is_read_from_the_tokenizer(tokenizer):
    tokens = ["<|im_start|>", "<|im_end|>", "<|end_of_audio|>", "<|begin_of_audio|>", "<|begin_of_quad|>", "<|audio|>"]
    tokens += ["<|other|>", *(f"<|audio_{code}|>" for code in range(5)), "<|filler|>"]
    tokens += ["<|end_of_audio_span_last|>", "<|end_of_audio_new|>", "<|mask_token|>"]
    size = len(tokenizer)
    tokenizer.add_tokens(tokens, special_tokens=True)
    vocabulary = TttVocabulary.from_tokenizer(tokenizer)
    assert vocabulary.audio_token_start_id == size + 5
    assert vocabulary.audio_code_offset == size + 7
    assert vocabulary.codebook_size == 5
    assert vocabulary.mask_token_id == size + len(tokens) - 1


def test_a_missing_marker_is_named(tokenizer):
    tokenizer.add_tokens(["<|audio|>", "<|audio_0|>", "<|im_start|>", "<|im_end|>"], special_tokens=True)
    with pytest.raises(ValueError, match=r"has no <\|begin_of_audio\|>, .*<\|mask_token\|>.*add_ttt_tokens"):
        TttVocabulary.from_tokenizer(tokenizer)


def test_codes_with_a_gap_are_an_error(tokenizer):
    add_ttt_tokens(tokenizer, 3)
    tokenizer.add_tokens(["<|audio_3|>"], special_tokens=True)
    with pytest.raises(ValueError, match=r"<\|audio_3\|> has"):
        TttVocabulary.from_tokenizer(tokenizer)


def test_text_markers_inside_the_audio_alphabet_are_an_error(tokenizer):
    tokenizer.add_tokens(["<|audio|>", "<|audio_0|>", "<|mask_token|>", "<|end_of_audio_new|>"], special_tokens=True)
    others = ["<|end_of_audio_span_last|>", "<|im_start|>", "<|im_end|>", "<|begin_of_audio|>", "<|end_of_audio|>"]
    tokenizer.add_tokens([*others, "<|begin_of_quad|>"], special_tokens=True)
    with pytest.raises(ValueError, match="begin_audio_token_id"):
        TttVocabulary.from_tokenizer(tokenizer)


def test_codes_and_ids_are_each_others_inverse(tokenizer):
    vocabulary = add_ttt_tokens(tokenizer, 8)
    for codes in ([0, 7, 3], np.array([0, 7, 3]), torch.tensor([0, 7, 3])):
        ids = vocabulary.codes_to_ids(codes)
        assert tokenizer.convert_ids_to_tokens(ids) == ["<|audio_0|>", "<|audio_7|>", "<|audio_3|>"]
        assert [token_id - vocabulary.audio_code_offset for token_id in ids] == [0, 7, 3]
    with pytest.raises(ValueError, match="between 0 and 7"):
        vocabulary.codes_to_ids([8])
    with pytest.raises(ValueError, match="between 0 and 7"):
        vocabulary.codes_to_ids([-1])


def test_everything_from_the_placeholder_on_is_an_audio_position(tokenizer):
    vocabulary = add_ttt_tokens(tokenizer, 2)
    tokens = ["<|begin_of_quad|>", "<|audio|>", "<|audio_1|>", "<|mask_token|>", "<|end_of_audio_span_last|>"]
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(tokens))
    assert vocabulary.is_audio(ids).tolist() == [False, True, True, True, True]
    assert [vocabulary.is_code(int(token_id)) for token_id in ids] == [False, False, True, False, False]


def test_model_and_tokenizer_agree_on_what_is_audio(tokenizer):
    vocabulary = add_ttt_tokens(tokenizer, 8)
    config = TttConfig(
        text_config={"model_type": "qwen2", "vocab_size": vocabulary.vocab_size}, **vocabulary.config_kwargs()
    )
    ids = torch.arange(vocabulary.vocab_size)[None]
    assert torch.equal(audio_span_ids(ids, config.audio_token_start_id) >= 0, vocabulary.is_audio(ids))
    assert {name: getattr(config, name) for name in vocabulary.config_kwargs()} == vocabulary.config_kwargs()


def test_the_full_size_alphabet_is_added_in_seconds(tokenizer):
    start = time.process_time()
    assert add_ttt_tokens(tokenizer, 16384).codebook_size == 16384
    assert time.process_time() - start < 10
