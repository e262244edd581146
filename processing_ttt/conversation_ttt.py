"""
A conversation of several turns over one cache: earlier turns are not computed again.

A turn is two messages of a [`TttItemConversation`], which writes the prompts and keeps the cache.

Depends on a processor and on `generate`. Independent of waveforms and codes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from .item_conversation_ttt import TttItemConversation
from .processing_ttt import TttProcessor
from .reply_ttt import TttReply
from .streaming_ttt import GeneratesReplies, ReplyFeed, TttStreamer


class TttConversation:
    """
    Several turns with one model. Where they do not fit into its context, the oldest messages are left out of the
    prompt.

    Args:
        model (`TttForConditionalGeneration`): The model.
        processor (`TttProcessor`): Processor of the same checkpoint.
        system_prompt (`str`, *optional*): Replaces the processor's prompt of the task `chat`.
        generate_kwargs: Arguments of `generate` in every turn.

    Attributes:
        turns (`list[TttReply]`): The model's replies.
        messages ([`TttItemConversation`]): The same as messages: of each turn the user's and the model's.

    Example:

    ```python
    >>> conversation = TttConversation(model, processor)
    >>> conversation.say(audio="question.wav").text
    >>> conversation.say("And tomorrow?").text
    ```
    """

    def __init__(
        self,
        model: GeneratesReplies,
        processor: TttProcessor,
        system_prompt: str | None = None,
        **generate_kwargs: Any,
    ):
        self.model = model
        self.processor = processor
        self.messages = TttItemConversation(model, processor, system_prompt)
        self.generate_kwargs = generate_kwargs
        self.turns: list[TttReply] = []

    @property
    def ids(self) -> torch.Tensor:
        """Token ids of all turns, prompts and replies: a `torch.LongTensor` of shape `(1, length)`."""
        if not self.turns:
            return torch.zeros(1, 0, dtype=torch.long)
        *before, reply = self.messages.items
        return torch.tensor([[*self.messages.rendered(before), *reply.ids]])

    @property
    def output(self) -> Any:
        """What `generate` returned for the last turn, a `TttGenerateOutput`; `None` before the first."""
        return self.messages.output

    @property
    def system_prompt(self) -> str | None:
        """Replaces the processor's prompt of the task `chat`; may be set."""
        return self.messages.system_prompt

    @system_prompt.setter
    def system_prompt(self, system_prompt: str | None) -> None:
        self.messages.system_prompt = system_prompt

    def say(self, text: str | None = None, audio: Any = None, **generate_kwargs: Any) -> TttReply:
        """
        Take the user's turn, and generate the model's.

        Args:
            text (`str`, *optional*): The user's text.
            audio (*optional*): The user's audio, in any form that `load_audio` takes.
            generate_kwargs: Arguments of `generate` in this turn, which override those of the conversation.

        Returns:
            [`TttReply`].

        Raises:
            ValueError: If there is neither text nor audio, or the model's context is too short for one turn. The
                conversation is unchanged then.
        """
        options = self.generate_kwargs | generate_kwargs
        self._ask(text, audio)
        try:
            reply = self.messages.say(**options)
            streamer = options.get("streamer")
            if isinstance(streamer, ReplyFeed) and not streamer.is_whole:  # it was stopped: what was generated is kept
                reply = self.processor.decode_reply(self.messages.items[-1].ids)
        except BaseException:
            self._keep(len(self.turns))
            raise
        self.turns.append(reply)
        return reply

    def stream(
        self,
        text: str | None = None,
        audio: Any = None,
        drafts: bool = False,
        queue_size: int = 64,
        **generate_kwargs: Any,
    ) -> TttStreamer:
        """
        Take the user's turn, and stream the model's while it is generated: `say` in a thread of its own.

        The turn becomes part of the conversation when the stream ends or is closed. A turn that is closed early is
        kept as far as it was generated, one that fails is dropped. Begin no other turn before that.

        Args:
            text, audio, generate_kwargs: As for `say`.
            drafts (`bool`, defaults to `False`): Whether blocks of audio are events while they are denoised.
            queue_size (`int`, defaults to 64): Largest number of waiting events; beyond it `generate` waits.

        Returns:
            [`TttStreamer`]: As `processor.stream_reply` gives it, with the [`TttReply`] as its `output`.

        Example:

        ```python
        >>> with conversation.stream(audio="question.wav") as stream:
        ...     for event in stream:
        ...         print(event)
        ```
        """
        return TttStreamer(self.processor, drafts, queue_size).follow(partial(self.say, text, audio, **generate_kwargs))

    def add(self, reply: str | Sequence[int], text: str | None = None, audio: Any = None) -> None:
        """
        Take a turn of the user's and its reply as they are, without generating: for a conversation of the past.

        Args:
            reply (`str` or `Sequence[int]`): The reply's token ids, as a streamer or `generate` gave them; or its text
                alone, which is less than the model was trained to see after a turn with audio.
            text (`str`, *optional*): The user's text.
            audio (*optional*): The user's audio, in any form that `load_audio` takes.

        Raises:
            ValueError: If there is neither text nor audio, or the reply is empty.
        """
        if not reply:
            raise ValueError("A reply that was given before is empty: give its text or its token ids.")
        self._ask(text, audio)
        if isinstance(reply, str):
            item = self.messages.add("assistant", reply)
            item.ids = [*item.ids, self.processor.vocabulary.eos_token_id]
        else:
            item = self.messages.add("assistant")
            item.ids = list(reply)
        parsed = self.processor.layout.parse_reply(item.ids)
        rate = self.processor.codec_config.output_sampling_rate
        no_audio = np.zeros(0, dtype=np.float32)  # decoding it would cost time
        self.turns.append(TttReply(self.processor.decode_text(parsed.text_ids), no_audio, rate, parsed.finished))

    def fork(self) -> "TttConversation":
        """
        Begin another conversation with the same turns. It has no cache yet: its first turn computes all of them.

        Returns:
            [`TttConversation`].
        """
        other = TttConversation(self.model, self.processor, self.system_prompt, **self.generate_kwargs)
        other.messages.items, other.turns = [replace(item) for item in self.messages.items], list(self.turns)
        return other

    def rewind(self, turns: int = 1) -> None:
        """
        Remove the last turns, of user and model.

        Args:
            turns (`int`, *optional*, defaults to 1): How many.

        Raises:
            ValueError: If there are fewer turns.
        """
        if not 0 <= turns <= len(self.turns):
            raise ValueError(f"The conversation has {len(self.turns)} turns, {turns} cannot be taken back.")
        self._keep(len(self.turns) - turns)

    def truncate(self, seconds: float) -> TttReply:
        """
        Cut the last reply where its listener interrupted it, as [`TttItemConversation.truncate`] does: its last word is
        the last one that was played at least in part. The next turn goes on from there.

        Args:
            seconds (`float`): How much of the reply's audio was played.

        Returns:
            [`TttReply`]: What is left, also in `turns`; without text and audio if nothing was played.

        Raises:
            ValueError: If there is no turn.
        """
        if not self.turns:
            raise ValueError("The conversation has no turn that could be cut.")
        item = self.messages.items[-1]
        length = len(item.ids)
        self.messages.truncate(item, seconds)
        if len(item.ids) < length:
            self.turns[-1] = self.processor.decode_reply(item.ids)
        return self.turns[-1]

    def _ask(self, text: str | None, audio: Any) -> None:
        """Add the user's message."""
        self.processor.messages("chat", text, audio)  # refuses what is missing
        self.messages.add("user", text, None if audio is None else self.processor.encode_audio(audio))

    def _keep(self, turns: int) -> None:
        """Keep the first turns only."""
        del self.turns[turns:], self.messages.items[2 * turns :]
