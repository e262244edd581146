"""Audio that is encoded while it arrives has the codes of the whole, at any rate and with any codec."""

import copy

import numpy as np
import pytest
from codec_fixtures import narrow_codec, processor_for
from glm4_voice_fixtures import noise, tiny_codec

from processing_ttt import AudioInputError
from processing_ttt.resampling_ttt import resample

RATE = 24000
BLOCK = 19200  # samples of a block of the small GLM-4-Voice codec at this rate


@pytest.fixture(scope="module")
def streaming():
    return processor_for(tiny_codec(), codebook_size=64)


@pytest.fixture(scope="module")
def whole():
    return processor_for(narrow_codec())


def pushed(stream, audio, size):
    return [code for start in range(0, len(audio), size) for code in stream.push(audio[start : start + size])]


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
@pytest.mark.parametrize("seconds", [0.01, 0.8, 5.5])
def test_pieces_have_the_codes_of_the_whole(streaming, rate, seconds):
    audio = noise(int(seconds * rate), seed=3).numpy()
    stream = streaming.encode_stream(rate)
    assert stream.is_piecewise
    early = pushed(stream, audio, 2345)
    codes = early + stream.finish()
    assert codes == streaming.encode_audio(audio, rate)
    assert len(codes) - len(early) <= 20  # what is left is in the last block, or at its end


def test_a_codec_that_differs_in_pieces_has_the_codes_of_its_own_stream(streaming):
    audio = noise(5 * 8000, seed=3).numpy()  # nothing above 4 kHz: a louder place changes the features there
    stream, own = streaming.encode_stream(8000), streaming.codec.encode_stream()
    codes = pushed(stream, audio, 2345) + stream.finish()
    resampled = resample(audio, 8000, 16000)
    assert codes == pushed(own, resampled, 5000) + own.finish() and not own.exact
    assert codes != streaming.encode_audio(audio, 8000)


def test_a_copy_goes_on_by_itself(streaming):
    audio, other = noise(5 * BLOCK).numpy(), noise(5 * BLOCK, seed=1).numpy()
    stream = streaming.encode_stream(RATE)
    codes = pushed(stream, audio[: 3 * BLOCK - 5000], 4000)
    branch = copy.copy(stream)
    branched = codes + pushed(branch, other[: 2 * BLOCK], 5000) + branch.finish()
    codes += pushed(stream, audio[3 * BLOCK - 5000 :], 4000)
    assert codes + stream.finish() == streaming.encode_audio(audio, RATE)
    joined = np.concatenate([audio[: 3 * BLOCK - 5000], other[: 2 * BLOCK]])
    assert branched == streaming.encode_audio(joined, RATE)


def test_a_codec_that_needs_all_audio_encodes_at_the_end(whole, monkeypatch):
    audio, calls, encode = noise(9000).numpy(), [], whole.codec.encode
    monkeypatch.setattr(whole.codec, "encode", lambda *args: calls.append(1) or encode(*args))
    stream = whole.encode_stream(RATE)
    assert not stream.is_piecewise
    assert pushed(stream, audio[:5000], 1000) == [] and calls == []
    branch = copy.copy(stream)
    pushed(stream, audio[5000:], 1000)
    assert stream.finish() == whole.encode_audio(audio, RATE)
    assert branch.finish() == whole.encode_audio(audio[:5000], RATE)


@pytest.mark.parametrize("name", ["streaming", "whole"])
def test_silence_and_audio_that_is_too_long_are_refused(name, request, monkeypatch):
    processor = request.getfixturevalue(name)
    silent = processor.encode_stream(RATE)
    silent.push(np.zeros(RATE, np.float32))
    with pytest.raises(AudioInputError, match="is silent: its largest sample"):
        silent.finish()
    monkeypatch.setattr(processor, "max_audio_seconds", 0.5)
    long = processor.encode_stream(RATE)
    with pytest.raises(AudioInputError, match=r"longer than 0\.5 s"):
        pushed(long, noise(RATE).numpy(), 4000)
        long.finish()


@pytest.mark.parametrize("name", ["streaming", "whole"])
@pytest.mark.parametrize("samples", [np.zeros(9, np.int16), np.zeros((2, 9), np.float32), np.full(9, np.nan)])
def test_what_is_no_audio_of_one_channel_is_refused_as_it_comes(name, samples, request):
    stream = request.getfixturevalue(name).encode_stream(RATE)
    with pytest.raises(ValueError, match="finite float samples"):
        stream.push(samples)
