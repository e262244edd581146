"""
Messages with one model that can be added, cut and removed; the cache follows.

    system │ user │ assistant │ user │ ...      items, which the chat template turns into the next prompt
    ───────┴──────┴───────────┘                 what the cache has and that prompt begins with: not computed again

Depends on a processor and on `generate`. Independent of waveforms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from .context_ttt import check_audio_fits
from .processing_ttt import TttProcessor
from .reply_parser_ttt import ReplyParser
from .reply_ttt import TttReply
from .streaming_ttt import GeneratesReplies, ReplyFeed
from .tasks_ttt import AudioPart, Message, TextPart

ROUNDING_SECONDS = 0.001  # by which a client may round the time that it played
ANY_PROMPT = "."  # a system prompt that takes no time, where only messages count


@dataclass(eq=False)
class TttItem:
    """
    One message.

    Args:
        role (`str`): `system`, `user` or `assistant`.
        text (`str`, *optional*): Its text, unless it is the assistant's.
        codes (`list[int]`, *optional*): The codes of a user's audio, after the text.
        ids (`list[int]`): Token ids of the assistant's, as `generate` gave them.
        is_open (`bool`): Whether it is a reply that is not generated yet.
    """

    role: str
    text: str | None = None
    codes: list[int] | None = None
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

    The chat template writes the next prompt from the messages that there are, so a reply after a change has the token
    ids of a conversation that never was otherwise. Where a prompt and the longest reply do not fit into the model's
    context, the oldest messages are left out of it.

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
        self._cached_ids: list[int] = []  # of the cache, and perhaps more behind them
        self._cache: DynamicCache | None = None

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
            [`TttItem`]: Whose `ids` may be set, if it is a reply whose token ids are known.
        """
        if role == "assistant":
            ids = self.processor.tokenizer.encode(text or "", add_special_tokens=False, split_special_tokens=True)
            item = TttItem(role, ids=ids)
        else:
            if role == "user":
                text = self.processor.as_input(text, self.system_prompt)
            item = TttItem(role, text, None if codes is None else list(codes))
        index = 0 if is_first else len(self.items) if after is None else self.items.index(after) + 1
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
        Cut a reply where its listener interrupted it: its last word is the last one that was played at least in part.

        A word counts from the first sample of its span of audio on. Text and audio behind that span are removed, and
        nothing is left if nothing was played. In the paper's fixed layout text runs ahead of its audio: there the text
        before the span stays, too.

        Args:
            item ([`TttItem`]): A reply.
            seconds (`float`): How much of its audio was played.

        Returns:
            `str`: The text that is left.
        """
        item.ids = item.ids[: self._num_played(item.ids, seconds)]
        return self.text_of(item)

    def _num_played(self, reply_ids: Sequence[int], seconds: float) -> int:
        """Count the token ids of a reply up to the end of the span that was being played at a time."""
        vocabulary, frame_rate = self.processor.vocabulary, self.processor.codec_config.frame_rate
        if seconds <= ROUNDING_SECONDS:
            return 0
        if sum(map(vocabulary.is_code, reply_ids)) <= (seconds + ROUNDING_SECONDS) * frame_rate:
            return len(reply_ids)
        num_codes = 0
        for index, token_id in enumerate(reply_ids):
            num_codes += vocabulary.is_code(token_id)
            is_end = token_id in (vocabulary.end_audio_token_id, vocabulary.end_last_audio_token_id)
            if is_end and num_codes >= (seconds - ROUNDING_SECONDS) * frame_rate:
                return index + 1
        return len(reply_ids)

    def text_of(self, item: TttItem) -> str:
        """Return the text of a message."""
        if item.role != "assistant":
            return item.text or ""
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
        try:
            prompt = self.prompt_ids(item, options.get("max_new_tokens"))
            out = self._generate(prompt, options)
        finally:
            item.is_open = False
        self.output, item.ids = out, out.sequences[0, len(prompt) :].tolist()
        self.reply_usage = self._usage(item.ids)
        streamer = options.get("streamer")
        if isinstance(streamer, ReplyFeed):
            return streamer.decoder.reply()  # of a stream that was stopped, as far as it came
        return self.processor.decode_reply(item.ids)

    def _generate(self, prompt: list[int], options: dict[str, Any]) -> Any:
        input_ids = torch.tensor([prompt], device=self.model.device)
        check_audio_fits(self.model, self.processor, input_ids, **options)
        cache, num_cached = self._shared_cache(prompt, len(prompt) - 1)
        self.prompt_usage, self.cached_usage = self._usage(prompt), self._usage(prompt[:num_cached])
        try:
            out = self.model.generate(
                input_ids=input_ids, attention_mask=torch.ones_like(input_ids), cache=cache, **options
            )
        except BaseException:  # the cache grew in place
            self._cache = None if cache is None else _cropped(cache, num_cached)
            raise
        self._cached_ids, self._cache = out.sequences[0].tolist(), out.cache
        return out

    def prefill(self, codes: Sequence[int], is_whole: bool = False, max_new_tokens: int | None = None) -> None:
        """
        Compute keys and values of the next prompt while its question still arrives, as far as they are final: up to
        where the question's audio begins or, under block-causal attention, up to its last whole block. The next reply
        uses what its prompt begins with, and discards the rest.

        Args:
            codes (`Sequence[int]`): The first codes of a user's audio, which will be the next message.
            is_whole (`bool`, defaults to `False`): Whether they are probably all; then the whole prompt is computed.
            max_new_tokens (`int`, *optional*): Longest reply; the checkpoint's by default.
        """
        prompt = self._fitted([*self.items, TttItem("user", codes=list(codes))], max_new_tokens)
        if len(prompt) > self.room(max_new_tokens):
            return  # `say` states by how much
        num_final = len(prompt) - 1
        if not is_whole:
            begin = len(prompt) - prompt[::-1].index(self.processor.vocabulary.begin_audio_token_id)
            num_final = self._begin_of_block(prompt, begin + len(codes))
        cache, num_cached = self._shared_cache(prompt, num_final)
        if num_cached < num_final:
            model: Any = self.model
            try:
                cache = model.prefill(torch.tensor([prompt[:num_final]]), cache)
            except BaseException:  # the cache grew in place
                self._cache = None if cache is None else _cropped(cache, num_cached)
                raise
        self._cached_ids, self._cache = prompt[:num_final], cache

    def prompt_ids(self, reply: TttItem, max_new_tokens: int | None = None) -> list[int]:
        """
        Write the prompt of a reply.

        Args:
            reply ([`TttItem`]): Its place among the messages.
            max_new_tokens (`int`, *optional*): Longest reply; the checkpoint's by default.

        Returns:
            `list[int]`: The system prompt, the messages before the reply, and the begin of the reply.
        """
        return self._fitted(self.items[: self.items.index(reply)], max_new_tokens)

    def _fitted(self, items: Sequence[TttItem], max_new_tokens: int | None) -> list[int]:
        """Write messages, as many of the last ones as fit into the context beside the longest reply."""
        room, ids = self.room(max_new_tokens), self.rendered(items)
        if len(ids) > room:
            frame = len(self.rendered([]))
            lengths = [self.length_of(item) for item in items]
            while len(lengths) > 1 and frame + sum(lengths) > room:
                del lengths[0]
            ids = self.rendered(items[len(items) - len(lengths) :])
        return ids

    def room(self, max_new_tokens: int | None = None) -> int:
        """
        Count the token ids that the longest prompt may have.

        Args:
            max_new_tokens (`int`, *optional*): Longest reply; the checkpoint's by default.

        Returns:
            `int`: What the reply leaves of the model's context.
        """
        model: Any = self.model
        longest = max_new_tokens or model.generation_config.max_new_tokens or 0
        return model.config.text_config.max_position_embeddings - longest

    def rendered(self, items: Sequence[TttItem]) -> list[int]:
        """
        Write messages as the chat template has them.

        Args:
            items (`Sequence[TttItem]`): The messages.

        Returns:
            `list[int]`: The system prompt, the messages, and the begin of a reply.
        """
        return self._rendered(items, self.instructions if self.instructions is not None else self.system_prompt)

    def length_of(self, item: TttItem) -> int:
        """
        Count the token ids of a message, whatever the system prompt is.

        Args:
            item ([`TttItem`]): The message.

        Returns:
            `int`: By how many a prompt with it is longer.
        """
        return len(self._rendered([item], ANY_PROMPT)) - len(self._rendered([], ANY_PROMPT))

    def _rendered(self, items: Sequence[TttItem], system_prompt: str | None) -> list[int]:
        messages = self.processor.messages("chat" if self.has_audio else "text", "?", system_prompt=system_prompt)[:1]
        messages += [_as_message(item) for item in items]
        codes = [item.codes for item in items if item.codes is not None]
        replies = [self._closed(item.ids) for item in items if item.role == "assistant"]
        return self.processor.prompt_ids(messages, codes, replies)

    def _closed(self, reply_ids: Sequence[int]) -> list[int]:
        """Leave out the end of a reply, and close a span in which it was cut off."""
        vocabulary, ids = self.processor.vocabulary, list(reply_ids)
        if vocabulary.eos_token_id in ids:
            return ids[: ids.index(vocabulary.eos_token_id)]
        parser = ReplyParser(vocabulary)
        parser.push(ids)
        if parser.open_codes is None:
            return ids
        return [*ids, vocabulary.end_last_audio_token_id if parser.open_is_last else vocabulary.end_audio_token_id]

    def _shared_cache(self, prompt: list[int], most: int) -> tuple[DynamicCache | None, int]:
        """Crop the cache to the beginning that it shares with a prompt, of at most so many positions, and take it."""
        cache, self._cache = self._cache, None
        if cache is None or not cache.layers:
            return None, 0
        old, length = self._cached_ids[: cache.get_seq_length()], 0
        while length < min(len(old), most) and old[length] == prompt[length]:
            length += 1
        if any(self._is_inside_a_span(length, ids) for ids in (old, prompt)):
            length = self._begin_of_block(prompt, length)
        return (_cropped(cache, length), length) if length else (None, 0)

    def _is_inside_a_span(self, length: int, ids: Sequence[int]) -> bool:
        first_audio_id = self.processor.vocabulary.audio_token_start_id
        return 0 < length < len(ids) and ids[length - 1] >= first_audio_id and ids[length] >= first_audio_id

    def _begin_of_block(self, ids: Sequence[int], length: int) -> int:
        """
        Move a cut that is inside a span to its begin or, under block-causal attention, to the begin of its block: all
        positions of a span, or block, see each other.
        """
        model: Any = self.model
        begin, first_audio_id = length, self.processor.vocabulary.audio_token_start_id
        while begin and ids[begin - 1] >= first_audio_id:
            begin -= 1
        block_length = model.config.span_block_length
        return length - (length - begin) % block_length if block_length else begin

    def _usage(self, ids: Sequence[int]) -> TttUsage:
        audio = sum(token_id >= self.processor.vocabulary.audio_token_start_id for token_id in ids)
        return TttUsage(len(ids) - audio, audio)


def _as_message(item: TttItem) -> Message:
    """Write a message for the chat template; the token ids of audio and of replies come in afterwards."""
    if item.role == "assistant":
        return {"role": item.role, "content": ""}
    content: list[TextPart | AudioPart] = [] if item.text is None else [{"type": "text", "text": item.text}]
    if item.codes is not None:
        content.append({"type": "audio", "audio": None})
    return {"role": item.role, "content": content}


def _cropped(cache: DynamicCache, length: int) -> DynamicCache:
    """Shorten a cache. A forward pass that failed between two layers leaves the first ones longer than the others."""
    lengths = [layer.get_seq_length() for layer in cache.layers]
    kept = min([length, *lengths])
    for layer, present in zip(cache.layers, lengths, strict=True):
        if present > kept:
            layer.crop(kept - present)
    return cache


__all__ = ["TttItem", "TttItemConversation", "TttUsage"]
