"""`pipeline("text-to-speech")` speaks a bare text, as transformers' docstrings call it."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, pipeline

from modeling_ttt import nano_checkpoint
from processing_ttt import TttTalker

FOLDER = str(nano_checkpoint())
TEXT = "Hey it's HuggingFace on the phone!"  # of the docstring of `TextToAudioPipeline`


@pytest.fixture(scope="module")
def speaker():
    return pipeline("text-to-speech", model=FOLDER, device="cpu")


def test_the_call_of_the_docstring_speaks_the_text(speaker):
    output = speaker(TEXT)
    expected = TttTalker.from_pretrained(FOLDER, device="cpu").reply(text=TEXT, task="tts")
    assert expected.text == TEXT
    assert output["sampling_rate"] == expected.sampling_rate
    assert len(output["audio"]) > 8000
    np.testing.assert_allclose(output["audio"], expected.audio, rtol=0, atol=1e-6)


def test_several_texts_and_generate_kwargs_work(speaker):
    spoken = speaker([TEXT, "Hello."], generate_kwargs={"max_new_tokens": 40})
    assert len(spoken) == 2 and all(len(one["audio"]) > 2000 for one in spoken)


def test_a_batch_speaks_as_one_call_for_each_text_does(speaker):
    texts = ["Hello.", TEXT, "Good."]
    for alone, spoken in zip([speaker(text) for text in texts], speaker(texts, batch_size=2), strict=True):
        assert len(alone["audio"]) > 2000
        np.testing.assert_allclose(spoken["audio"], alone["audio"], rtol=0, atol=1e-6)


def test_numbers_are_read_as_words(speaker):
    pytest.importorskip("wetext")
    inputs = speaker.processor("Xavier paid $3.", return_tensors="pt")
    assert speaker.processor.decode(inputs["reply_text_ids"][0]) == "Xavier paid three dollars."


def test_markup_is_not_read_and_foreign_letters_are_warned_of(speaker):
    inputs = speaker.processor("# My **week** [here](https://example.org/a)", return_tensors="pt")
    assert speaker.processor.decode(inputs["reply_text_ids"][0]) == "My week here"
    with pytest.warns(UserWarning, match="Cyrillic"):
        speaker.processor("Привет")


def test_its_processor_writes_the_prompt_that_reads_a_bare_text_aloud(speaker):
    processor = AutoProcessor.from_pretrained(FOLDER)
    expected = processor.prepare(processor.messages("tts", "Hello."))["input_ids"]
    assert torch.equal(speaker.processor("Hello.", return_tensors="pt")["input_ids"], expected)
    rendered = processor.apply_chat_template(processor.messages("tts", "Hello."), add_generation_prompt=True)
    assert torch.equal(speaker.processor(rendered, return_tensors="pt")["input_ids"], expected)
    with pytest.raises(ValueError, match="is empty"):
        speaker.processor(" ")


def test_elsewhere_a_bare_text_is_only_tokenized_and_the_choice_is_not_saved(speaker, tmp_path):
    processor = AutoProcessor.from_pretrained(FOLDER)
    assert processor("Hello.")["input_ids"] == [processor.tokenizer.encode("Hello.", add_special_tokens=False)]
    speaker.processor.save_pretrained(tmp_path)
    assert "bare_text_task" not in json.loads((tmp_path / "processor_config.json").read_text())
    processor.bare_text_task = "tts"  # what a pipeline that is given a loaded processor needs
    assert len(processor("Hello.")["input_ids"][0]) > 10
