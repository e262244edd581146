"""
GLM-4-Voice piece by piece: codes of audio that still arrives, and audio of codes that still arrive.

The cost of a call depends on the length of its piece and not on the length so far. Independent of token ids, threads
and audio devices.
"""

import copy
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from .codec_interface_ttt import audio_lengths
from .glm4_voice_decoder import DecodingNoise, Glm4VoiceDecoderModel
from .glm4_voice_hift import Glm4VoiceVocoder
from .glm4_voice_tokenizer import CONTEXT_MEL_FRAMES, Glm4VoiceTokenizerModel

MIN_PROMPT_FRAMES = 24


class Glm4VoiceTokenizerStream:
    """
    Encodes one audio signal while it arrives: only the open attention block (4 s), after the keys and values of the
    blocks before it.

    The codes of a block are returned when it is complete, and equal those of the whole signal, with one exception:
    the features of Whisper are clipped at 80 dB below the peak of a segment of 30 s. If a higher peak arrives after
    codes of a part that quiet were returned, those may differ; `exact` is then `False`.

    Args:
        model ([`Glm4VoiceTokenizerModel`]): The speech tokenizer.

    Example:
        ```python
        stream = codec.encode_stream()
        for samples in microphone:
            codes += stream.push(samples)
        codes += stream.finish()
        ```
    """

    def __init__(self, model: Glm4VoiceTokenizerModel):
        self.exact = True
        self._model = model
        config = model.config
        self._block_frames = config.quantize_causal_block_size
        self._block_mel_frames = 2 * self._block_frames
        self._block_samples = self._block_mel_frames * config.hop_length
        self._lookahead = model.feature_extractor.n_fft // 2  # samples after a block in the windows of its last frames
        self._finished = False
        self._samples = torch.zeros(0)
        self._start_segment()

    def __copy__(self) -> "Glm4VoiceTokenizerStream":
        """Begin another stream at the same place: what one of them takes does not change the other."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._cache = copy.copy(self._cache)
        other._cache.layers = [copy.copy(layer) for layer in self._cache.layers]  # each step makes other tensors
        return other

    def _start_segment(self) -> None:
        self._cache = DynamicCache()
        self._blocks = 0  # complete ones whose codes were returned
        self._used_features = torch.zeros(self._model.config.num_mel_bins, 0)

    def push(self, samples: np.ndarray | torch.Tensor) -> list[int]:
        """
        Take the next samples.

        Args:
            samples (`np.ndarray` or `torch.Tensor` of shape `(samples,)`, float): Audio at `config.sampling_rate`, of
                any length.

        Returns:
            `list[int]`: Codes of the blocks that are complete now; often none.

        Raises:
            ValueError: If the samples are not one axis of finite floats.
        """
        if self._finished:
            raise RuntimeError("This stream is finished: begin a new one for other audio.")
        audio = torch.as_tensor(samples)
        if audio.ndim != 1:
            raise ValueError(f"A stream takes samples of one channel, (samples,), got the shape {tuple(audio.shape)}.")
        if len(audio):
            audio_lengths(audio[None, None], None)
        self._samples = torch.cat([self._samples, audio.float().cpu()])
        longest, codes = self._model.config.max_segment_samples, []
        while len(self._samples) >= longest:
            rest = self._samples[longest:]
            self._samples = self._samples[:longest]
            codes += self._encode_rest()
            self._samples = rest
            self._start_segment()
        complete = (len(self._samples) - self._lookahead) // self._block_samples
        if complete > self._blocks:
            codes += self._encode_until(complete)
        return codes

    def finish(self) -> list[int]:
        """
        End the audio.

        Returns:
            `list[int]`: The remaining codes.
        """
        codes = self._encode_rest() if len(self._samples) and not self._finished else []
        self._finished = True
        return codes

    def open_codes(self) -> list[int]:
        """
        Encode the open block as if the audio ended now.

        Returns:
            `list[int]`: Codes that may still change.
        """
        return copy.copy(self).finish()

    def _encode_rest(self) -> list[int]:
        count = -(-len(self._samples) // self._model.config.samples_per_code)
        given = self._blocks * self._block_frames // self._model.config.pooling_kernel_size
        return self._encode_until(-(-len(self._samples) // self._block_samples))[: count - given]

    def _encode_until(self, blocks: int) -> list[int]:
        """Codes of the blocks up to that one, as far as there is audio."""
        features, mask = self._model.features(self._samples)
        used = self._used_features
        self.exact = self.exact and torch.equal(features[:, : used.shape[1]], used)
        codes: list[int] = []
        for block in range(self._blocks, blocks):
            start, end = block * self._block_mel_frames, (block + 1) * self._block_mel_frames
            context = CONTEXT_MEL_FRAMES if block else 0
            codes += self._model.encode_block(
                features[None, :, start - context : end].to(self._model.device),
                mask[None, :end].to(self._model.device),
                block * self._block_frames,
                self._cache,
            ).tolist()
        self._blocks = blocks
        self._used_features = features[:, : blocks * self._block_mel_frames]
        return codes


class VocoderStream:
    """
    Samples of one reply while its frames arrive: exactly those that all frames at once give.

    A frame waits until everything its samples depend on is there: `context_frames` and for their pitch
    `f0_context_frames` more. The phase of the harmonics is carried on, so nothing has to be faded.

    Args:
        vocoder ([`Glm4VoiceVocoder`]): The vocoder.
        noise ([`DecodingNoise`]): The randomness of the reply.
    """

    def __init__(self, vocoder: Glm4VoiceVocoder, noise: DecodingNoise):
        self._vocoder = vocoder
        self._noise = noise
        self._device = vocoder.conv_pre.weight.device
        self._mel = torch.zeros(1, vocoder.config.num_mel_bins, 0, device=self._device)
        self._source = torch.zeros(1, 1, 0, device=self._device)
        self._cycles: torch.Tensor | None = None
        self._origin = 0  # frame at which both buffers begin
        self._given = 0  # frames whose samples were returned

    def push(self, mel: torch.Tensor, last: bool = False) -> torch.Tensor:
        """
        Take more frames.

        Args:
            mel (`torch.FloatTensor` of shape `(1, mel, frames)`): Log-mel frames.
            last (`bool`, defaults to `False`): Whether these are the last ones.

        Returns:
            `torch.FloatTensor` of shape `(samples,)`: Samples that became final.
        """
        config = self._vocoder.config
        self._mel = torch.cat([self._mel, mel.to(self._mel)], dim=-1)
        known = self._origin + self._mel.shape[-1]
        sourced = self._extend_source(known if last else known - config.f0_context_frames)
        ready = known if last else sourced - config.context_frames
        if ready <= self._given:
            return torch.zeros(0)
        begin = max(self._given - config.context_frames, 0)
        window = slice(begin - self._origin, sourced - self._origin)
        source = self._source[..., window.start * config.hop_length :]
        samples = self._vocoder.synthesise(self._mel[..., window], source)[0]
        samples = samples[(self._given - begin) * config.hop_length : (ready - begin) * config.hop_length]
        self._given = ready
        self._forget(max(ready - config.context_frames, 0))
        return samples.cpu()

    def _extend_source(self, end: int) -> int:
        """Make the source up to a frame; returns up to which frame there is one."""
        config = self._vocoder.config
        made = self._origin + self._source.shape[-1] // config.hop_length
        if end <= made:
            return made
        begin = max(made - config.f0_context_frames, 0)
        f0 = self._vocoder.f0(self._mel[..., begin - self._origin :])[:, made - begin : end - begin]
        noise = self._noise.source(end - made)[None].to(self._device)
        source, self._cycles = self._vocoder.source(f0, self._noise.phase[None].to(self._device), noise, self._cycles)
        self._source = torch.cat([self._source, source], dim=-1)
        return end

    def _forget(self, before: int) -> None:
        frames = before - self._origin
        self._mel = self._mel[..., frames:].clone()
        self._source = self._source[..., frames * self._vocoder.config.hop_length :].clone()
        self._origin = before


class Glm4VoiceDecoderStream:
    """
    Decodes one audio signal while its codes arrive.

    The flow runs on the codes of complete encoder blocks (10), over a window: a prompt of returned frames, then the
    new ones. The last frames of each window are kept and cross-faded with those of the next window, which has what
    follows them. The flow attends to all frames of a window, so frames differ from those of `decode`, except for whole
    blocks in one piece. From frames to samples the result is exact.

    Args:
        model ([`Glm4VoiceDecoderModel`]): The decoder.
        speaker_embedding (`torch.FloatTensor` of shape `(1, 192)`, *optional*, defaults to zeros): The voice.
        num_inference_steps (`int`, *optional*, defaults to the configuration's 10): Euler steps of the flow.
        guidance_scale (`float`, *optional*, defaults to the configuration's 0.7): Classifier-free guidance.
        generator (`torch.Generator`, *optional*): Gives a seed, as in `decode`.
        prompt_frames (`int`, *optional*): Frames of the prompt; by default a third of the new ones and at least 24.
        overlap_frames (`int`, *optional*, defaults to 10): Frames that are kept and cross-faded.

    Example:
        ```python
        stream = codec.decode_stream()
        for codes in spans:
            play(stream.push(codes))
        play(stream.finish())
        ```
    """

    def __init__(
        self,
        model: Glm4VoiceDecoderModel,
        speaker_embedding: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        prompt_frames: int | None = None,
        overlap_frames: int = 10,
    ):
        self._model = model
        self._options: dict[str, Any] = {
            "speaker_embedding": speaker_embedding,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
        }
        config = model.config.flow_config
        longest_prompt = config.num_frames(config.grid_period) - overlap_frames
        if overlap_frames < 0 or not 0 <= (prompt_frames or 0) <= longest_prompt:
            raise ValueError(
                f"overlap_frames must be at least 0 and prompt_frames in 0..{longest_prompt}, got {overlap_frames} and "
                f"{prompt_frames}."
            )
        self._prompt_frames = prompt_frames
        self._longest_prompt = longest_prompt
        self._overlap_frames = overlap_frames
        self._noise = DecodingNoise(model.config, generator)
        self._vocoder = VocoderStream(model.vocoder, self._noise)
        self._codes: list[int] = []  # from `_first` on
        self._first = 0  # a multiple of the grid's period
        self._decoded = 0  # codes that went through the flow
        self._settled = 0  # frames that went to the vocoder
        # Frames and the noise they came from: settled ones for prompts, then those that wait.
        self._mel = torch.zeros(config.num_mel_bins, 0, device=model.device)
        self._mel_noise = torch.zeros(config.num_mel_bins, 0)
        self._mel_from = 0
        self._finished = False

    @torch.no_grad()
    def push(self, codes: list[int] | torch.Tensor) -> np.ndarray:
        """
        Take more codes.

        Args:
            codes (`list[int]` or `torch.LongTensor` of shape `(frames,)`): Codes, any number of them.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32: The next samples of the reply, possibly none.
        """
        if self._finished:
            raise RuntimeError("This stream is finished: begin a new one for another reply.")
        self._codes += self._checked(codes)
        block = self._model.config.flow_config.block_size
        complete = (self._first + len(self._codes)) // block * block
        if complete <= self._decoded:
            return np.zeros(0, dtype=np.float32)
        return self._vocoder.push(self._next_frames(complete, last=False)).numpy()

    @torch.no_grad()
    def finish(self) -> np.ndarray:
        """
        Decode the remaining codes.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32: The last samples of the reply.
        """
        if self._finished or not self._first + len(self._codes):
            self._finished = True
            return np.zeros(0, dtype=np.float32)
        self._finished = True
        return self._vocoder.push(self._next_frames(self._first + len(self._codes), last=True), last=True).numpy()

    def _next_frames(self, until: int, last: bool) -> torch.Tensor:
        """Frames of the codes up to that one that can be settled, `(1, mel, frames)`."""
        if until > self._decoded:
            self._generate(until)
        generated = self._mel_from + self._mel.shape[1]
        settled = generated if last else max(self._settled, generated - self._overlap_frames)
        frames = self._mel[None, :, self._settled - self._mel_from : settled - self._mel_from]
        self._settled = settled
        self._forget()
        return frames

    def _generate(self, until: int) -> None:
        """Run the flow over a window that ends with that code."""
        config = self._model.config.flow_config
        generated, target = self._mel_from + self._mel.shape[1], config.num_frames(until)
        begin = self._window_begin(target - generated)
        mean = self._model.flow.mean(
            torch.tensor([self._codes[: until - self._first]], device=self._model.device), [until - self._first]
        )
        noise = [self._mel_noise[:, begin - self._mel_from :]]
        if target > generated:
            noise.append(self._noise.mel(target - generated))
        self._mel_noise = torch.cat([self._mel_noise[:, : begin - self._mel_from], *noise], dim=1)
        prompt = self._mel[:, begin - self._mel_from : self._settled - self._mel_from]
        window = self._model.flow.sample(
            mean[..., begin - config.num_frames(self._first) :],
            [target - begin],
            torch.cat(noise, dim=1)[None].to(self._model.device),
            prompt_mel=prompt[None],
            **self._options,
        )[0, :, self._settled - begin :]
        waiting = self._mel[:, self._settled - self._mel_from :]
        count = waiting.shape[1]
        fade = torch.arange(1, count + 1, device=window.device) / (count + 1)  # the weights of both sum to 1
        faded = (1 - fade) * waiting + fade * window[:, :count]
        self._mel = torch.cat([self._mel[:, : self._settled - self._mel_from], faded, window[:, count:]], dim=1)
        self._decoded = until

    def _window_begin(self, new_frames: int) -> int:
        """First frame of the prompt; even, so that the U-Net halves every window at the same places."""
        wanted = max(MIN_PROMPT_FRAMES, new_frames // 3) if self._prompt_frames is None else self._prompt_frames
        begin = max(self._settled - min(wanted, self._longest_prompt), 0)
        return min(begin + begin % 2, self._settled)

    def _forget(self) -> None:
        """Drop frames that no prompt can reach, and codes a whole period of the grid before the window."""
        before = max(self._settled - self._longest_prompt, 0) - self._mel_from
        if before > 0:
            self._mel, self._mel_noise = self._mel[:, before:].clone(), self._mel_noise[:, before:].clone()
            self._mel_from += before
        period = self._model.config.flow_config.grid_period
        while self._decoded - self._first > 2 * period:
            self._codes = self._codes[period:]
            self._first += period

    def _checked(self, codes: list[int] | torch.Tensor) -> list[int]:
        values = codes.reshape(-1).tolist() if isinstance(codes, torch.Tensor) else [int(code) for code in codes]
        size = self._model.config.codebook_size
        if any(not 0 <= code < size for code in values):
            raise ValueError(
                f"Codes must lie in 0..{size - 1}, got {values}; subtract the vocabulary's offset of code 0 from token "
                "ids."
            )
        return values


__all__ = ["Glm4VoiceDecoderStream", "Glm4VoiceTokenizerStream", "VocoderStream"]
