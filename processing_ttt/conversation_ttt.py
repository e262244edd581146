"""
A conversation of several turns over one cache: earlier turns are not computed again.

The token ids of earlier turns are those that `generate` returned. Tokenizing a reply again could give other token ids
than those in the cache.

Depends on a processor and on `generate`. Independent of waveforms and codes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from .context_ttt import check_audio_fits
from .processing_ttt import TttProcessor
from .reply_ttt import TttReply
from .streaming_ttt import GeneratesReplies, ReplyFeed, TttStreamer
from .tasks_ttt import Messages


class TttConversation:
    """
    Several turns with one model.

    Args:
        model (`TttForConditionalGeneration`): The model.
        processor (`TttProcessor`): Processor of the same checkpoint.
        system_prompt (`str`, *optional*): Replaces the processor's prompt of the task `chat`.
        generate_kwargs: Arguments of `generate` in every turn.

    Attributes:
        ids (`torch.LongTensor` of shape `(1, length)`): Token ids of all turns, prompts and replies.
        turns (`list[TttReply]`): The model's replies.
        output (`TttGenerateOutput`, *optional*): What `generate` returned for the last turn.

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
        self.system_prompt = system_prompt
        self.generate_kwargs = generate_kwargs
        self.ids = torch.zeros(1, 0, dtype=torch.long)
        self.turns: list[TttReply] = []
        self.output: Any = None
        self._ends = [0]  # length of `ids` after each turn
        self._begins: list[int] = []  # where each reply begins in `ids`
        self._cache: Any = None

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
            ValueError: If there is neither text nor audio, or the model's context is too short for one more turn. The
                conversation is unchanged then.
        """
        prompt = torch.cat([self.ids, self._continuation(text, audio)], dim=1).to(self.model.device)
        options = self.generate_kwargs | generate_kwargs | {"return_dict_in_generate": True}
        check_audio_fits(self.model, self.processor, prompt, **options)
        try:
            out = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                cache=self._cache,
                **options,
            )
            streamer = options.get("streamer")
            if isinstance(streamer, ReplyFeed) and streamer.is_whole:  # the reply is decoded already
                reply = streamer.decoder.reply()
            else:
                reply = self.processor.decode_reply(out.sequences[0, prompt.shape[1] :])
        except BaseException:  # the cache grew in place
            self._crop(self._ends[-1])
            raise
        self.output = out
        self.ids = out.sequences.cpu()
        self._cache = out.cache
        self._begins.append(prompt.shape[1])
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
        Take a turn of the user's and its reply as they are, without generating: a conversation that was had before.

        Args:
            reply (`str` or `Sequence[int]`): The reply's token ids, as a streamer or `generate` gave them; or its text
                alone, which is less than the model was trained to see after a turn with audio.
            text (`str`, *optional*): The user's text.
            audio (*optional*): The user's audio, in any form that `load_audio` takes.

        Raises:
            ValueError: If there is neither text nor audio, or the reply is empty.
        """
        tokenizer, end = self.processor.tokenizer, self.processor.vocabulary.eos_token_id
        if not reply:
            raise ValueError("A reply that was given before is empty: give its text or its token ids.")
        if isinstance(reply, str):
            ids = [*tokenizer.encode(reply, add_special_tokens=False, split_special_tokens=True), end]
        else:
            ids = list(reply)
        self.ids = torch.cat([self.ids, self._continuation(text, audio), torch.tensor([ids])], dim=1)
        self._begins.append(self.ids.shape[1] - len(ids))
        self._ends.append(self.ids.shape[1])
        parsed = self.processor.layout.parse_reply(ids)
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
        other.ids, other.turns = self.ids.clone(), list(self.turns)
        other._begins, other._ends = list(self._begins), list(self._ends)
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
        kept = len(self.turns) - turns
        self.turns, self._begins, self._ends = self.turns[:kept], self._begins[:kept], self._ends[: kept + 1]
        self.ids = self.ids[:, : self._ends[-1]]
        self._crop(self._ends[-1])

    def truncate(self, seconds: float) -> TttReply:
        """
        Cut the last reply where its listener interrupted it: behind the span of audio that was played last. The next
        turn goes on from there.

        Args:
            seconds (`float`): How much of the reply's audio was played.

        Returns:
            [`TttReply`]: What is left, also in `turns`; without text and audio if nothing was played.

        Raises:
            ValueError: If there is no turn.
        """
        if not self.turns:
            raise ValueError("The conversation has no turn that could be cut.")
        begin, ids = self._begins[-1], self.ids[0, self._begins[-1] :].tolist()
        length = begin + self._num_played(ids, seconds * self.processor.codec_config.frame_rate)
        if length < self._ends[-1]:
            self.ids, self._ends[-1] = self.ids[:, :length], length
            self._crop(length)
            self.turns[-1] = self.processor.decode_reply(self.ids[0, begin:])
        return self.turns[-1]

    def _num_played(self, reply_ids: list[int], num_codes: float) -> int:
        """Count the token ids of a reply up to the end of the span in which a number of codes is reached."""
        vocabulary, so_far = self.processor.vocabulary, 0
        ends = (vocabulary.end_audio_token_id, vocabulary.end_last_audio_token_id)
        if num_codes < 1e-6:
            return 0
        for position, token_id in enumerate(reply_ids):
            so_far += vocabulary.is_code(token_id)
            if token_id in ends and so_far > num_codes - 1e-6:
                return position + 1
        return len(reply_ids)

    def _crop(self, length: int) -> None:
        if self._cache is None:
            return
        # A forward pass that failed between two layers leaves the first ones longer than the others.
        lengths = [layer.get_seq_length() for layer in self._cache.layers]
        kept = min([length, *lengths])
        for layer, present in zip(self._cache.layers, lengths, strict=True):
            if present > kept:
                layer.crop(kept - present)

    def _continuation(self, text: str | None, audio: Any) -> torch.Tensor:
        """Token ids that follow the turns so far, up to where the reply begins."""
        messages = self.processor.messages("chat", text, audio, system_prompt=self.system_prompt)
        if not self.turns:
            return self._tokenize(messages)
        # The template frames a turn: what follows an empty reply also follows the real one.
        asked: Messages = [messages[0], {"role": "user", "content": ""}]
        before = self._tokenize(asked)
        after = self._tokenize([*asked, {"role": "assistant", "content": ""}, messages[-1]])
        return self._without_repeated_end(after[:, before.shape[1] :])

    def _tokenize(self, messages: Messages) -> torch.Tensor:
        return self.processor.prepare(messages)["input_ids"]

    def _without_repeated_end(self, following: torch.Tensor) -> torch.Tensor:
        """Drop the end of the reply if the reply contains it; close an open span if the reply was cut there."""
        vocabulary = self.processor.vocabulary
        ends = {
            vocabulary.begin_audio_token_id: vocabulary.end_audio_token_id,
            vocabulary.begin_last_audio_token_id: vocabulary.end_last_audio_token_id,
        }
        last = int(self.ids[0, -1])
        if last == int(following[0, 0]):
            return following[:, 1:]
        if vocabulary.is_code(last) or last in ends:
            opened = next(token_id for token_id in reversed(self.ids[0].tolist()) if token_id in ends)
            return torch.cat([torch.tensor([[ends[opened]]]), following], dim=1)
        return following
