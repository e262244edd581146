"""What is asked for in the usual way brings no warning of a library."""

import logging

import pytest
from transformers import AutoProcessor

import modeling_ttt  # noqa: F401 - registers the model
from modeling_ttt import nano_checkpoint


@pytest.fixture
def warnings_of_transformers():
    """Messages that transformers logs."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_a_codec_loads_as_its_checkpoint_does_without_a_warning(warnings_of_transformers):
    processor = AutoProcessor.from_pretrained(nano_checkpoint(), trust_remote_code=True)
    assert processor.codec.config.sampling_rate == 16_000
    assert warnings_of_transformers == []


def test_padding_is_an_option_of_the_chat_template(warnings_of_transformers):
    processor = AutoProcessor.from_pretrained(nano_checkpoint())
    batch = [processor.messages("text", text=text) for text in ("Hello", "What is two plus three?")]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    inputs = processor.apply_chat_template(batch, **options, padding=True, pad_to_multiple_of=32)
    assert inputs["input_ids"].shape[1] % 32 == 0
    assert inputs["attention_mask"].sum() < inputs["attention_mask"].numel()
    assert warnings_of_transformers == []
