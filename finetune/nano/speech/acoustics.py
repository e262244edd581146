"""
How a spoken question reaches a microphone: at some distance in some room, with silence around it, noise and another
level.

Depends on waveforms. Randomness comes from the generator that is passed.
"""

import numpy as np
import torch
import torchaudio

from .voices import SAMPLING_RATE

ROOM_SHARE = 0.25
REVERBERATION_TIMES = (0.1, 0.4)  # RT60 in seconds: a car to a living room
REVERBERANT_TO_DIRECT_DB = (-15.0, -3.0)
SILENCE_SHARE = 0.5
LONGEST_SILENCE = 0.5  # seconds before the question and after it
NOISE_SHARE = 0.4
SIGNAL_TO_NOISE_DB = (5.0, 35.0)
GAIN_DB = (-12.0, 3.0)


class Recording:
    """How often, and how much, `as_recorded` disturbs."""

    ROOM_SHARE, REVERBERATION_TIMES, REVERBERANT_TO_DIRECT_DB = 0.4, (0.1, 0.7), (-15.0, 3.0)
    NOISE_SHARE, SIGNAL_TO_NOISE_DB = 0.65, (0.0, 35.0)
    BAND_SHARE, LOW_EDGES_HZ, HIGH_EDGES_HZ = 0.2, (50.0, 350.0), (3000.0, 7000.0)
    PEAKS_DB = (-24.0, 6.0)  # over full scale, what is above it is clipped
    CLIPPED_SHARE, CLIPPED_PEAKS = 0.1, (1.0, 3.0)
    MU_LAW_SHARE, MU_LAW_LEVELS = 0.1, 256


def with_surroundings(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Vary a recording as rooms and microphones do.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Speech at 16 kHz, in [-1, 1].
        rng (`np.random.Generator`): Decides what happens.

    Returns:
        `np.ndarray` of shape `(samples + silence,)`, float32: In [-1, 1].
    """
    level = float(np.sqrt(np.mean(audio**2)))
    if rng.random() < ROOM_SHARE:
        audio = in_room(audio, rng.uniform(*REVERBERATION_TIMES), rng.uniform(*REVERBERANT_TO_DIRECT_DB), rng)
    if rng.random() < SILENCE_SHARE:
        audio = np.pad(audio, [int(rng.uniform(0, LONGEST_SILENCE) * SAMPLING_RATE) for _ in range(2)])
    if rng.random() < NOISE_SHARE:
        audio = with_noise(audio, rng.uniform(*SIGNAL_TO_NOISE_DB), level, rng)
    return np.clip(audio * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20)), -1, 1)


def with_noise(audio: np.ndarray, ratio_db: float, level: float, rng: np.random.Generator) -> np.ndarray:
    """
    Add noise, white or with less power at high frequencies.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Speech.
        ratio_db (`float`): Power of the speech over that of the noise, in dB.
        level (`float`): Root mean square of the speech, without silence around it.
        rng (`np.random.Generator`): Draws noise and colour.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32.
    """
    noise = rng.standard_normal(len(audio))
    spectrum = np.fft.rfft(noise)
    spectrum[1:] *= np.arange(1, len(spectrum)) ** -rng.uniform(0, 0.5)  # amplitude: white to pink
    noise = np.fft.irfft(spectrum, len(audio))
    noise *= level * 10 ** (-ratio_db / 20) / np.sqrt(np.mean(noise**2))
    return audio + noise.astype(np.float32)


def in_room(audio: np.ndarray, seconds: float, reverberant_db: float, rng: np.random.Generator) -> np.ndarray:
    """
    Add reverberation: white noise that decays by 60 dB in `seconds` (Moorer, 1979), cut to the length of the recording.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Speech.
        seconds (`float`): Reverberation time (RT60).
        reverberant_db (`float`): Power of all reflections over that of the direct path, in dB.
        rng (`np.random.Generator`): Draws the reflections.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32: At the level of `audio`.
    """
    times = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    response = tail * 10 ** (reverberant_db / 20) / np.sqrt(np.sum(tail**2))
    response[0] = 1.0
    wet = torchaudio.functional.fftconvolve(torch.from_numpy(audio), torch.from_numpy(response.astype(np.float32)))
    wet = wet.numpy()[: len(audio)]
    return wet * np.float32(np.sqrt(np.mean(audio**2) / max(np.mean(wet**2), 1e-12)))


def as_recorded(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Vary a recording as rooms, microphones, telephones and cheap converters do, keeping its length.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Speech at 16 kHz, in [-1, 1], perhaps with silence around
            it.
        rng (`np.random.Generator`): Decides what happens.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32: In [-1, 1].
    """
    power = audio**2
    level = float(np.sqrt(power[power > power.max() * 1e-4].mean())) if power.any() else 0.0
    if rng.random() < Recording.ROOM_SHARE:
        times, strengths = Recording.REVERBERATION_TIMES, Recording.REVERBERANT_TO_DIRECT_DB
        audio = in_room(audio, rng.uniform(*times), rng.uniform(*strengths), rng)
    if rng.random() < Recording.NOISE_SHARE:
        audio = with_noise(audio, rng.uniform(*Recording.SIGNAL_TO_NOISE_DB), max(level, 1e-4), rng)
    if rng.random() < Recording.BAND_SHARE:
        audio = in_band(audio, rng.uniform(*Recording.LOW_EDGES_HZ), rng.uniform(*Recording.HIGH_EDGES_HZ))
    audio = with_peak(audio, 10 ** (rng.uniform(*Recording.PEAKS_DB) / 20))
    if rng.random() < Recording.CLIPPED_SHARE:
        audio = with_peak(audio, rng.uniform(*Recording.CLIPPED_PEAKS))
    audio = np.clip(audio, -1, 1)
    if rng.random() < Recording.MU_LAW_SHARE:
        levels = torchaudio.functional.mu_law_encoding(torch.from_numpy(audio), Recording.MU_LAW_LEVELS)
        audio = torchaudio.functional.mu_law_decoding(levels, Recording.MU_LAW_LEVELS).numpy()
    return audio.astype(np.float32)


def with_peak(audio: np.ndarray, peak: float) -> np.ndarray:
    """Scale a recording so that its largest magnitude is `peak`; digital silence stays silent."""
    return audio * np.float32(peak / max(np.abs(audio).max(), 1e-4))


def as_recorded_with_silence(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary a recording as `as_recorded` does, with up to `LONGEST_SILENCE` seconds of silence on either side."""
    around = [int(rng.uniform(0, LONGEST_SILENCE) * SAMPLING_RATE) for _ in range(2)]
    return as_recorded(np.pad(audio, around), rng)


def in_band(audio: np.ndarray, low: float, high: float) -> np.ndarray:
    """
    Leave a band of frequencies, as a telephone or a small loudspeaker does.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Speech at 16 kHz.
        low (`float`): Lower edge in Hz.
        high (`float`): Upper edge in Hz.

    Returns:
        `np.ndarray` of shape `(samples,)`, float32.
    """
    # The filters of torchaudio clip at full scale: they work on half of it or less.
    peak = max(float(np.abs(audio).max()), 1e-4)
    wave = torch.from_numpy(np.ascontiguousarray(audio)) / (2 * peak)
    with torch.autocast("cpu", enabled=False):  # a batch may be made within a step in bfloat16
        wave = torchaudio.functional.highpass_biquad(wave, SAMPLING_RATE, low)
        for _ in range(2):  # a steeper edge
            wave = torchaudio.functional.lowpass_biquad(wave, SAMPLING_RATE, high)
    return wave.numpy() * np.float32(2 * peak)
