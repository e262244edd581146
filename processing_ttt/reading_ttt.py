"""
Read a given text aloud: the text of the reply is the given one, token for token, at any length.

    text ── spoken_text, split_sentences ──► sentences ── generate, each under ExactTextLogitsProcessor ──► ids
    ids of the sentences ── join_sentences, or SentenceStreamer as they arrive ──► ids of one reply

[`TextReader`] does all of it.

The text is fixed; where audio begins is the model's choice, so that each model keeps the layout of its training
(a span after each word, or 26 codes after 13 tokens).

Depends on the processor and on `generate`. Independent of waveforms and of how blocks of audio are denoised.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from .layout_ttt import TttLayout
from .processing_ttt import TttProcessor
from .reply_ttt import TttReply
from .spoken_text_ttt import spoken_text
from .streaming_ttt import GeneratesReplies

LONGEST_SENTENCE = 25  # words
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
        sentences = list(chain.from_iterable(cut))
        replies: list[list[int]] = []
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            chosen = sentences[start : start + SENTENCES_AT_ONCE]
            inputs, options = self._prepared(chosen, language, system_prompt)
            ids = self.model.generate(**inputs, **options)
            replies += ids[:, inputs["input_ids"].shape[1] :].tolist()
        rest = iter(replies)
        joined = (join_sentences(self.processor.layout, self._space, [next(rest) for _ in text]) for text in cut)
        return [self.processor.decode_reply(torch.tensor(ids)) for ids in joined]

    def stream_to(
        self, streamer: Any, text: str, language: str | None = None, system_prompt: str | None = None
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
            told = SentenceStreamer(streamer, self.processor.layout, self._space, len(prepared))
            for inputs, options in prepared:
                if told.is_cancelled:
                    break
                output = self.model.generate(**inputs, **options, streamer=told, return_dict_in_generate=True)
                num_forwards += output.num_forwards
                if self.processor.layout.vocabulary.eos_token_id != int(output.sequences[0, -1]):
                    break  # as `join_sentences` does
        finally:
            streamer.end()
        return ReadingOutput(num_forwards)

    def _sentences(self, text: str, language: str | None, system_prompt: str | None) -> list[str]:
        """Cut a text; numbers become words, but not where a system prompt leaves the language open."""
        if language is not None or system_prompt is None:
            text = spoken_text(text, language)
        return split_sentences(text) or [text]  # an empty text is refused with its prompt

    def _prepared(
        self, sentences: Sequence[str], language: str | None, system_prompt: str | None
    ) -> tuple[Any, dict[str, Any]]:
        """Inputs of `generate` for some sentences, and its options under which they are read word for word."""
        messages = [
            self.processor.messages("tts", text=sentence, language=language, system_prompt=system_prompt)
            for sentence in sentences
        ]
        inputs = self.processor.prepare(messages).to(self.model.device)
        texts = [self._text_ids(sentence) for sentence in sentences]
        exact = ExactTextLogitsProcessor(self.processor.layout, inputs["input_ids"], texts)
        others = self.options.get("logits_processor") or []
        return inputs, self.options | {"logits_processor": LogitsProcessorList([exact, *others])}

    def _text_ids(self, text: str) -> list[int]:
        return self.processor.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    @property
    def _space(self) -> list[int]:
        return self._text_ids(" ")


class ExactTextLogitsProcessor(LogitsProcessor):
    """
    Allows only ids that lead to the given texts, each followed by its audio.

    | after | allowed |
    |---|---|
    | a token of the text, more text follows | the next token, or the begin of a span |
    | the end of a span, more text follows | the next token |
    | the last token of the text | the begin of the last span |
    | the end of the last span | the end of the reply |

    The state is read from the token ids of each call, so that a batch, a stream and decoding without a cache agree.

    Args:
        layout ([`TttLayout`]): How replies are written.
        prompts (`torch.LongTensor` of shape `(batch, prompt)`): The prompts, padded as `generate` gets them.
        texts (sequence of `list[int]`): The token ids that each prompt's reply must have as its text.

    Raises:
        ValueError: There are not as many texts as prompts, a text is empty or holds ids that are no text, or two equal
            prompts ask for different texts.
    """

    def __init__(self, layout: TttLayout, prompts: torch.Tensor, texts: Sequence[list[int]]):
        if len(prompts) != len(texts):
            raise ValueError(f"{len(prompts)} prompts have {len(texts)} texts to be read aloud: give one for each.")
        if not all(texts):
            raise ValueError("A text to be read aloud is empty: give some words.")
        self.layout = layout
        self.prompt_length = prompts.shape[1]
        self.texts: dict[tuple[int, ...], list[int]] = {}
        for prompt, text in zip(prompts.tolist(), texts, strict=True):
            layout.build_reply(text)  # checks its ids
            if self.texts.setdefault(tuple(prompt), text) != text:
                raise ValueError("Two equal prompts are to be read aloud as different texts.")

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """
        Mask the scores of the next token ids.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`): Prompts and replies so far.
            scores (`torch.FloatTensor` of shape `(batch, vocabulary)`): Scores of the next token ids.

        Returns:
            `torch.FloatTensor` of shape `(batch, vocabulary)`: -inf where an id is not allowed.
        """
        processed = torch.full_like(scores, -torch.inf)
        for index, ids in enumerate(input_ids.tolist()):
            text = self.texts[tuple(ids[: self.prompt_length])]
            allowed = self.allowed_ids(text, ids[self.prompt_length :])
            processed[index, allowed] = scores[index, allowed]
        return processed

    def allowed_ids(self, text: list[int], reply: list[int]) -> list[int]:
        """
        List the token ids that may follow.

        Args:
            text (`list[int]`): The whole text.
            reply (`list[int]`): The reply so far, all spans closed.

        Returns:
            `list[int]`: One or two ids.
        """
        vocabulary = self.layout.vocabulary
        parsed = self.layout.parse_reply(reply)
        written = len(parsed.text_ids)
        if written < len(text):
            follows_text = bool(written) and reply[-1] == parsed.text_ids[-1]
            return [text[written]] + ([vocabulary.begin_audio_token_id] if follows_text else [])
        has_last_span = bool(parsed.spans) and parsed.spans[-1].is_last
        return [vocabulary.eos_token_id if has_last_span else vocabulary.begin_last_audio_token_id]


def split_sentences(text: str, longest: int = LONGEST_SENTENCE) -> list[str]:
    """
    Cut a text into parts that are read one by one: at ends of sentences and of lines, and where a sentence is longer
    than `longest` words, after its last comma or else its last word within that length.

    Args:
        text (`str`): Any text.
        longest (`int`, *optional*, defaults to 25): Most words of a part.

    Returns:
        `list[str]`: Parts without space around them; joined by spaces they have the words of the text.
    """
    parts = []
    for sentence in _SENTENCE_END.split(text.strip()):
        words = sentence.split()
        while words:
            count = min(len(words), longest)
            if len(words) > longest:
                commas = [number for number, word in enumerate(words[:longest]) if word[-1] in ",:)"]
                count = commas[-1] + 1 if commas and commas[-1] >= longest // 2 else longest
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

    def __init__(self, streamer: Any, layout: TttLayout, space: Sequence[int], count: int):
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
