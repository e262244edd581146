"""Audio that is made faster or slower keeps its pitch."""

import numpy as np
import pytest

from processing_ttt.audio_speed_ttt import SpeedChanger

pytest.importorskip("av", reason="PyAV is not installed")
RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 220 * np.arange(3 * RATE) / RATE)).astype(np.float32)


def changed(speed, num_pieces=13):
    changer = SpeedChanger(speed, RATE)
    pieces = [changer.push(piece) for piece in np.array_split(TONE, num_pieces)]
    return pieces, np.concatenate([*pieces, changer.finish()])


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.3, 2.0, 3.0, 4.0])
def test_duration_scales_and_the_pitch_stays(speed):
    _, audio = changed(speed)
    assert audio.dtype == np.float32
    assert len(audio) / RATE == pytest.approx(3.0 / speed, rel=0.02)
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    assert np.argmax(spectrum) * RATE / len(audio) == pytest.approx(220, abs=1)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_most_of_the_audio_comes_before_the_end():
    pieces, audio = changed(1.5)
    assert sum(map(len, pieces)) > 0.9 * len(audio)
    assert len(pieces[2]) > 0


def test_how_the_audio_comes_makes_no_difference():
    np.testing.assert_array_equal(changed(1.5, 13)[1], changed(1.5, 3)[1])


def test_speed_1_passes_audio_through():
    np.testing.assert_array_equal(changed(1.0)[1], TONE)


def test_no_audio_gives_none():
    assert len(SpeedChanger(2.0, RATE).finish()) == 0


@pytest.mark.parametrize("speed", [0.2, 4.1, 0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_out_of_range_is_refused(speed):
    with pytest.raises(ValueError, match=r"from 0.25 to 4, but is"):
        SpeedChanger(speed, RATE)
