"""
What hearing and speaking with the GLM-4-Voice codec costs, with random weights, in one run.

    python benchmarks/glm4_voice.py                     # the released size (about 2 GB), one thread
    python benchmarks/glm4_voice.py --size tiny         # to see that it runs
    python benchmarks/glm4_voice.py --device cuda --dtype bfloat16

- "hear": 5 s and 30 s of sound to codes; and 30 s in pieces of 80 ms, as they come from a microphone.
- "speak at once": 60 codes (4.8 s) by `decode`; also its parts.
- "speak in pieces": the same codes in blocks of 10 by `decode_stream`: new frames, a short prompt, a short overlap.
- "all again for each piece": what one would do without a stream: `decode` of all codes so far, for every block of 10.

CPU seconds are those of the process; on a GPU, wall seconds of finished work. Medians over the repeats. Real-time factor: seconds per second of
sound. First sound: wall seconds until a stream gives its first samples.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from processing_ttt.glm4_voice_codec import Glm4VoiceCodec
from processing_ttt.glm4_voice_configuration import Glm4VoiceCodecConfig

NUM_CODES, BLOCK = 60, 10
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


def hear_in_pieces(codec: Glm4VoiceCodec, sound: torch.Tensor) -> list[int]:
    """Codes of sound that comes 80 ms at a time."""
    stream, codes = codec.encode_stream(), []
    for piece in sound.split(1280):
        codes += stream.push(piece)
    return codes + stream.finish()


def speak_in_pieces(codec: Glm4VoiceCodec, codes: torch.Tensor) -> np.ndarray:
    """Sound of codes that come a block at a time."""
    stream = codec.decode_stream()
    return np.concatenate([*(stream.push(block) for block in codes.split(BLOCK)), stream.finish()])


def speak_all_again(codec: Glm4VoiceCodec, codes: torch.Tensor) -> torch.Tensor:
    """The same without a stream: everything so far, again for each block."""
    for end in range(BLOCK, len(codes) + 1, BLOCK):
        sound = codec.decode(codes[None, None, :end]).audio_values
    return sound


def first_sound(codec: Glm4VoiceCodec, codes: torch.Tensor) -> np.ndarray:
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


def vocoder_alone(codec: Glm4VoiceCodec, codes: torch.Tensor) -> torch.Tensor:
    """From frames to samples."""
    config = codec.config.decoder_config
    frames = config.flow_config.num_frames(len(codes))
    vocoder, harmonics = config.vocoder_config, config.vocoder_config.num_harmonics + 1
    mel = torch.randn(1, vocoder.num_mel_bins, frames, device=codec.device)
    noise = torch.randn(1, harmonics, frames * vocoder.hop_length, device=codec.device)
    return codec.decoder.vocoder(mel, noise[..., :1], noise)


def seconds_of(job: Callable[[], Any], clock: Callable[[], float], repeats: int) -> float:
    """Median seconds of a job, after one run that is not counted."""
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

    sound = 0.1 * torch.randn(30 * codec.config.sampling_rate)
    short = sound[: 5 * codec.config.sampling_rate]
    codes = torch.randint(codec.config.codebook_size, (NUM_CODES,), device=options.device)
    spoken = NUM_CODES / codec.config.frame_rate
    jobs: list[tuple[str, float, Callable[[], Any]]] = [
        ("hear 5 s", 5.0, lambda: codec.encode(short[None, None])),
        ("hear 30 s", 30.0, lambda: codec.encode(sound[None, None])),
        ("hear 30 s in pieces of 80 ms", 30.0, lambda: hear_in_pieces(codec, sound)),
        (f"speak {NUM_CODES} codes at once", spoken, lambda: codec.decode(codes[None, None])),
        ("  of it the flow", spoken, lambda: flow_alone(codec, codes)),
        ("  of it the vocoder", spoken, lambda: vocoder_alone(codec, codes)),
        (f"speak them in pieces of {BLOCK}", spoken, lambda: speak_in_pieces(codec, codes)),
        ("all again for each piece", spoken, lambda: speak_all_again(codec, codes)),
    ]
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    print(
        f"{parameters:,} parameters, {options.device}, {options.dtype}, {options.threads} thread(s), torch {torch.__version__}"
    )
    print(f"| job | {unit} | real-time factor |\n|---|---|---|")
    for name, length, job in jobs:
        seconds = seconds_of(job, clock, options.repeats)
        print(f"| {name} | {seconds:.2f} | {seconds / length:.3f} |", flush=True)
    print(
        f"| first sound of a stream (wall s) | {seconds_of(lambda: first_sound(codec, codes), wall, options.repeats):.2f} | |"
    )


if __name__ == "__main__":
    main()
