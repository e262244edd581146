import json
import re

import pytest
import torch
from glm4_voice_fixtures import (
    RECORDED,
    codes_of,
    needs_recorded,
    noise,
    released_flow_name,
    released_vocoder_weights,
    tiny_decoder_model,
    tiny_tokenizer_model,
    write_released_decoder,
    write_released_tokenizer,
)
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import ttt_cli
from processing_ttt.glm4_voice_codec import Glm4VoiceCodec
from processing_ttt.glm4_voice_convert import convert_codec, convert_decoder, read_decoder_config
from processing_ttt.glm4_voice_licence import LICENCE_NOTICE, NOTICE_FILE
from ttt_cli.checkpoints import convert_codec as convert_codec_command


@pytest.fixture
def released(tmp_path):
    """A folder with both halves, as they are released."""
    tokenizer, decoder = tiny_tokenizer_model(), tiny_decoder_model()
    write_released_tokenizer(tmp_path / "released" / "glm-4-voice-tokenizer", tokenizer)
    write_released_decoder(tmp_path / "released" / "glm-4-voice-decoder", decoder)
    return tmp_path / "released", tokenizer, decoder


def test_the_released_decoder_waveforms_as_the_one_it_was_written_from(released):
    folder, _, model = released
    converted = convert_decoder(folder / "glm-4-voice-decoder")
    assert not converted.training
    assert converted.config.flow_config.guidance_scale == 0.6
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(converted.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)
    options = {"num_inference_steps": 2, "guidance_scale": 0.5}
    expected = model.decode(codes_of(9), **options)
    output = converted.decode(codes_of(9), **options)
    torch.testing.assert_close(output.mel, expected.mel, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.audio_values, expected.audio_values, atol=1e-3, rtol=0)


@needs_recorded
def test_our_small_files_have_the_names_that_the_original_wrote():
    model = convert_decoder(RECORDED / "decoder")
    originals = [torch.load(RECORDED / "decoder" / name, weights_only=True) for name in ("flow.pt", "hift.pt")]
    assert {released_flow_name(name, regulator_layers=4) for name in model.flow.state_dict()} == set(originals[0])
    assert set(released_vocoder_weights(model.vocoder)) == set(originals[1])


def test_yaml_is_read_and_never_executed(released):
    folder = released[0] / "glm-4-voice-decoder"
    config = read_decoder_config(folder / "config.yaml")
    assert config.flow_config.speaker_embedding_size == 6  # a reference
    assert config.vocoder_config.sampling_rate == 22050
    assert not (folder / "canary").exists()


def test_weights_that_would_run_code_are_refused(released):
    folder = released[0] / "glm-4-voice-decoder"

    class Payload:
        def __reduce__(self):
            return (folder.joinpath("canary").touch, ())

    torch.save({"input_embedding.weight": Payload()}, folder / "flow.pt")
    with pytest.raises(ValueError, match=r"flow\.pt' cannot be read.* more than weights is not run"):
        convert_decoder(folder)
    assert not (folder / "canary").exists()


def test_a_table_that_is_no_weights_is_refused(released):
    folder = released[0] / "glm-4-voice-decoder"
    torch.save({"model": {}, "step": 3}, folder / "hift.pt")
    with pytest.raises(ValueError, match=r"hift\.pt' is not a plain table of weights"):
        convert_decoder(folder)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"


@pytest.mark.parametrize("content", [POINTER, b"", b"PK\x03\x04 cut"], ids=["pointer", "empty", "cut"])
@pytest.mark.parametrize("name", ["decoder/flow.pt", "decoder/hift.pt", "tokenizer/model.safetensors"])
def test_a_file_that_is_no_file_of_weights_is_named(released, tmp_path, name, content):
    (released[0] / f"glm-4-voice-{name}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name.split('/')[1]}' cannot be read: download it again"):
        convert_codec(released[0] / "glm-4-voice-tokenizer", released[0] / "glm-4-voice-decoder", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", ["codebook.weight", "layers.1.", "embed_positions2.weight"])
def test_a_tokenizer_that_lacks_weights_is_not_filled_with_random_ones(released, tmp_path, lost):
    path = released[0] / "glm-4-voice-tokenizer" / "model.safetensors"
    weights = load_file(path)
    kept = {name: tensor for name, tensor in weights.items() if lost not in name}
    assert len(kept) < len(weights)
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"missing, the first is '.*{re.escape(lost)}"):
        convert_codec(path.parent, released[0] / "glm-4-voice-decoder", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_of_a_normalised_weight_is_named(released):
    path = released[0] / "glm-4-voice-decoder" / "hift.pt"
    weights = torch.load(path, weights_only=True)
    name = next(name for name in weights if name.endswith(".weight_g"))
    torch.save({other: tensor for other, tensor in weights.items() if other != name}, path)
    with pytest.raises(ValueError, match=rf"without '{re.escape(name)}'"):
        convert_decoder(path.parent)


@pytest.mark.parametrize("name", ["config.yaml", "flow.pt", "hift.pt"])
def test_a_missing_file_is_named(released, name):
    folder = released[0] / "glm-4-voice-decoder"
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no {name}"):
        convert_decoder(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("use_cnn_module: False", "use_cnn_module: True", r"flow\.encoder\.use_cnn_module .* must be False"),
        ("solver: 'euler'", "solver: 'midpoint'", r"flow\.decoder\.cfm_params\.content\.solver .* must be 'euler'"),
        ("        block_size: 4\n", "", r"has no field flow\.encoder\.block_size"),
        ("num_mid_blocks: 1", "num_mid_blocks: 2", r"flow\.pt' does not fit its config\.yaml: \d+ weights"),
        ("hift: ", "hift: [", r"config\.yaml' is not YAML"),
    ],
)
def test_another_layout_is_refused_with_its_reason(released, old, new, message):
    folder = released[0] / "glm-4-voice-decoder"
    text = (folder / "config.yaml").read_text()
    assert old in text
    (folder / "config.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        convert_decoder(folder)


def test_both_halves_become_one_folder_that_carries_its_licence(released, tmp_path):
    folder, tokenizer, decoder = released
    (folder / "glm-4-voice-decoder" / "LICENSE").write_text("the text that came with the weights")
    output = tmp_path / "codec"
    convert_codec(folder / "glm-4-voice-tokenizer", folder / "glm-4-voice-decoder", output)
    codec = Glm4VoiceCodec.from_pretrained(output)
    audio = noise(60000)[None, None]
    codes = codec.encode(audio).audio_codes
    assert torch.equal(codes, tokenizer.encode(audio).audio_codes)
    mel = codec.decoder.decode(codes, guidance_scale=0.7, num_inference_steps=3).mel
    torch.testing.assert_close(mel, decoder.decode(codes).mel, atol=1e-5, rtol=0)
    assert (output / "LICENSE-glm-4-voice-decoder").read_text() == "the text that came with the weights"
    assert (output / NOTICE_FILE).read_text() == LICENCE_NOTICE
    assert json.loads((output / "config.json").read_text())["weights_license"] == "glm-4-voice"
    card = (output / "README.md").read_text()
    assert "\nlicense: other\nlicense_name: glm-4-voice\n" in card and LICENCE_NOTICE in card
    assert "- THUDM/glm-4-voice-decoder\n" in card
    codec.save_pretrained(tmp_path / "again")  # as a processor does that takes its codec along
    assert (tmp_path / "again" / NOTICE_FILE).read_text() == LICENCE_NOTICE


def test_the_command_converts_and_shows_the_licence(released, tmp_path):
    result = CliRunner().invoke(ttt_cli.app, ["convert-codec", str(released[0]), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert LICENCE_NOTICE in result.output
    assert (tmp_path / "out" / "model.safetensors").is_file()
    apart = [
        "convert-codec",
        "nowhere",
        str(tmp_path / "apart"),
        "--tokenizer",
        str(released[0] / "glm-4-voice-tokenizer"),
        "--decoder",
        str(released[0] / "glm-4-voice-decoder"),
    ]
    assert CliRunner().invoke(ttt_cli.app, apart).exit_code == 0
    assert (tmp_path / "apart" / "model.safetensors").is_file()


def test_the_folder_of_one_half_is_no_folder_of_both(released, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"give the folder that holds glm-4-voice-tokenizer and glm-4-voice-decoder"
    ):
        convert_codec_command(str(released[0] / "glm-4-voice-decoder"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
