"""
The talker that strangers use: one model, bounded slots, bounded queue, bounded time.

    front end ── TalkRequest ──► TalkService ── turn comes ──► thread: generate ── events ──► TalkStream ──► front end
                                   └─ refused: RequestError, Busy     ▲                          │
                                                                      └── close, time limit ─────┘

Depends on a model, a processor and limits. Independent of Gradio and HTTP. A slot is held by the thread that generates,
and free when that has returned, however its reply was ended.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from transformers import LogitsProcessorList

from processing_ttt import AsyncTttStreamer, TttConversation, TttItemConversation, TttProcessor, TttStreamer, load_audio
from processing_ttt.context_ttt import check_audio_fits
from processing_ttt.reading_ttt import TextReader
from processing_ttt.streaming_ttt import ReplyFeed
from processing_ttt.tasks_ttt import Message
from processing_ttt.transcribing_ttt import Transcriber, TranscribingOutput

from .admission import Admission, Ticket
from .limits import Busy, Limits, RequestError
from .request import TalkRequest
from .streams import AsyncTalkStream, TalkStream
from .summary import ReplySummary
from .text_log_probs import TextLogProbs
from .turn import Turn
from .uploads import AudioInput

if TYPE_CHECKING:
    from finetune.adapters.languages import AdapterLanguages


class TalkService:
    """
    Answers requests of many users with one model.

    Args:
        model (`TttForConditionalGeneration`): Generates.
        processor ([`TttProcessor`]): Processor of the same checkpoint.
        limits ([`Limits`], *optional*): What is refused.
        adapters (`Mapping[str, str]`, *optional*): PEFT adapters by name, each a folder or Hub id; a request may choose
            one, and then has the system prompt of its language. Only requests with the same adapter are served at the
            same time.

    Example:
        ```python
        service = TalkService(model, processor)
        with service.stream(TalkRequest(text="What is two plus two?")) as stream:
            for event in stream:
                if isinstance(event, TttTextDelta):
                    print(event.text, end="")
                elif isinstance(event, ReplySummary):
                    print(event.real_time_factor)
        ```
    """

    def __init__(
        self,
        model: Any,
        processor: TttProcessor,
        limits: Limits | None = None,
        adapters: Mapping[str, str] | None = None,
    ):
        self.model = model
        self.processor = processor
        self.limits = limits or Limits()
        self.adapters = tuple(adapters or ())
        self.languages: dict[str, AdapterLanguages] = {}
        self.admission = Admission(self.limits)
        self._streams: WeakSet[TalkStream | AsyncTalkStream] = WeakSet()
        self._talking: set[TttConversation | TttItemConversation] = set()
        self._talking_lock = threading.Lock()
        self._adapter: str | None = None
        self._adapted: Any = None  # a PeftModel around the model, whose layers carry the adapters
        if adapters:
            from finetune.adapters.languages import read_languages
            from finetune.adapters.lora import load_adapters

            self.languages = {name: read_languages(source) for name, source in adapters.items()}
            self._adapted = load_adapters(model, adapters)
            self._adapted.base_model.disable_adapter_layers()
        processor.codec  # noqa: B018 - loading is not part of the first answer

    # What a front end calls

    def stream(self, request: TalkRequest, drafts: bool = False) -> TalkStream:
        """
        Ask, and follow the reply while it is generated.

        Args:
            request ([`TalkRequest`]): What is asked.
            drafts (`bool`, defaults to `False`): Whether blocks of audio are shown while they are denoised.

        Returns:
            [`TalkStream`]: Iterates over [`TttTextDelta`], [`TttAudioChunk`] and [`TttBlockDraft`], and at the end one
            [`ReplySummary`].

        Raises:
            Busy: If too many are waiting.
            RequestError: If the request cannot be answered; what shows only later is raised where the events are
                consumed.
        """
        turn, streamer = self._checked(request), TttStreamer(self.processor, drafts)
        stream = TalkStream(turn, self._enter(turn, streamer), streamer, self.processor, self._withdraw(turn))
        self._streams.add(stream)
        return stream

    def stream_async(self, request: TalkRequest, drafts: bool = False) -> AsyncTalkStream:
        """
        `stream` for `async with` and `async for`, inside a running event loop, which it never blocks.

        Args:
            request, drafts: As for `stream`.

        Returns:
            [`AsyncTalkStream`]: Yields the same.

        Raises:
            Busy, RequestError: As for `stream`.
        """
        turn, streamer = self._checked(request), AsyncTttStreamer(self.processor, drafts)
        stream = AsyncTalkStream(turn, self._enter(turn, streamer), streamer, self.processor, self._withdraw(turn))
        self._streams.add(stream)
        return stream

    def reply(self, request: TalkRequest) -> ReplySummary:
        """
        Ask, and wait for the whole reply.

        Args:
            request ([`TalkRequest`]): What is asked.

        Returns:
            [`ReplySummary`].

        Raises:
            Busy, RequestError: As for `stream`.
        """
        with self.stream(request) as stream:
            for _ in stream:
                pass
            return stream.whole_summary()

    async def reply_async(self, request: TalkRequest) -> ReplySummary:
        """
        `reply` inside a running event loop.

        Args:
            request ([`TalkRequest`]): What is asked.

        Returns:
            [`ReplySummary`].

        Raises:
            Busy, RequestError: As for `stream`.
        """
        async with self.stream_async(request) as stream:
            async for _ in stream:
                pass
            return stream.whole_summary()

    def conversation(self) -> TttConversation:
        """Begin a conversation for `TalkRequest.conversation`: its cache is kept between turns."""
        return TttConversation(self.model, self.processor)

    @property
    def longest_reply(self) -> int:
        """Token ids that a client may ask for at most: half of the model's context, which leaves room for a prompt."""
        return self.model.config.text_config.max_position_embeddings // 2

    def prefill(self, request: TalkRequest, codes: Sequence[int], is_whole: bool) -> bool:
        """
        Compute what is known of a prompt whose question is still spoken, in the calling thread: see
        [`TttItemConversation.prefill`]. Meanwhile the conversation must not be answered.

        Args:
            request ([`TalkRequest`]): As the answer will be asked for.
            codes (`Sequence[int]`): The first codes of the question's audio.
            is_whole (`bool`): Whether they are probably all.

        Returns:
            `bool`: Whether there was a free slot for it; requests come first.
        """
        if not isinstance(request.conversation, TttItemConversation) or getattr(self.model, "is_borrowed", False):
            return False  # a borrowed GPU keeps no cache
        ticket = self.admission.enter_if_idle(request.adapter)
        if ticket is None:
            return False
        try:
            self._switch_to(request.adapter)
            if self.languages:
                request.conversation.system_prompt = self._system_prompt(request)
            request.conversation.prefill(codes, is_whole, request.options.max_new_tokens)
        finally:
            ticket.leave()
        return True

    def messages(self, turn: Turn) -> list[Message]:
        """
        Write a question as the messages of a prompt of its own, in the language of its adapter; decodes its audio.

        Args:
            turn ([`Turn`]): The question.

        Returns:
            `list[dict]`: For `processor.prepare`.

        Raises:
            AudioInputError: If the audio is damaged, silent or too long.
        """
        task, system_prompt = turn.request.task, self._system_prompt(turn.request)
        return self.processor.messages(task, turn.text, self._waveform(turn), system_prompt=system_prompt)

    def close(self, timeout: float | None = None) -> bool:
        """
        Take no more requests, and answer those that were taken.

        Args:
            timeout (`float`, *optional*): Most seconds to wait for them.

        Returns:
            `bool`: Whether all have been answered.
        """
        self.admission.close()
        return self.admission.wait_until_empty(timeout)

    def stop(self) -> None:
        """Take no more requests, and stop the answers to those that were taken."""
        self.admission.close()
        for stream in list(self._streams):
            stream.cancel()

    # From the request to its turn

    def _checked(self, request: TalkRequest) -> Turn:
        if request.adapter is not None and request.adapter not in self.adapters:
            known = ", ".join(self.adapters) or "none here"
            raise RequestError(f"There is no adapter of that name; the adapters are {known}.", "adapter")
        return Turn.of(request, self.limits)

    def _enter(self, turn: Turn, streamer: TttStreamer | AsyncTttStreamer) -> Ticket:
        """Take a place in the queue, and generate when the turn has come."""

        def begin(ticket: Ticket) -> None:
            try:
                streamer.follow(partial(self._serve, turn, ticket))
            except RuntimeError as error:  # the machine gives no more threads
                streamer.fail(error)
                self._leave(turn, ticket)

        self._claim(turn.request.conversation)
        try:
            return self.admission.enter(turn.request.user, turn.request.adapter, begin)
        except Busy:
            self._release(turn.request.conversation)
            raise

    def _claim(self, conversation: TttConversation | TttItemConversation | None) -> None:
        with self._talking_lock:
            if conversation in self._talking:
                raise Busy("This conversation is still being answered: wait for the answer, or stop it.", 1.0)
            if conversation is not None:
                self._talking.add(conversation)

    def _release(self, conversation: TttConversation | TttItemConversation | None) -> None:
        with self._talking_lock:
            self._talking.discard(conversation)

    def _withdraw(self, turn: Turn) -> Callable[[Ticket], None]:
        def withdraw(ticket: Ticket) -> None:
            if ticket.withdraw():
                self._release(turn.request.conversation)

        return withdraw

    def _leave(self, turn: Turn, ticket: Ticket) -> None:
        self._release(turn.request.conversation)
        ticket.leave()

    # In the thread that holds the slot

    def _serve(self, turn: Turn, ticket: Ticket, streamer: ReplyFeed) -> None:
        try:
            if not streamer.is_cancelled:
                turn.progress.begun_at = time.monotonic()
                self._answer(turn, streamer)
        finally:
            turn.progress.ended_at = time.monotonic()
            self._leave(turn, ticket)

    def _answer(self, turn: Turn, streamer: ReplyFeed) -> None:
        def stop_late() -> None:
            turn.progress.is_late = True
            streamer.queue.cancel()

        timer = threading.Timer(turn.time_limit, stop_late)
        timer.daemon = True
        timer.start()
        try:
            self._switch_to(turn.request.adapter)
            output = self._generate(turn, streamer)
            turn.progress.num_forwards, turn.progress.reply = output.num_forwards, streamer.decoder.reply()
            turn.progress.num_prompt_ids = streamer.num_prompt_ids
        finally:
            timer.cancel()

    def _generate(self, turn: Turn, streamer: ReplyFeed) -> Any:
        options, conversation = turn.request.options.generate_kwargs(), turn.request.conversation
        if turn.history:
            conversation = self._resumed(turn)
        if conversation is not None:
            if self.languages:  # the adapter may be another one than in the turn before
                conversation.system_prompt = self._system_prompt(turn.request)
            conversation.say(turn.text, self._waveform(turn), streamer=streamer, **options)  # type: ignore[arg-type]
            return conversation.output
        if turn.request.task == "tts":
            language = None if turn.request.adapter is None else turn.request.language  # only adapters have several
            reader = TextReader(self.model, self.processor, **options)
            return reader.stream_to(streamer, turn.text or "", language, self._system_prompt(turn.request))
        if turn.request.task == "asr":
            return self._transcribe(turn, streamer, options)
        inputs = self.processor.prepare(self.messages(turn)).to(self.model.device)
        check_audio_fits(self.model, self.processor, inputs["input_ids"], **options)
        return self.model.generate(**inputs, **options, streamer=streamer, return_dict_in_generate=True)

    def _resumed(self, turn: Turn) -> TttConversation:
        """Take a conversation up that the client keeps."""
        conversation = TttConversation(self.model, self.processor, self._system_prompt(turn.request))
        for text, audio, reply in turn.history:
            conversation.add(reply, text, self._loaded(audio, self.limits))
        return conversation

    def _transcribe(self, turn: Turn, streamer: ReplyFeed, options: dict[str, Any]) -> TranscribingOutput:
        log_probs = TextLogProbs()
        options = options | {"logits_processor": LogitsProcessorList([log_probs])}
        prompt = self._system_prompt(turn.request)
        transcriber = Transcriber(self.model, self.processor, **options)
        output = transcriber.stream_to(streamer, self._waveform(turn), system_prompt=prompt)
        turn.progress.text_log_prob, turn.progress.transcript = log_probs.mean, output.transcript
        return output

    def _waveform(self, turn: Turn) -> np.ndarray | None:
        return self._loaded(turn.audio, self.limits.of_task(turn.request.task))

    def _loaded(self, audio: AudioInput | None, limits: Limits) -> np.ndarray | None:
        """Decode a user's audio, at the rate that the codec encodes."""
        rate = self.processor.codec_config.sampling_rate
        return None if audio is None else load_audio(audio, rate, max_seconds=limits.question_seconds + 0.1)

    def _system_prompt(self, request: TalkRequest) -> str | None:
        """Return the prompt of the adapter's language; `None` is the processor's own."""
        if request.adapter is None:
            return None
        return self.languages[request.adapter].system_prompt(request.task, self.processor, request.language)

    def _switch_to(self, adapter: str | None) -> None:
        """Choose an adapter; all requests that are served at the same time have the same one."""
        if adapter == self._adapter:
            return
        if adapter is None:
            self._adapted.base_model.disable_adapter_layers()
        else:
            self._adapted.base_model.enable_adapter_layers()
            self._adapted.set_adapter(adapter)
        self._adapter = adapter
