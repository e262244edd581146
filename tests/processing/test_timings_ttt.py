"""When each word of a reply is audible, against layouts whose times were worked out by hand."""

import numpy as np
import pytest
import soundfile
from streaming_fixtures import WORDS, audio_of, tiny_processor, tiny_talker

from processing_ttt import TttAudioChunk, TttConversation
from processing_ttt.reply_stream_ttt import ReplyDecoder


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()  # 25 codes a second; the fixed pattern is 3 text tokens, then 4 codes


def reply_ids(processor, *groups, end=True):
    encode = processor.tokenizer.encode
    ids = processor.layout.build_aligned_reply([(encode(text) if text else [], range(n)) for text, n in groups])
    return ids + [processor.vocabulary.eos_token_id] * end


def rows(timings):
    return [(time.word, round(time.start, 6), round(time.end, 6)) for time in timings]


def test_each_word_has_the_place_of_its_own_span(processor):
    reply = processor.decode_reply(reply_ids(processor, ("Grüße", 9), (" 你好", 5), (" there.", 11)))
    assert rows(reply.timings) == [("Grüße", 0.0, 0.36), ("你好", 0.36, 0.56), ("there.", 0.56, 1.0)]


def test_the_last_word_ends_with_the_written_audio(processor, tmp_path):
    reply = processor.decode_reply(reply_ids(processor, ("Grüße", 9), (" there.", 12)))
    reply.save(tmp_path / "reply.wav")
    assert reply.timings[-1].end == pytest.approx(soundfile.info(tmp_path / "reply.wav").duration, abs=1e-9)
    assert reply.timings[0].start == 0.0


@pytest.mark.parametrize(
    "groups, expected",
    [
        ([("", 5), (" there", 6)], [("there", 0.2, 0.44)]),  # audio without words comes first
        ([("Grüße", 6), (" there", 0)], [("Grüße", 0.0, 0.24)]),  # the last word has no audio
        ([("seven plus", 10)], [("seven plus", 0.0, 0.4)]),  # two words share their audio
        ([("aloud", 0), (",", 13), (" and", 5)], [("aloud,", 0.0, 0.52), ("and", 0.52, 0.72)]),  # an empty span
        ([("Hello there", 0)], []),
    ],
)
def test_only_words_whose_audio_is_known_have_times(processor, groups, expected):
    assert rows(processor.decode_reply(reply_ids(processor, *groups)).timings) == expected


def test_a_word_whose_span_was_cut_off_has_no_time(processor):
    ids = reply_ids(processor, ("Grüße", 9), (" there", 6), end=False)
    assert rows(processor.decode_reply(ids).timings)[1:] == [("there", 0.36, 0.6)]
    assert rows(processor.decode_reply(ids[:-1]).timings) == [("Grüße", 0.0, 0.36)]


def test_the_fixed_pattern_gives_no_times_because_its_text_runs_ahead(processor):
    text_ids = processor.tokenizer.encode("What is seven plus five? Seven plus five is twelve.")
    ids = processor.layout.build_reply(text_ids, list(range(16)) * 2)
    assert processor.decode_reply(ids).timings == ()
    one_span = processor.layout.build_reply(text_ids[:3], list(range(10)))
    assert len(processor.decode_reply(one_span).timings) == 1


def test_a_character_that_two_groups_share_belongs_to_the_second(processor):
    first, second = processor.tokenizer.encode("ü", add_special_tokens=False)
    ids = processor.layout.build_aligned_reply([([first], range(5)), ([second], range(10))])
    assert rows(processor.decode_reply(ids).timings) == [("ü", 0.2, 0.6)]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_stream_gives_each_word_once_and_as_the_whole_reply_has_it(processor, size):
    ids = reply_ids(processor, ("Grüße", 9), (" 你好", 5), (" there.", 11))
    decoder, events = ReplyDecoder(processor), []
    for start in range(0, len(ids), size):
        events += decoder.push(ids[start : start + size])
    events += decoder.finish()
    chunks = [event for event in events if isinstance(event, TttAudioChunk)]
    assert [time for chunk in chunks for time in chunk.timings] == list(processor.decode_reply(ids).timings)
    assert decoder.reply().timings == processor.decode_reply(ids).timings
    arrived, rate = 0, processor.codec_config.output_sampling_rate
    for chunk in chunks:  # a word comes with the last of its audio or before it, the look-ahead of 3 codes aside
        arrived += len(chunk.audio)
        assert all(time.end * rate <= arrived + 3 * 640 for time in chunk.timings)


def test_a_word_that_ends_with_a_block_comes_although_no_audio_follows(processor, monkeypatch):
    monkeypatch.setattr(processor, "codec_stream", NoLookahead)
    decoder = ReplyDecoder(processor)
    *ids, end_of_span, end = reply_ids(processor, ("Grüße", 9))
    assert [type(event).__name__ for event in decoder.push(ids)] == ["TttTextDelta", "TttAudioChunk"]
    assert decoder.push([end_of_span, end]) == []
    (last,) = decoder.finish()
    assert len(last.audio) == 0 and rows(last.timings) == [("Grüße", 0.0, 0.36)]


class NoLookahead:
    def push(self, codes):
        return np.zeros(640 * len(codes), np.float32)

    def finish(self):
        return np.zeros(0, np.float32)


def test_conversations_and_streams_of_a_model_give_the_times_of_its_spans():
    talker = tiny_talker()
    words = (*WORDS, None)
    reply = TttConversation(talker.model, talker.processor).say("What is seven plus five?", **talker.script(*words))
    assert [time.word for time in reply.timings] == ["Seven", "plus five is", "Grüße", "你好"]
    assert reply.timings[-1].end == pytest.approx(reply.seconds)
    with TttConversation(talker.model, talker.processor).stream(
        "What is seven plus five?", **talker.script(*words)
    ) as stream:
        events = list(stream)
    assert stream.output.timings == reply.timings
    timings = [time for event in events if isinstance(event, TttAudioChunk) for time in event.timings]
    assert timings == list(reply.timings) and len(audio_of(events)) == len(reply.audio)
