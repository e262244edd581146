"""
What encoding and decoding with the GLM-4-Voice codec cost, with random weights, in one run.

    python benchmarks/glm4_voice.py                     # the released size (about 2 GB), one thread
    python benchmarks/glm4_voice.py --size tiny         # to see that it runs
    python benchmarks/glm4_voice.py --device cuda --dtype bfloat16

- "encode": 5 s and 30 s of audio to codes; and 30 s in pieces of 80 ms, as they come from a microphone.
- "left at the end": what an encoding stream still has to do when a speaker has ended, after 7 s and after 27 s. Both
  times 3 s of its last block are open.
- "decode at once": 60 codes (4.8 s) by `decode`; also its parts.
- "decode in pieces": the same codes in blocks of 10 by `decode_stream`: new frames, a short prompt, a short overlap.

Below each is what the original does, with the same layers and in the same run, because seconds of another machine are
not comparable: the layers of Whisper's own encoder on 30 s; the two passes of guidance one after the other; and, for
pieces, the flow over everything so far each time. The original itself was measured on one machine: 18.5 s, 22 s and
70 s. A bar of 30 s there is 30/70 of the last row here.

CPU seconds are those of the process; on a GPU, wall seconds of finished work. Medians over the repeats. Real-time
factor: seconds per second of audio. First audio: wall seconds until a stream gives its first samples.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from processing_ttt.glm4_voice_codec import Glm4VoiceCodec
from processing_ttt.glm4_voice_configuration import Glm4VoiceCodecConfig
from processing_ttt.glm4_voice_flow import euler_steps
from processing_ttt.glm4_voice_streaming import Glm4VoiceTokenizerStream

NUM_CODES, BLOCK = 60, 10
WAITING = 34  # frames that the original holds back and makes again
TINY: dict[str, Any] = {
    "tokenizer_config": {
        "d_model": 64,
        "encoder_layers": 4,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "quantize_position": 2,
        "quantize_vocab_size": 256,
    },
    "decoder_config": {
        "flow_config": {
            "vocab_size": 256,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "unet_channels": [32, 32],
            "unet_attention_heads": 2,
            "unet_head_dim": 16,
            "unet_num_blocks": 1,
            "unet_num_mid_blocks": 2,
        },
        "vocoder_config": {"upsample_initial_channel": 32, "f0_channels": 32},
    },
}


def encode_in_pieces(codec: Glm4VoiceCodec, waveform: torch.Tensor) -> list[int]:
    """Codes of audio that comes 80 ms at a time."""
    stream, codes = codec.encode_stream(), []
    for piece in waveform.split(1280):
        codes += stream.push(piece)
    return codes + stream.finish()


def stream_of(codec: Glm4VoiceCodec, waveform: torch.Tensor) -> Glm4VoiceTokenizerStream:
    """A stream that has taken audio, and was not ended."""
    stream = codec.encode_stream()
    stream.push(waveform)
    return stream


def decode_in_pieces(codec: Glm4VoiceCodec, codes: torch.Tensor) -> np.ndarray:
    """Audio of codes that come a block at a time."""
    stream = codec.decode_stream()
    return np.concatenate([*(stream.push(block) for block in codes.split(BLOCK)), stream.finish()])


def published_flow(codec: Glm4VoiceCodec, codes: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """
    Frames after those of the prompt, as the original makes them: the passes with and without conditions one after the
    other.
    """
    flow = codec.decoder.flow
    mean = flow.mean(codes[None], [len(codes)])
    given, speaker = torch.zeros_like(mean), flow.speaker_projection.bias[None, :, None].expand_as(mean)
    given[..., : prompt.shape[-1]] = prompt
    conditions = torch.cat([mean, speaker, given], dim=1)
    mel, scale = torch.randn_like(mean), flow.config.guidance_scale
    for time_of_flow, step in euler_steps(flow.config.num_inference_steps):
        times = torch.full((1,), time_of_flow, device=mel.device)
        guided = flow.estimator(torch.cat([mel, conditions], dim=1), times)
        free = flow.estimator(torch.cat([mel, torch.zeros_like(conditions)], dim=1), times)
        mel = mel + step * ((1 + scale) * guided - scale * free)
    return mel[..., prompt.shape[-1] :]


def decode_as_published(codec: Glm4VoiceCodec, codes: torch.Tensor, block: int) -> None:
    """
    The original's way with codes that come in blocks: the flow runs over all of them each time, and its last 34 frames
    wait.
    """
    said = torch.zeros(1, codec.config.decoder_config.flow_config.num_mel_bins, 0, device=codec.device)
    for end in range(block, len(codes) + 1, block):
        frames = published_flow(codec, codes[:end], said)
        frames = frames if end == len(codes) else frames[..., :-WAITING]
        vocode(codec, frames)
        said = torch.cat([said, frames.to(said)], dim=-1)


def whisper_encoder(codec: Glm4VoiceCodec) -> WhisperEncoder:
    """
    The encoder from which the speech tokenizer was made, with as many layers as are left of it; it takes
    exactly 30 s.
    """
    config = WhisperConfig(**codec.config.tokenizer_config.to_dict())
    config.encoder_layers = config.quantize_position
    return WhisperEncoder(config).eval().to(codec.device, codec.tokenizer.conv1.weight.dtype)


def encode_with_whisper(codec: Glm4VoiceCodec, encoder: WhisperEncoder, waveform: torch.Tensor) -> torch.Tensor:
    """Hidden states of 30 s."""
    features, _ = codec.tokenizer.features(waveform)
    return encoder(features[None].to(encoder.conv1.weight)).last_hidden_state


def first_audio(codec: Glm4VoiceCodec, codes: torch.Tensor) -> np.ndarray:
    """The first samples of a stream."""
    stream = codec.decode_stream()
    for block in codes.split(BLOCK):
        samples = stream.push(block)
        if len(samples):
            return samples
    return stream.finish()


def flow_alone(codec: Glm4VoiceCodec, codes: torch.Tensor) -> torch.Tensor:
    """From codes to frames."""
    flow = codec.decoder.flow
    mean = flow.mean(codes[None], [len(codes)])
    return flow.sample(mean, [mean.shape[-1]], torch.randn_like(mean, dtype=torch.float32))


def vocode(codec: Glm4VoiceCodec, mel: torch.Tensor) -> torch.Tensor:
    """From frames to samples."""
    vocoder = codec.config.decoder_config.vocoder_config
    samples = mel.shape[-1] * vocoder.hop_length
    noise = torch.randn(1, vocoder.num_harmonics + 1, samples, device=codec.device)
    return codec.decoder.vocoder(mel, noise[..., :1], noise)


def seconds_of(job: Callable[[], Any], clock: Callable[[], float], repeats: int) -> float:
    """Median seconds of a job; of several runs, or on a GPU, a first one is not counted."""
    if repeats > 1 or clock is gpu_clock:
        job()
    times = []
    for _ in range(repeats):
        start = clock()
        job()
        times.append(clock() - start)
    return statistics.median(times)


def gpu_clock() -> float:
    """Wall seconds, when all that was asked of the GPU is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["released", "tiny"], default="released")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of all that need not be float32"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    codec = Glm4VoiceCodec(Glm4VoiceCodecConfig(**(TINY if options.size == "tiny" else {}))).eval()
    if options.dtype == "bfloat16":
        codec.tokenizer.bfloat16().codebook.float()
        codec.decoder.flow.bfloat16()
    codec.to(options.device)
    on_gpu = options.device.startswith("cuda")
    clock, unit = (gpu_clock, "wall s") if on_gpu else (time.process_time, "CPU s")
    wall = gpu_clock if on_gpu else time.perf_counter

    waveform = 0.1 * torch.randn(30 * codec.config.sampling_rate)
    short = waveform[: 5 * codec.config.sampling_rate]
    open_streams = {seconds: stream_of(codec, waveform[: seconds * codec.config.sampling_rate]) for seconds in (7, 27)}
    codes = torch.randint(codec.config.codebook_size, (NUM_CODES,), device=options.device)
    spoken = NUM_CODES / codec.config.frame_rate
    decoder = codec.config.decoder_config.flow_config
    mel = torch.randn(1, decoder.num_mel_bins, decoder.num_frames(NUM_CODES), device=options.device)
    encoder = whisper_encoder(codec)
    jobs: list[tuple[str, float, Callable[[], Any]]] = [
        ("encode 5 s", 5.0, lambda: codec.encode(short[None, None])),
        ("encode 30 s", 30.0, lambda: codec.encode(waveform[None, None])),
        ("  Whisper's own encoder", 30.0, lambda: encode_with_whisper(codec, encoder, waveform)),
        ("encode 30 s in pieces of 80 ms", 30.0, lambda: encode_in_pieces(codec, waveform)),
        ("  left at the end of 7 s", 7.0, lambda: copy.copy(open_streams[7]).finish()),
        ("  left at the end of 27 s", 27.0, lambda: copy.copy(open_streams[27]).finish()),
        (f"decode {NUM_CODES} codes at once", spoken, lambda: codec.decode(codes[None, None])),
        ("  of it the flow", spoken, lambda: flow_alone(codec, codes)),
        ("  of it the vocoder", spoken, lambda: vocode(codec, mel)),
        ("  as published", spoken, lambda: decode_as_published(codec, codes, NUM_CODES)),
        (f"decode them in pieces of {BLOCK}", spoken, lambda: decode_in_pieces(codec, codes)),
        ("  as published", spoken, lambda: decode_as_published(codec, codes, BLOCK)),
    ]
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    print(
        f"{parameters:,} parameters, {options.device}, {options.dtype}, {options.threads} thread(s), torch "
        f"{torch.__version__}"
    )
    print(f"| job | {unit} | real-time factor |\n|---|---|---|")
    for name, length, job in jobs:
        seconds = seconds_of(job, clock, options.repeats)
        print(f"| {name} | {seconds:.2f} | {seconds / length:.3f} |", flush=True)
    print(
        "| first audio of a stream (wall s) | "
        f"{seconds_of(lambda: first_audio(codec, codes), wall, options.repeats):.2f} | |"
    )


if __name__ == "__main__":
    main()
