"""
When each word of a recording is spoken, shared out by length: `ttt prepare --align proportional`.

The time in which there is sound (pauses do not count) is given to the words in proportion to their number of
characters, in order. That is what it is: it knows nothing of phones, so a boundary is off by some tenths of a second,
more where digits or abbreviations are spoken as many words, and where a language writes without spaces there is but
one "word". It is not a forced alignment; where you have one, put its times into the manifest as `words`. It is good
enough to keep each word near its own sound, which is what a layout of aligned groups needs.

Knows samples and words. Knows no codes.
"""

import numpy as np

FRAME_SECONDS = 0.01
PAUSE_DB = -40.0  # frames this far below the loudest one are pause

Word = dict[str, str | float]


def proportional_word_times(text: str, samples: np.ndarray, sampling_rate: int) -> list[Word]:
    """
    Share out the time with sound over the words.

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
    # A word ends with the sounding frame up to which its share of all sounding frames has passed.
    last = sounding[np.clip(np.ceil(shares * len(sounding) - 1e-9).astype(int) - 1, 0, None)]
    ends = np.minimum((last + 1) * frame_length, len(samples)) / sampling_rate
    starts = [sounding[0] * frame_length / sampling_rate, *ends[:-1]]
    return [{"word": word, "start": float(a), "end": float(b)} for word, a, b in zip(words, starts, ends, strict=True)]
