"""
Streamers: text and audio of a reply while `generate` runs in another thread.

    generate ── put(ids) ──► ReplyFeed: ids to events ──► EventQueue ──► TttStreamer: `for event in ...`
        └──── is_cancelled ◄───────────────────────────────── cancel ◄──┘

Audio is decoded in the thread of `generate`, so an event costs its consumer nothing.

Depends on threads, event loops and transformers' streamer interface. `reply_stream_ttt` decodes token ids, and
`event_queue_ttt` ends a queue.
"""

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers.generation.streamers import BaseStreamer

from .event_queue_ttt import EventQueue, QueueEnd
from .reply_stream_ttt import DecodesReplies, ReplyDecoder, TttStreamEvent

if TYPE_CHECKING:
    from typing_extensions import Self


class GeneratesReplies(Protocol):
    """What conversations, streams and talkers need of a model."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def generate(self, **kwargs: Any) -> Any:
        """
        Generate replies to the prompts `input_ids` and `attention_mask`.

        Returns:
            Token ids of shape `(batch, length)`, or with `return_dict_in_generate` an output with `sequences` and
            `cache`.
        """


ONE_REPLY = "A streamer follows one reply: make a new one for the next."


class ReplyFeed(BaseStreamer):
    """
    The producing end of a stream, held by `generate`. It has no reference to the consumer, so that the consumer can be
    collected while `generate` runs.

    Args:
        decoder ([`ReplyDecoder`]): Decodes token ids to events.
        queue ([`EventQueue`]): Takes the events.
        drafts (`bool`): Whether blocks that are being denoised are events too.
    """

    def __init__(self, decoder: ReplyDecoder, queue: EventQueue[TttStreamEvent], drafts: bool):
        self.decoder = decoder
        self.queue = queue
        self.drafts = drafts
        self.token_ids: list[int] = []
        self.output: Any = None
        self.is_whole = False  # whether the decoder has the whole reply, even if the consumer leaves afterwards
        self.num_prompt_ids = 0
        self._has_prompt = False
        self._thread: threading.Thread | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the consumer cancelled the reply."""
        return self.queue.is_cancelled

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, then each text token, each block and each appended end marker."""
        if self.is_cancelled:
            return
        if self.queue.is_closed:
            raise ValueError(ONE_REPLY)
        if self._has_prompt:
            ids = value.tolist()
            self.token_ids += ids
            self._queue_all(self.decoder.push(ids))
        else:
            self._has_prompt, self.num_prompt_ids = True, value.numel()

    def put_draft(self, value: torch.Tensor, confidence: torch.Tensor) -> None:
        """Take a block after a denoising step, masks included, and the confidence of each position."""
        if self.drafts and not self.is_cancelled:
            self.queue.put(self.decoder.draft(value.tolist(), confidence.tolist()))

    def fail(self, error: BaseException) -> None:
        """Pass an exception to the consumer."""
        self.queue.close(error)

    def end(self) -> None:
        """End the stream, finished or not; after a failure or a second time this does nothing."""
        if self.queue.is_closed:
            return
        try:
            self._queue_all(self.decoder.finish())
            self.is_whole = True
        except Exception as error:
            self.fail(error)
            raise
        self.queue.close()

    def start(self, talk: Callable[..., Any]) -> None:
        """Run `talk(streamer=self)` in a thread."""
        if self._thread is not None:
            raise ValueError(ONE_REPLY)
        # A daemon, because the process must not wait for a consumer that ends with it; but stopped before the
        # interpreter exits, which crashes a thread inside PyTorch.
        self._thread = threading.Thread(target=self._run, args=(talk,), name="ttt-generate", daemon=True)
        atexit.register(self.stop)
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread that `start` began, if it did."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Cancel, and wait until `generate` has returned: at most one forward pass and the audio of one block."""
        self.queue.cancel()
        self.join()

    def _run(self, talk: Callable[..., Any]) -> None:
        try:
            self.output = talk(streamer=self)
            self.end()
        except BaseException as error:  # the consumer's thread handles it
            self.fail(error)
        finally:
            atexit.unregister(self.stop)

    def _queue_all(self, events: list[TttStreamEvent]) -> None:
        for event in events:
            self.queue.put(event)


class _Streamer(BaseStreamer):
    """The common part of both streamers: everything but how to wait for an event."""

    def __init__(self, processor: DecodesReplies, drafts: bool = False, queue_size: int = 64):
        self._queue: EventQueue[TttStreamEvent] = EventQueue(queue_size)
        self._feed = ReplyFeed(ReplyDecoder(processor), self._queue, drafts)
        weakref.finalize(self, self._queue.cancel).atexit = False  # there is no consumer left

    # Called by `generate`

    def put(self, value: torch.Tensor) -> None:
        """See `BaseStreamer.put`; waits while the queue is full."""
        self._feed.put(value)

    def put_draft(self, value: torch.Tensor, confidence: torch.Tensor) -> None:
        """Take a block after a denoising step, masks included, and the confidence of each position."""
        self._feed.put_draft(value, confidence)

    def fail(self, error: BaseException) -> None:
        """Take an exception of `generate`, which the consumer gets after the earlier events."""
        self._feed.fail(error)

    def end(self) -> None:
        """See `BaseStreamer.end`."""
        self._feed.end()

    @property
    def is_cancelled(self) -> bool:
        """Whether `generate` should stop."""
        return self._feed.is_cancelled

    # Called by the consumer

    def start(self, model: GeneratesReplies, inputs: Mapping[str, Any], **generate_kwargs: Any) -> "Self":
        """
        Run `model.generate` in a thread of its own, where torch's modes of this thread (autocast, current CUDA
        stream) do not apply.

        Args:
            model (`TttForConditionalGeneration`): The model.
            inputs (`BatchFeature` or `dict`): One prompt from `apply_chat_template`, on the model's device.
            generate_kwargs: Further arguments of `generate`.

        Returns:
            The streamer itself.

        Raises:
            ValueError: If the streamer was started before.
        """
        options = {**inputs, **generate_kwargs}
        return self.follow(lambda streamer: model.generate(**options, streamer=streamer))

    def follow(self, talk: Callable[..., Any]) -> "Self":
        """
        Run a function that generates one reply, in a thread as `start` does.

        Args:
            talk (`Callable`): Called as `talk(streamer=...)`; passes the streamer to `generate`. Its result is the
                stream's `output`, and its exception is raised where the events are consumed.

        Returns:
            The streamer itself.

        Raises:
            ValueError: If the streamer was started before.
        """
        self._feed.start(talk)
        return self

    def cancel(self) -> None:
        """Stop generating at the next forward pass, and end the iteration. Callable from any thread; does not wait."""
        self._queue.cancel()

    @property
    def token_ids(self) -> list[int]:
        """The reply's token ids so far, as `decode_reply` takes them."""
        return list(self._feed.token_ids)

    @property
    def finished(self) -> bool:
        """Whether the model ended the reply (so far, it was not cut off)."""
        return self._feed.decoder.parser.finished

    @property
    def output(self) -> Any:
        """
        What `generate` returned, after the last event or `close`; `None` if it failed, or was begun by neither `start`
        nor `follow`.
        """
        if not self._queue.is_closed:  # waiting for a thread that waits for its consumer would never end
            raise ValueError("The reply is not over: ask for `output` after the last event, or close the stream first.")
        self._feed.join()
        return self._feed.output


class TttStreamer(_Streamer):
    """
    Iterates over a reply's text and audio while `generate` runs in another thread.

    Yields [`TttTextDelta`] and [`TttAudioChunk`], which join to the text and audio of `processor.decode_reply` (see
    [`ReplyDecoder`] and [`WindowedCodecStream`] for the precision), and [`TttBlockDraft`] if `drafts` is set. Audio
    follows block by block, delayed by the codec's look-ahead. An exception of `generate` is raised where the events
    are consumed.

    Leaving a `with` block, `close()` or dropping the streamer stops a reply that `start` began; so does `cancel()`,
    from any thread.

    Args:
        processor ([`TttProcessor`]): Decodes text and audio.
        drafts (`bool`, defaults to `False`): Whether blocks are events while they are denoised.
        queue_size (`int`, defaults to 64): Largest number of waiting events; beyond it `generate` waits.

    Example:
        ```python
        with TttStreamer(processor).start(model, inputs, max_new_tokens=400) as streamer:
            for event in streamer:
                if isinstance(event, TttTextDelta):
                    print(event.text, end="", flush=True)
                elif isinstance(event, TttAudioChunk):
                    play(event.audio, event.sampling_rate)
        ```
        With your own thread: `Thread(target=model.generate, kwargs={**inputs, "streamer": streamer}).start()`.
    """

    def __iter__(self) -> "Self":
        return self

    def __next__(self) -> TttStreamEvent:
        try:
            return self._queue.get()
        except QueueEnd:
            raise StopIteration from None

    def close(self) -> None:
        """Stop generating, and wait until it has stopped: at most one forward pass and the audio of one block."""
        self._feed.stop()

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncTttStreamer(_Streamer):
    """
    [`TttStreamer`] for `async for` and `async with`. Make it inside the running event loop, which it never blocks.

    Args:
        processor ([`TttProcessor`]): Decodes text and audio.
        drafts (`bool`, defaults to `False`): Whether blocks are events while they are denoised.
        queue_size (`int`, defaults to 64): Largest number of waiting events; beyond it `generate` waits.

    Example:
        ```python
        async with AsyncTttStreamer(processor).start(model, inputs) as streamer:
            async for event in streamer:
                ...
        ```
    """

    def __init__(self, processor: DecodesReplies, drafts: bool = False, queue_size: int = 64):
        super().__init__(processor, drafts, queue_size)
        self._changed = asyncio.Event()
        self._queue.on_change = partial(_notify_loop, asyncio.get_running_loop(), self._changed, self._queue)

    def __aiter__(self) -> "Self":
        return self

    async def __anext__(self) -> TttStreamEvent:
        while True:
            self._changed.clear()
            try:
                event = self._queue.get_nowait()
            except QueueEnd:
                raise StopAsyncIteration from None
            if event is not None:
                return event
            await self._changed.wait()

    async def aclose(self) -> None:
        """Stop generating, and wait until it has stopped: at most one forward pass and the audio of one block."""
        await asyncio.to_thread(self._feed.stop)

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class ReplyStreamingMixin:
    """Streaming for a processor that decodes replies."""

    def stream_reply(
        self: DecodesReplies,
        model: GeneratesReplies,
        inputs: Mapping[str, Any],
        drafts: bool = False,
        queue_size: int = 64,
        **generate_kwargs: Any,
    ) -> TttStreamer:
        """
        Generate a reply in a thread of its own, and iterate over its text and audio meanwhile.

        Args:
            model (`TttForConditionalGeneration`): The model.
            inputs (`BatchFeature` or `dict`): One prompt from `apply_chat_template`, on the model's device.
            drafts (`bool`, defaults to `False`): Whether blocks of audio are events while they are denoised.
            queue_size (`int`, defaults to 64): Largest number of waiting events; beyond it `generate` waits.
            generate_kwargs: Further arguments of `generate`.

        Returns:
            [`TttStreamer`]: Yields [`TttTextDelta`], [`TttAudioChunk`] and [`TttBlockDraft`]; stops generating when
            it is closed.

        Example:
            ```python
            with processor.stream_reply(model, inputs) as stream:
                for event in stream:
                    print(event)
            ```
        """
        return TttStreamer(self, drafts, queue_size).start(model, inputs, **generate_kwargs)

    def stream_reply_async(
        self: DecodesReplies,
        model: GeneratesReplies,
        inputs: Mapping[str, Any],
        drafts: bool = False,
        queue_size: int = 64,
        **generate_kwargs: Any,
    ) -> AsyncTttStreamer:
        """
        `stream_reply` for `async for` and `async with`, inside a running event loop, which it never blocks.

        Args:
            model, inputs, drafts, queue_size, generate_kwargs: As for `stream_reply`.

        Returns:
            [`AsyncTttStreamer`]: Yields the same events.
        """
        return AsyncTttStreamer(self, drafts, queue_size).start(model, inputs, **generate_kwargs)


def _notify_loop(loop: asyncio.AbstractEventLoop, changed: asyncio.Event, queue: EventQueue[Any]) -> None:
    try:
        loop.call_soon_threadsafe(changed.set)
    except RuntimeError:  # the loop is closed: there is no consumer left
        queue.cancel()
