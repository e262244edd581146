"""`ttt speak --speed`, with a tiny talker."""

import json

import pytest
import soundfile
from streaming_fixtures import BLOCKS, tiny_talker

from processing_ttt import TttTalker
from ttt_cli import talk
from ttt_cli.talker import Talker

pytest.importorskip("av", reason="PyAV is not installed")


@pytest.mark.parametrize("answer", [talk._answer, talk._answer_as_it_comes], ids=["whole", "stream"])
def test_speech_is_as_fast_as_is_asked_for(tmp_path, capsys, answer):
    tiny = tiny_talker()
    talker = Talker(TttTalker(tiny.model, tiny.processor, **BLOCKS))
    seconds = {}
    for speed in (1.0, 0.5, 2.0):
        answer(talker, tmp_path / "speech.wav", "tts", text="Seven plus five is twelve.", speed=speed)
        seconds[speed] = soundfile.info(tmp_path / "speech.wav").duration
        assert f"{seconds[speed]:.2f} s of speech" in capsys.readouterr().err
    assert seconds[2.0] == pytest.approx(seconds[1.0] / 2, rel=0.05)
    assert seconds[0.5] == pytest.approx(seconds[1.0] * 2, rel=0.05)


def test_the_times_of_words_are_those_of_the_faster_speech(tmp_path, capsys):
    tiny = tiny_talker()
    talker = Talker(TttTalker(tiny.model, tiny.processor, **BLOCKS))
    words = {}
    for speed in (1.0, 2.0):
        talk._answer(talker, tmp_path / "s.wav", "tts", text="Seven plus five is twelve.", as_json=True, speed=speed)
        words[speed] = json.loads(capsys.readouterr().out)["words"]
    assert words[1.0] and all(word["start"] < word["end"] for word in words[1.0])
    for slow, fast in zip(words[1.0], words[2.0], strict=True):
        assert fast["word"] == slow["word"]
        assert (fast["start"], fast["end"]) == pytest.approx((slow["start"] / 2, slow["end"] / 2), abs=0.001)
