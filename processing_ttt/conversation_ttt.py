"""
A conversation of several turns that is computed once: what was said stays in the cache.

Knows a processor, and of the model only its `generate`. Knows no ids but those that `generate` gave back: a reply
that was cut and tokenized again could become other ids, and the cache would no longer belong to them.
"""

from functools import partial
from typing import Any

import torch

from .reply_ttt import TttReply
from .streaming_ttt import ReplyFeed, TttStreamer


class TttConversation:
    """
    Talks with one model, turn by turn.

    Args:
        model (`TttForConditionalGeneration`): Generates.
        processor (`TttProcessor`): Of the same checkpoint.
        system_prompt (`str`, *optional*): Instead of the processor's prompt for the task `chat`.
        generate_kwargs: Options of every turn, for `generate`.

    Attributes:
        ids (`torch.LongTensor` of shape `(1, length)`): Everything said so far, prompts and replies.
        turns (`list[TttReply]`): The model's replies.
        output (`TttGenerateOutput`, *optional*): What `generate` gave for the last turn that was taken.

    Example:

    ```python
    >>> conversation = TttConversation(model, processor)
    >>> conversation.say(audio="question.wav").text
    >>> conversation.say("And tomorrow?").text
    ```
    """

    def __init__(self, model: Any, processor: Any, system_prompt: str | None = None, **generate_kwargs: Any):
        self.model = model
        self.processor = processor
        self.system_prompt = system_prompt
        self.generate_kwargs = generate_kwargs
        self.ids = torch.zeros(1, 0, dtype=torch.long)
        self.turns: list[TttReply] = []
        self.output: Any = None
        self._ends = [0]  # length of `ids` after each turn
        self._cache: Any = None

    def say(self, text: str | None = None, audio: Any = None, **generate_kwargs: Any) -> TttReply:
        """
        Take the user's turn, and give the model's.

        Args:
            text (`str`, *optional*): What the user writes.
            audio (*optional*): What the user says, in any form that `load_audio` takes.
            generate_kwargs: Options of this turn, over those of the conversation; `streamer` among them.

        Returns:
            [`TttReply`].

        Raises:
            ValueError: if there is neither text nor audio, or the model's context is too short for one more turn. The
            conversation is then
                as it was before.
        """
        prompt = torch.cat([self.ids, self._continuation(text, audio)], dim=1).to(self.model.device)
        options = self.generate_kwargs | generate_kwargs | {"return_dict_in_generate": True}
        try:
            out = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                cache=self._cache,
                **options,
            )
            streamer = options.get("streamer")
            if isinstance(streamer, ReplyFeed) and streamer.is_whole:  # it told all there is: no second decoding
                reply = streamer.decoder.reply()
            else:
                reply = self.processor.decode_reply(out.sequences[0, prompt.shape[1] :])
        except BaseException:  # the cache has grown in place
            self._crop(self._ends[-1])
            raise
        self.output = out
        self.ids = out.sequences.cpu()
        self._cache = out.cache
        self._ends.append(self.ids.shape[1])
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
        Take the user's turn, and give the model's while it is generated: `say` in a thread of its own.

        The turn is part of the conversation when the stream is over or closed. One that was closed early stays as far
        as it came, one that failed leaves no trace. Begin no other turn before that.

        Args:
            text, audio, generate_kwargs: As for `say`.
            drafts (`bool`, defaults to `False`): Whether blocks of sound are shown while they are denoised.
            queue_size (`int`, defaults to 64): Most events that wait for the consumer; when there are more,
                `generate` waits.

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

    def fork(self) -> "TttConversation":
        """
        Begin another conversation that knows what was said so far, and goes on alone. It has no cache yet: its first
        turn runs it all.

        Returns:
            [`TttConversation`].
        """
        other = TttConversation(self.model, self.processor, self.system_prompt, **self.generate_kwargs)
        other.ids, other.turns, other._ends = self.ids.clone(), list(self.turns), list(self._ends)
        return other

    def rewind(self, turns: int = 1) -> None:
        """
        Forget the last turns, of user and model.

        Args:
            turns (`int`, *optional*, defaults to 1): How many.

        Raises:
            ValueError: if there are not as many.
        """
        if not 0 <= turns <= len(self.turns):
            raise ValueError(f"The conversation has {len(self.turns)} turns, {turns} cannot be taken back.")
        kept = len(self.turns) - turns
        self.turns, self._ends = self.turns[:kept], self._ends[: kept + 1]
        self.ids = self.ids[:, : self._ends[-1]]
        self._crop(self._ends[-1])

    def _crop(self, length: int) -> None:
        if self._cache is None:
            return
        # A forward that ended between two layers leaves the first ones longer than the others.
        lengths = [layer.get_seq_length() for layer in self._cache.layers]
        kept = min([length, *lengths])
        for layer, present in zip(self._cache.layers, lengths, strict=True):
            if present > kept:
                layer.crop(kept - present)

    def _continuation(self, text: str | None, audio: Any) -> torch.Tensor:
        """Write the ids that follow what was said so far, up to where the reply begins."""
        messages = self.processor.messages("chat", text, audio, system_prompt=self.system_prompt)
        if not self.turns:
            return self._tokenize(messages)
        # The template frames a turn: what it writes behind an empty reply stands behind the real one too.
        asked = [messages[0], {"role": "user", "content": ""}]
        before = self._tokenize(asked)
        after = self._tokenize([*asked, {"role": "assistant", "content": ""}, messages[-1]])
        behind = after[:, before.shape[1] :]
        return self._without_repeated_end(behind)

    def _tokenize(self, messages: list[dict[str, Any]]) -> torch.Tensor:
        return self.processor.prepare(messages)["input_ids"]

    def _without_repeated_end(self, behind: torch.Tensor) -> torch.Tensor:
        """Drop the end of the reply if the reply wrote it itself; close its open span if it was cut there."""
        vocabulary = self.processor.vocabulary
        ends = {
            vocabulary.begin_audio_token_id: vocabulary.end_audio_token_id,
            vocabulary.begin_last_audio_token_id: vocabulary.end_last_audio_token_id,
        }
        last = int(self.ids[0, -1])
        if last == int(behind[0, 0]):
            return behind[:, 1:]
        if vocabulary.is_code(last) or last in ends:
            opened = next(token_id for token_id in reversed(self.ids[0].tolist()) if token_id in ends)
            return torch.cat([torch.tensor([[ends[opened]]]), behind], dim=1)
        return behind
