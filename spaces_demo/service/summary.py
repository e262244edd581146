"""
What one reply was: text, audio, timing, and which words belong to which span of audio.

Depends on the processor's vocabulary and frame rate. Independent of the model and of threads.
"""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from processing_ttt import TttProcessor, TttTranscript, TttWordTime
from processing_ttt.text_stream_ttt import TextStream


@dataclass(frozen=True)
class Segment:
    """
    A segment of text and the span of audio that follows it.

    Args:
        text (`str`): The words; empty where a reply begins with audio.
        num_text_ids (`int`): Token ids of the text.
        num_codes (`int`): Codes of the span; 0 where a reply ends with text.
        start (`float`): Where the span begins in the reply's audio, in seconds.
        seconds (`float`): Length of the span.
    """

    text: str
    num_text_ids: int
    num_codes: int
    start: float
    seconds: float


class ReplyFigures(TypedDict):
    """The numbers of a [`ReplySummary`] in JSON, rounded to a thousandth."""

    seconds_waited: float
    seconds: float
    seconds_to_first_audio: float | None
    seconds_of_audio: float
    real_time_factor: float | None
    num_forwards: int
    tokens_per_forward: float
    finished: bool


@dataclass(frozen=True)
class ReplySummary:
    """
    A whole reply, and how it was made.

    Args:
        text (`str`): The text.
        audio (`np.ndarray` of shape `(samples,)`, float32): The audio; empty for a reply of text only.
        sampling_rate (`int`): Rate of `audio`, in Hz.
        finished (`bool`): Whether the model ended the reply (it was not cut off or stopped).
        token_ids (`list[int]`): Token ids of text, markers and codes.
        segments (`list[Segment]`): The reply as it alternates between text and audio.
        num_forwards (`int`): Forward passes of the model; 0 if it was stopped before the first.
        seconds_waited (`float`): From the request to its turn.
        seconds (`float`): From its turn to the end.
        seconds_to_first_audio (`float`, *optional*): From its turn to the first audio.
        text_log_prob (`float`, *optional*): Of a transcript, the mean log-probability of its token ids, in nats.
        num_prompt_ids (`int`): Token ids of the prompt, turns before included.
        transcript ([`TttTranscript`], *optional*): Of the task `asr`: the text with its times in the recording.
        timings (`tuple[TttWordTime, ...]`): When each word is audible; only words whose audio is known.
    """

    text: str
    audio: np.ndarray
    sampling_rate: int
    finished: bool
    token_ids: list[int]
    segments: list[Segment]
    num_forwards: int
    seconds_waited: float
    seconds: float
    seconds_to_first_audio: float | None
    text_log_prob: float | None = None
    num_prompt_ids: int = 0
    transcript: TttTranscript | None = None
    timings: tuple[TttWordTime, ...] = ()

    @property
    def seconds_of_audio(self) -> float:
        """Length of the audio, in seconds."""
        return len(self.audio) / self.sampling_rate

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of computing per second of audio; `None` without audio."""
        return self.seconds / self.seconds_of_audio if len(self.audio) else None

    @property
    def tokens_per_forward(self) -> float:
        """New token ids per forward pass."""
        return len(self.token_ids) / max(1, self.num_forwards)

    def figures(self) -> ReplyFigures:
        """Return the numbers, for JSON."""
        return {
            "seconds_waited": round(self.seconds_waited, 3),
            "seconds": round(self.seconds, 3),
            "seconds_to_first_audio": _rounded(self.seconds_to_first_audio),
            "seconds_of_audio": round(self.seconds_of_audio, 3),
            "real_time_factor": _rounded(self.real_time_factor),
            "num_forwards": self.num_forwards,
            "tokens_per_forward": round(self.tokens_per_forward, 3),
            "finished": self.finished,
        }


def segments_of(token_ids: list[int], processor: TttProcessor) -> list[Segment]:
    """
    Divide a reply after each span of audio.

    Args:
        token_ids (`list[int]`): Token ids of the reply.
        processor ([`TttProcessor`]): Processor of the model.

    Returns:
        `list[Segment]`: Their texts join to the reply's text, their spans to its audio.
    """
    parsed = processor.layout.parse_reply(token_ids)
    frame_rate = processor.codec_config.frame_rate
    ends = [(span.text_end, len(span.codes)) for span in parsed.spans]
    if not ends or ends[-1][0] < len(parsed.text_ids):
        ends.append((len(parsed.text_ids), 0))
    words, segments, start, text_start = TextStream(processor.decode_text), list[Segment](), 0.0, 0
    for index, (text_end, num_codes) in enumerate(ends):
        text = words.push(parsed.text_ids[text_start:text_end])
        if index == len(ends) - 1:
            text += words.finish()
        segments.append(Segment(text, text_end - text_start, num_codes, start, num_codes / frame_rate))
        start, text_start = start + num_codes / frame_rate, text_end
    return segments


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
