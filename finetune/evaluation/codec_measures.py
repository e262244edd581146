"""
Measures of what a codec preserves: how similar a judge's transcripts are, how far apart the spectra are, which codes
are in use.

Depends on waveforms, codes and texts. Independent of codecs and judges.
"""

from collections.abc import Sequence

import jiwer
import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from processing_ttt.resampling_ttt import resample

MEL_RATE = 16_000
FFT = 640  # samples
MEL_FLOOR_DB = -60.0  # below the loudest band of the waveform


def transcript_similarity(original: Sequence[str], resynthesis: Sequence[str]) -> float:
    """
    Measure how similar a judge's transcripts of recordings and of their resynthesis are.

    Args:
        original (`Sequence[str]`): Its transcript of each recording.
        resynthesis (`Sequence[str]`): Its transcript of the resynthesis of each.

    Returns:
        `float`: 1 - (errors between the two) / (errors between a recording and the resynthesis of the next one), at
        least 0. With a single recording, or without a word in any transcript, 0.
    """
    errors = _character_errors(original, resynthesis)
    by_chance = _character_errors(original, [*resynthesis[1:], *resynthesis[:1]])
    return max(0.0, 1.0 - errors / by_chance) if by_chance else 0.0


def _character_errors(references: Sequence[str], others: Sequence[str]) -> int:
    """Characters to change, add or remove, over all pairs; an empty reference misses every character of the other."""
    pairs = list(zip(references, others, strict=True))
    spoken = [(reference, other) for reference, other in pairs if reference]
    added = sum(len(other) for reference, other in pairs if not reference)
    if not spoken:
        return added
    counted = jiwer.process_characters([reference for reference, _ in spoken], [other for _, other in spoken])
    return added + counted.substitutions + counted.insertions + counted.deletions


def mel_distance(waveform: np.ndarray, rate: int, other: np.ndarray, other_rate: int) -> float:
    """
    Measure how far apart the spectra of two waveforms of the same speech are.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): The recording.
        rate (`int`): Its rate in Hz.
        other (`np.ndarray` of shape `(samples,)`): Its resynthesis.
        other_rate (`int`): Its rate in Hz.

    Returns:
        `float`: Mean absolute difference in dB of 80 log-mel bands at 16 kHz, each waveform relative to its own
        loudest band and cut at -60 dB; what one has beyond the end of the other does not count.
    """
    mels = [_log_mel(samples, samples_rate) for samples, samples_rate in ((waveform, rate), (other, other_rate))]
    frames = min(mel.shape[-1] for mel in mels)
    return float((mels[0][:, :frames] - mels[1][:, :frames]).abs().mean())


def _log_mel(samples: np.ndarray, rate: int) -> torch.Tensor:
    wave = torch.from_numpy(resample(samples, rate, MEL_RATE))
    power = torch.stft(wave, FFT, hop_length=160, window=torch.hann_window(FFT), return_complex=True).abs() ** 2
    filters = mel_filter_bank(FFT // 2 + 1, 80, 0.0, MEL_RATE / 2, MEL_RATE)  # (frequencies, bands)
    mel = torch.from_numpy(filters.astype(np.float32)).T @ power  # (bands, frames)
    decibels = 10 * mel.clamp(min=1e-12).log10()
    return (decibels - decibels.max()).clamp(min=MEL_FLOOR_DB)


def code_usage(codes: Sequence[Sequence[int]]) -> tuple[int, float]:
    """
    Count the codes in use.

    Args:
        codes (`Sequence[Sequence[int]]`): Of each recording.

    Returns:
        `tuple[int, float]`: How many different ones occurred, and the entropy of their distribution in bits.
    """
    counts = np.unique(np.concatenate([np.asarray(each, np.int64) for each in codes]), return_counts=True)[1]
    shares = counts / counts.sum()
    return len(counts), float(-(shares * np.log2(shares)).sum())
