"""transformers' common processor suite on `TttProcessor`; run by `test_upstream_suites.py`."""

import unittest
from pathlib import Path

import numpy as np
import soundfile
import transformers.testing_utils
import transformers_suites
from codec_fixtures import narrow_codec
from processing_fixtures import tiny_tokenizer

from processing_ttt import TttProcessor, add_ttt_tokens

# The suite guards its tests of audio files by a library that transformers does not read files with any more, and
# neither do we.
transformers.testing_utils.is_librosa_available = lambda: True

from transformers_suites.test_processing_common import ProcessorTesterMixin  # noqa: E402

CODEBOOK_SIZE = 16
RATE = 16000
TONE = (0.3 * np.sin(2 * np.pi * 300 * np.arange(RATE // 2) / RATE)).astype(np.float32)


class TestTttProcessor(ProcessorTesterMixin, unittest.TestCase):
    """
    The processor's only part is the tokenizer: what the suite asks of a feature extractor is asked of it, because audio
    becomes ids.
    """

    processor_class = TttProcessor
    audio_input_name = "input_ids"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        narrow_codec().save_pretrained(Path(cls.tmpdirname) / "codec")
        folder = Path(transformers_suites.__file__).parents[1] / "utils"
        soundfile.write(folder / "tone.wav", TONE, RATE)

    @classmethod
    def _setup_tokenizer(cls):
        tokenizer = tiny_tokenizer()
        add_ttt_tokens(tokenizer, CODEBOOK_SIZE)
        return tokenizer

    @staticmethod
    def prepare_processor_dict():
        return {"text_tokens": 3, "audio_tokens": 4}

    def prepare_audio_inputs(self, batch_size=None):
        return [(TONE, RATE)] * (batch_size or 1)

    def prepare_components(self, **kwargs):
        # A processor that is put together needs the name of its codec.
        return super().prepare_components(**kwargs) | {"codec_name_or_path": str(Path(self.tmpdirname) / "codec")}

    @staticmethod
    def does_processor_return_mm_offsets(processor_class, method_name):
        # It does, though by no method of the library's: its words for too much audio are not the library's either.
        return method_name != "replace_audio_token"

    def get_subprocessor_name(self, modality, attributes):
        return "tokenizer" if modality == "audio" else super().get_subprocessor_name(modality, attributes)

    def _test_apply_chat_template(self, modality, batch_size, return_tensors, input_name, processor_name, input_data):
        if modality == "audio":
            processor_name = "tokenizer"
        super()._test_apply_chat_template(modality, batch_size, return_tensors, input_name, processor_name, input_data)
