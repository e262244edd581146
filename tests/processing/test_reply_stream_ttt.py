"""A reply's events, without threads: what they join to, and when they come."""

import random

import pytest
from streaming_fixtures import assert_same_reply, tiny_processor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from processing_ttt import TttAudioChunk, TttTextDelta
from processing_ttt.reply_stream_ttt import ReplyDecoder, TextStream


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def byte_ids(processor, data):
    """One id for each byte: a byte-level vocabulary has them all."""
    return processor.tokenizer.convert_tokens_to_ids([bytes_to_unicode()[byte] for byte in data])


def deltas(processor, ids):
    stream = TextStream(processor.decode_text)
    return [*(stream.push([token_id]) for token_id in ids), stream.finish()]


# ----------------------------------------------------------------------------------------------------------------- text


def test_a_character_comes_when_its_last_byte_does(processor):
    ids = byte_ids(processor, "aü你🙂 b".encode())
    assert deltas(processor, ids) == ["a", "", "ü", "", "", "你", "", "", "", "🙂", " ", "b", ""]


def test_bytes_that_become_no_character_come_as_the_whole_text_has_them(processor):
    ids = byte_ids(processor, b"a\xff\xffb\xe4\xbdc\xf0\x9f\x99")
    assert "".join(deltas(processor, ids)) == "a\ufffd\ufffdb\ufffdc\ufffd" == processor.decode_text(ids)
    assert deltas(processor, ids)[-1] == "\ufffd"


@pytest.mark.parametrize("seed", range(20))
def test_deltas_of_any_ids_join_to_the_text_of_all(processor, seed):
    generator = random.Random(seed)
    text_ids = range(processor.vocabulary.audio_token_start_id)
    ids = [generator.choice(text_ids) for _ in range(100)]
    assert "".join(deltas(processor, ids)) == processor.decode_text(ids)


def test_the_cost_of_a_delta_does_not_grow_with_the_text(processor):
    decoded = []

    def decode(ids):
        decoded.append(len(ids))
        return processor.decode_text(ids)

    stream = TextStream(decode)
    for _ in range(50):
        for token_id in byte_ids(processor, "é ".encode()):
            stream.push([token_id])
    assert max(decoded) <= 4


# -------------------------------------------------------------------------------------------------------------- replies


def stream(processor, ids, seed):
    """Push ids in pieces of any size."""
    decoder, generator, start = ReplyDecoder(processor), random.Random(seed), 0
    events = []
    while start < len(ids):
        end = start + generator.choice([1, 1, 2, 9])
        events += decoder.push(ids[start:end])
        start = end
    return decoder, events + decoder.finish()


def reply_ids(processor, finished=True):
    layout, encode = processor.layout, processor.tokenizer.encode
    groups = [(encode("Grüße "), range(9)), (encode("你好 "), range(4)), (encode("there."), range(11))]
    return layout.build_aligned_reply(groups) + [processor.vocabulary.eos_token_id] * finished


@pytest.mark.parametrize("seed", range(5))
def test_events_join_to_the_reply_decoded_whole(processor, seed):
    ids = reply_ids(processor)
    decoder, events = stream(processor, ids, seed)
    assert_same_reply(events, processor.decode_reply(ids))
    assert decoder.parser.finished


@pytest.mark.parametrize("length", range(1, 40, 3))
def test_a_reply_that_is_cut_off_anywhere_is_what_there_is_of_it(processor, length):
    ids = reply_ids(processor)[:length]
    decoder, events = stream(processor, ids, seed=0)
    assert_same_reply(events, processor.decode_reply(ids))
    assert decoder.parser.finished == processor.decode_reply(ids).finished


@pytest.mark.parametrize("seed", range(10))
def test_damaged_ids_are_dropped_as_they_are_offline(processor, seed):
    generator = random.Random(seed)
    ids = [generator.randrange(processor.vocabulary.vocab_size + 3) for _ in range(60)]
    _, events = stream(processor, ids, seed)
    assert_same_reply(events, processor.decode_reply(ids))


def test_what_follows_the_end_of_a_reply_is_not_said(processor):
    _, events = stream(processor, [*reply_ids(processor), *reply_ids(processor)], seed=1)
    assert_same_reply(events, processor.decode_reply(reply_ids(processor)))


def test_a_span_need_not_be_finished_to_be_audible(processor):
    codes = processor.vocabulary.codes_to_ids([1] * 8)
    decoder = ReplyDecoder(processor)
    assert decoder.push([processor.vocabulary.begin_audio_token_id]) == []
    (chunk,) = decoder.push(codes)
    assert len(chunk.audio) == (8 - processor.codec_config.decode_lookahead) * 640
    assert chunk.sampling_rate == 16_000
    assert chunk.seconds == 0.2


def test_a_reply_of_text_only_needs_no_codec(processor):
    written = tiny_processor()
    written._codec_handle = None
    ids = [*byte_ids(processor, b"Hello"), processor.vocabulary.eos_token_id]
    _, events = stream(written, ids, seed=0)
    assert {type(event) for event in events} == {TttTextDelta}


def test_a_draft_shows_its_masks(processor):
    vocabulary = processor.vocabulary
    ids = [vocabulary.audio_code_offset, vocabulary.mask_token_id, vocabulary.end_audio_token_id]
    draft = ReplyDecoder(processor).draft(ids, [0.5, 0.25, 1.0])
    assert (draft.token_ids, draft.is_masked) == (ids, [False, True, False])
    assert draft.confidence == [0.5, 0.25, 1.0]


def test_text_and_audio_come_in_the_order_of_the_reply(processor):
    _, events = stream(processor, reply_ids(processor), seed=0)
    kinds = [type(event) for event in events]
    assert kinds.index(TttAudioChunk) < len(kinds) - 1 - kinds[::-1].index(TttTextDelta)
    assert kinds[0] is TttTextDelta and kinds[-1] is TttAudioChunk
