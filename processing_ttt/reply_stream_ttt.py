"""
Decode a reply while its token ids arrive: events with text and audio that are final.

The joined text of all events equals that of `TttProcessor.decode_reply`, and so does the audio, except for a codec with
a stream of its own (GLM-4-Voice's).

Depends on a processor for vocabulary, tokenizer and codec. Independent of threads, queues and models.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from .codec_interface_ttt import CodecConfig, CodecStream
from .layout_ttt import ReplyParser, TttLayout
from .reply_ttt import TttReply, TttWordTime
from .text_stream_ttt import TextStream
from .timings_ttt import WordClock
from .vocabulary_ttt import TttVocabulary


@dataclass(frozen=True)
class TttTextDelta:
    """
    The next part of the reply's text.

    Args:
        text (`str`): Complete characters that follow the text so far.
    """

    text: str


@dataclass(frozen=True)
class TttAudioChunk:
    """
    The next part of the reply's audio.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Samples that follow the audio so far.
        sampling_rate (`int`): Rate of `audio`, in Hz.
        timings (`tuple[TttWordTime, ...]`): Words whose spans were completed since the chunk before; their times count
            from the beginning of the reply's audio.
    """

    audio: np.ndarray
    sampling_rate: int
    timings: tuple[TttWordTime, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the chunk, in seconds."""
        return len(self.audio) / self.sampling_rate


@dataclass(frozen=True)
class TttBlockDraft:
    """
    A block of audio after a denoising step; the next draft, or its audio, replaces it.

    Args:
        token_ids (`list[int]`): The block's token ids: codes, end markers, and masks where nothing is revealed.
        is_masked (`list[bool]`): Where the masks are.
        confidence (`list[float]`): Probability of the step's proposal for each position; without meaning for those
            revealed before.
    """

    token_ids: list[int]
    is_masked: list[bool]
    confidence: list[float]


TttStreamEvent: TypeAlias = TttTextDelta | TttAudioChunk | TttBlockDraft


class DecodesReplies(Protocol):
    """What a stream needs of a [`TttProcessor`]."""

    vocabulary: TttVocabulary
    layout: TttLayout

    @property
    def codec_config(self) -> CodecConfig:
        """The codec's configuration."""

    def decode_text(self, text_ids: list[int]) -> str:
        """Decode text token ids."""

    def codec_stream(self) -> CodecStream:
        """Begin to decode codes that arrive piece by piece."""


class ReplyDecoder:
    """
    Decodes one reply to events.

    Args:
        processor ([`TttProcessor`]): Its vocabulary, tokenizer and codec. The codec is loaded with the first code.
    """

    def __init__(self, processor: DecodesReplies):
        self.processor = processor
        self.parser = ReplyParser(processor.vocabulary)
        self.text = TextStream(processor.decode_text)
        self.codec_stream: CodecStream | None = None
        self.timings: list[TttWordTime] = []
        self._clock: WordClock | None = None  # made with the first code, which needs the codec, too
        self._num_sent = 0  # of `timings`
        self._events: list[TttTextDelta | TttAudioChunk] = []

    def push(self, ids: Iterable[int]) -> list[TttStreamEvent]:
        """
        Take the next token ids of the reply.

        Args:
            ids (iterable of `int`): Token ids, any number of them.

        Returns:
            `list`: The events that became final.
        """
        num_text_ids, num_codes = len(self.parser.text_ids), len(self.parser.codes)
        self.parser.push(ids)
        text_ids, codes = self.parser.text_ids[num_text_ids:], self.parser.codes[num_codes:]
        events = self._text_events(self.text.push(text_ids)) if text_ids else []
        if codes and self.codec_stream is None:
            self.codec_stream = self.processor.codec_stream()
            frame_rate = self.processor.codec_config.frame_rate
            self._clock = WordClock(self.processor.layout, self.processor.decode_text, frame_rate)
        if self._clock is not None:
            self.timings += self._clock.push(self.parser)
        if codes and self.codec_stream is not None:
            events += self._audio_events(self.codec_stream.push(codes))
        return events

    def finish(self) -> list[TttStreamEvent]:
        """End the reply, finished or not, and return the remaining events."""
        events = self._text_events(self.text.finish())
        if self.codec_stream is None:
            return events
        return events + self._audio_events(self.codec_stream.finish(), is_last=True)

    def reply(self) -> TttReply:
        """Join the events so far: after `finish`, the reply of `decode_reply`, without decoding again."""
        chunks = [event.audio for event in self._events if isinstance(event, TttAudioChunk)]
        return TttReply(
            text="".join(event.text for event in self._events if isinstance(event, TttTextDelta)),
            audio=np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.float32),
            sampling_rate=self.processor.codec_config.output_sampling_rate,
            finished=self.parser.finished,
            timings=tuple(self.timings),
        )

    def draft(self, ids: list[int], confidence: list[float]) -> TttBlockDraft:
        """Describe a block that is being denoised, by its token ids and the confidence of each."""
        mask_token_id = self.processor.vocabulary.mask_token_id
        return TttBlockDraft(ids, [token_id == mask_token_id for token_id in ids], confidence)

    def _text_events(self, text: str) -> list[TttStreamEvent]:
        return self._record([TttTextDelta(text)] if text else [])

    def _audio_events(self, audio: np.ndarray, is_last: bool = False) -> list[TttStreamEvent]:
        timings = tuple(self.timings[self._num_sent :])
        if not len(audio) and not (is_last and timings):
            return []
        self._num_sent = len(self.timings)
        return self._record([TttAudioChunk(audio, self.processor.codec_config.output_sampling_rate, timings)])

    def _record(self, events: list[TttTextDelta] | list[TttAudioChunk]) -> list[TttStreamEvent]:
        self._events += events
        return list(events)
