"""The codec's graphs: the codes and samples of the codec, at any length, and what is written about them."""

import shutil

import numpy as np
import pytest
import torch
from codec_fixtures import whisper_codec

import processing_ttt.export_codec_onnx_ttt as exporting
from processing_ttt import TttCodecConfig, TttCodecModel
from processing_ttt.export_codec_onnx_ttt import DECODER_FILE, ENCODER_FILE, check_codec, export_codec, run
from processing_ttt.export_codec_real_ttt import real_codec

pytest.importorskip("onnxscript", reason="the extra `edge` is not installed")
onnx = pytest.importorskip("onnx")
SAMPLES_PER_CODE = 640


@pytest.fixture(scope="module")
def codec():
    return whisper_codec()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def part(codec, folder):
    return export_codec(codec, folder)


def voice(length):
    """A vowel-like waveform of some codes, with a pause."""
    time = torch.arange(length * SAMPLES_PER_CODE) / 16000
    tone = sum(torch.sin(2 * torch.pi * 120 * k * time) / k for k in range(1, 20))
    return (tone * (torch.sin(2 * torch.pi * 3 * time) > -0.5) / 8)[None]


@pytest.mark.parametrize("length", [1, 3, 40, 121])
def test_the_codes_are_those_of_the_codec(codec, folder, part, length):
    waveform = voice(length)
    codes = run(folder / ENCODER_FILE, waveform.numpy())
    expected = codec.encode(waveform[None]).audio_codes[0]
    assert codes.shape == (1, length) and codes.dtype == np.int64
    assert (torch.from_numpy(codes) == expected).float().mean() >= 0.98


@pytest.mark.parametrize("length", [1, 3, 40, 121])
def test_the_samples_are_those_of_the_codec_within_its_tolerance(codec, folder, part, length):
    codes = torch.randint(0, 1024, (1, length), generator=torch.Generator().manual_seed(length))
    waveform = run(folder / DECODER_FILE, codes.numpy())
    assert waveform.shape == (1, length * SAMPLES_PER_CODE)
    expected = codec.decode(codes[None]).audio_values[0].numpy()
    np.testing.assert_allclose(waveform, expected, atol=exporting.TOLERANCE)


def test_the_manifest_states_what_a_program_needs(part, codec, folder):
    assert part["sampling_rate"] == 16000 and part["samples_per_code"] == SAMPLES_PER_CODE
    assert (part["decode_context"], part["decode_lookahead"]) == (
        codec.config.decode_context,
        codec.config.decode_lookahead,
    )
    assert set(part["sha256"]) == {ENCODER_FILE, DECODER_FILE} == {path.name for path in folder.iterdir()}
    assert part["equal_codes"] == 1 and part["max_difference"] < exporting.TOLERANCE


def test_weights_in_8_bits_decode_nearly_the_same(folder, part, tmp_path):
    model = onnx.load(folder / DECODER_FILE)
    exporting._round_weights(model.graph)
    onnx.save(model, tmp_path / DECODER_FILE)
    onnx.checker.check_model(tmp_path / DECODER_FILE)
    assert sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in model.graph.initializer) >= 1
    codes = np.arange(30)[None] * 7
    whole, rounded = (run(path / DECODER_FILE, codes) for path in (folder, tmp_path))
    error = np.square(whole - rounded).mean() / np.square(whole).mean()
    assert 0 < error < 0.01  # 20 dB below the signal


def test_a_wrong_graph_is_refused_after_the_export(codec, folder, part, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(exporting, "_write", lambda *_, dtype: None)
    monkeypatch.setattr(exporting, "run", lambda graph, values: run(graph, values) * 0)
    with pytest.raises(RuntimeError, match=r"% of the codes are equal.*must not be used"):
        export_codec(codec, tmp_path)


@pytest.mark.parametrize("length", [1, 40])
def test_without_complex_numbers_it_is_the_same_codec(codec, length):
    real, waveform = real_codec(codec), voice(length)
    codes = codec.encode(waveform[None]).audio_codes
    assert torch.equal(real.encode(waveform[None]).audio_codes, codes)
    assert (real.decode(codes).audio_values - codec.decode(codes).audio_values).abs().max() < 1e-5
    assert not any(module._non_persistent_buffers_set for module in real.modules())


def test_an_encoder_of_another_kind_is_for_onnx_alone(tmp_path):
    with pytest.raises(ValueError, match="for ONNX Runtime only: openvino has no operator"):
        export_codec(TttCodecModel(TttCodecConfig()), tmp_path, target="openvino")
    check_codec(TttCodecModel(TttCodecConfig()), "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino", "executorch"])
def test_other_runtimes_give_the_same_codes_and_samples(codec, tmp_path, target):
    pytest.importorskip(target, reason=f"the extra `{target}` is not installed")
    part = export_codec(codec, tmp_path, target=target)
    assert part["equal_codes"] == 1 and part["max_difference"] < 1e-4
    assert set(part["sha256"]) == {path.name for path in tmp_path.iterdir()}
