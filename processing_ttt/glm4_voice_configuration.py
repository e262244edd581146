"""
Configurations of the GLM-4-Voice codec: its speech tokenizer, its decoder (flow and vocoder), and both as one codec.

Holds every constant of the released networks, and derives frames, codes and samples from each other. The defaults are
the released sizes. Independent of weights and waveforms.
"""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig, WhisperConfig


@strict
class Glm4VoiceTokenizerConfig(WhisperConfig):
    r"""
    Configuration of [`Glm4VoiceTokenizerModel`]: the lower layers of a Whisper encoder, made block-causal, and a
    codebook.

    The fields of [`WhisperConfig`] that concern the encoder apply; a published `config.json` (of model type
    `whisper`) loads as it is.

    Args:
        quantize_position (`int`, *optional*, defaults to 16): Number of encoder layers; the layers above are not built.
        quantize_vocab_size (`int`, *optional*, defaults to 16384): Number of codes.
        quantize_causal_block_size (`int`, *optional*, defaults to 200): Block of the attention, in encoder frames (50
            per second).
        pooling_kernel_size (`int`, *optional*, defaults to 4): Encoder frames averaged into one code.
        pooling_position (`int`, *optional*, defaults to `quantize_position`): Layer after which they are averaged.
        pooling_type (`str`, *optional*, defaults to `"avg"`): How.
        encoder_causal_convolution (`bool`, *optional*, defaults to `True`): Whether the convolutions see the past only.
        encoder_causal_attention (`bool`, *optional*, defaults to `False`): Whether attention inside a block is causal.
        quantize_causal_encoder (`bool`, *optional*, defaults to `False`): The same of the layers above the codebook.
        sampling_rate (`int`, *optional*, defaults to 16000): Rate of the audio to encode, in Hz.
        hop_length (`int`, *optional*, defaults to 160): Samples per mel frame.

    Raises:
        ValueError: If a value does not fit the others, or asks for a network that was never released.
    """

    model_type = "glm4_voice_tokenizer"

    num_mel_bins: int = 128
    d_model: int = 1280
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    quantize_position: int = 16
    quantize_vocab_size: int = 16384
    quantize_causal_block_size: int = 200
    pooling_kernel_size: int = 4
    pooling_position: int | None = None
    pooling_type: str = "avg"
    encoder_causal_convolution: bool = True
    encoder_causal_attention: bool = False
    quantize_causal_encoder: bool = False
    sampling_rate: int = 16000
    hop_length: int = 160

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill what follows from other fields."""
        super().__post_init__(**kwargs)
        if self.pooling_position is None:
            self.pooling_position = self.quantize_position

    def validate_released_network(self) -> None:
        """There is one network; a configuration that asks for another one must not silently get it."""
        released = {
            "pooling_type": "avg",
            "pooling_position": self.quantize_position,
            "encoder_causal_convolution": True,
            "encoder_causal_attention": False,
            "quantize_causal_encoder": False,
            "scale_embedding": False,
        }
        for name, value in released.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name} must be {value!r} as in the released speech tokenizer, got {getattr(self, name)!r}."
                )
        if self.quantize_causal_block_size % self.pooling_kernel_size:
            raise ValueError(
                "quantize_causal_block_size must be a multiple of pooling_kernel_size, got "
                f"{self.quantize_causal_block_size} and {self.pooling_kernel_size}."
            )

    @property
    def samples_per_code(self) -> int:
        """Samples per code; the second convolution halves the rate of the mel frames."""
        return self.hop_length * 2 * self.pooling_kernel_size

    @property
    def frame_rate(self) -> float:
        """Codes per second."""
        return self.sampling_rate / self.samples_per_code

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return self.quantize_vocab_size

    @property
    def max_segment_samples(self) -> int:
        """Longest segment that is encoded at once, in samples: there are no positions for more."""
        return self.max_source_positions * 2 * self.hop_length


@strict
class Glm4VoiceFlowConfig(PreTrainedConfig):
    r"""
    Configuration of [`Glm4VoiceFlow`]: codes to log-mel frames by conditional flow matching.

    Args:
        vocab_size (`int`, *optional*, defaults to 16384): Number of codes.
        hidden_size (`int`, *optional*, defaults to 512): Width of the encoder.
        intermediate_size (`int`, *optional*, defaults to 2048): Width inside its feed-forward layers.
        num_hidden_layers (`int`, *optional*, defaults to 6): Its layers.
        num_attention_heads (`int`, *optional*, defaults to 8): Its attention heads.
        block_size (`int`, *optional*, defaults to 10): Block of its attention, in codes.
        num_mel_bins (`int`, *optional*, defaults to 80): Mel bands.
        speaker_embedding_size (`int`, *optional*, defaults to 192): Size of a speaker embedding.
        num_regulator_layers (`int`, *optional*, defaults to 4): Convolutions of the length regulator.
        unet_channels (`list[int]`, *optional*, defaults to `[256, 256]`): Channels of each level of the U-Net.
        unet_attention_heads (`int`, *optional*, defaults to 8): Its attention heads.
        unet_head_dim (`int`, *optional*, defaults to 64): Width of a head.
        unet_num_blocks (`int`, *optional*, defaults to 4): Transformer blocks after each residual block.
        unet_num_mid_blocks (`int`, *optional*, defaults to 12): Residual blocks in the middle.
        frame_rate (`float`, *optional*, defaults to 12.5): Codes per second.
        sampling_rate (`int`, *optional*, defaults to 22050): Rate of the audio, in Hz.
        hop_length (`int`, *optional*, defaults to 256): Samples per mel frame.
        num_inference_steps (`int`, *optional*, defaults to 10): Euler steps, if a call names no other number.
        guidance_scale (`float`, *optional*, defaults to 0.7): Classifier-free guidance, likewise; 0 is none.
    """

    model_type = "glm4_voice_flow"

    vocab_size: int = 16384
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    block_size: int = 10
    num_mel_bins: int = 80
    speaker_embedding_size: int = 192
    num_regulator_layers: int = 4
    unet_channels: list[int] | tuple[int, ...] = (256, 256)
    unet_attention_heads: int = 8
    unet_head_dim: int = 64
    unet_num_blocks: int = 4
    unet_num_mid_blocks: int = 12
    frame_rate: float = 12.5
    sampling_rate: int = 22050
    hop_length: int = 256
    num_inference_steps: int = 10
    guidance_scale: float = 0.7

    def validate_grid(self) -> None:
        """Frames are counted in whole numbers, so the grid of codes and that of frames must have a common measure."""
        if self.frame_rate * self.hop_length % 1:
            raise ValueError(
                f"frame_rate * hop_length must be a whole number, got {self.frame_rate} * {self.hop_length}."
            )
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size must be a multiple of twice num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}."
            )

    def num_frames(self, num_codes: int) -> int:
        """Mel frames of that many codes."""
        return num_codes * self.sampling_rate // int(self.frame_rate * self.hop_length)

    @property
    def grid_period(self) -> int:
        """Codes after which blocks, codes and frames begin together again."""
        codes_per_hop = int(self.frame_rate * self.hop_length)
        return math.lcm(self.block_size, codes_per_hop // math.gcd(self.sampling_rate, codes_per_hop))


@strict
class Glm4VoiceVocoderConfig(PreTrainedConfig):
    r"""
    Configuration of [`Glm4VoiceVocoder`]: log-mel frames to samples by a harmonic-plus-noise HiFi-GAN with an inverse
    STFT.

    Args:
        num_mel_bins (`int`, *optional*, defaults to 80): Mel bands.
        upsample_initial_channel (`int`, *optional*, defaults to 512): Channels before the first upsampling; each
            halves them.
        f0_channels (`int`, *optional*, defaults to 512): Channels of the network that reads the pitch.
        num_harmonics (`int`, *optional*, defaults to 8): Overtones of the source, beside the fundamental.
        sampling_rate (`int`, *optional*, defaults to 22050): Rate of the audio, in Hz.
        sine_amplitude (`float`, *optional*, defaults to 0.1): Amplitude of each harmonic.
        noise_std (`float`, *optional*, defaults to 0.003): Noise added where there is a voice; elsewhere it is a
            third of the amplitude.
        voiced_threshold (`float`, *optional*, defaults to 10.0): A pitch above it is a voice, in Hz.
        upsample_rates (`list[int]`, *optional*, defaults to `[8, 8]`): Factors of upsampling.
        upsample_kernel_sizes (`list[int]`, *optional*, defaults to `[16, 16]`): Their kernels.
        resblock_kernel_sizes (`list[int]`, *optional*, defaults to `[3, 7, 11]`): Kernels of the parallel residual
            blocks.
        resblock_dilation_sizes (`list[list[int]]`, *optional*, defaults to three times `[1, 3, 5]`): Their dilations.
        source_resblock_kernel_sizes (`list[int]`, *optional*, defaults to `[7, 11]`): Kernels of the residual block
            of the source, by stage.
        source_resblock_dilation_sizes (`list[list[int]]`, *optional*, defaults to twice `[1, 3, 5]`): Their dilations.
        istft_n_fft (`int`, *optional*, defaults to 16): Window of the inverse STFT, in samples.
        istft_hop_length (`int`, *optional*, defaults to 4): Its hop.
        leaky_relu_slope (`float`, *optional*, defaults to 0.1): Slope below zero.
        audio_limit (`float`, *optional*, defaults to 0.99): Samples are cut at this.
        float32_source (`bool`, *optional*, defaults to `False`): Compute pitch and running phase in float32 as the
            original does, to compare with it sample for sample. Its phase is rounded to 0.004 cycles at the ninth
            harmonic after 30 s, and audio decoded in pieces drifts away from the whole.
    """

    model_type = "glm4_voice_vocoder"

    num_mel_bins: int = 80
    upsample_initial_channel: int = 512
    f0_channels: int = 512
    num_harmonics: int = 8
    sampling_rate: int = 22050
    sine_amplitude: float = 0.1
    noise_std: float = 0.003
    voiced_threshold: float = 10.0
    upsample_rates: list[int] | tuple[int, ...] = (8, 8)
    upsample_kernel_sizes: list[int] | tuple[int, ...] = (16, 16)
    resblock_kernel_sizes: list[int] | tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: Any = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernel_sizes: list[int] | tuple[int, ...] = (7, 11)
    source_resblock_dilation_sizes: Any = ((1, 3, 5), (1, 3, 5))
    istft_n_fft: int = 16
    istft_hop_length: int = 4
    leaky_relu_slope: float = 0.1
    audio_limit: float = 0.99
    float32_source: bool = False

    def validate_stages(self) -> None:
        """Each stage has one upsampling, one source branch and the same residual blocks."""
        stages = {
            "upsample_rates": len(self.upsample_rates),
            "upsample_kernel_sizes": len(self.upsample_kernel_sizes),
            "source_resblock_kernel_sizes": len(self.source_resblock_kernel_sizes),
            "source_resblock_dilation_sizes": len(self.source_resblock_dilation_sizes),
        }
        if len(set(stages.values())) != 1:
            raise ValueError(f"These must have one entry for each stage of upsampling, but have {stages}.")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError("resblock_kernel_sizes and resblock_dilation_sizes must be of the same length.")

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_rates) * self.istft_hop_length

    @property
    def f0_context_frames(self) -> int:
        """Frames on each side on which a frame's pitch depends: one for each convolution of width 3."""
        return 5

    @property
    def context_frames(self) -> int:
        """
        Frames on each side, of mel and of source, on which the samples of a frame depend.

        Followed from the samples back to the frames; the unit is the step of the stage at hand.
        """
        stft = math.ceil(self.istft_n_fft / 2 / self.istft_hop_length)  # both ways: windows that overlap
        reach = stft + 3 + 1  # conv_post, and the reflected step
        source, rate = 0.0, math.prod(self.upsample_rates)
        for stage in reversed(range(len(self.upsample_rates))):
            reach += max(map(_resblock_reach, self.resblock_kernel_sizes, self.resblock_dilation_sizes))
            own = _resblock_reach(self.source_resblock_kernel_sizes[stage], self.source_resblock_dilation_sizes[stage])
            # A strided convolution reaches one and a half of its own steps; the STFT one more where it is stepped
            # finely.
            source = max(source, (reach + own + 2 + stft) / rate)
            reach = math.ceil((reach + self.upsample_kernel_sizes[stage] / 2) / self.upsample_rates[stage])
            rate //= self.upsample_rates[stage]
        return max(reach + 3, math.ceil(source))  # conv_pre


def _resblock_reach(kernel_size: int, dilations: Any) -> int:
    """Steps on each side on which a residual block depends."""
    return (kernel_size - 1) // 2 * (sum(dilations) + len(dilations))


@strict
class Glm4VoiceDecoderConfig(PreTrainedConfig):
    r"""
    Configuration of [`Glm4VoiceDecoderModel`]: a flow from codes to log-mel frames and a vocoder from these to samples.

    Args:
        flow_config ([`Glm4VoiceFlowConfig`] or `dict`, *optional*): The flow.
        vocoder_config ([`Glm4VoiceVocoderConfig`] or `dict`, *optional*): The vocoder.
    """

    model_type = "glm4_voice_decoder"
    sub_configs_defaults = {  # noqa: RUF012 - as in transformers
        "flow_config": Glm4VoiceFlowConfig,
        "vocoder_config": Glm4VoiceVocoderConfig,
    }

    flow_config: Any = None
    vocoder_config: Any = None

    def validate_halves(self) -> None:
        """What the flow writes must be what the vocoder reads."""
        for name in ("num_mel_bins", "sampling_rate", "hop_length"):
            flow, vocoder = getattr(self.flow_config, name), getattr(self.vocoder_config, name)
            if flow != vocoder:
                raise ValueError(
                    f"{name} of flow_config and vocoder_config must be the same, got {flow} and {vocoder}."
                )

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return self.flow_config.vocab_size

    @property
    def frame_rate(self) -> float:
        """Codes per second."""
        return self.flow_config.frame_rate

    @property
    def sampling_rate(self) -> int:
        """Rate of decoded audio, in Hz."""
        return self.vocoder_config.sampling_rate


@strict
class Glm4VoiceCodecConfig(PreTrainedConfig):
    r"""
    Configuration of [`Glm4VoiceCodec`]: a speech tokenizer and a decoder of the same codes.

    Args:
        tokenizer_config ([`Glm4VoiceTokenizerConfig`] or `dict`, *optional*): The speech tokenizer.
        decoder_config ([`Glm4VoiceDecoderConfig`] or `dict`, *optional*): The decoder.
        weights_license (`str`, *optional*): Licence of the weights, where it is not that of the code; saving states
            it beside them.
    """

    model_type = "glm4_voice_codec"
    sub_configs_defaults = {  # noqa: RUF012 - as in transformers
        "tokenizer_config": Glm4VoiceTokenizerConfig,
        "decoder_config": Glm4VoiceDecoderConfig,
    }

    tokenizer_config: Any = None
    decoder_config: Any = None
    weights_license: str | None = None

    def validate_halves(self) -> None:
        """Both must use the same codes."""
        for name in ("codebook_size", "frame_rate"):
            encoded, decoded = getattr(self.tokenizer_config, name), getattr(self.decoder_config, name)
            if encoded != decoded:
                raise ValueError(f"{name} of tokenizer and decoder must be the same, got {encoded} and {decoded}.")

    @property
    def sampling_rate(self) -> int:
        """Rate of the audio to encode, in Hz."""
        return self.tokenizer_config.sampling_rate

    @property
    def output_sampling_rate(self) -> int:
        """Rate of decoded audio, in Hz."""
        return self.decoder_config.sampling_rate

    @property
    def frame_rate(self) -> float:
        """Codes per second."""
        return self.tokenizer_config.frame_rate

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return self.tokenizer_config.codebook_size


__all__ = [
    "Glm4VoiceCodecConfig",
    "Glm4VoiceDecoderConfig",
    "Glm4VoiceFlowConfig",
    "Glm4VoiceTokenizerConfig",
    "Glm4VoiceVocoderConfig",
]
