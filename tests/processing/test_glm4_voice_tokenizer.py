import json

import numpy as np
import pytest
import torch
from glm4_voice_fixtures import RECORDED, needs_recorded, noise, recorded, tiny_tokenizer_model
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from processing_ttt.audio_input_ttt import load_audio
from processing_ttt.glm4_voice_configuration import Glm4VoiceTokenizerConfig
from processing_ttt.glm4_voice_tokenizer import Glm4VoiceTokenizerModel

CASES = ("50ms", "1p234s", "5s", "batch")
PER_CODE = 1280


def encoded(model, *waveforms):
    """Codes of each waveform, all encoded in one padded batch."""
    longest = max(map(len, waveforms))
    values = torch.stack([torch.nn.functional.pad(audio, (0, longest - len(audio)), value=0.7) for audio in waveforms])
    mask = torch.stack([torch.arange(longest) < len(audio) for audio in waveforms])
    codes = model.encode(values[:, None], mask).audio_codes
    assert codes.dtype == torch.int64
    return [row[row != -1].tolist() for row in codes[:, 0]]


def recorded_model(**kwargs):
    return Glm4VoiceTokenizerModel.from_pretrained(RECORDED / "tokenizer", **kwargs)


@needs_recorded
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_codes_are_those_of_the_original(case, attention):
    numbers = recorded(f"tokenizer/io_{case}.npz")
    waveforms = [numbers[f"wav{row}"] for row in range(3) if f"wav{row}" in numbers]
    expected = [numbers[f"tokens{row}"].tolist() for row in range(len(waveforms))]
    assert encoded(recorded_model(attn_implementation=attention), *waveforms) == expected


@needs_recorded
@pytest.mark.parametrize("case", CASES)
def test_features_and_every_stage_are_those_of_the_original(case):
    numbers, model = recorded(f"tokenizer/io_{case}.npz"), recorded_model()
    if case != "batch":
        features, mask = model.features(numbers["wav0"])
        expected = numbers["input_features"][0]
        # Below 60 dB under a frame's loudest band the rounding of the FFT shows, and every kind of CPU has an FFT of
        # its own.
        loud = expected > expected.amax(0) - 6 / 4
        assert loud.float().mean() > 0.85
        torch.testing.assert_close(features[loud], expected[loud], atol=1e-5, rtol=0)
        torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)
        assert torch.equal(mask, numbers["attention_mask"][0].to(mask.dtype))
    stages = {}
    model.layers[0].register_forward_hook(lambda module, inputs, output: stages.update(layer0=output))
    model.layers[-1].register_forward_hook(lambda module, inputs, output: stages.update(layer_last=output))
    with torch.no_grad():
        output = model(numbers["input_features"], numbers["attention_mask"])
    valid = numbers["attention_mask"][:, ::2].bool()
    for name, stage in stages.items():
        torch.testing.assert_close(stage[valid], numbers[name][valid], atol=2e-5, rtol=1e-5)
    codes = output.audio_codes[:, 0]
    clear = (codes != -1) & (numbers["top2_distance"].diff(dim=-1)[..., 0] > 1e-4 * numbers["top2_distance"][..., 0])
    assert clear.any()
    assert torch.equal(codes[clear], numbers["quantized_token_ids"][clear])
    torch.testing.assert_close(output.last_hidden_state[clear], numbers["last_hidden_state"][clear])


@needs_recorded
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 32000, 44100, 48000])
def test_audio_of_another_rate_reaches_it_as_it_reached_the_original(rate):
    numbers = recorded("resample.npz")
    resampled = load_audio((numbers[f"in_{rate}"].numpy(), rate), 16000)
    np.testing.assert_allclose(resampled, numbers[f"out_{rate}"].numpy(), atol=1e-6, rtol=0)


@needs_recorded
def test_both_published_key_layouts_load_without_a_missing_key(tmp_path):
    bare = load_file(RECORDED / "tokenizer" / "model.safetensors")
    whole = {f"model.encoder.{name}": tensor for name, tensor in bare.items()}
    for name, tensor in bare.items():  # an encoder with the layers above the codebook and its final norm
        if name.startswith("layers.2."):
            whole["model.encoder." + name.replace("layers.2.", "layers.3.")] = tensor.clone()
    whole |= {"model.encoder.layer_norm.weight": torch.ones(64), "model.encoder.layer_norm.bias": torch.zeros(64)}
    save_file(whole, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((RECORDED / "tokenizer" / "config.json").read_text())
    for folder in (tmp_path, RECORDED / "tokenizer"):
        model, info = Glm4VoiceTokenizerModel.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        assert not model.training
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, bare[name]), name


def test_the_released_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = Glm4VoiceTokenizerModel(Glm4VoiceTokenizerConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 343_599_360
    assert len(model.state_dict()) == 249 - 2  # the file also holds ema_count and ema_weight


@pytest.mark.parametrize("samples", [1, 800, PER_CODE - 1, PER_CODE, PER_CODE + 1, 44799, 44800, 44801, 100000])
def test_audio_has_a_code_for_each_begun_80_ms_also_across_segments(samples):
    assert len(encoded(tiny_tokenizer_model(), noise(samples))[0]) == -(-samples // PER_CODE)


def test_segments_know_nothing_of_each_other():
    model, audio = tiny_tokenizer_model(), noise(100000)
    segment = model.config.max_segment_samples
    assert segment == 44800
    whole = encoded(model, audio)[0]
    assert len(set(whole)) > 5
    assert whole == [code for part in audio.split(segment) for code in encoded(model, part)[0]]


def test_a_row_of_a_batch_has_the_codes_that_it_has_alone():
    # The fourth ends with a code: alone, its last window is mirrored at the very end of the audio.
    waveforms = [noise(length, seed) for seed, length in enumerate((100000, 3000, 30000, 8 * PER_CODE, 1))]
    model = tiny_tokenizer_model()
    assert encoded(model, *waveforms) == [encoded(model, audio)[0] for audio in waveforms]
    values = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)[:, None]
    mask = values[:, 0] != 0
    one_by_one = model.encode(values, mask, segments_per_batch=1).audio_codes
    assert torch.equal(model.encode(values, mask).audio_codes, one_by_one)


def test_a_frame_depends_on_its_own_block_and_the_blocks_before_it():
    model = tiny_tokenizer_model()
    features = torch.randn(1, 16, 240, generator=torch.Generator().manual_seed(0))
    changed = features.clone()
    changed[..., 158] += 3.0  # the last mel frame that the second block of 40 encoder frames sees
    hidden, changed_hidden = ({}, {})
    for store, values in ((hidden, features), (changed_hidden, changed)):
        hook = model.layers[-1].register_forward_hook(lambda m, i, output, store=store: store.update(last=output))
        model(values)
        hook.remove()
    moved = (hidden["last"] - changed_hidden["last"]).abs().amax(-1)[0] > 0  # per encoder frame
    assert moved.tolist() == [False] * 40 + [True] * 80


def test_it_is_saved_and_found_again(tmp_path):
    model = tiny_tokenizer_model()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is Glm4VoiceTokenizerModel
    assert encoded(loaded, noise(50000)) == encoded(model, noise(50000))
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "glm4_voice_tokenizer"


def test_the_codebook_stays_in_float32_when_the_rest_does_not(tmp_path):
    tiny_tokenizer_model().save_pretrained(tmp_path)
    model = Glm4VoiceTokenizerModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert (model.codebook.weight.dtype, model.conv1.weight.dtype) == (torch.float32, torch.bfloat16)
    assert len(encoded(model, noise(50000))[0]) == 40


def test_the_nearest_code_is_found_by_its_distance():
    model = tiny_tokenizer_model()
    hidden = torch.randn(2, 10, 24, generator=torch.Generator().manual_seed(1))
    codebook = model.codebook.weight.detach().double().numpy()
    for row, codes in zip(hidden, model._nearest_codes(hidden), strict=True):
        padded = np.concatenate([row.double().numpy(), np.zeros((2, 24))])
        means = padded.reshape(3, 4, 24).mean(1)
        assert codes.tolist() == np.linalg.norm(means[:, None] - codebook, axis=-1).argmin(-1).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling_type": "max"}, "pooling_type must be 'avg'"),
        ({"encoder_causal_convolution": False}, "encoder_causal_convolution must be True"),
        ({"quantize_causal_block_size": 42}, "quantize_causal_block_size must be a multiple"),
    ],
)
def test_a_network_that_was_never_released_is_refused(change, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        Glm4VoiceTokenizerConfig(**change)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(1, 2, 100), "one channel"),
        (torch.zeros(1, 1, 0), "no audio to encode"),
        (torch.zeros(1, 1, 10, dtype=torch.int16), "floating point samples"),
        (torch.full((1, 1, 10), float("nan")), "NaN or infinite"),
    ],
)
def test_what_is_no_audio_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        tiny_tokenizer_model().encode(values)
