"""
When each word of a reply is audible: each group of words is followed by exactly its own audio.

    text of a group │ its codes │ text of a group │ its codes │ ...        start = codes before it / frame rate

Depends on a parsed reply and on the codec's frame rate. Independent of waveforms and models.
"""

from collections.abc import Callable

from .layout_ttt import TttLayout
from .reply_parser_ttt import AudioSpan, ParsedReply, ReplyParser
from .reply_ttt import TttWordTime
from .text_stream_ttt import TextStream


class WordClock:
    """
    Word times of one reply, while its spans are completed.

    There is no time for a word without audio, for one whose span was not closed, and in the paper's fixed layout
    (`text_tokens` text tokens, then `audio_tokens` codes), where text runs ahead of its audio.

    Args:
        layout (`TttLayout`): How the model's replies are written.
        decode_text (`Callable`): Decodes text token ids.
        frame_rate (`float`): Codes per second.
    """

    def __init__(self, layout: TttLayout, decode_text: Callable[[list[int]], str], frame_rate: float):
        self.layout = layout
        self.frame_rate = frame_rate
        self._text = TextStream(decode_text)
        self._num_spans = self._num_text_ids = self._num_codes = 0
        self._is_fixed = False

    def push(self, parsed: ReplyParser | ParsedReply) -> list[TttWordTime]:
        """
        Read the reply so far.

        Args:
            parsed (`ReplyParser` or `ParsedReply`): The reply so far.

        Returns:
            `list[TttWordTime]`: Words whose spans were completed since the last call.
        """
        spans, self._num_spans = parsed.spans[self._num_spans :], len(parsed.spans)
        times = [self._time(span, parsed.text_ids[self._num_text_ids : span.text_end]) for span in spans]
        return [time for time in times if time is not None]

    def _time(self, span: AudioSpan, text_ids: list[int]) -> TttWordTime | None:
        if not span.codes:  # its words are audible in the next span, if they are
            return None
        word = self._text.push(text_ids).strip()
        start, self._num_codes = self._num_codes, self._num_codes + len(span.codes)
        self._num_text_ids = span.text_end
        pattern = (len(text_ids), len(span.codes), span.is_last)
        self._is_fixed = self._is_fixed or pattern == (self.layout.text_tokens, self.layout.audio_tokens, False)
        if self._is_fixed or not word or not span.closed:
            return None
        return TttWordTime(word, start / self.frame_rate, self._num_codes / self.frame_rate)
