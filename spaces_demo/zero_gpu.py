"""
ZeroGPU: a GPU that a Space borrows for one reply, in a process of its own.

    this process: service ── generate ──► ZeroGpuModel ◄── lists of token ids ── process with the GPU: model.generate

Depends on the contract of `spaces.GPU` alone: a function, or generator function, whose arguments and results are
pickled, and how long it may take. No tensor of a GPU crosses, nothing is compiled, and no cache outlives a reply: the
next turn of a conversation computes the whole conversation again. A reply that is stopped is not waited for; the GPU is
returned when its process notices, or when the time is up.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from modeling_ttt import TttGenerateOutput
from processing_ttt.event_queue_ttt import EventQueue, QueueEnd

MAX_SECONDS = 120
# Of a 3B model on such a GPU, with a margin: a reply that takes longer is cut off.
SECONDS_TO_START, SECONDS_PER_FORWARD = 5, 0.04


def seconds_of(kwargs: dict[str, Any], default_max_new_tokens: int = 512) -> int:
    """
    Bound how long a reply takes: a token id costs at most one forward pass, two with guidance.

    Args:
        kwargs (`dict`): Arguments of `generate`.
        default_max_new_tokens (`int`, *optional*): Longest reply where `kwargs` has no `max_new_tokens`.

    Returns:
        `int`: Seconds.
    """
    num_forwards = kwargs.get("max_new_tokens") or default_max_new_tokens
    if kwargs.get("audio_guidance_scale"):
        num_forwards *= 2
    return min(MAX_SECONDS, round(SECONDS_TO_START + SECONDS_PER_FORWARD * num_forwards))


class ZeroGpuModel:
    """
    A model whose `generate` runs in the process with the GPU; everything else is the model's own.

    Args:
        model (`TttForConditionalGeneration`): Moved to `cuda` when the Space started, as ZeroGPU wants it.
        gpu (`Callable`): `spaces.GPU`.
    """

    is_borrowed = True  # each reply costs some of a visitor's time on the GPU
    device = torch.device("cpu")  # where prompts are prepared

    def __init__(self, model: Any, gpu: Callable[..., Any]):
        self._model = model
        limit = getattr(model.generation_config, "max_new_tokens", None) or 512

        def replies(kwargs: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
            yield from relay(model, kwargs)

        self._replies = gpu(duration=lambda kwargs: seconds_of(kwargs, limit))(replies)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *, input_ids: torch.Tensor, streamer: Any, **kwargs: Any) -> TttGenerateOutput:
        """
        Run the model's `generate`, for one sequence with a streamer.

        Args:
            input_ids (`torch.LongTensor` of shape `(1, length)`): The prompt.
            streamer ([`ReplyFeed`]): Gets what the model puts; asked before each step whether it was cancelled.
            kwargs: Arguments of the model's `generate`; a cache is ignored.

        Returns:
            [`TttGenerateOutput`]: Without a cache.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in ("cache", "past_key_values")}
        ids, num_forwards = input_ids[0].tolist(), 0
        is_prompt = True  # `generate` puts the prompt first
        try:
            for kind, *values in self._replies({**kwargs, "input_ids": input_ids}):
                if streamer.is_cancelled:
                    break
                if kind == "num_forwards":
                    num_forwards = values[0]
                    continue
                if kind == "put":
                    ids += [] if is_prompt else values[0]
                    is_prompt = False
                getattr(streamer, kind)(*(torch.tensor(value) for value in values))
        except Exception as error:
            streamer.fail(error)
            raise
        finally:
            streamer.end()
        return TttGenerateOutput(sequences=torch.tensor([ids]), num_forwards=num_forwards)


def relay(model: Any, kwargs: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """
    Run `generate`, and yield what it puts into its streamer as plain lists.

    Args:
        model (`TttForConditionalGeneration`): Generates.
        kwargs (`dict`): Arguments of `generate`, with tensors on the CPU.

    Yields:
        `("put", ids)`, of which the first is the prompt; `("put_draft", ids, confidence)`; and at last
        `("num_forwards", number)`.
    """
    streamer = _Relay()
    moved = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in kwargs.items()
    }

    def run() -> None:
        try:
            output = model.generate(**moved | {"streamer": streamer, "return_dict_in_generate": True})
            streamer.queue.put(("num_forwards", output.num_forwards))
            streamer.queue.close()
        except BaseException as error:
            streamer.queue.close(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            yield streamer.queue.get()
    except QueueEnd:
        pass
    finally:
        streamer.queue.cancel()
        thread.join()


class _Relay(BaseStreamer):
    def __init__(self) -> None:
        self.queue: EventQueue[tuple[Any, ...]] = EventQueue(64)

    @property
    def is_cancelled(self) -> bool:
        return self.queue.is_cancelled

    def put(self, value: torch.Tensor) -> None:
        self.queue.put(("put", value.flatten().tolist()))

    def put_draft(self, value: torch.Tensor, confidence: torch.Tensor) -> None:
        self.queue.put(("put_draft", value.tolist(), confidence.tolist()))

    def end(self) -> None:
        """Do nothing: the number of forward passes is still to come."""
