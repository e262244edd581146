"""Letters that a tokenizer was not trained on give one warning; languages that it was trained on give none."""

import warnings

import pytest
from processing_fixtures import tiny_tokenizer
from transformers import AutoProcessor

from modeling_ttt import nano_checkpoint
from processing_ttt import TttTalker
from processing_ttt.unknown_letters_ttt import warn_of_unknown_letters


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(nano_checkpoint())


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Привет, мир!", "Cyrillic"),
        ("Say привет.", "Cyrillic"),
        ("你好", "CJK"),
        ("مرحبا", "Arabic"),
        ("안녕", "Hangul"),
        ("It is π.", "Greek"),
    ],
)
@pytest.mark.parametrize("language", ["en", "en-GB"])
def test_letters_that_nano_never_had_are_named_once_with_the_way_out(processor, text, script, language):
    with pytest.warns(UserWarning, match=f"The text has {script} letters.*--adapter") as warned:
        assert processor.readable_text(text, language) == text
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Über café, naïve à la Straße!", "en"),
        ("Hello \U0001f600 \u2019\u2026 \u2192 5 \u00b5m, \u00bd, x\u00b2", "en"),
        ("Привет", "ru"),  # for an adapter of this language
        ("Привет", None),  # for a system prompt of the user's own
    ],
)
def test_latin_letters_and_other_languages_give_no_warning(processor, text, language):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor.readable_text(text, language)


def test_a_tokenizer_that_was_trained_on_the_letters_gives_no_warning():
    tokenizer = tiny_tokenizer().train_new_from_iterator(["привет мир, как дела", "你好世界"] * 3, vocab_size=300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unknown_letters("мир и привет, 你好世", tokenizer)
    with pytest.warns(UserWarning, match="Greek"):
        warn_of_unknown_letters("мир λόγος", tokenizer)


def test_reading_aloud_warns_and_reads():
    talker = TttTalker.from_pretrained(nano_checkpoint(), device="cpu")
    with pytest.warns(UserWarning, match="Cyrillic"):
        assert talker.reply(text="мир", task="tts", max_new_tokens=20).text
