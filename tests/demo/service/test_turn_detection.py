"""A turn begins with speech and ends with a pause, however the audio is cut and whoever else is speaking."""

import base64

import numpy as np
import pytest
import soundfile

from modeling_ttt import nano_checkpoint

pytest.importorskip("silero_vad", reason="the demo extra is not installed")

from spaces_demo.service import RequestError
from spaces_demo.service.turn_detection import (
    END_WINDOWS,
    INITIAL_STATE,
    SAMPLING_RATE,
    WINDOW,
    answer_microphone,
    detect_turn,
)


def speech():
    """A question without the silence around it."""
    samples, rate = soundfile.read(nano_checkpoint() / "questions" / "1.wav", dtype="float32")
    assert rate == SAMPLING_RATE
    sounding = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[sounding[0] : sounding[-1] + 1]


def said(before, after):
    """A question with silence around it, in whole windows."""
    audio = np.concatenate([np.zeros(int(before * SAMPLING_RATE)), speech(), np.zeros(int(after * SAMPLING_RATE))])
    noisy = audio + np.random.default_rng(0).normal(0, 1e-4, len(audio))
    return noisy[: len(audio) // WINDOW * WINDOW].astype(np.float32)


def as_sent(samples, memory=None):
    return {"audio": base64.b64encode(np.rint(samples * 32767).astype("<i2").tobytes()).decode(), "memory": memory}


def state_of(network):
    counts = dict.fromkeys(("num_windows", "speech_run", "silence_run", "begin", "num_speech"), 0)
    return {"network": base64.b64encode(network.tobytes()).decode(), **counts}


def test_a_turn_begins_with_speech_and_ends_with_a_pause():
    state = detect_turn(said(1.0, 1.5))
    assert state.begins == pytest.approx(1.0, abs=0.2) and state.is_over
    assert not detect_turn(said(1.0, 0.4)).is_over


def test_a_pause_to_think_does_not_end_a_turn():
    audio = said(0.5, 0.9)
    state = detect_turn(audio)
    assert not state.is_over and state.silence_run * WINDOW / SAMPLING_RATE > 0.8
    assert not detect_turn(audio, state).is_over and detect_turn(said(0.5, 1.5), state).is_over


def test_silence_begins_no_turn():
    state = detect_turn(np.zeros(WINDOW * 60, np.float32))
    assert state.begins is None and not state.is_over


def test_pieces_give_the_state_of_the_whole_and_two_speakers_stay_apart():
    audio = said(0.5, 1.5)
    whole, pieces, other = detect_turn(audio), INITIAL_STATE, INITIAL_STATE
    for start in range(0, len(audio), 6 * WINDOW):
        pieces = detect_turn(audio[start : start + 6 * WINDOW], pieces)
        other = detect_turn(np.zeros(6 * WINDOW, np.float32), other)
    assert (pieces.begin, pieces.silence_run, pieces.num_windows) == (whole.begin, whole.silence_run, whole.num_windows)
    assert np.allclose(pieces.network, whole.network, atol=1e-5)
    assert other.begins is None


def test_a_soft_syllable_does_not_end_a_turn_and_a_click_begins_none():
    state = INITIAL_STATE
    for probability in [0.9, 0.1, *[0.9] * 4, *[0.4] * 40, *[0.1] * 10, 0.9, *[0.1] * (END_WINDOWS - 1)]:
        state = state.after(probability)
    assert state.begin == 2 and not state.is_over and state.num_speech == 4 + 40 + 1
    assert state.after(0.1).is_over


def test_the_microphone_in_the_browser_carries_the_state():
    audio, answer = said(0.3, 1.5), {"memory": None}
    for start in range(0, len(audio), 8 * WINDOW):
        answer = answer_microphone(as_sent(audio[start : start + 8 * WINDOW], answer["memory"]))
    assert answer["is_over"] and answer["begins"] == detect_turn(audio).begins


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "audio",
        {},
        {"audio": None},
        {"audio": "***"},
        {"audio": ""},
        {"audio": base64.b64encode(b"\0" * 10).decode()},
        {"audio": base64.b64encode(b"\0" * 2 * WINDOW * 1000).decode()},
        as_sent(np.zeros(WINDOW), {"network": ""}),
        as_sent(np.zeros(WINDOW), ["network"]),
        as_sent(np.zeros(WINDOW), state_of(np.full(320, np.nan, "<f4"))),
        as_sent(np.zeros(WINDOW), {"network": base64.b64encode(bytes(1280)).decode(), "num_windows": "many"}),
        *[
            as_sent(np.zeros(WINDOW), state_of(np.zeros(320, "<f4")) | {name: count})
            for name in ("num_windows", "begin")
            for count in (np.inf, np.nan, 1.5, "7", -1, True, [1], 10**400)
        ],
        {"audio": "é"},
    ],
)
def test_a_message_that_is_not_audio_is_refused_in_a_sentence(sent):
    with pytest.raises(RequestError, match="microphone"):
        answer_microphone(sent)


def test_the_detector_leaves_the_process_its_threads():
    import torch

    from spaces_demo.service import turn_detection

    turn_detection._load_network.cache_clear()
    torch.set_num_threads(2)
    try:
        turn_detection._network()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
