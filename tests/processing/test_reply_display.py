"""A reply in a terminal and in a notebook."""

import base64
import io
import re

import numpy as np
import soundfile

from processing_ttt import TttReply

AUDIO = np.sin(np.arange(24000) / 20).astype(np.float32)


def test_a_reply_prints_its_length_and_not_its_samples():
    assert repr(TttReply("Hello.", AUDIO, 16000)) == "TttReply('Hello.', 1.50 s of audio at 16000 Hz)"
    assert repr(TttReply("Hel", AUDIO[:0], 16000, finished=False)) == "TttReply('Hel', no audio, unfinished)"


def test_a_notebook_shows_the_text_as_text_and_plays_the_audio():
    shown = TttReply("<b>Hello</b>", AUDIO, 16000)._repr_html_()
    assert "&lt;b&gt;Hello&lt;/b&gt;" in shown and "<b>" not in shown
    encoded = re.search(r'src="data:audio/wav;base64,([^"]+)"', shown)[1]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(samples, AUDIO, rtol=0, atol=2 / 32768)
    assert "<audio" not in TttReply("Hello.", AUDIO[:0], 16000)._repr_html_()
