import json

import pytest
from modeling_fixtures import (
    AUDIO_START,
    BEGIN,
    CODE_0,
    CODEBOOK_SIZE,
    END,
    END_LAST,
    EOS,
    FIRST_WORD,
    MASK,
    VOCAB_SIZE,
    tiny_config,
)
from transformers import AutoConfig, LlamaConfig, Qwen2Config, Qwen3Config

from modeling_ttt import TttConfig


def test_a_config_constructs_without_arguments_over_a_qwen2_backbone():
    config = TttConfig()
    assert isinstance(config.text_config, Qwen2Config)
    assert config.vocab_size == Qwen2Config().vocab_size
    assert config.model_type == "ttt"


def test_the_defaults_are_the_papers_and_no_id_is_guessed():
    config = TttConfig()
    assert (config.clean_audio_prob, config.prefix_preservation_prob) == (0.3, 0.3)
    assert config.audio_codebook_size == 16384
    for name in (
        "audio_token_start_id",
        "audio_code_offset",
        "mask_token_id",
        "begin_audio_token_id",
        "begin_last_audio_token_id",
        "end_audio_token_id",
        "end_last_audio_token_id",
    ):
        assert getattr(config, name) is None, name
    assert config.keys_to_ignore_at_inference == ["cache", "text_loss", "audio_loss"]


def test_code_zero_is_the_first_audio_id_unless_said_otherwise():
    assert tiny_config(audio_code_offset=None, audio_codebook_size=20).audio_code_offset == AUDIO_START
    assert tiny_config().audio_code_offset == CODE_0


@pytest.mark.parametrize(("backbone", "kind"), [("qwen2", Qwen2Config), ("qwen3", Qwen3Config), ("llama", LlamaConfig)])
def test_any_decoder_only_backbone_may_be_given_as_a_config_or_a_dictionary(backbone, kind):
    config = tiny_config(backbone)
    assert isinstance(config.text_config, kind)
    from_dict = TttConfig(text_config={"model_type": backbone, "vocab_size": VOCAB_SIZE})
    assert isinstance(from_dict.text_config, kind)
    assert from_dict.vocab_size == VOCAB_SIZE


@pytest.mark.parametrize("backbone", ["qwen2", "llama"])
def test_a_config_survives_saving_and_loading(tmp_path, backbone):
    config = tiny_config(backbone, clean_audio_prob=0.1, eos_token_id=[EOS, FIRST_WORD])
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "ttt"
    for loaded in (TttConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is TttConfig
        ours, theirs = config.to_dict(), loaded.to_dict()
        for fields in (ours, theirs):
            fields.pop("auto_map", None)
            fields.pop("_name_or_path", None)
        assert ours == theirs


def test_tied_embeddings_of_the_backbone_are_tied_here():
    assert tiny_config(text_config={"tie_word_embeddings": True}).tie_word_embeddings
    assert not tiny_config().tie_word_embeddings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio_token_start_id", VOCAB_SIZE),
        ("audio_token_start_id", -1),
        ("audio_code_offset", VOCAB_SIZE),
        ("audio_code_offset", AUDIO_START - 1),
        ("mask_token_id", VOCAB_SIZE),
        ("mask_token_id", -1),
        ("mask_token_id", CODE_0),
        ("mask_token_id", CODE_0 + CODEBOOK_SIZE - 1),
        ("mask_token_id", AUDIO_START - 1),
        ("mask_token_id", END),
        ("mask_token_id", END_LAST),
        ("end_audio_token_id", CODE_0 + 5),
        ("end_audio_token_id", AUDIO_START - 1),
        ("end_audio_token_id", VOCAB_SIZE),
        ("end_last_audio_token_id", CODE_0 + 5),
        ("end_last_audio_token_id", 0),
        ("begin_audio_token_id", AUDIO_START),
        ("begin_audio_token_id", VOCAB_SIZE),
        ("begin_last_audio_token_id", MASK),
        ("pad_token_id", CODE_0),
        ("pad_token_id", VOCAB_SIZE),
        ("eos_token_id", END),
        ("eos_token_id", [EOS, END]),
        ("eos_token_id", [EOS, VOCAB_SIZE]),
        ("bos_token_id", END),
        ("clean_audio_prob", 1.5),
        ("clean_audio_prob", -0.1),
        ("prefix_preservation_prob", 2.0),
        ("prefix_preservation_prob", float("nan")),
        ("audio_codebook_size", 0),
        ("audio_codebook_size", VOCAB_SIZE),
    ],
)
def test_what_does_not_fit_together_is_an_error_that_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"`{field}`"):
        tiny_config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("mask_token_id", "33"), ("clean_audio_prob", "often"), ("audio_codebook_size", 2.5)]
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_field(field, value):
    with pytest.raises(Exception, match=field):
        tiny_config(**{field: value})


@pytest.mark.parametrize(("backbone", "fields"), [("bloom", {}), ("mpt", {}), ("falcon", {"alibi": True})])
def test_a_backbone_that_builds_its_own_mask_is_refused(backbone, fields):
    with pytest.raises(ValueError, match="encodes positions by ALiBi"):
        TttConfig(text_config={"model_type": backbone, **fields})


@pytest.mark.parametrize("backbone", ["t5", "mamba2"])
def test_a_backbone_that_is_not_a_decoder_of_attention_layers_is_an_error(backbone):
    with pytest.raises(ValueError, match="`text_config`"):
        TttConfig(text_config={"model_type": backbone})


def test_the_edges_of_the_probabilities_are_allowed():
    config = tiny_config(clean_audio_prob=0.0, prefix_preservation_prob=1.0)
    assert (config.clean_audio_prob, config.prefix_preservation_prob) == (0, 1)


def test_begin_markers_of_the_same_id_as_an_end_are_refused():
    with pytest.raises(ValueError, match="`begin_audio_token_id`"):
        tiny_config(begin_audio_token_id=END)
    assert tiny_config().begin_audio_token_id == BEGIN


def test_markers_are_complete_or_an_error_names_what_is_missing():
    config = tiny_config()
    markers = config.markers()
    assert (markers.mask_token_id, markers.end_token_ids) == (MASK, (END, END_LAST))
    assert [markers.end_of(begin) for begin in markers.begin_token_ids] == [END, END_LAST]
    assert markers.codes == range(CODE_0, CODE_0 + CODEBOOK_SIZE)
    config.mask_token_id = config.end_audio_token_id = None
    with pytest.raises(ValueError, match="lacks mask_token_id, end_audio_token_id: run `ttt convert`"):
        config.markers()
