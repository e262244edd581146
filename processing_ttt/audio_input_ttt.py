"""
Read audio in any form (path, bytes, file, array, dataset value) as one mono waveform at the sampling rate of a codec.

Handles file formats, sample types, channels and rates; an error states what is wrong with the audio. Nothing is fetched
from the network. Independent of codecs and token ids.
"""

import io
import numbers
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch

from .audio_file_ttt import MAX_CHANNELS, AudioInputError, checked_rate, decode_audio_file, quoted
from .resampling_ttt import resample

SILENCE_PEAK = 1e-4  # -80 dBFS: at most three steps of a 16-bit file
FLOAT_PEAK = 32.0  # floats beyond it were never scaled to [-1, 1]
_FULL_SCALE = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


class Waveform(np.ndarray):
    """
    Checked audio: float32 of shape `(samples,)`, which `load_audio` returns, and returns again as it is.

    Attributes:
        sampling_rate (`int`, *optional*): Rate in Hz. `None` for what was computed from a waveform: that is unchecked.
    """

    sampling_rate: int | None = None


@dataclass(frozen=True)
class _Samples:
    """Content of a source: `array` (any sample type, one or two axes), its rate in Hz if known, its name for errors."""

    array: np.ndarray
    sampling_rate: Any
    name: str


def load_audio(
    audio: Any, target_sampling_rate: int, sampling_rate: int | None = None, max_seconds: float | None = 600.0
) -> Waveform:
    """
    Read, check, mix and resample audio.

    Args:
        audio: A path; the bytes of a file; an open binary file; `{"array", "sampling_rate"}`; `{"bytes", "path"}` (an
            undecoded `datasets.Audio` value); `(array, rate)` or `(rate, array)`; a decoder with `get_all_samples()` (a
            decoded `datasets.Audio` value); a [`Waveform`]; or an array, tensor or list of samples, with its rate in
            `sampling_rate`. Arrays are `(samples,)`, `(channels, samples)` or `(samples, channels)` (the shorter axis
            is that of the channels); float in [-1, 1], int8, int16, int32 or uint8.
        target_sampling_rate (`int`): Rate of the result, in Hz.
        sampling_rate (`int`, *optional*): Rate of a bare array, in Hz; ignored if the source has its own rate.
        max_seconds (`float`, *optional*, defaults to 600): Longest audio accepted, in seconds; `None` for no limit.

    Returns:
        [`Waveform`] of shape `(samples,)`, float32: The mean of the channels at `target_sampling_rate`; a waveform that
            has this rate already is returned itself.

    Raises:
        FileNotFoundError: If there is no file at a path.
        TypeError: If `audio` is of another kind or its samples of another type.
        AudioInputError: If the audio is empty, silent, too long, damaged, has NaN or infinite samples or no valid rate.
    """
    if isinstance(audio, Waveform) and audio.sampling_rate is not None:
        if audio.sampling_rate == target_sampling_rate:
            check_length(audio.size, target_sampling_rate, "the waveform", max_seconds)
            return audio
        audio, sampling_rate = np.asarray(audio), audio.sampling_rate
    samples = _read(audio, sampling_rate, max_seconds)
    rate = _checked_rate(samples)
    channels = _as_float(samples)
    mono = _mono(channels, samples.name)
    _check_content(mono, peak_of(channels), rate, samples.name, max_seconds)
    waveform = _resampled(mono, rate, target_sampling_rate).view(Waveform)
    check_audible(peak_of(waveform), samples.name)  # resampling may have removed all of it
    waveform.sampling_rate = target_sampling_rate
    return waveform


def as_audio_list(audio: Any) -> list[Any]:
    """
    Distinguish one audio input from several: a list has several, unless it is a list of samples.

    Args:
        audio: `None`, audio in any form that `load_audio` takes, or a list of such.

    Returns:
        `list`: The audio inputs.
    """
    if audio is None:
        return []
    if isinstance(audio, list) and not (audio and isinstance(audio[0], numbers.Real)):
        return audio
    return [audio]


def resolve_audio_parts(messages: Any, load: Callable[[Any, int | None], np.ndarray]) -> tuple[Any, bool]:
    """
    Copy messages, or a batch of them, with all audio loaded, which transformers then passes through.

    Args:
        messages (`list[dict]` or `list[list[dict]]`): Messages. An audio part has its audio as `audio`, `path`, `url`,
            `bytes` or `array`, and for an array perhaps `sampling_rate`.
        load (callable): Loads a waveform from audio and its rate (or `None`).

    Returns:
        `tuple`: The copy, and whether it has audio.

    Raises:
        ValueError: If an audio part has no audio, a part or a message is no dictionary, or there is no message.
    """
    if isinstance(messages, (list, tuple)):
        if not messages:
            raise ValueError("There are no messages: give at least one.")
        resolved = [resolve_audio_parts(element, load) for element in messages]
        return [element for element, _ in resolved], any(has_audio for _, has_audio in resolved)
    if not isinstance(messages, Mapping):
        raise ValueError(f'A message is a dictionary with "role" and "content", not {quoted(str(messages))}.')
    content = messages.get("content")
    if not isinstance(content, (list, tuple)):
        return dict(messages), False
    if not all(isinstance(part, Mapping) for part in content):
        raise ValueError(
            'The parts of a message are dictionaries: {"type": "text", "text": ...} or {"type": "audio", "audio": ...}.'
        )
    parts = [_with_waveform(part, load) if part.get("type") == "audio" else part for part in content]
    return {**messages, "content": parts}, any(part.get("type") == "audio" for part in parts)


def _with_waveform(part: Mapping, load: Callable[[Any, int | None], np.ndarray]) -> dict[str, Any]:
    given = [part[key] for key in ("audio", "path", "url", "bytes", "array") if part.get(key) is not None]
    if not given:
        raise ValueError('An audio part of a message needs its audio: {"type": "audio", "audio": ...}.')
    return {"type": "audio", "audio": load(given[0], part.get("sampling_rate"))}


# -------------------------------------------------------------------------------------------------------------- sources


def _read(audio: Any, sampling_rate: int | None, max_seconds: float | None) -> _Samples:
    if isinstance(audio, (str, os.PathLike)):
        return _read_path(audio, max_seconds)
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return _decoded(io.BytesIO(audio), "the audio bytes", max_seconds)
    if isinstance(audio, Mapping):
        return _read_mapping(audio, sampling_rate, max_seconds)
    if isinstance(audio, tuple) and len(audio) == 2:
        array, rate = reversed(audio) if isinstance(audio[0], (int, float, np.number)) else audio
        return _Samples(_as_array(array), rate, "the audio array")
    if isinstance(audio, (np.ndarray, torch.Tensor, list, tuple)):
        return _Samples(_as_array(audio), sampling_rate, "the audio array")
    if callable(getattr(audio, "get_all_samples", None)):  # torchcodec's AudioDecoder, which need not be installed
        decoded = audio.get_all_samples()
        return _Samples(_as_array(decoded.data), decoded.sample_rate, "the decoded audio")
    if callable(getattr(audio, "read", None)):
        name = getattr(audio, "name", None)
        name = quoted(name) if isinstance(name, str) else "the audio file"
        return _decoded(io.BytesIO(audio.read()), name, max_seconds)
    raise TypeError(
        f"Cannot read audio from a {type(audio).__name__}: give a path, the bytes of a file, an open file, "
        '{"array": ..., "sampling_rate": ...}, (array, rate), or an array with `sampling_rate`.'
    )


def _read_mapping(audio: Mapping, sampling_rate: int | None, max_seconds: float | None) -> _Samples:
    name = quoted(audio["path"]) if audio.get("path") else "the audio array"
    if audio.get("array") is not None:
        rate = audio.get("sampling_rate")
        return _Samples(_as_array(audio["array"]), sampling_rate if rate is None else rate, name)
    if audio.get("bytes") is not None:
        return _decoded(io.BytesIO(audio["bytes"]), name if audio.get("path") else "the audio bytes", max_seconds)
    if audio.get("path"):
        return _read_path(audio["path"], max_seconds)
    raise AudioInputError(
        "Audio given as a dictionary needs 'array' and 'sampling_rate', or 'bytes', or 'path', but has "
        f"{', '.join(map(repr, audio)) or 'nothing'}."
    )


def _read_path(path: str | os.PathLike, max_seconds: float | None) -> _Samples:
    path, name = os.path.expanduser(os.fspath(path)), quoted(path)
    if path.startswith(("http://", "https://")):
        raise AudioInputError(f"{name} is a web address, and nothing is fetched from the network: download it first.")
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no audio file {name}.")
    if not os.path.isfile(path):
        raise AudioInputError(f"{name} is not a file: give the path of one audio file.")
    with open(path, "rb") as handle:
        return _decoded(handle, name, max_seconds)


def _decoded(handle: BinaryIO, name: str, max_seconds: float | None) -> _Samples:
    samples, rate = decode_audio_file(handle, name, max_seconds)
    return _Samples(samples, rate, name)


def _as_array(samples: Any) -> np.ndarray:
    if isinstance(samples, torch.Tensor):
        samples = samples.detach().cpu()
        return (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()
    return np.asarray(samples)


# --------------------------------------------------------------------------------------------------------------- checks


def _checked_rate(samples: _Samples) -> int:
    rate = samples.sampling_rate
    if rate is None:
        raise AudioInputError(
            f"The rate of {samples.name} is not known: give `sampling_rate`, or the audio as "
            '{"array": ..., "sampling_rate": ...}.',
            "bad_rate",
        )
    return checked_rate(rate, samples.name)


def _as_float(samples: _Samples) -> np.ndarray:
    array, kind = samples.array, str(samples.array.dtype)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if kind in _FULL_SCALE:
        return (array / _FULL_SCALE[kind]).astype(np.float32)
    if kind == "uint8":
        return (array.astype(np.float32) - 128.0) / 128.0
    raise TypeError(
        f"The samples of {samples.name} are {kind}: convert them to float in [-1, 1], int8, int16, int32 or uint8."
    )


def _mono(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 1:
        return array
    if array.ndim != 2 or min(array.shape) > MAX_CHANNELS:
        raise AudioInputError(
            f"{name} has the shape {array.shape}: audio is (samples,), (channels, samples) or (samples, channels) "
            f"with up to {MAX_CHANNELS} channels.",
            "bad_shape",
        )
    return array.mean(axis=0 if array.shape[0] < array.shape[1] else 1)


def _check_content(mono: np.ndarray, loudest_channel: float, rate: int, name: str, max_seconds: float | None) -> None:
    if mono.size == 0:
        raise AudioInputError(f"{name} is empty: it has no samples.", "empty")
    peak = peak_of(mono)
    if not np.isfinite(peak):
        raise AudioInputError(f"{name} contains NaN or infinite samples: the audio is damaged.", "not_finite")
    if peak > FLOAT_PEAK:
        raise AudioInputError(
            f"{name} has samples up to {peak:.0f}: float samples must lie in [-1, 1], so divide them by full scale.",
            "out_of_range",
        )
    if peak <= SILENCE_PEAK < loudest_channel:
        raise AudioInputError(
            f"{name} is silent as mono: its channels cancel each other out, so give one of them.", "channels_cancel"
        )
    check_audible(peak, name)
    check_length(mono.size, rate, name, max_seconds)


def peak_of(samples: np.ndarray) -> float:
    """The largest magnitude, without a copy of the samples; NaN if one is."""
    return float(np.maximum(samples.max(), -samples.min())) if samples.size else 0.0


def check_audible(peak: float, name: str) -> None:
    """Refuse audio whose largest magnitude is that of silence."""
    if peak <= SILENCE_PEAK:
        raise AudioInputError(f"{name} is silent: its largest sample is {peak:.1g} of full scale.", "silent")


def check_length(num_samples: int, rate: int, name: str, max_seconds: float | None) -> None:
    """Refuse audio that is longer than the limit, in seconds."""
    if max_seconds is not None and num_samples > max_seconds * rate + 1:  # resampling rounds the length up
        raise AudioInputError(
            f"{name} is longer than {max_seconds:g} s: cut it, or raise `max_audio_seconds` of the processor.",
            "too_long",
        )


def _resampled(mono: np.ndarray, rate: int, target: int) -> np.ndarray:
    if rate == target:
        return np.ascontiguousarray(mono)
    # 11127 Hz as 11130, 191989 Hz as 192000: 0.5 and 0.1 cents off, and a thousandth of the filter.
    for digits in (-1, -2):
        if max(rate, target) // np.gcd(rate, target) > 4000:
            rate = max(10, round(rate, digits))
    return resample(mono, rate, target)
