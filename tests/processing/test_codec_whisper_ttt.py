"""The codec that listens with Whisper's encoder: exact features, rows as alone, long audio, files."""

import math

import numpy as np
import pytest
import torch
from codec_fixtures import WHISPER, whisper_codec
from safetensors.torch import load_file, save_file
from transformers import AutoModel, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from processing_ttt.codec_ttt import TttCodecConfig


def noise(samples, seed=0):
    swell = torch.sin(torch.arange(samples) * 2 * math.pi / 3200).abs() + 0.05
    return 0.1 * swell * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def codec():
    return whisper_codec()


def test_log_mel_is_that_of_whispers_feature_extractor(codec):
    samples = noise(480_000)
    extracted = WhisperFeatureExtractor(feature_size=80)(samples.numpy(), sampling_rate=16_000, return_tensors="pt")
    ours = codec.encoder.whisper.log_mel(samples[None], torch.tensor([3000]))
    torch.testing.assert_close(ours, extracted["input_features"], rtol=0, atol=1e-6)


def test_features_of_thirty_seconds_are_those_of_transformers_encoder(codec):
    whisper = codec.encoder.whisper
    reference = WhisperEncoder(WhisperConfig(**WHISPER)).eval()
    reference.load_state_dict(whisper.state_dict())
    samples = noise(480_000)
    with torch.no_grad():
        expected = reference(whisper.log_mel(samples[None], torch.tensor([3000]))).last_hidden_state
        ours = whisper(samples[None], torch.tensor([1500]))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 639, 641, 16_000])
def test_there_is_one_code_for_each_started_640_samples(codec, samples):
    codes = codec.encode(noise(samples)[None, None]).audio_codes
    assert codes.shape == (1, 1, math.ceil(samples / 640))
    assert codes.min() >= 0 and codes.max() < codec.config.codebook_size


def test_padded_rows_have_the_codes_that_they_have_alone(codec):
    lengths = [16_000, 9_000, 640, 100]
    rows = [noise(length, seed) for seed, length in enumerate(lengths)]
    # padding that would change codes
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0.7)
    mask = torch.arange(16_000) < torch.tensor(lengths)[:, None]
    codes = codec.encode(batch[:, None], padding_mask=mask.long()).audio_codes
    for row, audio in enumerate(rows):
        alone = codec.encode(audio[None, None]).audio_codes[0, 0]
        assert torch.equal(codes[row, 0, : len(alone)], alone)
        assert (codes[row, 0, len(alone) :] == -1).all()


def test_codes_depend_on_the_audio_and_not_on_its_level(codec):
    audio = noise(16_000)[None, None]
    codes = codec.encode(audio).audio_codes
    assert torch.equal(codec.encode(0.25 * audio).audio_codes, codes)
    assert not torch.equal(codec.encode(noise(16_000, seed=1)[None, None]).audio_codes, codes)


def test_silence_has_codes_without_nan(codec):
    assert codec.encode(torch.zeros(1, 1, 3200)).audio_codes.min() >= 0
    assert torch.isfinite(codec.encoder(torch.zeros(1, 6400), torch.tensor([10]))).all()


def test_audio_beyond_thirty_seconds_is_encoded_in_segments_that_know_nothing_of_each_other(codec):
    longest = codec.config.max_segment_frames
    assert longest == (1500 - 25) // 2
    piece = noise(longest * 640)
    codes = codec.encode(torch.cat([piece, piece, piece[:6400]])[None, None]).audio_codes[0, 0]
    assert len(codes) == 2 * longest + 10
    assert torch.equal(codes[:longest], codes[longest : 2 * longest])


def test_a_saved_codec_loads_with_its_whisper_and_gives_the_same_codes(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded.config.whisper_config, WhisperConfig)
    assert loaded.config.whisper_config.d_model == 32
    audio = noise(8000)[None, None]
    assert torch.equal(loaded.encode(audio).audio_codes, codec.encode(audio).audio_codes)


def test_an_encoder_that_no_file_has_is_initialised_whole(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("encoder.")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = AutoModel.from_pretrained(tmp_path)
    assert all(torch.isfinite(value).all() for value in loaded.state_dict().values())


def test_the_codes_are_the_most_probable_digits(codec):
    audio = noise(3200)
    level = codec.standard_level(audio[None])
    digits = codec.encoder(level, torch.tensor([5]))[0].split((8, 8, 4, 4), dim=-1)
    codes = sum(place * part.argmax(-1) for place, part in zip((1, 8, 64, 256), digits, strict=True))
    assert codec.encode(audio[None, None]).audio_codes[0, 0].tolist() == codes.tolist()


def test_a_padded_batch_with_a_row_beyond_thirty_seconds_has_the_codes_of_single_calls(codec):
    rows = [noise(640 * codec.config.max_segment_frames + 9_000), noise(16_000, seed=1)]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0.7)  # not silence
    mask = torch.arange(batch.shape[1]) < torch.tensor([[len(row)] for row in rows])
    codes = codec.encode(batch[:, None], padding_mask=mask.long()).audio_codes[:, 0]
    for row, audio in zip(codes, rows, strict=True):
        alone = codec.encode(audio[None, None]).audio_codes[0, 0]
        assert torch.equal(row[: len(alone)], alone)
        assert (row[len(alone) :] == -1).all()


@pytest.mark.parametrize("wrong", ["openai/whisper-small", 32, ["d_model"]])
def test_a_whisper_configuration_of_another_type_is_refused(wrong):
    with pytest.raises(TypeError, match="whisper_config must be a WhisperConfig or a dict, got"):
        TttCodecConfig(whisper_config=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_rate": 24_000}, "sampling_rate=16000"),
        ({"mel_frames_per_code": 3}, "multiple of 320 samples"),
        ({"whisper_silent_frames": 0}, "whisper_silent_frames must lie in"),
        ({"whisper_silent_frames": 1499}, "whisper_silent_frames must lie in"),
    ],
)
def test_a_configuration_that_whisper_cannot_serve_is_refused(options, message):
    with pytest.raises(Exception, match=message):
        TttCodecConfig(whisper_config=WHISPER, **options)


def test_the_input_array_is_left_as_it_was(codec):
    audio = noise(3200)[None, None]
    before = audio.clone()
    codec.encode(audio, torch.ones(1, 3200, dtype=torch.long))
    assert np.array_equal(audio, before)
