"""
The released files of GLM-4-Voice's codec -> one folder that loads by `from_pretrained`.

    speech tokenizer: config.json, model.safetensors        decoder: config.yaml, flow.pt, hift.pt

Nothing from the files is executed: YAML is read as plain data, and weights without their code. The weights have a
licence of their own, which is copied to the converted folder.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from .glm4_voice_codec import Glm4VoiceCodec
from .glm4_voice_configuration import Glm4VoiceCodecConfig, Glm4VoiceDecoderConfig
from .glm4_voice_decoder import Glm4VoiceDecoderModel
from .glm4_voice_licence import WEIGHTS_LICENCE, weights_card
from .glm4_voice_tokenizer import Glm4VoiceTokenizerModel

TOKENIZER_NAME, DECODER_NAME = "glm-4-voice-tokenizer", "glm-4-voice-decoder"
DAMAGED = "cannot be read: download it again if it is damaged, or a Git LFS pointer instead of the file"

Names = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

# Released name -> ours; all that match are applied, in this order.
FLOW_NAMES: Names = (
    (r"^spk_embed_affine_layer\.", "speaker_projection."),
    (r"^encoder_proj\.", "mel_projection."),
    (r"^encoder\.embed\.out\.0\.", "encoder.input_projection."),
    (r"^encoder\.embed\.out\.1\.", "encoder.input_norm."),
    (r"^encoder\.after_norm\.", "encoder.final_norm."),
    (r"^encoder\.encoders\.", "encoder.layers."),
    (r"\.self_attn\.", ".attention."),
    (r"\.norm_mha\.", ".attention_norm."),
    (r"\.norm_ff\.", ".feed_forward_norm."),
    (r"\.feed_forward\.w_1\.", ".up_proj."),
    (r"\.feed_forward\.w_2\.", ".down_proj."),
    (r"^length_regulator\.model\.(\d+)\.", lambda match: f"length_regulator.{_regulator_part(int(match[1]))}."),
    (r"^decoder\.estimator\.time_mlp\.", "estimator.time_embedding."),
    (r"^decoder\.estimator\.final_block\.block\.0\.", "estimator.final_conv."),
    (r"^decoder\.estimator\.final_block\.block\.1\.", "estimator.final_norm."),
    (r"^decoder\.estimator\.", "estimator."),
    (r"(_blocks\.\d+)\.0\.mlp\.1\.", r"\1.resnet.time_projection."),
    (r"(_blocks\.\d+)\.0\.block(\d)\.block\.0\.", r"\1.resnet.conv\2."),
    (r"(_blocks\.\d+)\.0\.block(\d)\.block\.1\.", r"\1.resnet.norm\2."),
    (r"(_blocks\.\d+)\.0\.res_conv\.", r"\1.resnet.shortcut."),
    (r"(_blocks\.\d+)\.1\.(\d+)\.norm1\.", r"\1.1.\2.attention_norm."),
    (r"(_blocks\.\d+)\.1\.", r"\1.transformers."),
    (r"(_blocks\.\d+)\.2\.(conv\.)?", r"\1.resample."),
    (r"\.norm3\.", ".feed_forward_norm."),
    (r"\.attn1\.to_([qkv])\.", r".\1_proj."),
    (r"\.attn1\.to_out\.0\.", ".out_proj."),
    (r"\.ff\.net\.0\.proj\.", ".up_proj."),
    (r"\.ff\.net\.2\.", ".down_proj."),
)
VOCODER_NAMES: Names = (
    (r"^m_source\.l_linear\.", "source.linear."),
    (r"^f0_predictor\.condnet\.(\d+)\.", lambda match: f"f0_predictor.convs.{int(match[1]) // 2}."),
)

# Settings of the YAML that must have these values; a file with other values is of another decoder.
FLOW_CONSTANTS = {
    "encoder.normalize_before": True,
    "encoder.input_layer": "linear",
    "encoder.pos_enc_layer_type": "rel_pos_espnet",
    "encoder.selfattention_layer_type": "block_rel_selfattn",
    "encoder.use_cnn_module": False,
    "encoder.macaron_style": False,
    "decoder.cfm_params.content.solver": "euler",
    "decoder.cfm_params.content.t_scheduler": "cosine",
    "decoder.estimator.act_fn": "gelu",
}


def convert_codec(
    tokenizer: str | os.PathLike, decoder: str | os.PathLike, output: str | os.PathLike
) -> Glm4VoiceCodec:
    """
    Write the released speech tokenizer and decoder as one codec.

    Args:
        tokenizer (`str` or `os.PathLike`): Folder or Hub id of `glm-4-voice-tokenizer`.
        decoder (`str` or `os.PathLike`): Folder or Hub id of `glm-4-voice-decoder`.
        output (`str` or `os.PathLike`): Folder to write, with configuration, weights, code and licence notice.

    Returns:
        [`Glm4VoiceCodec`]: The codec, as it was written.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is damaged or of another layout.
    """
    tokenizer_folder = _local(tokenizer, ["config.json", "*.safetensors", "*.safetensors.index.json", "LICENSE*"])
    decoder_folder = _local(decoder, ["config.yaml", "flow.pt", "hift.pt", "LICENSE*"])
    speech_tokenizer = convert_tokenizer(tokenizer_folder)
    speech_decoder = convert_decoder(decoder_folder)
    config = Glm4VoiceCodecConfig(
        tokenizer_config=speech_tokenizer.config.to_dict(),
        decoder_config=speech_decoder.config.to_dict(),
        weights_license=WEIGHTS_LICENCE,
    )
    with torch.device("meta"):
        codec = Glm4VoiceCodec(config)
    codec.tokenizer, codec.decoder = speech_tokenizer, speech_decoder
    codec.eval().save_pretrained(output)
    weights_card(os.fspath(output), config).save(Path(output) / "README.md")
    for folder, name in ((tokenizer_folder, TOKENIZER_NAME), (decoder_folder, DECODER_NAME)):
        for licence in folder.glob("LICENSE*"):  # the text that came with the weights
            shutil.copyfile(licence, Path(output) / f"{licence.name}-{name}")
    return codec


def convert_tokenizer(folder: str | os.PathLike) -> Glm4VoiceTokenizerModel:
    """
    Load the released speech tokenizer.

    Args:
        folder (`str` or `os.PathLike`): Folder with `config.json` and `model.safetensors`.

    Returns:
        [`Glm4VoiceTokenizerModel`]: In float32, in evaluation mode.

    Raises:
        OSError: If a file is missing.
        ValueError: If the weights are damaged, or lack some of the tokenizer's.
    """
    try:
        model, info = Glm4VoiceTokenizerModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(f"{str(Path(folder) / 'model.safetensors')!r} {DAMAGED} ({error}).") from error
    missing = sorted(info["missing_keys"])  # which transformers would fill with random numbers
    if missing:
        raise ValueError(
            f"The weights in {str(folder)!r} are not those of {TOKENIZER_NAME}: {len(missing)} are missing, the first "
            f"is {missing[0]!r}."
        )
    return model.eval()


def convert_decoder(folder: str | os.PathLike) -> Glm4VoiceDecoderModel:
    """
    Load the released decoder.

    Args:
        folder (`str` or `os.PathLike`): Folder with `config.yaml`, `flow.pt` and `hift.pt`.

    Returns:
        [`Glm4VoiceDecoderModel`]: In float32, in evaluation mode; weight normalisation is multiplied out.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is damaged or of another layout; the message names the file and the field or weight.
    """
    folder = Path(folder)
    for name in ("config.yaml", "flow.pt", "hift.pt"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"There is no {name} in {str(folder)!r}: give the folder of {DECODER_NAME}, with config.yaml, flow.pt "
                "and hift.pt."
            )
    with torch.device("meta"):
        model = Glm4VoiceDecoderModel(read_decoder_config(folder / "config.yaml"))
    last = model.config.flow_config.num_regulator_layers  # the list of the regulator ends with a projection
    flow_names = (*FLOW_NAMES, (rf"^length_regulator\.convs\.{last}\.", "length_regulator.output_projection."))
    for module, name, names in ((model.flow, "flow.pt", flow_names), (model.vocoder, "hift.pt", VOCODER_NAMES)):
        weights = fuse_weight_norm(_read_weights(folder / name))
        _assign(module, {_renamed(key, names): tensor for key, tensor in weights.items()}, folder / name)
    return model.eval()


def _assign(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    wrong = sorted(
        name for name in expected.keys() | weights if name not in weights or expected.get(name) != weights[name].shape
    )
    if wrong:
        raise ValueError(
            f"{str(path)!r} does not fit its config.yaml: {len(wrong)} weights are missing, unknown or of another "
            f"shape, the first is {wrong[0]!r} (in our naming). It must be the file of GLM-4-Voice's decoder."
        )
    module.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    module.requires_grad_(True)


# -------------------------------------------------------------------------------------------------------------- weights


def fuse_weight_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Multiply weight normalisation out: weight = g * v / ||v||, the norm over all dimensions but the first.

    For a transposed convolution, too, that first dimension (its input channels) is the one that was not summed over.

    Args:
        weights (`dict[str, torch.Tensor]`): Weights, some as pairs `*.weight_g` and `*.weight_v`.

    Returns:
        `dict[str, torch.Tensor]`: The same with `*.weight` for each pair.

    Raises:
        ValueError: If half of a pair is missing.
    """
    fused = {}
    for name, tensor in weights.items():
        if name.endswith(".weight_v"):
            stem = name.removesuffix("_v")
            if f"{stem}_g" not in weights:
                raise ValueError(
                    f"The weights hold {name!r} without {stem + '_g'!r}: they are not those of {DECODER_NAME}."
                )
            # The function under torch's own parametrization, so that the products are those of the original to the
            # last bit.
            fused[stem] = torch._weight_norm(tensor.float(), weights[f"{stem}_g"].float(), 0)
        elif not name.endswith(".weight_g"):
            fused[name] = tensor
    return fused


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged bytes fail wherever they are read
        # The message of torch advises to load without `weights_only`, which would run code in the file.
        raise ValueError(f"{str(path)!r} {DAMAGED}. A file that holds more than weights is not run.") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError(
            f"{str(path)!r} is not a plain table of weights: give the released file, not a training checkpoint."
        )
    return loaded


def _renamed(name: str, names: Names) -> str:
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def _regulator_part(index: int) -> str:
    """The released regulator is one list: convolution, norm, activation, four times, and a last projection."""
    layer, part = divmod(index, 3)
    return f"norms.{layer}" if part else f"convs.{layer}"


# -------------------------------------------------------------------------------------------------------- configuration


class _PlainLoader(yaml.SafeLoader):
    """YAML whose tags (`!new:package.Class`, `!ref <name>`, ...) are read past: nothing is imported or called."""


def _plain(loader: _PlainLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return _Reference(node.value) if tag.startswith("ref") else node.value


class _Reference(str):
    """`<name>`: the value of that name at the top of the file."""


_PlainLoader.add_multi_constructor("!", _plain)


def read_decoder_config(path: str | os.PathLike) -> Glm4VoiceDecoderConfig:
    """
    Read the released description of the decoder.

    Args:
        path (`str` or `os.PathLike`): A `config.yaml`.

    Returns:
        [`Glm4VoiceDecoderConfig`]: The configuration.

    Raises:
        ValueError: If a field is missing, or asks for a network that was never released.
    """
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{str(path)!r} is not YAML: {str(error).splitlines()[0]}.") from error
    fields = _Fields(document, os.fspath(path))
    for name, value in FLOW_CONSTANTS.items():
        if fields[f"flow.{name}"] != value:
            raise ValueError(
                f"flow.{name} in {str(path)!r} must be {value!r} as in the released decoder, but is "
                f"{fields[f'flow.{name}']!r}."
            )
    flow = {
        "vocab_size": fields["flow.vocab_size"],
        "hidden_size": fields["flow.encoder.output_size"],
        "intermediate_size": fields["flow.encoder.linear_units"],
        "num_hidden_layers": fields["flow.encoder.num_blocks"],
        "num_attention_heads": fields["flow.encoder.attention_heads"],
        "block_size": fields["flow.encoder.block_size"],
        "num_mel_bins": fields["flow.output_size"],
        "speaker_embedding_size": fields["flow.spk_embed_dim"],
        "num_regulator_layers": len(fields["flow.length_regulator.sampling_ratios"]),
        "unet_channels": fields["flow.decoder.estimator.channels"],
        "unet_attention_heads": fields["flow.decoder.estimator.num_heads"],
        "unet_head_dim": fields["flow.decoder.estimator.attention_head_dim"],
        "unet_num_blocks": fields["flow.decoder.estimator.n_blocks"],
        "unet_num_mid_blocks": fields["flow.decoder.estimator.num_mid_blocks"],
        "frame_rate": float(fields["flow.input_frame_rate"]),
        "sampling_rate": fields["hift.sampling_rate"],
        "guidance_scale": fields["flow.decoder.cfm_params.content.inference_cfg_rate"],
    }
    vocoder = {
        "num_mel_bins": fields["hift.in_channels"],
        "upsample_initial_channel": fields["hift.base_channels"],
        "f0_channels": fields["hift.f0_predictor.cond_channels"],
        "num_harmonics": fields["hift.nb_harmonics"],
        "sampling_rate": fields["hift.sampling_rate"],
        "sine_amplitude": fields["hift.nsf_alpha"],
        "noise_std": fields["hift.nsf_sigma"],
        "voiced_threshold": float(fields["hift.nsf_voiced_threshold"]),
        "upsample_rates": fields["hift.upsample_rates"],
        "upsample_kernel_sizes": fields["hift.upsample_kernel_sizes"],
        "resblock_kernel_sizes": fields["hift.resblock_kernel_sizes"],
        "resblock_dilation_sizes": fields["hift.resblock_dilation_sizes"],
        "source_resblock_kernel_sizes": fields["hift.source_resblock_kernel_sizes"],
        "source_resblock_dilation_sizes": fields["hift.source_resblock_dilation_sizes"],
        "istft_n_fft": fields["hift.istft_params.n_fft"],
        "istft_hop_length": fields["hift.istft_params.hop_len"],
        "leaky_relu_slope": fields["hift.lrelu_slope"],
        "audio_limit": fields["hift.audio_limit"],
    }
    return Glm4VoiceDecoderConfig(flow_config=flow, vocoder_config=vocoder)


class _Fields:
    """Fields of a document by dotted name, references followed."""

    def __init__(self, document: Any, path: str):
        self._document = document
        self._path = path

    def __getitem__(self, name: str) -> Any:
        value = self._document
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ValueError(f"{self._path!r} has no field {name}: give the config.yaml of {DECODER_NAME}.")
            value = value[part]
        return self[value.strip(" <>")] if isinstance(value, _Reference) else value


def _local(source: str | os.PathLike, patterns: list[str]) -> Path:
    """The folder itself, or the files of a Hub repository."""
    name = os.fspath(source)
    if os.path.isdir(name):
        return Path(name)
    if name.startswith((".", os.sep)) or name.count("/") != 1:
        raise FileNotFoundError(f"There is no folder {name!r}, and it is no Hub id (owner/name) either.")
    return Path(snapshot_download(name, allow_patterns=patterns))


__all__ = ["convert_codec", "convert_decoder", "fuse_weight_norm", "read_decoder_config"]
