"""
Take the token ids of a reply apart, as they arrive: text token ids, codes and audio spans.

Depends on the vocabulary. Independent of tokenizers, codecs and models.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .vocabulary_ttt import TttVocabulary


@dataclass(frozen=True)
class AudioSpan:
    """
    One audio span of a parsed reply.

    Args:
        codes (`list[int]`): Codec codes.
        text_end (`int`): Number of the reply's text token ids before the span.
        is_last (`bool`): Whether `<|begin_of_quad|>` opened it.
        closed (`bool`): Whether an end marker closed it; an open span is unfinished or damaged.
    """

    codes: list[int]
    text_end: int
    is_last: bool
    closed: bool


@dataclass(frozen=True)
class ParsedReply:
    """
    A reply taken apart.

    Args:
        text_ids (`list[int]`): Token ids of all text segments, joined, because a character may be split between two
            segments.
        codes (`list[int]`): The codes of all spans, joined.
        spans (`list[AudioSpan]`): The spans, in order.
        finished (`bool`): Whether `<|im_end|>` ended the reply.
        num_dropped (`int`): Number of token ids that do not belong in a reply (remaining masks, stray markers, ids
            outside the vocabulary).
    """

    text_ids: list[int]
    codes: list[int]
    spans: list[AudioSpan]
    finished: bool
    num_dropped: int


class ReplyParser:
    """
    Incremental form of [`TttLayout.parse_reply`]; its state is the open span, if any.

    Args:
        vocabulary (`TttVocabulary`): The ids of markers and codes.
    """

    def __init__(self, vocabulary: TttVocabulary):
        self.vocabulary = vocabulary
        self.text_ids: list[int] = []
        self.codes: list[int] = []
        self.spans: list[AudioSpan] = []
        self.open_codes: list[int] | None = None
        self.open_is_last = False
        self.finished = False
        self.num_dropped = 0

    def push(self, ids: Iterable[int]) -> None:
        """Take the next token ids; those after the end of the reply are ignored."""
        for token_id in map(int, ids):
            self.finished = self.finished or token_id == self.vocabulary.eos_token_id
            if self.finished:
                break
            self._take(token_id)

    def finish(self) -> ParsedReply:
        """Return the reply so far."""
        self._end_span(closed=False)
        return ParsedReply(self.text_ids, self.codes, self.spans, self.finished, self.num_dropped)

    def _take(self, token_id: int) -> None:
        vocabulary = self.vocabulary
        if vocabulary.is_code(token_id):
            if self.open_codes is None:
                self.open_codes, self.open_is_last = [], False
            self.open_codes.append(token_id - vocabulary.audio_code_offset)
            self.codes.append(self.open_codes[-1])
        elif token_id in (vocabulary.begin_audio_token_id, vocabulary.begin_last_audio_token_id):
            self._begin_span(is_last=token_id == vocabulary.begin_last_audio_token_id)
        elif self.open_codes is not None and token_id in (
            vocabulary.end_audio_token_id,
            vocabulary.end_last_audio_token_id,
        ):
            self._end_span(closed=True)
        elif token_id == vocabulary.pad_token_id:
            pass
        elif self._is_text(token_id):
            self._end_span(closed=False)
            self.text_ids.append(token_id)
        else:
            self.num_dropped += 1

    def _is_text(self, token_id: int) -> bool:
        markers = (self.vocabulary.end_user_audio_token_id, self.vocabulary.begin_message_token_id)
        return 0 <= token_id < self.vocabulary.audio_token_start_id and token_id not in markers

    def _begin_span(self, is_last: bool) -> None:
        self._end_span(closed=False)
        self.open_codes, self.open_is_last = [], is_last

    def _end_span(self, closed: bool) -> None:
        if self.open_codes is not None:
            self.spans.append(AudioSpan(self.open_codes, len(self.text_ids), self.open_is_last, closed))
        self.open_codes = None
