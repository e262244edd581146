import math
import os
import subprocess
import sys

import pytest
import torch
from codec_fixtures import small_codec
from transformers import AutoConfig, AutoModel, AutoModelForAudioTokenization

from processing_ttt.codec_ttt import TttCodecConfig, TttCodecModel


def speechlike(samples, seed=0):
    """Noise with a slow swell, so that frames differ in level and in colour."""
    generator = torch.Generator().manual_seed(seed)
    swell = torch.sin(torch.arange(samples) * 2 * math.pi / 3200).abs() + 0.05
    return 0.1 * swell * torch.randn(samples, generator=generator)


def random_codes(frames, seed=0):
    return torch.randint(0, 1024, (1, 1, frames), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def codec():
    """The nano architecture with random weights; layer scales of 1, so that every convolution affects the output."""
    torch.manual_seed(0)
    return TttCodecModel(TttCodecConfig(layer_scale_init_value=1.0)).eval().requires_grad_(False)


@pytest.fixture(scope="module", name="small_codec")
def one_small_codec():
    return small_codec()


# --- the contract -------------------------------------------------------------------------------------------------


def test_the_default_codec_has_25_codes_per_second_from_one_book_of_1024():
    config = TttCodecConfig()
    assert (config.frame_rate, config.codebook_size) == (25.0, 1024)
    assert (config.sampling_rate, config.output_sampling_rate, config.samples_per_code) == (16000, 16000, 640)


def test_the_default_codec_fits_into_the_nano_checkpoint(codec):
    assert sum(parameter.numel() for parameter in codec.parameters()) <= 6_000_000


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16000])
def test_audio_has_one_code_per_started_640_samples_and_codes_give_640_samples_each(codec, samples):
    codes = codec.encode(speechlike(samples)[None, None]).audio_codes
    assert codes.shape == (1, 1, math.ceil(samples / 640))
    assert codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < 1024
    values = codec.decode(codes).audio_values
    assert values.shape == (1, 1, codes.shape[-1] * 640)
    assert values.dtype == torch.float32
    assert values.abs().max() <= 1


def test_forward_is_encode_then_decode(codec):
    audio = speechlike(6400)[None, None]
    output = codec(audio)
    codes, values = codec(audio, return_dict=False)
    assert torch.equal(output.audio_codes, codec.encode(audio).audio_codes)
    assert torch.equal(output.audio_values, codec.decode(output.audio_codes).audio_values)
    assert torch.equal(codes, output.audio_codes) and torch.equal(values, output.audio_values)


def test_silence_is_encoded_without_nan(codec):
    codes = codec.encode(torch.zeros(1, 1, 3200)).audio_codes
    assert torch.isfinite(codec.decode(codes).audio_values).all()


# --- padding and level --------------------------------------------------------------------------------------------


def test_padded_rows_have_the_codes_that_they_have_alone(codec):
    lengths = [16000, 9000, 640, 100]
    waveforms = [speechlike(length, seed) for seed, length in enumerate(lengths)]
    # padding that would change codes
    batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=0.7)
    mask = torch.arange(16000) < torch.tensor(lengths)[:, None]
    codes = codec.encode(batch[:, None], padding_mask=mask.long()).audio_codes
    for row, audio in enumerate(waveforms):
        alone = codec.encode(audio[None, None]).audio_codes[0, 0]
        assert torch.equal(codes[row, 0, : len(alone)], alone)
        assert (codes[row, 0, len(alone) :] == -1).all()


def test_rows_padded_with_minus_one_decode_as_they_do_alone_followed_by_silence(codec):
    long, short = random_codes(30), random_codes(12, seed=1)
    batch = torch.full((2, 1, 30), -1)
    batch[0], batch[1, :, :12] = long[0], short[0]
    values = codec.decode(batch).audio_values
    torch.testing.assert_close(values[:1], codec.decode(long).audio_values, rtol=0, atol=1e-5)
    torch.testing.assert_close(values[1:, :, : 12 * 640], codec.decode(short).audio_values, rtol=0, atol=1e-5)
    assert (values[1, 0, 12 * 640 :] == 0).all()


@pytest.mark.parametrize("gain", [0.125, 4.0])
def test_codes_do_not_depend_on_the_level_of_the_audio(codec, gain):
    audio = speechlike(16000)[None, None]
    assert torch.equal(codec.encode(gain * audio).audio_codes, codec.encode(audio).audio_codes)


def test_standard_level_is_the_power_of_the_segments_within_30_db_of_the_strongest(codec):
    loud, soft, pause = torch.full((640,), 0.5), torch.full((640,), 0.05), torch.full((640,), 0.005)
    gain = codec.level_gain(torch.cat([loud, soft, pause])[None])
    active = 10 * math.log10((0.5**2 + 0.05**2) / 2)  # the pause, 40 dB down, does not count
    assert 20 * math.log10(gain.item()) == pytest.approx(-23 - active, abs=1e-4)


def test_the_gain_is_limited_so_that_silence_stays_silence(codec):
    assert codec.level_gain(torch.full((1, 640), 1e-7)).item() == pytest.approx(10 ** (50 / 20))
    assert codec.level_gain(torch.zeros(1, 640)).item() == pytest.approx(10 ** (50 / 20))


# --- what the audio of a code depends on ----------------------------------------------------------------------------


def test_lookahead_and_context_count_every_convolution_and_the_overlap_add(small_codec):
    # Mel frames ahead: 1 (decoder) + 2 (vocoder) + 2 (windows of 640 samples at hops of 160); from a code's last mel
    # frame, (3 + 5) // 4 = 2 codes; + 1. Mel frames back: 1 + (2 + 0) + 2 = 5, which is 2 codes begun; codes back: 1
    # + 2.
    assert (small_codec.config.decode_lookahead, small_codec.config.decode_context) == (3, 5)


def test_lookahead_of_the_nano_codec_is_at_most_four_codes():
    assert TttCodecConfig().decode_lookahead <= 4


@pytest.mark.parametrize("name", ["codec", "small_codec"])
def test_a_code_further_ahead_than_the_lookahead_leaves_the_audio_bit_equal(name, request):
    model = request.getfixturevalue(name)
    codes, changed = 40, random_codes(60).clone()
    original = model.decode(random_codes(60)).audio_values[0, 0]
    changed[..., codes + model.config.decode_lookahead + 1] = (
        changed[..., codes + model.config.decode_lookahead + 1] + 511
    ) % 1024
    decoded = model.decode(changed).audio_values[0, 0]
    assert torch.equal(decoded[: (codes + 1) * 640], original[: (codes + 1) * 640])
    assert not torch.equal(
        decoded[(codes + 1) * 640 : (codes + 2) * 640], original[(codes + 1) * 640 : (codes + 2) * 640]
    )


def test_a_code_further_back_than_the_context_leaves_the_audio_bit_equal(small_codec):
    changed, place, context = random_codes(30).clone(), 10, small_codec.config.decode_context
    original = small_codec.decode(changed).audio_values[0, 0]
    changed[..., place] = (changed[..., place] + 511) % 1024
    decoded = small_codec.decode(changed).audio_values[0, 0]
    first_untouched = place + context + 1
    assert torch.equal(decoded[first_untouched * 640 :], original[first_untouched * 640 :])
    assert not torch.equal(
        decoded[(first_untouched - 1) * 640 : first_untouched * 640],
        original[(first_untouched - 1) * 640 : first_untouched * 640],
    )


@pytest.mark.parametrize("chunk", [1, 7, 26])
def test_decoding_in_chunks_with_context_and_lookahead_equals_decoding_the_whole(codec, chunk):
    codes, config = random_codes(120), codec.config
    pieces = []
    for start in range(0, 120, chunk):
        first = max(0, start - config.decode_context)
        audio = codec.decode(codes[..., first : start + chunk + config.decode_lookahead]).audio_values[0, 0]
        pieces.append(audio[(start - first) * 640 :][: chunk * 640])
        if chunk == 1 and start == 8:  # one code at a time is slow: the first few and the last few are enough
            break
    whole = codec.decode(codes).audio_values[0, 0]
    pieces = torch.cat(pieces)
    torch.testing.assert_close(pieces, whole[: len(pieces)], rtol=0, atol=1e-5)


# --- parts against definitions and other implementations -------------------------------------------------------------


def test_log_mel_frames_are_those_of_torchaudio(codec):
    torchaudio = pytest.importorskip("torchaudio")
    audio = speechlike(6400)[None]
    reference = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=640, hop_length=160, power=1.0, n_mels=80, norm=None, mel_scale="slaney", center=False
    )(torch.nn.functional.pad(audio, (240, 240)))
    expected = (reference.clamp(min=0.01).log() + 2.0) / 2.0
    torch.testing.assert_close(codec.log_mel(audio), expected.transpose(1, 2), rtol=0, atol=1e-4)


def test_overlap_add_of_the_spectra_of_audio_is_the_audio(codec):
    audio = speechlike(6400)[None]
    padded = torch.nn.functional.pad(audio, (240, 240))
    spectrum = torch.stft(padded, 640, 160, window=torch.hann_window(640), center=False, return_complex=True)
    frames = codec.vocoder.inverse(spectrum.real.transpose(1, 2), spectrum.imag.transpose(1, 2))
    rebuilt = codec.vocoder.overlap_add(frames, None)
    torch.testing.assert_close(rebuilt, audio, rtol=0, atol=1e-5)


def test_every_code_is_the_code_of_its_own_latents(codec):
    codes = torch.arange(1024)[None]
    centres = codec.quantizer.from_codes(codes)
    latents = torch.logit((centres + 1) / 2) / 1.6  # the inverse of the squashing
    assert torch.equal(codec.quantizer.codes(codec.quantizer.bins(latents)), codes)
    torch.testing.assert_close(codec.quantizer(latents), centres)


def test_codes_are_mixed_radix_numbers_with_the_first_dimension_lowest(codec):
    centres = codec.quantizer.from_codes(torch.tensor([[0, 1, 8, 64, 256, 1023]]))[0]
    lowest = torch.tensor([-7 / 8, -7 / 8, -3 / 4, -3 / 4])
    expected = lowest.repeat(6, 1)
    expected[1, 0] += 2 / 8
    expected[2, 1] += 2 / 8
    expected[3, 2] += 2 / 4
    expected[4, 3] += 2 / 4
    expected[5] = -lowest
    torch.testing.assert_close(centres, expected)


def test_the_gradient_passes_the_quantiser_as_if_it_only_squashed(codec):
    latents = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (given,) = torch.autograd.grad(codec.quantizer(latents).sum(), latents)
    (expected,) = torch.autograd.grad((2 * torch.sigmoid(1.6 * latents) - 1).sum(), latents)
    torch.testing.assert_close(given, expected)


# --- saving and loading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForAudioTokenization])
def test_a_saved_codec_loads_through_the_auto_classes_and_computes_the_same_bits(codec, tmp_path, auto_class):
    codec.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path)
    audio = speechlike(6400)[None, None]
    output, expected = loaded.eval()(audio), codec(audio)
    assert torch.equal(output.audio_codes, expected.audio_codes)
    assert torch.equal(output.audio_values, expected.audio_values)
    assert AutoConfig.from_pretrained(tmp_path).fsq_levels == [8, 8, 4, 4]


def test_windows_and_filters_are_computed_again_after_loading(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    loaded = TttCodecModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.log_mel.filters, codec.log_mel.filters)
    assert torch.equal(loaded.log_mel.window, torch.hann_window(640))
    assert torch.equal(loaded.vocoder.window, torch.hann_window(640))


def test_a_codec_in_bfloat16_encodes_and_decodes(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    loaded = TttCodecModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    output = loaded(speechlike(6400)[None, None])
    assert output.audio_values.dtype == torch.float32
    assert torch.isfinite(output.audio_values).all()


def test_a_saved_folder_carries_its_code_and_loads_where_the_package_is_missing(codec, tmp_path):
    codec.save_pretrained(tmp_path / "first")
    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "codec")
    script = (
        "import sys, torch; from transformers import AutoModel, AutoModelForAudioTokenization\n"
        f"folder = {str(tmp_path / 'codec')!r}\n"
        "codec = AutoModel.from_pretrained(folder, trust_remote_code=True)\n"
        "AutoModelForAudioTokenization.from_pretrained(folder, trust_remote_code=True)\n"
        "codes = codec.encode(torch.zeros(1, 1, 1280)).audio_codes\n"
        "assert codec.decode(codes).audio_values.shape == (1, 1, 1280)\n"
        "assert 'processing_ttt' not in sys.modules\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 640), "shape"),
        (torch.zeros(1, 2, 640), "one channel"),
        (torch.zeros(1, 1, 0), "no audio"),
        (torch.zeros(0, 1, 640), "no audio"),
        (torch.full((1, 1, 640), math.nan), "NaN"),
        (torch.full((1, 1, 640), math.inf), "NaN or infinite"),
        (torch.zeros(1, 1, 640, dtype=torch.int16), "floating point"),
    ],
)
def test_audio_that_cannot_be_encoded_is_a_clear_error(small_codec, audio, message):
    with pytest.raises(ValueError, match=message):
        small_codec.encode(audio)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(1, 1, 640), "shape"),
        (torch.ones(1, 639), "shape"),
        (torch.zeros(1, 640), "empty"),
        (torch.cat([torch.zeros(1, 320), torch.ones(1, 320)], dim=1), "right"),
    ],
)
def test_a_padding_mask_that_does_not_fit_is_a_clear_error(small_codec, mask, message):
    with pytest.raises(ValueError, match=message):
        small_codec.encode(torch.zeros(1, 1, 640), padding_mask=mask)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 5, dtype=torch.long), "shape"),
        (torch.zeros(1, 8, 5, dtype=torch.long), "one codebook"),
        (torch.zeros(1, 1, 0, dtype=torch.long), "no codes"),
        (torch.zeros(1, 1, 5), "integers"),
        (torch.tensor([[[0, 1024]]]), r"0\.\.1023, got 1024"),
        (torch.tensor([[[0, -2]]]), "got -2"),
        (torch.tensor([[[-1, 0]]]), "padding"),
        (torch.tensor([[[-1, -1]]]), "padding"),
    ],
)
def test_codes_that_cannot_be_decoded_are_a_clear_error(small_codec, codes, message):
    with pytest.raises(ValueError, match=message):
        small_codec.decode(codes)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"n_fft": 600}, "n_fft"),
        ({"fsq_levels": [8, 1]}, "fsq_levels"),
        ({"fsq_levels": []}, "fsq_levels"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"vocoder_lookaheads": [7]}, "vocoder_lookaheads"),
        ({"vocoder_lookaheads": []}, "vocoder_lookaheads"),
        ({"decoder_code_lookaheads": [-1]}, "decoder_code_lookaheads"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"mel_floor": 0.0}, "mel_floor"),
    ],
)
def test_a_configuration_that_does_not_fit_together_names_the_field(values, name):
    with pytest.raises(Exception, match=name):
        TttCodecConfig(**values)
