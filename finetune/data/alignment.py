"""
When each word of a recording is spoken, by proportion of lengths: `ttt prepare --align proportional`.

The time without pauses is given to the words in order, in proportion to their number of characters. This is not a
forced alignment: a boundary is off by some tenths of a second, more where digits or abbreviations are spoken as many
words, and a language that writes without spaces has a single "word". Where you have a forced alignment, put its times
into the manifest as `words`. Proportional times keep each word near its own audio, which is what a layout of aligned
groups needs.

Depends on samples and words. Independent of codes.
"""

import numpy as np

from .schema import WordTime

FRAME_SECONDS = 0.01
PAUSE_DB = -40.0  # frames this far below the loudest one are pause


def proportional_word_times(text: str, samples: np.ndarray, sampling_rate: int) -> list[WordTime]:
    """
    Divide the time without pauses among the words.

    Args:
        text (`str`): Words separated by spaces.
        samples (`np.ndarray` of shape `(samples,)`): The recording, not silent.
        sampling_rate (`int`): In Hz.

    Returns:
        `list[dict]`: `word`, `start` and `end` in seconds. Each word begins where the one before it ends; a pause at
        a boundary belongs to the word after it.
    """
    words = text.split()
    frame_length = max(1, round(FRAME_SECONDS * sampling_rate))
    frames = np.pad(samples, (0, -len(samples) % frame_length)).reshape(-1, frame_length)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    sounding = np.flatnonzero(power >= power.max() * 10 ** (PAUSE_DB / 10))
    shares = np.cumsum([len(word) for word in words]) / sum(map(len, words))
    # A word ends at the frame at which its share of all frames that are no pause has passed.
    last = sounding[np.clip(np.ceil(shares * len(sounding) - 1e-9).astype(int) - 1, 0, None)]
    ends = np.minimum((last + 1) * frame_length, len(samples)) / sampling_rate
    starts = [sounding[0] * frame_length / sampling_rate, *ends[:-1]]
    return [{"word": word, "start": float(a), "end": float(b)} for word, a, b in zip(words, starts, ends, strict=True)]
