"""
Small GLM-4-Voice codecs with random weights, and the recorded numbers of the original if their folder is beside the
checkout.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from processing_ttt.glm4_voice_codec import Glm4VoiceCodec
from processing_ttt.glm4_voice_configuration import (
    Glm4VoiceCodecConfig,
    Glm4VoiceDecoderConfig,
    Glm4VoiceTokenizerConfig,
)
from processing_ttt.glm4_voice_decoder import Glm4VoiceDecoderModel
from processing_ttt.glm4_voice_tokenizer import Glm4VoiceTokenizerModel

SHARED = Path(os.environ.get("TTT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
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


def randomised(model_class, config, seed=0):
    """A model with weights that matter, always the same: fresh ones are so small that every code would be the same."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = model_class(config)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    return model.eval()


def tiny_tokenizer_model(**changes):
    """A small speech tokenizer whose codes are means that occur, so that different audio has different codes."""
    model = randomised(Glm4VoiceTokenizerModel, Glm4VoiceTokenizerConfig(**{**TOKENIZER, **changes}))
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
    model = randomised(Glm4VoiceDecoderModel, config, seed=1)
    with torch.no_grad():
        model.vocoder.f0_predictor.classifier.weight.mul_(100)
        model.vocoder.f0_predictor.classifier.bias.add_(150)
        for parameter in model.flow.estimator.parameters():
            parameter.mul_(0.5)
    return model


def codes_of(count, seed=0):
    """Random codes `(1, 1, count)`."""
    return torch.randint(0, 64, (1, 1, count), generator=torch.Generator().manual_seed(seed))


def tiny_codec(**changes):
    """A small codec: 64 codes, 12.5 per second."""
    tokenizer, decoder = tiny_tokenizer_model(), tiny_decoder_model()
    config = Glm4VoiceCodecConfig(
        tokenizer_config=tokenizer.config.to_dict(), decoder_config=decoder.config.to_dict(), **changes
    )
    codec = Glm4VoiceCodec(config)
    codec.tokenizer.load_state_dict(tokenizer.state_dict())
    codec.decoder.load_state_dict(decoder.state_dict())
    return codec.eval()


# -------------------------------------------------------------------------------------------------- the released layout

RELEASED_YAML = """
__set_seed1: !apply:os.system ["echo executed > {canary}"]
sample_rate: 22050
text_encoder_input_size: 512
spk_embed_dim: {spk_embed_dim}
llm: !new:cosyvoice.llm.llm.TransformerLM
    text_encoder_input_size: !ref <text_encoder_input_size>
    spk_embed_dim: !ref <spk_embed_dim>
    text_encoder: !name:os.system {{command: 'echo executed > {canary}'}}
flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec
    input_size: {hidden_size}
    output_size: 8
    spk_embed_dim: !ref <spk_embed_dim>
    vocab_size: {vocab_size}
    input_frame_rate: 12.5
    encoder: !new:cosyvoice.transformer.encoder.BlockConformerEncoder
        output_size: {hidden_size}
        attention_heads: 2
        linear_units: 24
        num_blocks: 2
        dropout_rate: 0.1
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'block_rel_selfattn'
        block_size: 4
        input_size: {hidden_size}
        use_cnn_module: False
        macaron_style: False
    length_regulator: !new:cosyvoice.flow.length_regulator.InterpolateRegulator
        channels: 8
        sampling_ratios: [1, 1]
    decoder: !new:cosyvoice.flow.flow_matching.ConditionalCFM
        in_channels: 24
        cfm_params: !new:omegaconf.DictConfig
            content:
                sigma_min: 1e-06
                solver: 'euler'
                t_scheduler: 'cosine'
                inference_cfg_rate: 0.6
        estimator: !new:cosyvoice.flow.decoder.ConditionalDecoder
            in_channels: 32
            out_channels: 8
            channels: [16, 24]
            attention_head_dim: 8
            n_blocks: 1
            num_mid_blocks: 1
            num_heads: 2
            act_fn: 'gelu'
hift: !new:cosyvoice.hifigan.generator.HiFTGenerator
    in_channels: 8
    base_channels: 8
    nb_harmonics: 2
    sampling_rate: !ref <sample_rate>
    nsf_alpha: 0.1
    nsf_sigma: 0.003
    nsf_voiced_threshold: 10
    upsample_rates: [8, 8]
    upsample_kernel_sizes: [16, 16]
    istft_params:
        n_fft: 16
        hop_len: 4
    resblock_kernel_sizes: [3, 5]
    resblock_dilation_sizes: [[1, 3], [1, 3]]
    source_resblock_kernel_sizes: [3, 5]
    source_resblock_dilation_sizes: [[1, 2], [1, 2]]
    lrelu_slope: 0.1
    audio_limit: 0.99
    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: 8
        cond_channels: 8
"""


def released_flow_name(name, regulator_layers=2):
    """
    What the released file calls a weight of the flow: the other way round than the converter, and written down by
    itself.
    """
    head, _, rest = name.partition(".")
    if head == "speaker_projection":
        return f"spk_embed_affine_layer.{rest}"
    if head == "mel_projection":
        return f"encoder_proj.{rest}"
    if head == "length_regulator":
        kind, _, rest = rest.partition(".")
        if kind == "output_projection":
            return f"length_regulator.model.{3 * regulator_layers}.{rest}"
        index, _, rest = rest.partition(".")
        return f"length_regulator.model.{3 * int(index) + (kind == 'norms')}.{rest}"
    if head == "encoder":
        parts = {
            "input_projection": "embed.out.0",
            "input_norm": "embed.out.1",
            "final_norm": "after_norm",
            "layers": "encoders",
            "attention": "self_attn",
            "attention_norm": "norm_mha",
            "feed_forward_norm": "norm_ff",
            "up_proj": "feed_forward.w_1",
            "down_proj": "feed_forward.w_2",
        }
        return ".".join(parts.get(part, part) for part in name.split("."))
    if head == "estimator":
        if rest.startswith("final_conv"):
            return "decoder." + name.replace("final_conv", "final_block.block.0")
        if rest.startswith("final_norm"):
            return "decoder." + name.replace("final_norm", "final_block.block.1")
        strided = ".down_blocks.0.resample" in name or ".up_blocks.0.resample" in name
        parts = {
            "time_embedding": "time_mlp",
            "resnet": "0",
            "transformers": "1",
            "resample": "2.conv" if strided else "2",
            "time_projection": "mlp.1",
            "conv1": "block1.block.0",
            "norm1": "block1.block.1",
            "conv2": "block2.block.0",
            "norm2": "block2.block.1",
            "shortcut": "res_conv",
            "attention_norm": "norm1",
            "q_proj": "attn1.to_q",
            "k_proj": "attn1.to_k",
            "v_proj": "attn1.to_v",
            "out_proj": "attn1.to_out.0",
            "feed_forward_norm": "norm3",
            "up_proj": "ff.net.0.proj",
            "down_proj": "ff.net.2",
        }
        return "decoder." + ".".join(parts.get(part, part) for part in name.split("."))
    return name


def released_vocoder_weights(vocoder):
    """The vocoder's weights as the released file has them: weight normalisation in two tensors."""
    weights, generator = {}, torch.Generator().manual_seed(0)
    for name, tensor in vocoder.state_dict().items():
        released = name.replace("source.linear", "m_source.l_linear")
        if released.startswith("f0_predictor.convs."):
            _, _, index, kind = released.split(".")
            released = f"f0_predictor.condnet.{2 * int(index)}.{kind}"
        normed = tensor.ndim == 3 and not name.startswith("source_downs")
        if normed:
            size = tensor.square().sum((1, 2), keepdim=True).sqrt()
            weights[f"{released}_g"] = size
            weights[f"{released}_v"] = tensor * (torch.rand(size.shape, generator=generator) + 0.5)
        else:
            weights[released] = tensor
    return weights


def write_released_decoder(folder, model):
    """
    config.yaml, flow.pt and hift.pt of a small decoder, in the released layout; returns a file that only executed YAML
    would make.
    """
    folder.mkdir(parents=True, exist_ok=True)
    canary = folder / "canary"
    config = model.config.flow_config
    (folder / "config.yaml").write_text(
        RELEASED_YAML.format(
            canary=canary,
            spk_embed_dim=config.speaker_embedding_size,
            hidden_size=config.hidden_size,
            vocab_size=config.vocab_size,
        )
    )
    flow = {released_flow_name(name): tensor for name, tensor in model.flow.state_dict().items()}
    torch.save(flow, folder / "flow.pt")
    torch.save(released_vocoder_weights(model.vocoder), folder / "hift.pt")
    return canary


def write_released_tokenizer(folder, model):
    """config.json and model.safetensors of a small speech tokenizer, in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    size, width = model.codebook.weight.shape
    weights = {**model.state_dict(), "ema_count": torch.ones(size), "ema_weight": torch.ones(size, width)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changes = {"model_type": "whisper", "architectures": ["WhisperVQEncoder"], "quantize_vocab_size": size}
    config = {**TOKENIZER, **changes, "pooling_position": 2}
    (folder / "config.json").write_text(json.dumps(config))
