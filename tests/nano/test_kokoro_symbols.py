"""espeak-ng's phonemes in Kokoro's symbols."""

import pytest

from finetune.nano.speech.kokoro import kokoro_symbols


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
