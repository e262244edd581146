"""
Long recordings in pieces, and what is transcribed of them: segments with their times, as text, JSON or subtitles.

Depends on waveforms and text only. Independent of models and files. A model states no times within a piece, so the
segments of a transcript are its pieces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .audio_input_ttt import SILENCE_PEAK

QUIET_SECONDS = 0.2  # a cut is in the middle of the quietest time of this length
FRAME_SECONDS = 0.02


@dataclass(frozen=True)
class TranscriptSegment:
    """
    A piece of a recording.

    Args:
        start (`float`): Where it begins, in seconds.
        end (`float`): Where it ends, in seconds.
        text (`str`): Its transcript.
    """

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class TttTranscript:
    """
    A transcript.

    Args:
        segments (`tuple[TranscriptSegment, ...]`): The pieces in order, those without audio left out.
        seconds (`float`): Length of the recording, in seconds.
        finished (`bool`): Whether the model ended each piece itself (none was cut off).
    """

    segments: tuple[TranscriptSegment, ...]
    seconds: float
    finished: bool = True

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(segment.text for segment in self.segments)

    def format(self, name: str) -> str:
        """
        Write the transcript.

        Args:
            name (`str`): A key of `TRANSCRIPT_FORMATS`.

        Returns:
            `str`: Without a line end after the last line.

        Raises:
            ValueError: If the format is unknown.
        """
        if name not in TRANSCRIPT_FORMATS:
            raise ValueError(f"A transcript is written as {', '.join(TRANSCRIPT_FORMATS)}, and not as {name!r}.")
        return TRANSCRIPT_FORMATS[name](self)

    def as_dict(self) -> dict[str, Any]:
        """Return text, `duration` in seconds and segments, for JSON."""
        return {
            "text": self.text,
            "duration": round(self.seconds, 3),
            "segments": [
                {"id": index, "start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text}
                for index, segment in enumerate(self.segments)
            ],
        }


def _srt(transcript: TttTranscript) -> str:
    return "\n\n".join(
        f"{number}\n{_time(segment.start, ',')} --> {_time(segment.end, ',')}\n{segment.text.strip()}"
        for number, segment in enumerate(_with_text(transcript), 1)
    )


def _vtt(transcript: TttTranscript) -> str:
    cues = (
        f"{_time(segment.start, '.')} --> {_time(segment.end, '.')}\n{_escaped(segment.text.strip())}"
        for segment in _with_text(transcript)
    )
    return "\n\n".join(["WEBVTT", *cues])


TRANSCRIPT_FORMATS: dict[str, Callable[[TttTranscript], str]] = {
    "text": lambda transcript: transcript.text,
    "srt": _srt,
    "vtt": _vtt,
}


def _with_text(transcript: TttTranscript) -> list[TranscriptSegment]:
    return [segment for segment in transcript.segments if segment.text.strip()]


def _escaped(text: str) -> str:
    """Write text of a WebVTT cue, in which these characters begin markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def split_at_pauses(waveform: np.ndarray, sampling_rate: int, max_seconds: float) -> list[tuple[int, int]]:
    """
    Cut a recording into pieces, each in the quietest place of its second half, where speakers pause.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): The recording, float.
        sampling_rate (`int`): In Hz.
        max_seconds (`float`): Longest piece, in seconds; at least 1.

    Returns:
        `list[tuple[int, int]]`: First sample of each piece and the sample after it. Silent pieces are left out, so the
            list may be empty; the others join to the recording.

    Raises:
        ValueError: If `max_seconds` is below 1.
    """
    if not max_seconds >= 1:
        raise ValueError(f"A recording is cut into pieces of 1 s or more, and not of {max_seconds:g} s.")
    frame = max(1, round(FRAME_SECONDS * sampling_rate))
    longest = int(max_seconds * sampling_rate)
    quietness = _energy_around_frames(waveform, frame)
    bounds = [0]
    while len(waveform) - bounds[-1] > longest:
        first = (bounds[-1] + longest // 2) // frame + 1
        last = min(bounds[-1] + longest, len(waveform) - longest // 4) // frame  # the last piece is not very short
        energy = quietness[first : last + 1]
        bounds.append((first + len(energy) - 1 - int(np.argmin(energy[::-1]))) * frame)  # of equal ones the last
    bounds.append(len(waveform))
    return [
        (start, end) for start, end in pairwise(bounds) if np.abs(waveform[start:end]).max(initial=0.0) > SILENCE_PEAK
    ]


def _energy_around_frames(waveform: np.ndarray, frame: int) -> np.ndarray:
    """Energy of `QUIET_SECONDS` around the begin of each frame; `(frames + 1,)`."""
    num_frames = -(-len(waveform) // frame)
    padded = np.zeros(num_frames * frame, np.float64)
    padded[: len(waveform)] = waveform
    sums = np.concatenate([[0.0], np.cumsum((padded.reshape(num_frames, frame) ** 2).sum(1))])
    half = round(QUIET_SECONDS / FRAME_SECONDS / 2)
    starts = np.arange(num_frames + 1)
    return sums[np.minimum(starts + half, num_frames)] - sums[np.maximum(starts - half, 0)]
