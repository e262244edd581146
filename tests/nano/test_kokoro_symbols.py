"""Kokoro's speakers, and espeak-ng's phonemes in Kokoro's symbols."""

import numpy as np
import pytest

from finetune.nano.speech.kokoro import KokoroVoice, kokoro_symbols


@pytest.mark.parametrize(
    ("accent", "phonemes", "symbols"),
    [
        ("en-gb", "t^ʃˈe^ə", "ʧˈɛː"),  # chair
        ("en-gb", "hˈi^ə", "hˈɪə"),  # here
        ("en-gb", "ɡˈə^ʊt", "ɡˈQt"),  # goat
        ("en-gb", "fˈe^ɪs", "fˈAs"),  # face
        ("en-us", "fˈe^ɪs", "fˈAs"),
        ("en-us", "nˈɜːs", "nˈɜɹs"),  # nurse
        ("en-us", "lˈɛɾɚ", "lˈɛɾəɹ"),  # letter
        ("en-us", "bˈʌʔn̩", "bˈʌtᵊn̩"),  # button
    ],
)
def test_diphthongs_become_one_symbol_and_the_longest_rule_counts(accent, phonemes, symbols):
    assert kokoro_symbols(phonemes, accent) == symbols


class Styles:
    """Two voices whose styles are constant."""

    def style(self, name):
        return np.full((510, 1, 256), {"af_one": 1.0, "bm_two": 2.0}[name], np.float32)


def test_a_voice_can_have_the_timing_and_the_accent_of_another():
    alone, both = KokoroVoice("af_one", Styles()), KokoroVoice("af_one/af_one:0.25+bm_two:0.75", Styles())
    assert (alone.style == 1).all() and alone.accent == "en-us"
    assert both.style.shape == (510, 1, 256) and both.accent == "en-gb"
    assert (both.style[..., :128] == 1).all() and (both.style[..., 128:] == 1.75).all()
