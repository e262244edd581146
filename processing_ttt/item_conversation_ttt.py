"""
A conversation as a list of messages that can be added, cut and removed; the cache follows.

    system │ user │ assistant │ user │ ...      items, each with its token ids
    ───────┴──────┴───────────┘                 what the cache has and the next prompt begins with: not computed again

Depends on a processor and on `generate`. Independent of waveforms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .processing_ttt import TttProcessor
from .reply_parser_ttt import ReplyParser
from .reply_ttt import TttReply
from .streaming_ttt import GeneratesReplies, ReplyFeed
from .vocabulary_ttt import BEGIN_OF_MESSAGE, END_OF_MESSAGE

ROUNDING_SECONDS = 0.02  # by which a client may round the time that it played


@dataclass(eq=False)
class TttItem:
    """
    One message.

    Args:
        role (`str`): `system`, `user` or `assistant`.
        ids (`list[int]`): Token ids of its content.
        is_open (`bool`): Whether it is a reply that is not generated yet.
    """

    role: str
    ids: list[int] = field(default_factory=list)
    is_open: bool = False


@dataclass(frozen=True)
class TttUsage:
    """
    Numbers of token ids.

    Args:
        text (`int`): Of text, markers included.
        audio (`int`): Of audio, end markers included.
    """

    text: int
    audio: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.text + self.audio


class TttItemConversation:
    """
    Messages with one model, which may be changed between two replies.

    The next prompt is written from the messages that there are, so a reply after a change has the token ids of a
    conversation that never was otherwise. Where a prompt and the longest reply do not fit into the model's context, the
    oldest messages are left out of it.

    Args:
        model (`TttForConditionalGeneration`): The model.
        processor (`TttProcessor`): Processor of the same checkpoint.
        system_prompt (`str`, *optional*): Replaces the processor's prompt of the task `chat`, or of `text` in replies
            without audio.

    Attributes:
        items (`list[TttItem]`): The messages.
        instructions (`str`, *optional*): Replaces the system prompt of the next replies.
        has_audio (`bool`): Whether the next replies have audio.
        output (`TttGenerateOutput`, *optional*): What `generate` returned for the last reply.
        prompt_usage, cached_usage, reply_usage ([`TttUsage`], *optional*): Token ids of the last prompt, of its cached
            beginning, and of the last reply.

    Example:
        ```python
        conversation = TttItemConversation(model, processor)
        conversation.add("user", text="What is two plus two?")
        reply = conversation.say()
        conversation.truncate(conversation.items[-1], seconds=0.5)
        ```
    """

    def __init__(self, model: GeneratesReplies, processor: TttProcessor, system_prompt: str | None = None):
        self.model = model
        self.processor = processor
        self.system_prompt = system_prompt
        self.items: list[TttItem] = []
        self.instructions: str | None = None
        self.has_audio = True
        self.output: Any = None
        self.prompt_usage: TttUsage | None = None
        self.cached_usage: TttUsage | None = None
        self.reply_usage: TttUsage | None = None
        self._ids: list[int] = []  # whose first columns are in the cache
        self._cache: Any = None

    def add(
        self,
        role: str,
        text: str | None = None,
        codes: Sequence[int] | None = None,
        after: TttItem | None = None,
        is_first: bool = False,
    ) -> TttItem:
        """
        Add a message.

        Args:
            role (`str`): `system`, `user` or `assistant`.
            text (`str`, *optional*): Its text; markers in it are plain text.
            codes (`Sequence[int]`, *optional*): The codes of a user's audio, after the text.
            after ([`TttItem`], *optional*): The message before it; the last one by default.
            is_first (`bool`, defaults to `False`): Whether it becomes the first one.

        Returns:
            [`TttItem`].
        """
        ids = self._encode(text) if text else []
        if codes is not None:
            ids += self.processor.layout.audio_prompt(codes)
        index = 0 if is_first else len(self.items) if after is None else self.items.index(after) + 1
        item = TttItem(role, ids)
        self.items.insert(index, item)
        return item

    def begin_reply(self) -> TttItem:
        """Reserve the place of a reply, after the messages so far; the next `say` generates it."""
        item = TttItem("assistant", is_open=True)
        self.items.append(item)
        return item

    def remove(self, item: TttItem) -> None:
        """Remove a message."""
        self.items.remove(item)

    def truncate(self, item: TttItem, seconds: float) -> str:
        """
        Cut a reply after the last span that was played completely, text and audio.

        Args:
            item ([`TttItem`]): A reply.
            seconds (`float`): How much of its audio was played.

        Returns:
            `str`: The text that is left.
        """
        parser, kept = ReplyParser(self.processor.vocabulary), 0
        most = (seconds + ROUNDING_SECONDS) * self.processor.codec_config.frame_rate
        for index, token_id in enumerate(item.ids):
            num_spans = len(parser.spans)
            parser.push([token_id])
            if len(parser.spans) > num_spans and parser.spans[-1].closed and len(parser.codes) <= most:
                kept = index + 1
        item.ids = item.ids[:kept]
        return self.text_of(item)

    def text_of(self, item: TttItem) -> str:
        """Return the text of a message."""
        return self.processor.decode_text(self.processor.layout.parse_reply(item.ids).text_ids)

    def say(self, text: None = None, audio: None = None, **generate_kwargs: Any) -> TttReply:
        """
        Generate the reply whose place `begin_reply` reserved, or one after all messages.

        Args:
            text, audio: None: the question is among the messages.
            generate_kwargs: Arguments of `generate`.

        Returns:
            [`TttReply`]: Also the content of its message. If it fails, the message stays empty.

        Raises:
            ValueError: If the last message and the longest reply do not fit into the model's context.
        """
        item = next((item for item in self.items if item.is_open), None) or self.begin_reply()
        options = {"return_dict_in_generate": True} | generate_kwargs
        if not self.has_audio:
            vocabulary = self.processor.vocabulary
            options["suppress_tokens"] = [vocabulary.begin_audio_token_id, vocabulary.begin_last_audio_token_id]
        prompt = self.prompt_ids(item, options.get("max_new_tokens"))
        cache, num_cached = self._shared_cache(prompt)
        self.prompt_usage, self.cached_usage = self._usage(prompt), self._usage(prompt[:num_cached])
        input_ids = torch.tensor([prompt], device=self.model.device)
        try:
            out = self.model.generate(
                input_ids=input_ids, attention_mask=torch.ones_like(input_ids), cache=cache, **options
            )
        finally:
            item.is_open = False
        self._ids, self._cache, self.output = out.sequences[0].tolist(), out.cache, out
        reply_ids = self._ids[len(prompt) :]
        self.reply_usage = self._usage(reply_ids)
        item.ids = self._closed(reply_ids)
        streamer = options.get("streamer")
        if isinstance(streamer, ReplyFeed):
            return streamer.decoder.reply()  # of a stream that was stopped, as far as it came
        return self.processor.decode_reply(reply_ids)

    def prompt_ids(self, reply: TttItem, max_new_tokens: int | None = None) -> list[int]:
        """
        Write the prompt of a reply.

        Args:
            reply ([`TttItem`]): Its place among the messages.
            max_new_tokens (`int`, *optional*): Longest reply; the checkpoint's by default.

        Returns:
            `list[int]`: The system prompt, the messages before the reply, and the begin of the reply.
        """
        task = "chat" if self.has_audio else "text"
        given = self.instructions if self.instructions is not None else self.system_prompt
        system = self.processor.messages(task, text="?", system_prompt=given)[0]["content"]
        first = self._message("system", self._encode(str(system)))
        messages = [self._message(item.role, item.ids) for item in self.items[: self.items.index(reply)]]
        begin = self._marked(f"{BEGIN_OF_MESSAGE}assistant\n")
        config: Any = self.model
        longest = max_new_tokens or config.generation_config.max_new_tokens or 0
        room = config.config.text_config.max_position_embeddings - longest - len(first) - len(begin)
        while len(messages) > 1 and sum(map(len, messages)) > room:
            del messages[0]
        return [*first, *(token_id for message in messages for token_id in message), *begin]

    def _message(self, role: str, content: list[int]) -> list[int]:
        return [*self._marked(f"{BEGIN_OF_MESSAGE}{role}\n"), *content, *self._marked(f"{END_OF_MESSAGE}\n")]

    def _marked(self, text: str) -> list[int]:
        return self.processor.tokenizer.encode(text, add_special_tokens=False)

    def _encode(self, text: str) -> list[int]:
        return self.processor.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def _closed(self, reply_ids: list[int]) -> list[int]:
        """Leave out the end of the reply, and close a span in which it was cut off."""
        vocabulary = self.processor.vocabulary
        if vocabulary.eos_token_id in reply_ids:
            return reply_ids[: reply_ids.index(vocabulary.eos_token_id)]
        parser = ReplyParser(vocabulary)
        parser.push(reply_ids)
        if parser.open_codes is None:
            return reply_ids
        end = vocabulary.end_last_audio_token_id if parser.open_is_last else vocabulary.end_audio_token_id
        return [*reply_ids, end]

    def _shared_cache(self, prompt: list[int]) -> tuple[Any, int]:
        """Crop the cache to the beginning that it shares with a prompt, and take it."""
        cache, self._cache = self._cache, None
        if cache is None or not cache.layers:
            return None, 0
        old, length = self._ids[: cache.get_seq_length()], 0
        while length < min(len(old), len(prompt) - 1) and old[length] == prompt[length]:
            length += 1
        length = self._outside_a_span(length, old, prompt)
        for layer in cache.layers:
            if (present := layer.get_seq_length()) > length:
                layer.crop(length - present)
        return (cache, length) if length else (None, 0)

    def _outside_a_span(self, length: int, *sequences: list[int]) -> int:
        """Move a cut that is inside a span of some sequence to its begin: all positions of a span see each other."""
        first_audio_id = self.processor.vocabulary.audio_token_start_id
        while any(
            0 < length < len(ids) and ids[length - 1] >= first_audio_id and ids[length] >= first_audio_id
            for ids in sequences
        ):
            length -= 1
        return length

    def _usage(self, ids: list[int]) -> TttUsage:
        audio = sum(token_id >= self.processor.vocabulary.audio_token_start_id for token_id in ids)
        return TttUsage(len(ids) - audio, audio)


__all__ = ["TttItem", "TttItemConversation", "TttUsage"]
