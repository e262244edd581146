"""
Decoding at the size of the paper's model, with random weights: how near the steps come to what the memory allows.

    python benchmarks/decode_3b.py                                  # on a GPU: the 3B geometry in bfloat16
    python benchmarks/decode_3b.py --size tiny --device cpu         # tries the script itself

A forward at batch 1 reads every weight once, so copying as many bytes is the bound: forwards per second against
measured copy bandwidth over bytes of weights. Then a reply of 13 ids of text and spans of 26 codes (12.5 per second):
real-time factor and the time to the first block of codes, for eager and compiled steps; without a codec, and with
nano's (which takes a code as one of its own, 25 per second).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from replies import AUDIO_TOKENS, BLOCK_LENGTH, TEXT_TOKENS, FirstBlock, ForcedForm, interleaved_reply
from transformers import AutoConfig

from modeling_ttt import TttConfig, TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttCodecModel

GEOMETRIES = {
    "3B": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 2},
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2},
}  # fmt: skip
TEXT_IDS, CODES, PROMPT_LENGTH = 151_670, 16_384, 128


def random_model(size: str, device: str, dtype: torch.dtype) -> TttForConditionalGeneration:
    """The backbone of the released model (Qwen2.5-3B) with its vocabulary, randomly initialised where it runs."""
    text_config = AutoConfig.for_model(
        "qwen2", vocab_size=TEXT_IDS + CODES + 4, max_position_embeddings=32_768, **GEOMETRIES[size]
    )
    config = TttConfig(
        text_config=text_config,
        audio_token_start_id=TEXT_IDS,
        audio_code_offset=TEXT_IDS + 1,
        mask_token_id=TEXT_IDS + CODES + 1,
        end_audio_token_id=TEXT_IDS + CODES + 2,
        end_last_audio_token_id=TEXT_IDS + CODES + 3,
        begin_audio_token_id=10,
        begin_last_audio_token_id=11,
        pad_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return TttForConditionalGeneration._from_config(config, dtype=dtype).eval()


def seconds_of(run: Callable[[], object], device: str, repeats: int) -> float:
    """Median time of a call, the device waited for."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def speak(codec: TttCodecModel, ids: torch.Tensor) -> torch.Tensor:
    """Make audio of the codes among some ids `(ids,)`, and fetch it."""
    codes = ids[ids > TEXT_IDS].to(codec.device) % codec.config.codebook_size
    waveform = codec.decode(codes[None, None]).audio_values
    assert waveform is not None
    return waveform.cpu()


def memory_bandwidth(device: str) -> float:
    """
    Bytes per second that a copy moves, those it reads and those it writes: the rate at which weights could be read.
    """
    source = torch.empty(2**30 if device == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds_of(lambda: target.copy_(source), device, 10)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(GEOMETRIES), default="3B")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ids", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = random_model(options.size, options.device, dtype)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.model.layers.parameters())
    bound = memory_bandwidth(options.device) / weights
    print(f"{options.size}, {dtype}, {weights / 1e9:.2f} GB of layers, at most {bound:.0f} forwards per second\n")

    asked = interleaved_reply(model, options.ids, PROMPT_LENGTH)
    to_audio = partial(speak, TttCodecModel.from_pretrained(nano_checkpoint() / "codec").to(options.device).eval())
    print(
        "| steps | denoising steps | forwards per second | of the bound | real-time factor | with a codec | first "
        "block, ms | its audio, ms |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, extra in {"eager": {}, "compiled": {"cache_implementation": "static"}}.items():
        for steps in (10, 4):
            arguments = {"denoising_steps": steps, "return_dict_in_generate": True} | extra

            def reply(arguments: dict = arguments, **more: object) -> Any:
                return asked.decode(**arguments, **more)

            out = reply()
            seconds = seconds_of(reply, options.device, options.repeats)
            spoken = seconds_of(partial(to_audio, out.sequences[0, PROMPT_LENGTH:]), options.device, options.repeats)
            streamers = [FirstBlock(TEXT_IDS, to_audio) for _ in range(options.repeats)]
            for streamer in streamers:
                streamer.began = time.perf_counter()
                reply(max_new_tokens=TEXT_TOKENS + 1 + AUDIO_TOKENS, streamer=streamer)
            first = 1000 * statistics.median(streamer.seconds for streamer in streamers)
            first_audio = 1000 * statistics.median(streamer.seconds_to_audio for streamer in streamers)
            speech = asked.seconds_of_speech(out.sequences)
            rate = out.num_forwards / seconds
            print(
                f"| {name} | {steps} | {rate:.0f} | {rate / bound:.2f} | {seconds / speech:.3f} | "
                f"{(seconds + spoken) / speech:.3f} "
                f"| {first:.0f} | {first_audio:.0f} |"
            )
    if options.device == "cuda":
        print(
            f"\npeak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB; block of {BLOCK_LENGTH}, "
            f"{ForcedForm.__doc__}"
        )


if __name__ == "__main__":
    main()
