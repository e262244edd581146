"""A tiny talker: a random model with a processor whose codec has a short, known receptive field."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from codec_fixtures import processor_for, small_codec
from modeling_fixtures import script, tiny_model

from modeling_ttt import TttForConditionalGeneration
from processing_ttt import (
    TttAudioChunk,
    TttCodecModel,
    TttProcessor,
    TttReply,
    TttTextDelta,
)

ROUNDING = 1e-6  # of full scale: what the length of a decoded segment may change in float32 on a CPU
BLOCKS = {"block_length": 8, "denoising_steps": 3, "max_span_length": 20, "max_new_tokens": 200}
WORDS = ("Seven", None, " plus five is", None, " Grüße", None, " 你好")


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ttt-generate"]


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.01)


def tiny_codec() -> TttCodecModel:
    """A random codec of 16 codes; a code's audio depends on the 5 codes before it and the 3 after it."""
    return small_codec(fsq_levels=[4, 4], intermediate_size=16, vocoder_intermediate_size=16, encoder_code_layers=3)


def tiny_processor() -> TttProcessor:
    """A processor with the byte-level tokenizer and the tiny codec."""
    return processor_for(tiny_codec(), text_tokens=3, audio_tokens=4)


@dataclass
class TinyTalker:
    """A model and its processor."""

    model: TttForConditionalGeneration
    processor: TttProcessor

    @property
    def inputs(self) -> Any:
        return prompt(self.processor, "What is seven plus five?")

    def script(self, *words: str | None) -> dict[str, Any]:
        """
        Options that force a reply's text; `None` is a span, whose audio is the model's own, and the last `None`
        for the last one.
        """
        vocabulary, text_ids = self.processor.vocabulary, []
        last = max(index for index, word in enumerate(words) if word is None)
        for index, word in enumerate(words):
            marker = vocabulary.begin_last_audio_token_id if index == last else vocabulary.begin_audio_token_id
            text_ids += [marker] if word is None else self.processor.tokenizer.encode(word, add_special_tokens=False)
        return {**BLOCKS, "logits_processor": script(*text_ids, vocabulary.eos_token_id)}

    def whole(self, **options: Any) -> tuple[list[int], TttReply]:
        """The reply's ids, and the reply decoded in one piece."""
        inputs = self.inputs
        ids = self.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
        return ids.tolist(), self.processor.decode_reply(ids)


def tiny_talker(seed: int = 0, processor: TttProcessor | None = None, **overrides: Any) -> TinyTalker:
    """A talker that never ends a span by itself, so that spans have several blocks."""
    processor = processor or tiny_processor()
    vocabulary = processor.vocabulary
    text_config = {
        "vocab_size": vocabulary.vocab_size,
        "eos_token_id": vocabulary.eos_token_id,
        "pad_token_id": vocabulary.pad_token_id,
    }
    model = tiny_model(seed=seed, text_config=text_config, **vocabulary.config_kwargs(), **overrides)
    with torch.no_grad():
        model.lm_head.weight[[vocabulary.end_audio_token_id, vocabulary.end_last_audio_token_id]] = 0.0
    return TinyTalker(model, processor)


def prompt(processor: TttProcessor, text: str | None = None, audio: Any = None, task: str = "chat") -> Any:
    """Inputs of `generate`."""
    return processor.apply_chat_template(
        processor.conversation(task, text=text, audio=audio),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def text_of(events: list) -> str:
    return "".join(event.text for event in events if isinstance(event, TttTextDelta))


def audio_of(events: list) -> np.ndarray:
    chunks = [event.audio for event in events if isinstance(event, TttAudioChunk)]
    return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.float32)


def assert_same_reply(events: list, reply: TttReply) -> None:
    assert text_of(events) == reply.text
    assert audio_of(events).shape == reply.audio.shape
    np.testing.assert_allclose(audio_of(events), reply.audio, rtol=0, atol=ROUNDING)
