"""`--play`: what reaches the loudspeaker, and what is said where there is none. sounddevice is replaced."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import ttt_cli
from modeling_ttt import nano_checkpoint
from ttt_cli.extras import way_out
from ttt_cli.playback import check_player, player


class PortAudioError(Exception):
    """As sounddevice's: no `RuntimeError`."""


class Loudspeaker:
    """`sounddevice.OutputStream`, as far as it is used."""

    def __init__(self, samplerate, channels, dtype):
        self.rate, self.form, self.samples, self.ended = samplerate, (channels, dtype), [], []

    def start(self):
        pass

    def write(self, samples):
        self.samples.append(samples[:, 0])

    def stop(self):
        self.ended.append("played to its end")

    def close(self):
        self.ended.append("closed")


@pytest.fixture
def loudspeakers(monkeypatch):
    opened = []

    def open_one(*arguments, **options):
        opened.append(Loudspeaker(*arguments, **options))
        return opened[-1]

    module = SimpleNamespace(
        OutputStream=open_one, PortAudioError=PortAudioError, query_devices=lambda kind: {"name": "speaker"}
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return opened


@pytest.mark.parametrize("more", [(), ("--stream",)])
def test_speech_is_played_as_it_is_written(loudspeakers, tmp_path, monkeypatch, more):
    import soundfile

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(ttt_cli.app, ["speak", "Two.", "--play", "--model", str(nano_checkpoint()), *more])
    assert done.exit_code == 0, done.output
    (loudspeaker,) = loudspeakers
    written, rate = soundfile.read("speech.wav", dtype="float32")
    assert (loudspeaker.rate, loudspeaker.form) == (rate, (1, "float32"))
    np.testing.assert_allclose(np.concatenate(loudspeaker.samples), written, atol=2 / 2**15)
    assert loudspeaker.ended == ["played to its end", "closed"]


def test_ctrl_c_ends_the_audio_at_once(loudspeakers):
    with pytest.raises(KeyboardInterrupt), player(16_000):
        raise KeyboardInterrupt
    assert loudspeakers[0].ended == ["closed"]


def test_where_nothing_can_be_played_one_sentence_says_so_before_a_model_is_loaded(loudspeakers, monkeypatch):
    def no_device(kind):
        raise PortAudioError("Error querying device -1")

    monkeypatch.setattr(sys.modules["sounddevice"], "query_devices", no_device)
    with pytest.raises(RuntimeError, match=r"no loudspeaker that can be used \(Error querying device -1\): leave out"):
        check_player()
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError) as missing:
        check_player()
    assert way_out(missing.value) == 'This needs sounddevice, which is not installed: pip install "text-to-talk[mic]".'
