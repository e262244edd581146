"""
What one reply was: text, sound, how long it took, and which words stand before which sound.

Knows ids through the vocabulary, and codes by their number per second. Knows no model and no threads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from processing_ttt import TttProcessor
from processing_ttt.reply_stream_ttt import TextStream


@dataclass(frozen=True)
class Stretch:
    """
    A stretch of text and the span of sound that follows it.

    Args:
        text (`str`): The words; empty where a reply begins with sound.
        num_text_ids (`int`): Ids of the text.
        num_codes (`int`): Codes of the span; 0 where a reply ends with text.
        start (`float`): Where the span begins in the reply's sound, in seconds.
        seconds (`float`): How long it is.
    """

    text: str
    num_text_ids: int
    num_codes: int
    start: float
    seconds: float


@dataclass(frozen=True)
class ReplySummary:
    """
    A whole reply, and how it came about.

    Args:
        text (`str`): What the model wrote.
        audio (`np.ndarray` of shape `(samples,)`, float32): What it said; empty for a reply of text only.
        sampling_rate (`int`): Rate of `audio`, in Hz.
        finished (`bool`): Whether the model ended the reply (it was not cut off or stopped).
        token_ids (`list[int]`): Ids of text, markers and codes.
        stretches (`list[Stretch]`): The reply as it alternates between text and sound.
        num_forwards (`int`): Forward passes of the model; 0 if it was stopped before the first.
        seconds_waited (`float`): Between the request and its turn.
        seconds (`float`): From its turn to the end.
        seconds_to_first_audio (`float`, *optional*): From its turn to the first sound.
    """

    text: str
    audio: np.ndarray
    sampling_rate: int
    finished: bool
    token_ids: list[int]
    stretches: list[Stretch]
    num_forwards: int
    seconds_waited: float
    seconds: float
    seconds_to_first_audio: float | None

    @property
    def seconds_of_audio(self) -> float:
        """Length of the sound, in seconds."""
        return len(self.audio) / self.sampling_rate

    @property
    def real_time_factor(self) -> float | None:
        """Seconds that a second of sound took; `None` without sound."""
        return self.seconds / self.seconds_of_audio if len(self.audio) else None

    @property
    def tokens_per_forward(self) -> float:
        """Ids that one forward pass gave, on average."""
        return len(self.token_ids) / max(1, self.num_forwards)

    def figures(self) -> dict[str, Any]:
        """Give the numbers as JSON takes them."""
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


def stretches_of(token_ids: list[int], processor: TttProcessor) -> list[Stretch]:
    """
    Cut a reply where it goes from sound to text.

    Args:
        token_ids (`list[int]`): The reply's ids.
        processor ([`TttProcessor`]): Its vocabulary, tokenizer and frame rate.

    Returns:
        `list[Stretch]`: Their texts join to the reply's text, their sounds lie one after the other.
    """
    parsed = processor.layout.parse_reply(token_ids)
    frame_rate = processor.codec_config.frame_rate
    words, stretches, start, text_start = TextStream(processor.decode_text), [], 0.0, 0
    ends = [(span.text_end, len(span.codes)) for span in parsed.spans]
    if not ends or ends[-1][0] < len(parsed.text_ids):
        ends.append((len(parsed.text_ids), 0))
    for index, (text_end, num_codes) in enumerate(ends):
        text = words.push(parsed.text_ids[text_start:text_end])
        if index == len(ends) - 1:
            text += words.finish()
        stretches.append(Stretch(text, text_end - text_start, num_codes, start, num_codes / frame_rate))
        start, text_start = start + num_codes / frame_rate, text_end
    return stretches


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
