"""Streams of a model that generates in another thread: equal to the whole, in time, and ended by either side."""

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from checkout import ROOT
from streaming_fixtures import (
    BLOCKS,
    WORDS,
    assert_same_reply,
    audio_of,
    prompt,
    text_of,
    threads,
    tiny_talker,
    wait_until,
)
from transformers import AutoModel, AutoProcessor

from modeling_ttt import nano_checkpoint
from processing_ttt import TttAudioChunk, TttBlockDraft, TttConversation, TttStreamer, TttTextDelta
from processing_ttt.event_queue_ttt import EventQueue
from processing_ttt.reply_stream_ttt import ReplyDecoder
from processing_ttt.streaming_ttt import ReplyFeed


@pytest.fixture
def talker():
    return tiny_talker()


@pytest.fixture
def forwards(talker):
    """One entry for each forward of the backbone."""
    done = []
    hook = talker.model.model.register_forward_hook(lambda *_: done.append(None))
    yield done
    hook.remove()


def stream(talker, *words, **options):
    return talker.processor.stream_reply(talker.model, talker.inputs, **{**talker.script(*words), **options})


# --------------------------------------------------------------------------------------------------- equal to the whole


def test_a_stream_of_several_spans_and_blocks_joins_to_the_whole_reply(talker):
    ids, reply = talker.whole(**talker.script(*WORDS))
    with stream(talker, *WORDS) as streamer:
        events = list(streamer)
    assert_same_reply(events, reply)
    assert reply.text == "Seven plus five is Grüße 你好"
    assert sum(isinstance(event, TttAudioChunk) for event in events) >= 9  # three spans of three blocks each
    assert streamer.token_ids == ids
    assert streamer.finished and reply.finished
    assert streamer.output[0, -len(ids) :].tolist() == ids


@pytest.mark.parametrize("max_new_tokens", [1, 2, 5, 12, 30, 31])
def test_a_reply_that_is_cut_off_streams_as_far_as_it_goes(talker, max_new_tokens):
    _, reply = talker.whole(**talker.script(*WORDS) | {"max_new_tokens": max_new_tokens})
    with stream(talker, *WORDS, max_new_tokens=max_new_tokens) as streamer:
        assert_same_reply(list(streamer), reply)
    assert not streamer.finished and not reply.finished


def test_a_random_model_s_own_endings_stream_too():
    for seed in range(4):
        talker = tiny_talker(seed)
        with torch.no_grad():
            talker.model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(seed))
        _, reply = talker.whole(**talker.script(*WORDS))
        with stream(talker, *WORDS) as streamer:
            assert_same_reply(list(streamer), reply)


def test_generate_may_run_in_a_thread_of_the_caller_s_own(talker):
    _, reply = talker.whole(**talker.script(*WORDS))
    streamer = TttStreamer(talker.processor)
    options = {**talker.inputs, **talker.script(*WORDS), "streamer": streamer}
    thread = threading.Thread(target=talker.model.generate, kwargs=options)
    thread.start()
    assert_same_reply(list(streamer), reply)
    thread.join()
    assert list(streamer) == []
    assert streamer.output is None


def test_a_turn_of_a_conversation_can_be_streamed(talker):
    conversation = TttConversation(talker.model, talker.processor)
    for _ in range(2):
        streamer = TttStreamer(talker.processor)
        options = {"text": "What is seven plus five?", **talker.script(*WORDS), "streamer": streamer}
        thread = threading.Thread(target=conversation.say, kwargs=options)
        thread.start()
        events = list(streamer)
        thread.join()
        assert_same_reply(events, conversation.turns[-1])
    assert len(conversation.turns) == 2


@pytest.fixture(scope="module")
def nano():
    folder = nano_checkpoint()
    return AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder), folder


@pytest.mark.parametrize("first_block_length", [None, 8])
@pytest.mark.parametrize("question", [1, 2])
def test_nano_streams_what_it_says(nano, question, first_block_length):
    model, processor, folder = nano
    inputs = prompt(processor, audio=folder / "questions" / f"{question}.wav")
    ids = model.generate(**inputs, first_block_length=first_block_length)
    with processor.stream_reply(model, inputs, first_block_length=first_block_length) as streamer:
        events = list(streamer)
    assert_same_reply(events, processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :]))
    assert sum(isinstance(event, TttAudioChunk) for event in events) > 1


def test_two_streams_at_once_are_those_of_one_after_the_other(talker):
    def run(seed, into):
        options = talker.script(*WORDS) | {"audio_temperature": 1.0, "generator": torch.Generator().manual_seed(seed)}
        with talker.processor.stream_reply(talker.model, talker.inputs, **options) as streamer:
            into[seed] = list(streamer)

    alone: dict = {}
    for seed in (1, 2):
        run(seed, alone)
    assert not np.array_equal(audio_of(alone[1]), audio_of(alone[2]))
    for _ in range(3):
        together: dict = {}
        runs = [threading.Thread(target=run, args=(seed, together)) for seed in (1, 2)]
        for thread in runs:
            thread.start()
        for thread in runs:
            thread.join()
        for seed in (1, 2):
            assert text_of(together[seed]) == text_of(alone[seed])
            np.testing.assert_array_equal(audio_of(together[seed]), audio_of(alone[seed]))


# -------------------------------------------------------------------------------------------------------------- in time


def test_a_block_is_audible_before_the_next_one_is_begun(talker, forwards):
    class Log(EventQueue):
        def put(self, item):
            log.append((type(item), len(forwards)))

    log: list = []
    feed = ReplyFeed(ReplyDecoder(talker.processor), Log(1), drafts=False)
    talker.model.generate(**talker.inputs, **talker.script("Seven", None, "."), streamer=feed)
    texts = len(talker.processor.tokenizer.encode("Seven")) + 1  # and the begin marker
    first, second, third = (count for kind, count in log if kind is TttAudioChunk and count < len(forwards) - 1)
    assert (first, second, third) == (texts + 3, texts + 6, texts + 9)  # three steps each


def test_a_shorter_first_block_is_audible_first(talker):
    with stream(talker, "Seven", None, ".", first_block_length=5) as streamer:
        chunks = [len(event.audio) // 640 for event in streamer if isinstance(event, TttAudioChunk)]
    assert chunks == [5 - 3, 8, 7, 3]  # three codes are held back for their lookahead, until the end


def test_drafts_show_a_block_while_it_is_denoised(talker):
    with stream(talker, "Seven", None, ".", drafts=True) as streamer:
        events = list(streamer)
    drafts = [event for event in events if isinstance(event, TttBlockDraft)]
    # 8 masks in 3 steps are 3, 3 and 2. The third block has 4: 2, 1 and 1.
    assert [sum(draft.is_masked) for draft in drafts] == [5, 2, 0, 5, 2, 0, 2, 1, 0]
    mask = talker.processor.vocabulary.mask_token_id
    for draft in drafts:
        assert [token_id == mask for token_id in draft.token_ids] == draft.is_masked
    for before, after in zip(drafts[0].token_ids, drafts[1].token_ids, strict=True):
        assert before in (mask, after)
    with stream(talker, "Seven", None, ".") as streamer:
        assert_same_reply(
            [event for event in events if event not in drafts], talker.whole(**talker.script("Seven", None, "."))[1]
        )
        assert not any(isinstance(event, TttBlockDraft) for event in streamer)


# ------------------------------------------------------------------------------------------------- ended by either side


def test_cancelling_from_another_thread_stops_within_one_forward_and_leaves_the_model_usable(talker, forwards):
    ids, _ = talker.whole(**talker.script(*WORDS))
    total = len(forwards)
    forwards.clear()
    streamer = TttStreamer(talker.processor)

    def cancel_in_the_tenth(*_):
        if len(forwards) == 10:
            other = threading.Thread(target=streamer.cancel)
            other.start()
            other.join()

    hook = talker.model.model.register_forward_hook(cancel_in_the_tenth)
    streamer.start(talker.model, talker.inputs, **talker.script(*WORDS))
    list(streamer)
    output = streamer.output
    hook.remove()
    assert len(forwards) == 10 < total
    assert list(streamer) == []
    length = talker.inputs["input_ids"].shape[1]
    assert ids[: output.shape[1] - length] == output[0, length:].tolist()
    assert talker.whole(**talker.script(*WORDS))[0] == ids


@pytest.mark.parametrize("leave", ["close", "with", "error"])
def test_leaving_a_stream_ends_its_thread(talker, leave):
    streamer = stream(talker, *WORDS, queue_size=1)
    assert isinstance(next(streamer), TttTextDelta)
    if leave == "close":
        streamer.close()
    elif leave == "with":
        with streamer:
            next(streamer)
    else:
        with pytest.raises(KeyboardInterrupt), streamer:
            raise KeyboardInterrupt
    assert threads() == []
    assert list(streamer) == []
    assert not streamer.finished


def test_a_stream_that_its_consumer_forgets_ends_by_itself(talker):
    streamer = stream(talker, *WORDS, queue_size=1)
    next(streamer)
    assert threads()
    del streamer
    gc.collect()
    wait_until(lambda: not threads())


def test_a_slow_consumer_makes_generation_wait_and_misses_nothing(talker, forwards):
    ids, reply = talker.whole(**talker.script(*WORDS))
    total = len(forwards)
    forwards.clear()
    with stream(talker, *WORDS, queue_size=2) as streamer:
        events = [next(streamer)]
        wait_until(lambda: len(streamer._queue._items) == 2)
        time.sleep(0.3)
        assert len(streamer._queue._items) == 2
        assert len(forwards) < total / 2
        events += streamer
    assert_same_reply(events, reply)
    assert streamer.token_ids == ids


def test_an_exception_in_generation_reaches_the_consumer_after_what_came_before(talker):
    calls = []

    def fail(ids, scores):
        calls.append(None)
        if len(calls) > 12:
            raise RuntimeError("broken rule")
        return scores

    options = talker.script(*WORDS)
    options["logits_processor"].append(fail)
    events = []
    with talker.processor.stream_reply(talker.model, talker.inputs, **options) as streamer:
        with pytest.raises(RuntimeError, match="broken rule"):
            for event in streamer:
                events.append(event)
        assert list(streamer) == []
    assert text_of(events).startswith("Seven")
    assert streamer.output is None
    assert threads() == []


def test_options_that_are_refused_are_an_error_of_the_consumer(talker):
    refused = talker.processor.stream_reply(talker.model, talker.inputs, block_length=0)
    with refused as streamer, pytest.raises(ValueError, match="block_length"):
        next(streamer)
    with talker.processor.stream_reply(None, talker.inputs) as streamer, pytest.raises(AttributeError):
        next(streamer)


@pytest.mark.parametrize("when", ["push", "finish"])
def test_a_codec_that_fails_is_an_error_of_the_consumer(talker, when, monkeypatch):
    class Broken:
        def push(self, codes):
            return self.fail() if when == "push" else np.zeros(0, dtype=np.float32)

        def finish(self):
            return self.fail()

        def fail(self):
            raise RuntimeError("broken codec")

    monkeypatch.setattr(talker.processor, "codec_stream", Broken)
    with stream(talker, *WORDS) as streamer, pytest.raises(RuntimeError, match="broken codec"):
        list(streamer)


def test_a_streamer_follows_one_reply(talker):
    with stream(talker, "Seven", None) as streamer:
        list(streamer)
        with pytest.raises(ValueError, match="make a new one"):
            streamer.start(talker.model, talker.inputs)
        with pytest.raises(ValueError, match="make a new one"):
            talker.model.generate(**talker.inputs, **BLOCKS, streamer=streamer)


def test_what_generate_returned_is_there_when_the_reply_is_over(talker):
    with stream(talker, *WORDS, queue_size=1) as streamer:
        next(streamer)
        with pytest.raises(ValueError, match="The reply is not over"):
            _ = streamer.output
    assert streamer.output.shape[1] > talker.inputs["input_ids"].shape[1]


def test_a_queue_needs_room(talker):
    with pytest.raises(ValueError, match="`queue_size` must be at least 1, but is 0"):
        TttStreamer(talker.processor, queue_size=0)


FORGETFUL = """
import sys
sys.path[:0] = [{root!r}, {support!r}]
from streaming_fixtures import tiny_talker
talker = tiny_talker()
stream = talker.processor.stream_reply(talker.model, talker.inputs, queue_size=1, **talker.script({words}))
next(stream)
"""


def test_a_process_that_ends_in_the_middle_of_a_stream_ends(tmp_path):
    words = ", ".join(map(repr, WORDS))
    code = FORGETFUL.format(root=str(ROOT), support=str(ROOT / "tests" / "support"), words=words)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
