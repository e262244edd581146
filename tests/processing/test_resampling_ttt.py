"""Resampling: equal to torchaudio's, and to the definition of what a change of the sampling rate keeps."""

import numpy as np
import pytest
import torch

from processing_ttt import load_audio
from processing_ttt.resampling_ttt import ResamplingStream, resample

RATES = (8000, 11_025, 16_000, 22_050, 44_100, 48_000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("target", [16_000, 22_050, 48_000])
@pytest.mark.parametrize("samples", [1, 2, 77, 6001])
def test_every_sample_is_that_of_torchaudio(rate, target, samples):
    torchaudio = pytest.importorskip("torchaudio")
    waveform = (0.2 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(waveform), rate, target).numpy()
    np.testing.assert_array_equal(resample(waveform, rate, target), expected)
    np.testing.assert_array_equal(load_audio((waveform, rate), target), expected)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_below_both_nyquist_frequencies_stays_that_tone(rate):
    def tone(rate):
        return np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate).astype(np.float32)

    inner = slice(100, -100)  # at the ends the filter reaches beyond the audio
    np.testing.assert_allclose(resample(tone(rate), rate, 16_000)[inner], tone(16_000)[inner], atol=5e-3)


def test_a_tone_above_the_lower_nyquist_frequency_is_removed():
    tone = np.sin(2 * np.pi * 15_000 * np.arange(24_000) / 48_000).astype(np.float32)
    assert np.abs(resample(tone, 48_000, 16_000)[100:-100]).max() < 0.01


def test_audio_of_any_array_type_comes_out_as_contiguous_float32():
    samples = np.linspace(-1, 1, 300)[::3]  # float64, with a stride
    for target in (8000, 16_000):
        resampled = resample(samples, 8000, target)
        assert resampled.dtype == np.float32 and resampled.flags.c_contiguous
        assert len(resampled) == 100 * target // 8000


@pytest.mark.parametrize(("rate", "target"), [(24000, 16000), (16000, 24000), (22050, 24000), (24000, 24000)])
def test_a_stream_of_pieces_is_the_whole_resampled(rate, target):
    generator = np.random.default_rng(0)
    samples = generator.standard_normal(5003).astype(np.float32)
    stream, pieces, start = ResamplingStream(rate, target), [], 0
    while start < len(samples):
        size = int(generator.integers(0, 700))
        pieces.append(stream.push(samples[start : start + size]))
        start += size
    streamed = np.concatenate([*pieces, stream.finish()])
    whole = resample(samples, rate, target)
    assert streamed.shape == whole.shape
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-6)
    assert sum(map(len, pieces)) >= len(whole) - 0.01 * target
