"""
A reply's ids, as they come, to text and sound, as they are final.

Knows the layout, the tokenizer's bytes and the codec through the processor. Knows no threads, no queue and no model:
ids go in, events come out. Joined, the texts of all events are those of `TttProcessor.decode_reply`, and so are the
sounds, but for a codec that streams by windows of its own (GLM-4-Voice's).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from .codec_interface_ttt import CodecStream
from .layout_ttt import ReplyParser
from .reply_ttt import TttReply
from .vocabulary_ttt import TttVocabulary

REPLACEMENT = "\ufffd"  # what a tokenizer writes for bytes that are no character, or not yet one


@dataclass(frozen=True)
class TttTextDelta:
    """
    More of the reply's text.

    Args:
        text (`str`): Whole characters that follow the text so far.
    """

    text: str


@dataclass(frozen=True)
class TttAudioChunk:
    """
    More of the reply's sound.

    Args:
        audio (`np.ndarray` of shape `(samples,)`, float32): Samples that follow the sound so far.
        sampling_rate (`int`): Rate of `audio`, in Hz.
    """

    audio: np.ndarray
    sampling_rate: int

    @property
    def seconds(self) -> float:
        """Length of the chunk, in seconds."""
        return len(self.audio) / self.sampling_rate


@dataclass(frozen=True)
class TttBlockDraft:
    """
    A block of sound after a denoising step; the next draft, or its sound, takes its place.

    Args:
        token_ids (`list[int]`): The block's ids: codes, end markers, and masks where nothing is revealed.
        is_masked (`list[bool]`): Where the masks are.
        confidence (`list[float]`): How probable the id is that the step proposed for each position; of those revealed
            before, meaningless.
    """

    token_ids: list[int]
    is_masked: list[bool]
    confidence: list[float]


TttStreamEvent: TypeAlias = TttTextDelta | TttAudioChunk | TttBlockDraft


class TextStream:
    """
    Token ids to text, whole characters at a time.

    Only the last ids are decoded again with each one, so the cost does not grow with the text. The deltas join to the
    text of all ids wherever ids stand for bytes (byte-level BPE, as Qwen's and nano's), bytes that are no character
    included.

    Args:
        decode (`Callable`): Turns ids into text.
    """

    def __init__(self, decode: Callable[[list[int]], str]):
        self.decode = decode
        # the ids of the last delta: tokenizers may treat the first id of what they decode in a way of its own
        self._told: list[int] = []
        self._held: list[int] = []

    def push(self, text_ids: list[int]) -> str:
        """
        Take the next ids.

        Args:
            text_ids (`list[int]`): Ids of text.

        Returns:
            `str`: The characters that are whole now.
        """
        self._held += text_ids
        delta = self._untold()
        if not delta or delta.endswith(REPLACEMENT):  # perhaps the first bytes of a character
            return ""
        self._told, self._held = self._held, []
        return delta

    def finish(self) -> str:
        """Give what was held back: bytes that did not become a character."""
        delta, self._held = self._untold(), []
        return delta

    def _untold(self) -> str:
        return self.decode(self._told + self._held)[len(self.decode(self._told)) :] if self._held else ""


class DecodesReplies(Protocol):
    """What of a [`TttProcessor`] a stream needs."""

    vocabulary: TttVocabulary

    @property
    def codec_config(self) -> Any:
        """The codec's configuration."""

    def decode_text(self, text_ids: list[int]) -> str:
        """Turn text ids into text."""

    def codec_stream(self) -> CodecStream:
        """Begin a sound."""


class ReplyDecoder:
    """
    Turns one reply into events.

    Args:
        processor ([`TttProcessor`]): Its vocabulary, tokenizer and codec. The codec is loaded when the first code
        comes.
    """

    def __init__(self, processor: DecodesReplies):
        self.processor = processor
        self.parser = ReplyParser(processor.vocabulary)
        self.text = TextStream(processor.decode_text)
        self.sound: CodecStream | None = None
        self._told: list[TttTextDelta | TttAudioChunk] = []

    def push(self, ids: Iterable[int]) -> list[TttStreamEvent]:
        """
        Take the next ids of the reply.

        Args:
            ids (iterable of `int`): Ids, any number of them.

        Returns:
            `list`: What they say, as far as it is final.
        """
        num_text_ids, num_codes = len(self.parser.text_ids), len(self.parser.codes)
        self.parser.push(ids)
        text_ids, codes = self.parser.text_ids[num_text_ids:], self.parser.codes[num_codes:]
        events = self._text_events(self.text.push(text_ids)) if text_ids else []
        if codes:
            if self.sound is None:
                self.sound = self.processor.codec_stream()
            events += self._audio_events(self.sound.push(codes))
        return events

    def finish(self) -> list[TttStreamEvent]:
        """End the reply, finished or not: give what was held back."""
        events = self._text_events(self.text.finish())
        return events if self.sound is None else events + self._audio_events(self.sound.finish())

    def reply(self) -> TttReply:
        """Join the events so far: after `finish`, the reply as `decode_reply` gives it, without decoding again."""
        chunks = [event.audio for event in self._told if isinstance(event, TttAudioChunk)]
        return TttReply(
            text="".join(event.text for event in self._told if isinstance(event, TttTextDelta)),
            audio=np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.float32),
            sampling_rate=self.processor.codec_config.output_sampling_rate,
            finished=self.parser.finished,
        )

    def draft(self, ids: list[int], confidence: list[float]) -> TttBlockDraft:
        """Describe a block that is being denoised, by its ids and how sure the model is of each."""
        mask_token_id = self.processor.vocabulary.mask_token_id
        return TttBlockDraft(ids, [token_id == mask_token_id for token_id in ids], confidence)

    def _text_events(self, text: str) -> list[TttStreamEvent]:
        return self._tell([TttTextDelta(text)] if text else [])

    def _audio_events(self, audio: np.ndarray) -> list[TttStreamEvent]:
        rate = self.processor.codec_config.output_sampling_rate
        return self._tell([TttAudioChunk(audio, rate)] if len(audio) else [])

    def _tell(self, events: list[TttTextDelta] | list[TttAudioChunk]) -> list[TttStreamEvent]:
        self._told += events
        return list(events)
