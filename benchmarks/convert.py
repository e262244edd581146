"""
Time and memory of converting and loading a released checkpoint: random weights in the layout of a full-size one,
sharded.

    python benchmarks/convert.py --size small              # seconds; also `0.5B`
    python benchmarks/convert.py --size 3B                 # needs 19 GB of disk and 7 GB of memory

- "convert": `ttt convert`, source folder to finished folder.
- "load released": `TttForConditionalGeneration.from_pretrained` of the source, and one forward of eight ids, which
  reads every weight.
- "load converted": `AutoModel.from_pretrained` of the result, and the same forward.
- "load and save": `from_pretrained` of the source and `save_pretrained`, as one would convert by hand.

Each runs in a process of its own. "peak" is the largest resident memory (`VmHWM`, which counts mapped pages of the
files too), "own" the largest anonymous part of it (`RssAnon`, sampled every 5 ms); both also as a multiple of the
weights, less what the process needs before it begins (importing torch and transformers).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

# Qwen2.5's shapes; all three have tied embeddings.
SIZES = {
    "small": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "3B": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16},
}
TEXT_TOKENS, CODES, SHARD_BYTES = 151_643, 16_384, 1_000_000_000

MEASURED_PROCESS = """
import json, sys, threading, time

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

import torch, transformers
from pathlib import Path
import modeling_ttt, processing_ttt
from ttt_cli import checkpoints
from transformers import AutoModel
from modeling_ttt import TttForConditionalGeneration

torch.set_num_threads(1)
what, source, output = sys.argv[1:]
before, own, done = memory("VmRSS"), [0], threading.Event()
own_before = memory("RssAnon")

def watch():
    while not done.wait(0.005):
        own[0] = max(own[0], memory("RssAnon"))

def score(model):
    with torch.inference_mode():
        model(torch.arange(8)[None])

watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
if what == "convert":
    checkpoints.convert(source, Path(output))
elif what == "load released":
    score(TttForConditionalGeneration.from_pretrained(source))
elif what == "load converted":
    score(AutoModel.from_pretrained(output))
else:
    TttForConditionalGeneration.from_pretrained(source).save_pretrained(output + "-by-hand")
seconds = time.perf_counter() - start
done.set(); watcher.join()
result = {"seconds": seconds, "peak": memory("VmHWM") - before, "own": own[0] - own_before}
print("RESULT" + json.dumps(result))
"""


def write_released(folder: Path, size: str) -> int:
    """Write a checkpoint in the released layout, tensor by tensor, and give the bytes of its weights."""
    folder.mkdir()
    vocab = _write_tokenizer(folder)
    config = {
        **SIZES[size],
        "model_type": "qwen2",
        "architectures": ["Qwen2ForARDiffLM"],
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": -(-len(vocab) // 128) * 128,
        "eos_token_id": vocab["<|endoftext|>"],
        "bos_token_id": vocab["<|endoftext|>"],
        "mask_token": vocab["<|mask_token|>"],
        "audio_token_id_start": vocab["<|audio|>"],
        "unmasked_audio_prob": 0.3,
        "prefix_preservation_ratio": 0.3,
    }
    (folder / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Qwen2ForCausalLM(Qwen2Config(**config)).state_dict().items()}
    del shapes["lm_head.weight"]
    return _write_shards(folder, shapes)


def _write_tokenizer(folder: Path) -> dict[str, int]:
    words = [*pre_tokenizers.ByteLevel.alphabet(), *(f"word{index}" for index in range(TEXT_TOKENS - 256))]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    )
    qwen = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|reserved_{index}|>" for index in range(19))]
    markers = ["<|begin_of_audio|>", "<|end_of_audio|>", "<|begin_of_quad|>", "<|audio|>"]
    after = ["<|mask_token|>", "<|end_of_audio_new|>", "<|end_of_audio_span_last|>"]
    tokens = [*qwen, *markers, *(f"<|audio_{code}|>" for code in range(CODES)), *after]
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    tokenizer.save_pretrained(folder)
    return tokenizer.get_vocab()


def _write_shards(folder: Path, shapes: dict[str, torch.Size]) -> int:
    shards: list[list[str]] = [[]]
    total, filled = 0, 0
    for name, shape in shapes.items():
        size = 2 * shape.numel()
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        total, filled = total + size, filled + size
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: torch.randn(shapes[name], dtype=torch.bfloat16) * 0.02 for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def measure(what: str, source: Path, output: Path) -> dict[str, float]:
    """Run one of the tasks in a process of its own."""
    command = [sys.executable, "-c", MEASURED_PROCESS, what, str(source), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.partition("RESULT")[2])


def main() -> None:
    """Write, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoints go and are deleted again (a temporary one by default)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source, output = Path(folder) / "released", Path(folder) / "converted"
        weights = write_released(source, arguments.size)
        shards = len(list(source.glob("*.safetensors")))
        print(f"{arguments.size}: {weights / 1e9:.2f} GB of weights in {shards} file(s), bfloat16, one thread\n")
        print("| task | seconds | peak, GB | peak / weights | own, GB | own / weights |")
        print("|---|---|---|---|---|---|")
        for what in ("convert", "load released", "load converted", "load and save"):
            result = measure(what, source, output)
            print(
                f"| {what} | {result['seconds']:.1f} | {result['peak'] / 1e9:.2f} | {result['peak'] / weights:.2f} | "
                f"{result['own'] / 1e9:.2f} | {result['own'] / weights:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
