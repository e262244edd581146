"""Kokoro's speakers, espeak-ng's phonemes in Kokoro's symbols, and when each word is spoken."""

import numpy as np
import pytest

from finetune.nano.speech.kokoro import KokoroVoice, kokoro_symbols, without_silence, words_of_groups
from finetune.nano.speech.voices import Utterance, Word


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
        ("it", "did^ʒitˈare", "diʤitˈare"),
        ("it", "kant^ʃellˈetːo", "kanʧellˈetːo"),  # a long consonant stays one
    ],
)
def test_diphthongs_become_one_symbol_and_the_longest_rule_counts(accent, phonemes, symbols):
    assert kokoro_symbols(phonemes, accent) == symbols


class Styles:
    """Two voices whose styles are constant."""

    def style(self, name):
        return np.full((510, 1, 256), {"af_one": 1.0, "bm_two": 2.0}[name], np.float32)


def test_a_mixture_has_the_mean_style_and_the_accent_of_its_largest_share():
    alone, both = KokoroVoice("af_one", Styles()), KokoroVoice("af_one:0.25+bm_two:0.75", Styles())
    assert (alone.style == 1).all() and alone.accent == "en-us"
    assert both.style.shape == (510, 1, 256) and (both.style == 1.75).all() and both.accent == "en-gb"


def test_a_voice_speaks_another_language_only_where_it_is_told_to():
    assert KokoroVoice("af_one", Styles(), accent="it").accent == "it"
    with pytest.raises(ValueError, match="en-us, en-gb, it"):
        KokoroVoice("af_one", Styles(), accent="xx")


@pytest.mark.parametrize(
    ("words", "groups", "counts"),
    [
        ([3, 2, 3, 4], [3, 2, 3, 4], [1, 1, 1, 1]),
        ([4, 2, 2, 5], [4, 4, 5], [1, 2, 1]),  # "wing of the turkey": "of the" is one group
        ([2, 2, 2, 2], [6, 2], [3, 1]),
        ([3], [3, 3], None),  # a word that is spoken as two
        ([1] * 7, [3, 3], None),  # more words than groups can have
        ([], [], []),
    ],
)
def test_words_are_shared_among_groups_of_phonemes(words, groups, counts):
    assert words_of_groups(words, groups) == counts


class Spelled(Styles):
    """Phonemes are letters, and "of the" is one group."""

    def groups(self, text, accent):
        return [[1] * len(group) for group in text.replace("of the", "ofthe").split()]


def test_a_word_lasts_until_the_next_one_and_a_group_is_shared_by_length():
    voice = KokoroVoice("af_one", Spelled())
    # silence, "wing", space, "ofthe", space, "ox", silence: 1 + 4 + 1 + 5 + 1 + 2 + 1 tokens
    seconds = np.array([0.5, *[0.1] * 4, 0.2, *[0.1] * 5, 0.0, 0.3, 0.3, 0.4])
    times = voice.word_times("wing of the ox", voice.model.groups("wing of the ox", "en-us"), seconds)
    assert [word.text for word in times] == ["wing", "of", "the", "ox"]
    np.testing.assert_allclose([word.start for word in times], [0, 1.1, 1.3, 1.6])
    np.testing.assert_allclose([word.end for word in times], [1.1, 1.3, 1.6, 2.6])
    assert voice.word_times("ox", [[1], [1]], np.ones(5)) is None


def test_silence_before_and_after_speech_is_cut_and_the_words_move_with_it():
    audio = np.zeros(16_000, np.float32)
    audio[4000:12_000] = 0.1
    spoken = without_silence(Utterance(audio, [Word("wing", 0.0, 0.5), Word("ox", 0.5, 1.0)]))
    assert len(spoken.audio) == pytest.approx(8000 + 2 * 1280, abs=160)  # 0.08 s at either end; the mean of 10 ms
    first, second = spoken.words
    assert (first.start, first.end) == (0, second.start) and second.end == len(spoken.audio) / 16_000
    assert second.start == pytest.approx(0.5 - 0.25 + 0.08, abs=0.005)
    words = [Word("wing", 0.0, 0.9), Word("...", 0.9, 1.0)]  # the last one in the silence that is cut
    assert without_silence(Utterance(audio, words)).words[-1] == Word("...", second.end, second.end)
    silent = Utterance(np.zeros(100, np.float32))
    assert without_silence(silent) is silent
    assert len(without_silence(Utterance(np.full(100, 0.1, np.float32))).audio) == 100


class Speaking(Spelled):
    """Half a second of speech after a quarter of silence; the session stands for itself."""

    @property
    def session(self):
        return self

    def joined(self, groups):
        return [token for group in groups for token in (0, *group)][1:]

    def run(self, outputs, feed):
        audio = np.zeros(24_000, np.float32)
        audio[6000:18_000] = 0.1 * np.sin(np.arange(12_000))
        return audio, np.ones(feed["tokens"].shape, np.float32)


def test_only_a_trimmed_voice_loses_its_silence():
    whole = KokoroVoice("af_one", Speaking()).speak("wing ox")
    assert len(whole.audio) == 16_000 and whole.words[-1].end == pytest.approx(1.0)
    trimmed = KokoroVoice("af_one", Speaking(), trimmed=True).speak("wing ox")
    assert len(trimmed.audio) < 12_000 and trimmed.words[-1].end == len(trimmed.audio) / 16_000
