"""Small GLM-4-Voice codecs with random weights, and the recorded numbers of the original where the folder with them lies beside the checkout."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from processing_ttt.glm4_voice_configuration import Glm4VoiceDecoderConfig, Glm4VoiceTokenizerConfig
from processing_ttt.glm4_voice_decoder import Glm4VoiceDecoderModel
from processing_ttt.glm4_voice_tokenizer import Glm4VoiceTokenizerModel

SHARED = Path(os.environ.get("TTT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
RECORDED = SHARED / "data" / "glm4_voice_small"
needs_recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded numbers of the original are not here")

TOKENIZER = {
    "num_mel_bins": 16,
    "d_model": 24,
    "encoder_layers": 4,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 20,
    "quantize_position": 2,
    "quantize_vocab_size": 64,
    "quantize_causal_block_size": 40,
    "max_source_positions": 140,  # 2.8 s: three and a half blocks
}


def recorded(name):
    """One recorded case as tensors."""
    with np.load(RECORDED / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def randomised(model, seed=0):
    """Weights that matter: fresh ones are so small that every code would be the same."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model.eval()


def tiny_tokenizer_model(**changes):
    """A small speech tokenizer whose codes are means that occur, so that different sounds have different codes."""
    model = randomised(Glm4VoiceTokenizerModel(Glm4VoiceTokenizerConfig(**{**TOKENIZER, **changes})))
    frames = []
    hook = model.layers[-1].register_forward_hook(lambda module, inputs, output: frames.append(output[0]))
    with torch.no_grad():
        for seed in (7, 8):
            model(model.features(noise(44800, seed))[0][None])
        model.codebook.weight.copy_(torch.cat(frames).unflatten(0, (-1, 4)).mean(1)[: len(model.codebook.weight)])
    hook.remove()
    return model


def noise(samples, seed=0):
    """Coloured noise of changing level, float32."""
    generator = torch.Generator().manual_seed(seed)
    level = 0.2 + 0.1 * torch.sin(torch.arange(samples) / 1500)
    white = torch.randn(samples, generator=generator)
    return level * torch.nn.functional.avg_pool1d(white[None, None], 3, 1, 1)[0, 0]


FLOW = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "block_size": 4,
    "num_mel_bins": 8,
    "speaker_embedding_size": 6,
    "num_regulator_layers": 2,
    "unet_channels": [16, 24],
    "unet_attention_heads": 2,
    "unet_head_dim": 8,
    "unet_num_blocks": 1,
    "unet_num_mid_blocks": 1,
    "num_inference_steps": 3,
}
VOCODER = {
    "num_mel_bins": 8,
    "upsample_initial_channel": 8,
    "f0_channels": 8,
    "num_harmonics": 2,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "source_resblock_kernel_sizes": [3, 5],
    "source_resblock_dilation_sizes": [[1, 2], [1, 2]],
}


def tiny_decoder_model(flow=None, vocoder=None):
    """A small decoder whose voice has a pitch of some hundred Hz."""
    config = Glm4VoiceDecoderConfig(flow_config={**FLOW, **(flow or {})}, vocoder_config={**VOCODER, **(vocoder or {})})
    model = randomised(Glm4VoiceDecoderModel(config), seed=1)
    with torch.no_grad():
        model.vocoder.f0_predictor.classifier.weight.mul_(100)
        model.vocoder.f0_predictor.classifier.bias.add_(150)
        for parameter in model.flow.estimator.parameters():
            parameter.mul_(0.5)
    return model


def codes_of(count, seed=0):
    """Random codes `(1, 1, count)`."""
    return torch.randint(0, 64, (1, 1, count), generator=torch.Generator().manual_seed(seed))
