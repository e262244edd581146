"""
Smaller weights: bytes, speed and how often the ids stay the same, for nano, through transformers' own
`quantization_config`.

    pip install torchao bitsandbytes
    python benchmarks/quantization.py --repeats 3

Agreement is counted two ways: "teacher-forced", the best next id at every position of one and the same sequence, and
"reply", the ids of a whole greedy reply up to the first one that differs, where one early change counts for all that
follows. Embeddings and output projection stay as they are, as transformers leaves them; in a model as small as nano
they are a seventh of all weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from modeling_ttt import TttForConditionalGeneration, nano_checkpoint
from processing_ttt import TttProcessor

SENTENCES = ("Seven plus five is twelve.", "The opposite of hot is cold.", "If today is Monday, tomorrow is Tuesday.")


def settings() -> dict[str, Callable[[], dict[str, Any]]]:
    """What `from_pretrained` is given, by name."""
    from torchao.quantization import Int8WeightOnlyConfig

    return {
        "float32": lambda: {"dtype": torch.float32},
        "bfloat16": lambda: {"dtype": torch.bfloat16},
        "8 bit, torchao, weights only": lambda: {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())},
        "8 bit, bitsandbytes": lambda: {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
        "4 bit (nf4), bitsandbytes": lambda: {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
            )
        },
    }


def num_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, also of a quantized one that is made of several."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(num_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    state = getattr(tensor, "quant_state", None)
    return tensor.untyped_storage().nbytes() + (num_bytes(state.absmax) if state is not None else 0)


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=nano_checkpoint())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    processor = TttProcessor.from_pretrained(options.model)
    prompts = [processor.prepare(processor.messages("tts", text))["input_ids"] for text in SENTENCES]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(
        "| weights | MB | seconds for three sentences | best next ids that agree | ids of the reply that agree "
        "|\n|---|---|---|---|---|"
    )
    replies: list[torch.Tensor] = []
    best: list[torch.Tensor] = []
    for name, arguments in settings().items():
        model = TttForConditionalGeneration.from_pretrained(options.model, **arguments()).eval()
        seconds = []
        for _ in range(options.repeats + 1):
            began = time.perf_counter()
            written = [model.generate(prompt) for prompt in prompts]
            seconds.append(time.perf_counter() - began)
        replies = replies or written
        predicted = [model(ids).logits.argmax(-1) for ids in replies]
        best = best or predicted
        forced = torch.cat([(mine == theirs).flatten() for mine, theirs in zip(predicted, best, strict=True)])
        size = sum(num_bytes(parameter) for parameter in [*model.parameters(), *model.buffers()])
        agreeing = statistics.mean(map(_share_before_first_difference, written, replies, prompts))
        print(
            f"| {name} | {size / 1e6:.1f} | {statistics.median(seconds[1:]):.2f} | {forced.float().mean():.3f} | "
            f"{agreeing:.3f} |"
        )


def _share_before_first_difference(ids: torch.Tensor, reference: torch.Tensor, prompt: torch.Tensor) -> float:
    start, length = prompt.shape[1], min(ids.shape[1], reference.shape[1])
    same = (ids[0, start:length] == reference[0, start:length]).long().cumprod(-1).sum()
    return float(same) / (reference.shape[1] - start)


if __name__ == "__main__":
    main()
