"""Audio piece by piece equals audio at once."""

import random

import numpy as np
import pytest
from codec_fixtures import dac, processor_for
from streaming_fixtures import ROUNDING, tiny_codec, tiny_processor

from processing_ttt.codec_stream_ttt import WholeCodecStream, WindowedCodecStream

CONTEXT, LOOKAHEAD, SAMPLES_PER_CODE = 5, 3, 2


class CountingCodec:
    """Whole numbers only, so that equality is exact: a sample is a weighted sum over exactly the receptive field."""

    def __init__(self):
        self.lengths = []

    def __call__(self, codes):
        self.lengths.append(len(codes))
        weights = range(1, CONTEXT + LOOKAHEAD + 2)
        padded = [0] * CONTEXT + codes + [0] * LOOKAHEAD
        sums = [sum(w * c for w, c in zip(weights, padded[i:], strict=False)) for i in range(len(codes))]
        return np.repeat(np.array(sums, dtype=np.float32), SAMPLES_PER_CODE)


def pieces(codes, seed):
    """Cut codes at random; some pieces are empty."""
    generator, start = random.Random(seed), 0
    while start < len(codes):
        end = start + generator.choice([0, 1, 2, 7, 26])
        yield codes[start:end]
        start = end


@pytest.mark.parametrize("seed", range(20))
def test_pieces_join_to_the_whole_however_the_codes_come(seed):
    codes = [random.Random(seed).randrange(100) for _ in range(seed * 6)]
    stream = WindowedCodecStream(CountingCodec(), CONTEXT, LOOKAHEAD, SAMPLES_PER_CODE)
    audio = np.concatenate([*(stream.push(piece) for piece in pieces(codes, seed)), stream.finish()])
    np.testing.assert_array_equal(audio, CountingCodec()(codes))


def test_what_has_its_lookahead_is_spoken_at_once():
    stream = WindowedCodecStream(CountingCodec(), CONTEXT, LOOKAHEAD, SAMPLES_PER_CODE)
    lengths = [len(stream.push([1] * count)) for count in (LOOKAHEAD, 1, 0, 10)]
    assert lengths == [0, SAMPLES_PER_CODE, 0, 10 * SAMPLES_PER_CODE]
    assert len(stream.finish()) == LOOKAHEAD * SAMPLES_PER_CODE
    assert len(stream.finish()) == 0


def test_a_piece_costs_the_same_at_any_time():
    decode = CountingCodec()
    stream = WindowedCodecStream(decode, CONTEXT, LOOKAHEAD, SAMPLES_PER_CODE)
    for _ in range(200):
        stream.push([1, 2, 3, 4])
    assert len(decode.lengths) == 200
    assert max(decode.lengths) == CONTEXT + 4 + LOOKAHEAD
    assert len(stream._codes) <= CONTEXT + LOOKAHEAD


@pytest.mark.parametrize("chunk", [1, 4, 26])
def test_a_codec_with_a_receptive_field_speaks_while_codes_come(chunk):
    processor, codec = tiny_processor(), tiny_codec()
    codes = [random.Random(0).randrange(16) for _ in range(60)]
    stream = processor.codec_stream()
    assert isinstance(stream, WindowedCodecStream)
    waveforms = [stream.push(codes[start : start + chunk]) for start in range(0, 60, chunk)]
    assert sum(map(len, waveforms)) == (60 - codec.config.decode_lookahead) * 640
    whole = processor.decode_codes(codes)
    np.testing.assert_allclose(np.concatenate([*waveforms, stream.finish()]), whole, rtol=0, atol=ROUNDING)


def test_a_codec_that_states_no_receptive_field_speaks_at_the_end_bit_for_bit():
    processor = processor_for(dac())
    codes = [random.Random(0).randrange(16) for _ in range(30)]
    stream = processor.codec_stream()
    assert isinstance(stream, WholeCodecStream)
    assert [len(stream.push(codes[:10])), len(stream.push(codes[10:]))] == [0, 0]
    np.testing.assert_array_equal(stream.finish(), processor.decode_codes(codes))
    assert stream.finish().shape == (0,)


def test_a_stream_of_the_wrong_codec_is_refused():
    processor = tiny_processor()
    processor._codec_handle.model = dac()
    processor._codec_handle.model.config = type("Config", (), {"codebook_size": 17})()
    with pytest.raises(ValueError, match="17 codes, but the tokenizer's audio alphabet has 16"):
        processor.codec_stream()
