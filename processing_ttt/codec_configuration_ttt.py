"""
Configuration of the small speech codec of Text-to-Talk: its time grid, layers and look-ahead.

Derives codes per second, the size of the codebook and the receptive field of the decoder. Independent of weights and
waveforms.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig, WhisperConfig

WHISPER_RATE = 16000
WHISPER_SAMPLES_PER_FRAME = 320


@strict
class TttCodecConfig(PreTrainedConfig):
    r"""
    Configuration of [`TttCodecModel`]: a convolutional speech codec with one codebook (finite scalar quantisation) over
    log-mel frames.

    The defaults are the codec of the nano checkpoint: 16 kHz in and out, 25 codes per second, 1024 codes.
    A look-ahead list gives, layer by layer, how many later steps a convolution of the *decoding* half sees; its length
    is the number of layers.

    Args:
        sampling_rate (`int`, *optional*, defaults to 16000): Samples per second, in and out.
        n_fft (`int`, *optional*, defaults to 640): Length of the analysis and synthesis window, in samples; a multiple
            of `hop_length`.
        hop_length (`int`, *optional*, defaults to 160): Samples per mel frame.
        mel_frames_per_code (`int`, *optional*, defaults to 4): Mel frames per code.
        num_mel_bins (`int`, *optional*, defaults to 80): Mel bands.
        mel_floor (`float`, *optional*, defaults to 0.01): Smallest mel magnitude, at the standard level; below it is
            silence.
        mel_mean (`float`, *optional*, defaults to -2.0): Mean of the log-mel values, subtracted before the encoder.
        mel_std (`float`, *optional*, defaults to 2.0): Their standard deviation, divided out before the encoder.
        active_level_db (`float`, *optional*, defaults to -23.0): Standard level of active speech in dBFS: every
            utterance is brought to it before encoding, and decoded audio has it.
        max_gain_db (`float`, *optional*, defaults to 50.0): Largest gain applied to reach the standard level, so that
            silence stays silence.
        hidden_size (`int`, *optional*, defaults to 256): Channels of encoder and decoder.
        intermediate_size (`int`, *optional*, defaults to 512): Channels inside a ConvNeXt block of encoder and decoder.
        kernel_size (`int`, *optional*, defaults to 7): Width of every convolution over time, in steps; odd.
        encoder_mel_layers (`int`, *optional*, defaults to 1): ConvNeXt blocks of the encoder at the rate of the mel
            frames.
        encoder_code_layers (`int`, *optional*, defaults to 3): ConvNeXt blocks of the encoder at the rate of the codes.
        fsq_levels (`list[int]`, *optional*, defaults to `[8, 8, 4, 4]`): Levels of each dimension of the quantiser;
            their product is the size of the codebook.
        decoder_code_lookaheads (`list[int]`, *optional*, defaults to `[1, 1, 0, 0, 0]`): Lookahead, in codes, of the
            decoder's input convolution and of each of its blocks at the rate of the codes.
        decoder_mel_lookaheads (`list[int]`, *optional*, defaults to `[2, 1]`): Lookahead, in mel frames, of each block
            of the decoder at the rate of the mel frames.
        vocoder_lookaheads (`list[int]`, *optional*, defaults to `[1, 1, 1, 0, 0, 0, 0]`): Lookahead, in mel frames, of
            the vocoder's input convolution and of each of its blocks.
        vocoder_hidden_size (`int`, *optional*, defaults to 256): Channels of the vocoder.
        vocoder_intermediate_size (`int`, *optional*, defaults to 512): Channels inside a ConvNeXt block of the vocoder.
        layer_scale_init_value (`float`, *optional*, defaults to 0.2): Initial scale of each block's residual branch.
        whisper_config (`WhisperConfig` or `dict`, *optional*): Of a Whisper encoder that replaces the convolutions
            over log-mel frames; `encoder_code_layers` blocks follow it.
        whisper_silent_frames (`int`, *optional*, defaults to 25): Frames of silence, of 20 ms each, that Whisper is
            given after the audio.

    Raises:
        TypeError: If `whisper_config` is neither a `WhisperConfig` nor a `dict`.
        ValueError: If a value does not fit the others; the message names the field.
    """

    model_type = "ttt_codec"
    sub_configs: ClassVar[dict[str, type]] = {"whisper_config": WhisperConfig}

    sampling_rate: int = 16000
    n_fft: int = 640
    hop_length: int = 160
    mel_frames_per_code: int = 4
    num_mel_bins: int = 80
    mel_floor: float = 0.01
    mel_mean: float = -2.0
    mel_std: float = 2.0
    active_level_db: float = -23.0
    max_gain_db: float = 50.0
    hidden_size: int = 256
    intermediate_size: int = 512
    kernel_size: int = 7
    encoder_mel_layers: int = 1
    encoder_code_layers: int = 3
    fsq_levels: list[int] | tuple[int, ...] = (8, 8, 4, 4)
    decoder_code_lookaheads: list[int] | tuple[int, ...] = (1, 1, 0, 0, 0)
    decoder_mel_lookaheads: list[int] | tuple[int, ...] = (2, 1)
    vocoder_lookaheads: list[int] | tuple[int, ...] = (1, 1, 1, 0, 0, 0, 0)
    vocoder_hidden_size: int = 256
    vocoder_intermediate_size: int = 512
    layer_scale_init_value: float = 0.2
    whisper_config: Any = None
    whisper_silent_frames: int = 25

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the configuration of the Whisper encoder, if there is one."""
        if isinstance(self.whisper_config, dict):
            self.whisper_config = WhisperConfig(**self.whisper_config)
        if not isinstance(self.whisper_config, WhisperConfig | None):
            raise TypeError(
                f"whisper_config must be a WhisperConfig or a dict, got {type(self.whisper_config).__name__}."
            )
        super().__post_init__(**kwargs)

    def validate_whisper(self) -> None:
        """Codes must be whole numbers of Whisper's frames, of audio at its rate."""
        if self.whisper_config is None:
            return
        if self.sampling_rate != WHISPER_RATE or self.samples_per_code % WHISPER_SAMPLES_PER_FRAME:
            raise ValueError(
                f"A codec with Whisper's encoder needs sampling_rate={WHISPER_RATE} and codes of a multiple of "
                f"{WHISPER_SAMPLES_PER_FRAME} samples, got {self.sampling_rate} and {self.samples_per_code}."
            )
        most = self.whisper_config.max_source_positions - self.whisper_frames_per_code
        if not 1 <= self.whisper_silent_frames <= most:
            raise ValueError(f"whisper_silent_frames must lie in 1..{most}, got {self.whisper_silent_frames}.")

    def validate_grid(self) -> None:
        """The window must cover whole hops, and its overhang must be the same on both sides."""
        if self.hop_length < 1 or self.n_fft % self.hop_length or (self.n_fft - self.hop_length) % 2:
            raise ValueError(
                f"n_fft must be a multiple of hop_length with an even difference, got n_fft={self.n_fft} and "
                f"hop_length={self.hop_length}."
            )
        for name in ("sampling_rate", "mel_frames_per_code", "num_mel_bins", "hidden_size", "vocoder_hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.mel_floor <= 0 or self.mel_std <= 0:
            raise ValueError(f"mel_floor and mel_std must be above 0, got {self.mel_floor} and {self.mel_std}.")

    def validate_fsq_levels(self) -> None:
        """A dimension with fewer than two levels carries nothing."""
        if not self.fsq_levels or min(self.fsq_levels) < 2:
            raise ValueError(f"fsq_levels must be a non-empty list of numbers >= 2, got {self.fsq_levels}.")

    def validate_lookaheads(self) -> None:
        """A convolution cannot look further ahead than its kernel reaches; the input convolutions must exist."""
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")
        for name in ("decoder_code_lookaheads", "decoder_mel_lookaheads", "vocoder_lookaheads"):
            lookaheads = getattr(self, name)
            if any(not 0 <= lookahead < self.kernel_size for lookahead in lookaheads):
                raise ValueError(f"{name} must lie in 0..kernel_size - 1 = {self.kernel_size - 1}, got {lookaheads}.")
            if not lookaheads and name != "decoder_mel_lookaheads":
                raise ValueError(f"{name} must have at least one entry, that of the input convolution.")

    @property
    def output_sampling_rate(self) -> int:
        """Samples per second of decoded audio."""
        return self.sampling_rate

    @property
    def samples_per_code(self) -> int:
        """Samples per code."""
        return self.hop_length * self.mel_frames_per_code

    @property
    def frame_rate(self) -> float:
        """Codes per second."""
        return self.sampling_rate / self.samples_per_code

    @property
    def codebook_size(self) -> int:
        """Number of different codes."""
        return math.prod(self.fsq_levels)

    @property
    def whisper_frames_per_code(self) -> int:
        """Frames of the Whisper encoder for one code."""
        return self.samples_per_code // WHISPER_SAMPLES_PER_FRAME

    @property
    def max_segment_frames(self) -> int | None:
        """Most codes that are encoded at once, or `None` without a limit: Whisper has positions for 30 s."""
        if self.whisper_config is None:
            return None
        return (self.whisper_config.max_source_positions - self.whisper_silent_frames) // self.whisper_frames_per_code

    @property
    def window_overhang(self) -> int:
        """Samples that the window of a mel frame reaches beyond the frame's own samples, on each side."""
        return (self.n_fft - self.hop_length) // 2

    @property
    def decode_lookahead(self) -> int:
        """Codes after code i on which the samples of code i depend, overlap-add of the synthesis windows included."""
        mel = sum(self.decoder_mel_lookaheads) + sum(self.vocoder_lookaheads) + self._overlapping_frames
        # The last of the code's own mel frames looks furthest.
        return (self.mel_frames_per_code - 1 + mel) // self.mel_frames_per_code + sum(self.decoder_code_lookaheads)

    @property
    def decode_context(self) -> int:
        """Codes before code i on which the samples of code i depend, overlap-add of the synthesis windows included."""
        mel = self._reach_back(self.decoder_mel_lookaheads) + self._reach_back(self.vocoder_lookaheads)
        mel += self._overlapping_frames
        return math.ceil(mel / self.mel_frames_per_code) + self._reach_back(self.decoder_code_lookaheads)

    @property
    def _overlapping_frames(self) -> int:
        """Neighbouring mel frames, on each side, whose synthesis windows reach into a frame's samples."""
        return math.ceil(self.window_overhang / self.hop_length)

    def _reach_back(self, lookaheads: Sequence[int]) -> int:
        return sum(self.kernel_size - 1 - lookahead for lookahead in lookaheads)


__all__ = ["TttCodecConfig"]
