"""
The talker that strangers use: one model, bounded slots, bounded queue, bounded time.

    front end ── TalkRequest ──► TalkService ── turn comes ──► thread: prompt, generate ── events ──► TalkStream ──► front end
                                     └─ refused: DemoError, Busy           ▲                             │
                                                                           └──────── close, time limit ──┘

Knows a model, a processor and limits. Knows no Gradio and no HTTP. A slot is held by the thread that generates, and
free when that has returned, however its reply was ended.
"""

import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from processing_ttt import AsyncTttStreamer, TttConversation, TttProcessor, TttStreamer, load_audio
from processing_ttt.streaming_ttt import ReplyFeed

from .admission import Admission, Ticket
from .limits import Busy, DemoError, Limits
from .request import TalkRequest
from .streams import AsyncTalkStream, Progress, TalkStream
from .summary import ReplySummary

if TYPE_CHECKING:
    from finetune.adapters.languages import AdapterLanguages


class TalkService:
    """
    Answers requests of many users with one model.

    Args:
        model (`TttForConditionalGeneration`): Answers.
        processor ([`TttProcessor`]): Of the same checkpoint.
        limits ([`Limits`], *optional*): Bounds.
        adapters (`Mapping[str, str]`, *optional*): PEFT adapters by name, each a folder or Hub id; a request may
            choose one, and is asked with the system prompt of its language. Only requests with the same adapter are
            served together.

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
        self._talking: set[TttConversation] = set()
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

    def stream(self, request: TalkRequest, drafts: bool = False) -> "TalkStream":
        """
        Ask, and follow the reply while it is generated.

        Args:
            request ([`TalkRequest`]): What is asked.
            drafts (`bool`, defaults to `False`): Whether blocks of sound are shown while they are denoised.

        Returns:
            [`TalkStream`]: Iterates over [`TttTextDelta`], [`TttAudioChunk`] and [`TttBlockDraft`], and at the end
            one [`ReplySummary`].

        Raises:
            Busy: If too many are waiting.
            DemoError: If the request cannot be answered; what shows only later is raised where the events are consumed.
        """
        streamer, progress = TttStreamer(self.processor, drafts), Progress(self.limits.seconds_per_request)
        ticket = self._ask(request, streamer, progress)
        return TalkStream(streamer, ticket, progress, self.processor, partial(self._withdraw, request.conversation))

    def stream_async(self, request: TalkRequest, drafts: bool = False) -> "AsyncTalkStream":
        """
        `stream` for `async with` and `async for`, inside a running event loop, which it never blocks.

        Args:
            request, drafts: As for `stream`.

        Returns:
            [`AsyncTalkStream`]: Yields the same.
        """
        streamer, progress = AsyncTttStreamer(self.processor, drafts), Progress(self.limits.seconds_per_request)
        ticket = self._ask(request, streamer, progress)
        return AsyncTalkStream(
            streamer, ticket, progress, self.processor, partial(self._withdraw, request.conversation)
        )

    def reply(self, request: TalkRequest) -> ReplySummary:
        """
        Ask, and wait for the whole reply.

        Args:
            request ([`TalkRequest`]): What is asked.

        Returns:
            [`ReplySummary`].

        Raises:
            DemoError: As for `stream`.
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
        """
        async with self.stream_async(request) as stream:
            async for _ in stream:
                pass
            return stream.whole_summary()

    def conversation(self) -> TttConversation:
        """Begin a conversation for `TalkRequest.conversation`: its cache is kept between turns."""
        return TttConversation(self.model, self.processor)

    def close(self, timeout: float | None = None) -> bool:
        """
        Take no more requests, and let those be answered that were taken.

        Args:
            timeout (`float`, *optional*): How long to wait for them, in seconds.

        Returns:
            `bool`: Whether all have been answered.
        """
        self.admission.close()
        return self.admission.wait_until_empty(timeout)

    # From the request to its turn

    def _ask(self, request: TalkRequest, streamer: TttStreamer | AsyncTttStreamer, progress: Progress) -> Ticket:
        """Check a request, and give it a place in the queue."""
        if request.adapter is not None and request.adapter not in self.adapters:
            known = ", ".join(self.adapters) or "none here"
            raise DemoError(f"There is no adapter of that name; the adapters are {known}.")
        text, sound = request.checked_question(self.limits)

        def begin(ticket: Ticket) -> None:
            try:
                streamer.follow(partial(self._serve, request, text, sound, progress, ticket))
            except RuntimeError as error:  # the machine gives no more threads
                streamer.fail(error)
                self._leave(request.conversation, ticket)

        self._claim(request.conversation)
        try:
            return self.admission.enter(request.user, request.adapter, begin)
        except Busy:
            self._release(request.conversation)
            raise

    def _claim(self, conversation: TttConversation | None) -> None:
        with self._talking_lock:
            if conversation in self._talking:
                raise Busy("This conversation is still being answered: wait for the answer, or stop it.", 1.0)
            if conversation is not None:
                self._talking.add(conversation)

    def _release(self, conversation: TttConversation | None) -> None:
        with self._talking_lock:
            self._talking.discard(conversation)

    def _withdraw(self, conversation: TttConversation | None, ticket: Ticket) -> None:
        if ticket.withdraw():
            self._release(conversation)

    def _leave(self, conversation: TttConversation | None, ticket: Ticket) -> None:
        self._release(conversation)
        ticket.leave()

    # In the thread that holds the slot

    def _serve(
        self,
        request: TalkRequest,
        text: str | None,
        sound: Any,
        progress: Progress,
        ticket: Ticket,
        streamer: ReplyFeed,
    ) -> None:
        try:
            if not streamer.is_cancelled:
                progress.begun_at = time.monotonic()
                self._answer(request, text, sound, progress, streamer)
        finally:
            progress.ended_at = time.monotonic()
            self._leave(request.conversation, ticket)

    def _answer(
        self, request: TalkRequest, text: str | None, sound: Any, progress: Progress, streamer: ReplyFeed
    ) -> None:
        def stop_late() -> None:
            progress.is_late = True
            streamer.queue.cancel()

        timer = threading.Timer(self.limits.seconds_per_request, stop_late)
        timer.daemon = True
        timer.start()
        try:
            self._switch_to(request.adapter)
            output = self._generate(request, text, self.loaded(sound), streamer)
            progress.num_forwards, progress.reply = output.num_forwards, streamer.decoder.reply()
        finally:
            timer.cancel()

    def loaded(self, sound: Any) -> Any:
        """Decode a checked sound, at the rate that the codec hears."""
        if sound is None:
            return None
        rate = self.processor.codec_config.sampling_rate
        return load_audio(sound, rate, max_seconds=self.limits.question_seconds + 0.1)

    def messages(self, request: TalkRequest, text: str | None, sound: Any) -> list[dict[str, Any]]:
        """Write a checked question as the only turn of a conversation, in the language of its adapter."""
        return self.processor.messages(request.task, text, sound, system_prompt=self._system_prompt(request))

    def _system_prompt(self, request: TalkRequest) -> str | None:
        """Give the prompt of the adapter's language; `None` is the processor's own."""
        if request.adapter is None:
            return None
        return self.languages[request.adapter].system_prompt(request.task, self.processor, request.language)

    def _generate(self, request: TalkRequest, text: str | None, sound: Any, streamer: ReplyFeed) -> Any:
        options = request.options.generate_kwargs()
        if request.conversation is not None:
            if self.languages:  # counts for the first turn, which may be asked again with another adapter
                request.conversation.system_prompt = self._system_prompt(request)
            request.conversation.say(text, sound, streamer=streamer, **options)
            return request.conversation.output
        inputs = self.processor.prepare(self.messages(request, text, sound)).to(self.model.device)
        return self.model.generate(**inputs, **options, streamer=streamer, return_dict_in_generate=True)

    def _switch_to(self, adapter: str | None) -> None:
        """Choose an adapter; whoever is served at the same time asked for the same."""
        if adapter == self._adapter:
            return
        if adapter is None:
            self._adapted.base_model.disable_adapter_layers()
        else:
            self._adapted.base_model.enable_adapter_layers()
            self._adapted.set_adapter(adapter)
        self._adapter = adapter
