"""
Read a given text aloud: the text of the reply is the given one, token for token, at any length.

    text ── readable_text, split_sentences ──► sentences ── generate, each with its `reply_text_ids` ──► ids
    ids of the sentences ── join_sentences, or SentenceStreamer as they arrive ──► ids of one reply

[`TextReader`] does all of it.

Depends on the processor and on `generate`. Independent of waveforms and of how blocks of audio are denoised.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BatchFeature
from transformers.generation.streamers import BaseStreamer

from .layout_ttt import TttLayout
from .processing_ttt import TOKENIZING, TttProcessor
from .reply_ttt import TttReply
from .streaming_ttt import GeneratesReplies
from .tasks_ttt import DEFAULT_LANGUAGE

LONGEST_PART = (25, 150)  # words and characters: nano reads more within its 400 new token ids
SENTENCES_AT_ONCE = 8
_SENTENCE_END = re.compile(r"(?<=[.!?…;])\s+|\s*\n\s*")


@dataclass(frozen=True)
class ReadingOutput:
    """
    Statistics of a text that was streamed.

    Args:
        num_forwards (`int`): Forward passes of all sentences.
    """

    num_forwards: int


class TextReader:
    """
    Reads texts aloud, word for word.

    Args:
        model (`TttForConditionalGeneration`): The model.
        processor (`TttProcessor`): Processor of the same checkpoint.
        options: Arguments of every `generate` call.
    """

    def __init__(self, model: GeneratesReplies, processor: TttProcessor, **options: Any):
        self.model, self.processor, self.options = model, processor, options

    def read(
        self, texts: Sequence[str], language: str | None = None, system_prompt: str | None = None
    ) -> list[TttReply]:
        """
        Read texts, `SENTENCES_AT_ONCE` sentences in a batch.

        Args:
            texts (`Sequence[str]`): The texts.
            language (`str`, *optional*): Language tag of the prompt.
            system_prompt (`str`, *optional*): Replaces the task's own prompt.

        Returns:
            `list[TttReply]`: One for each text.

        Raises:
            ValueError: A text is empty.
        """
        cut = [self._sentences(text, language, system_prompt) for text in texts]
        sentences = list(itertools.chain.from_iterable(cut))
        replies: list[list[int]] = []
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            chosen = sentences[start : start + SENTENCES_AT_ONCE]
            inputs = self._prepared(chosen, language, system_prompt)
            ids = self.model.generate(**inputs, **self.options)
            replies += ids[:, inputs["input_ids"].shape[1] :].tolist()
        rest = iter(replies)
        joined = (join_sentences(self.processor.layout, self._space, [next(rest) for _ in text]) for text in cut)
        return [self.processor.decode_reply(torch.tensor(ids)) for ids in joined]

    def stream_to(
        self, streamer: BaseStreamer, text: str, language: str | None = None, system_prompt: str | None = None
    ) -> ReadingOutput:
        """
        Read a text, one sentence after the other, to a streamer.

        Args:
            streamer (`BaseStreamer`): Gets one reply, and is ended as `generate` ends it.
            text, language, system_prompt: As for `read`.

        Returns:
            [`ReadingOutput`]: Also of a text that was cancelled.

        Raises:
            ValueError: The text is empty.
        """
        num_forwards = 0
        try:
            sentences = self._sentences(text, language, system_prompt)
            prepared = [self._prepared([sentence], language, system_prompt) for sentence in sentences]
            sentence_streamer = SentenceStreamer(streamer, self.processor.layout, self._space, len(prepared))
            for inputs in prepared:
                if sentence_streamer.is_cancelled:
                    break
                output = self.model.generate(
                    **inputs, **self.options, streamer=sentence_streamer, return_dict_in_generate=True
                )
                num_forwards += output.num_forwards
                if self.processor.layout.vocabulary.eos_token_id != int(output.sequences[0, -1]):
                    break  # as `join_sentences` does
        finally:
            streamer.end()
        return ReadingOutput(num_forwards)

    def _sentences(self, text: str, language: str | None, system_prompt: str | None) -> list[str]:
        """Cut a text; numbers become words, but not where a system prompt leaves the language open."""
        text = self.processor.readable_text(text, language or (DEFAULT_LANGUAGE if system_prompt is None else None))
        return split_sentences(text) or [text]  # an empty text is refused with its prompt

    def _prepared(self, sentences: Sequence[str], language: str | None, system_prompt: str | None) -> BatchFeature:
        """Inputs of `generate` under which sentences are read word for word."""
        messages = [
            self.processor.messages("tts", text=sentence, language=language, system_prompt=system_prompt)
            for sentence in sentences
        ]
        return self.processor.prepare(messages, reply_texts=sentences).to(self.model.device)

    @property
    def _space(self) -> list[int]:
        with TOKENIZING:
            return self.processor.tokenizer.encode(" ", add_special_tokens=False)


def split_sentences(text: str, longest: tuple[int, int] = LONGEST_PART) -> list[str]:
    """
    Cut a text into parts that are read one by one: at ends of sentences and of lines, and where a sentence is longer
    than `longest`, after its last comma or else its last word within that length.

    Args:
        text (`str`): Any text.
        longest (`tuple[int, int]`, *optional*, defaults to `(25, 150)`): Most words and characters of a part; a longer
            word stays whole.

    Returns:
        `list[str]`: Parts without space around them; joined by spaces they have the words of the text.
    """
    parts = []
    for sentence in _SENTENCE_END.split(text.strip()):
        words = sentence.split()
        while words:
            lengths = itertools.accumulate(len(word) + 1 for word in words[: longest[0]])
            fitting = max(1, sum(length <= longest[1] + 1 for length in lengths))
            count = fitting
            if fitting < len(words):
                commas = [number for number, word in enumerate(words[:fitting], start=1) if word[-1] in ",:)"]
                count = commas[-1] if commas and commas[-1] > fitting // 2 else fitting
            parts.append(" ".join(words[:count]))
            words = words[count:]
    return parts


def join_sentences(layout: TttLayout, space: Sequence[int], replies: Sequence[Sequence[int]]) -> list[int]:
    """
    Join the replies of several sentences to one reply.

    Args:
        layout ([`TttLayout`]): How replies are written.
        space (`Sequence[int]`): The ids of the text between two sentences.
        replies (sequence of ids): Each sentence's ids after its prompt.

    Returns:
        `list[int]`: The last spans of all but the last sentence are ordinary spans, and only the last sentence ends the
        reply. It stops, unfinished, after a sentence that was cut off: the words after it would hide that some are
        missing.
    """
    joined: list[int] = []
    for reply in replies[:-1]:
        joined += within_a_reply(layout, reply)
        if layout.vocabulary.eos_token_id not in reply:
            return joined
        joined += space
    return [*joined, *replies[-1]]


def within_a_reply(layout: TttLayout, ids: Sequence[int]) -> list[int]:
    """Rewrite the ids of a sentence for its place before another one: ordinary spans, no end, no padding."""
    vocabulary = layout.vocabulary
    ordinary = {
        vocabulary.begin_last_audio_token_id: vocabulary.begin_audio_token_id,
        vocabulary.end_last_audio_token_id: vocabulary.end_audio_token_id,
    }
    left_out = (vocabulary.eos_token_id, vocabulary.pad_token_id)
    return [ordinary.get(token_id, token_id) for token_id in ids if token_id not in left_out]


class SentenceStreamer(BaseStreamer):
    """
    Hands the sentences of a text, generated one after the other, to a streamer as one reply.

    Args:
        streamer (`BaseStreamer`): Gets the ids of [`join_sentences`].
        layout ([`TttLayout`]): How replies are written.
        space (`Sequence[int]`): The ids of the text between two sentences.
        count (`int`): How many sentences there are.
    """

    def __init__(self, streamer: BaseStreamer, layout: TttLayout, space: Sequence[int], count: int):
        self.streamer, self.layout, self.space, self.remaining = streamer, layout, list(space), count
        self.expects_prompt = True
        self.has_passed_prompt = False
        if hasattr(streamer, "put_draft"):
            self.put_draft = streamer.put_draft

    @property
    def is_cancelled(self) -> bool:
        """Whether `generate` should stop."""
        return getattr(self.streamer, "is_cancelled", False)

    def put(self, value: torch.Tensor) -> None:
        """Take a sentence's prompt, then its ids."""
        if self.expects_prompt:
            self.expects_prompt = False
            self.streamer.put(torch.tensor(self.space) if self.has_passed_prompt else value)
            self.has_passed_prompt = True
        elif self.remaining == 1:
            self.streamer.put(value)
        elif ids := within_a_reply(self.layout, value.tolist()):
            self.streamer.put(torch.tensor(ids))

    def fail(self, error: BaseException) -> None:
        """Hand an exception to the streamer that can take it."""
        if hasattr(self.streamer, "fail"):
            self.streamer.fail(error)

    def end(self) -> None:
        """End a sentence; the caller ends the stream itself."""
        self.remaining -= 1
        self.expects_prompt = True
