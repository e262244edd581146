"""Audio is checked once, and an error says by a word what is wrong with it."""

import pickle

import numpy as np
import pytest
from streaming_fixtures import tiny_talker

from processing_ttt import AudioInputError, TttTalker, Waveform, audio_input_ttt, load_audio

RATE = 16_000
TONE = (0.3 * np.sin(np.arange(RATE // 2) / 9)).astype(np.float32)


def test_a_waveform_passes_through_and_what_is_computed_from_it_is_checked_again():
    waveform = load_audio((TONE, RATE), RATE)
    assert isinstance(waveform, Waveform) and waveform.sampling_rate == RATE
    assert load_audio(waveform, RATE) is waveform
    assert (waveform * 0).sampling_rate is None
    with pytest.raises(AudioInputError, match="is silent"):
        load_audio(waveform * 0, RATE, RATE)
    with pytest.raises(AudioInputError, match=r"longer than 0\.1 s"):
        load_audio(waveform, RATE, max_seconds=0.1)
    np.testing.assert_array_equal(load_audio(waveform, 8000), load_audio((TONE, RATE), 8000))


@pytest.mark.parametrize("in_a_message", [True, False])
def test_a_question_is_read_once(monkeypatch, in_a_message):
    tiny = tiny_talker()
    seen = []
    read = audio_input_ttt._read
    monkeypatch.setattr(audio_input_ttt, "_read", lambda *arguments: seen.append(None) or read(*arguments))
    rate = tiny.processor.codec_config.sampling_rate
    audio = (TONE, rate) if in_a_message else load_audio((TONE, rate), rate)
    ids = TttTalker(tiny.model, tiny.processor).prepare(audio=audio)["input_ids"]
    assert len(seen) == 1
    assert tiny.processor.vocabulary.end_user_audio_token_id in ids


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        ((TONE[:0], RATE), "empty"),
        (b"", "empty"),
        ((TONE * 0, RATE), "silent"),
        ((np.stack([TONE, -TONE]), RATE), "channels_cancel"),
        ((np.full(9, np.nan, np.float32), RATE), "not_finite"),
        ((TONE * 1e4, RATE), "out_of_range"),
        ((np.tile(TONE, 2), RATE), "too_long"),
        ((TONE, 3), "bad_rate"),
        (TONE, "bad_rate"),
        ((np.ones((20, 20), np.float32), RATE), "bad_shape"),
        (b"noise" * 100, "unreadable"),
        ("https://example.org/a.wav", "unreadable"),
        (((np.sin(np.arange(9600) * np.pi * 0.98) * np.hanning(9600) * 0.1).astype(np.float32), 48_000), "silent"),
    ],
)
def test_an_error_names_its_reason(audio, reason):
    with pytest.raises(AudioInputError) as caught:
        load_audio(audio, RATE, max_seconds=0.9)
    assert caught.value.reason == reason
    assert pickle.loads(pickle.dumps(caught.value)).reason == reason
    assert isinstance(caught.value, ValueError)
