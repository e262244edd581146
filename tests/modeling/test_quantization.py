"""
Quantized weights load through transformers' own `quantization_config` and still talk; without the libraries these tests
skip.
"""

from importlib.util import find_spec

import pytest
import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttProcessor


def torchao_8_bit():
    quantization = pytest.importorskip("torchao.quantization")
    return TorchAoConfig(quantization.Int8WeightOnlyConfig())


def bitsandbytes_8_bit():
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(load_in_8bit=True)


def bitsandbytes_4_bit():
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)


SENTENCES = ("Two plus two is four.", "Grass is green.", "The capital of Italy is Rome.", "Goodbye, see you soon.")


@pytest.fixture
def in_float32(monkeypatch):
    """On CPUs with AVX512-BF16 bitsandbytes multiplies 4-bit weights in bfloat16, where a cache may turn a near tie."""
    if find_spec("bitsandbytes"):
        monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


@torch.inference_mode()
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(
    ("config", "error"), [(torchao_8_bit, 0.03), (bitsandbytes_8_bit, 0.05), (bitsandbytes_4_bit, 0.3)]
)
def test_quantized_weights_speak_and_score_nearly_as_the_whole_ones(config, error):
    quantized = TttForConditionalGeneration.from_pretrained(nano_checkpoint(), quantization_config=config()).eval()
    whole = TttForConditionalGeneration.from_pretrained(nano_checkpoint()).eval()
    assert type(quantized.model.layers[0].mlp.up_proj.weight) is not type(whole.model.layers[0].mlp.up_proj.weight)
    processor = TttProcessor.from_pretrained(nano_checkpoint())
    for text in SENTENCES:
        ids = processor.apply_chat_template(
            [processor.conversation("tts", text)],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )["input_ids"]
        logits, expected = quantized(ids).logits.float(), whole(ids).logits
        assert float((logits - expected).norm() / expected.norm()) < error
        spoken = quantized.generate(ids, max_new_tokens=20)
        assert (spoken[0, ids.shape[1] :] >= whole.config.audio_token_start_id).any()
        assert torch.equal(spoken, quantized.generate(ids, max_new_tokens=20, use_cache=False))
