"""Streams for an event loop: the same events, a loop that is never blocked, and ends from both sides."""

import asyncio
import gc
import threading

import pytest
from streaming_fixtures import WORDS, assert_same_reply, threads, tiny_talker, wait_until

from processing_ttt import AsyncTttStreamer


@pytest.fixture(scope="module")
def talker():
    return tiny_talker()


def stream(talker, **options):
    return talker.processor.stream_reply_async(talker.model, talker.inputs, **{**talker.script(*WORDS), **options})


async def listen(streamer):
    async with streamer:
        return [event async for event in streamer]


@pytest.mark.parametrize("queue_size", [1, 64])
def test_events_are_those_of_the_whole_reply(talker, queue_size):
    async def main():
        streamer = stream(talker, queue_size=queue_size)
        return await listen(streamer), streamer

    events, streamer = asyncio.run(main())
    ids, reply = talker.whole(**talker.script(*WORDS))
    assert_same_reply(events, reply)
    assert streamer.token_ids == ids
    assert streamer.output[0, -len(ids) :].tolist() == ids


def test_several_streams_share_a_loop_that_goes_on(talker):
    _, reply = talker.whole(**talker.script(*WORDS))
    turned = threading.Event()

    async def tick():
        while True:
            await asyncio.sleep(0.001)
            turned.set()

    def wait_for_the_loop(*_):  # before every forward
        turned.clear()
        assert turned.wait(30), "the loop waits while a model generates"

    hook = talker.model.model.register_forward_pre_hook(wait_for_the_loop)

    async def main():
        ticking = asyncio.create_task(tick())
        replies = await asyncio.gather(*(listen(stream(talker)) for _ in range(3)))
        ticking.cancel()
        return replies

    try:
        for events in asyncio.run(main()):
            assert_same_reply(events, reply)
    finally:
        hook.remove()


def test_an_exception_reaches_the_coroutine_and_the_stream_is_over(talker):
    async def main():
        async with stream(talker, block_length=0) as streamer:
            with pytest.raises(ValueError, match="block_length"):
                await anext(streamer)
            return [event async for event in streamer]

    assert asyncio.run(main()) == []


def test_a_task_that_is_cancelled_stops_its_stream(talker):
    async def main():
        begun = asyncio.Event()

        async def listen_slowly():
            async with stream(talker, queue_size=1) as streamer:
                async for _ in streamer:
                    begun.set()
                    await asyncio.sleep(60)

        task = asyncio.create_task(listen_slowly())
        await begun.wait()
        assert threads()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert threads() == []

    asyncio.run(main())


def test_cancelling_wakes_a_coroutine_that_waits(talker):
    async def main():
        streamer = AsyncTttStreamer(talker.processor)  # nothing was started: nothing will ever come
        waiting = asyncio.create_task(anext(streamer, None))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await asyncio.to_thread(streamer.cancel)
        return await asyncio.wait_for(waiting, 10)

    assert asyncio.run(main()) is None


def test_a_loop_that_is_gone_stops_the_stream(talker):
    async def main():
        streamer = stream(talker, queue_size=1)
        await anext(streamer)
        return streamer

    streamer = asyncio.run(main())  # nobody closed it, and it is still held
    streamer._queue._items.clear()
    with streamer._queue._changed:
        streamer._queue._changed.notify_all()
    wait_until(lambda: not threads())
    assert streamer.is_cancelled


def test_a_stream_that_is_forgotten_ends_by_itself(talker):
    async def main():
        await anext(stream(talker, queue_size=1))

    asyncio.run(main())
    gc.collect()
    wait_until(lambda: not threads())


def test_it_is_made_inside_a_running_loop(talker):
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncTttStreamer(talker.processor)
