"""
How much memory training takes, by size of the model and method: computed, not tried.

    python -m finetune.training.memory                                        # the table of the README
    python -m finetune.training.memory --model checkpoints/ttt-nano --tokens 2048

Weights, gradients and AdamW's two moments are counted parameter by parameter. Activations are counted by running the
model's own forward on tensors without data (torch's meta device) and adding up what autograd keeps for the backward
pass. Logits come on top, as if every position were scored over the whole vocabulary: often the largest single thing.
A training step scores only the positions that a loss asks, so that this is the most it can take. What the allocator,
kernels and the CUDA context take besides (about 1 to 2 GB on a GPU) is not in it.

Depends on configurations and sizes. Independent of data and weights.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from modeling_ttt import TttConfig, TttForConditionalGeneration

from .recipe import METHODS

GIB = 2**30
# Backbones of Qwen2.5: hidden size, intermediate size, layers, heads, key-value heads, and whether embedding and
# projection are one table.
SIZES = {
    "0.5B": (896, 4864, 24, 14, 2, True),
    "1.5B": (1536, 8960, 28, 12, 2, True),
    "3B": (2048, 11008, 36, 16, 2, True),
    "7B": (3584, 18944, 28, 28, 4, False),
}
TEXT_VOCABULARY, AUDIO_ALPHABET = 151_680, 16_392
FOUR_BIT_BYTES = 0.5 + 4 / 64  # a weight, and its share of the scale of a block of 64


@dataclass(frozen=True)
class Memory:
    """
    Bytes of training, by what they hold.

    Args:
        weights (`int`): As they are stored, and the copies in half precision that mixed precision computes with.
        gradients (`int`): Of what is trained.
        optimizer (`int`): AdamW's moments, float32.
        activations (`int`): What the backward pass needs.
        logits (`int`): Scores of every position (the most that a step can ask), their gradient, and the float32 copy
            that the loss takes.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def estimate(
    config: TttConfig,
    method: str,
    rows: int,
    length: int,
    checkpointing: bool = False,
    half: bool = True,
    lora_r: int = 32,
) -> Memory:
    """
    Compute the memory of training.

    Args:
        config ([`TttConfig`]): The model's.
        method (`str`): As in a recipe.
        rows (`int`): Of a batch on one device.
        length (`int`): Tokens of a row.
        checkpointing (`bool`): Whether activations are computed again.
        half (`bool`): bfloat16: the base of an adapter is stored in it, a model that is trained whole computes in it.
        lora_r (`int`): Rank of the adapter.

    Returns:
        `Memory`
    """
    width = 2 if half else 4
    with torch.device("meta"):
        model = TttForConditionalGeneration(config)
    base = sum(parameter.numel() for parameter in model.parameters())
    in_four_bits = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not model.lm_head
    )
    trained_model = model if method == "full" else _with_adapter(model, method, lora_r)
    trained = sum(parameter.numel() for parameter in trained_model.parameters() if parameter.requires_grad)
    if method == "full":
        weights = 4 * base + (2 * base if half else 0)
    elif method == "qlora":
        weights = round(FOUR_BIT_BYTES * in_four_bits) + width * (base - in_four_bits) + 4 * trained
    else:
        weights = width * base + 4 * trained
    activations = saved_bytes(model, rows, length, width, checkpointing)
    tokens = rows * length
    logits = tokens * config.vocab_size * (2 * width + 4)
    return Memory(weights, 4 * trained, 8 * trained, activations, logits)


def saved_bytes(model: TttForConditionalGeneration, rows: int, length: int, width: int, checkpointing: bool) -> int:
    """
    Count what the backbone keeps for the backward pass.

    Args:
        model ([`TttForConditionalGeneration`]): On the meta device; an adapter may be inside.
        rows (`int`): Of a batch.
        length (`int`): Tokens of a row.
        width (`int`): Bytes of a number in the computation.
        checkpointing (`bool`): Whether layers are computed again: then what one layer keeps is added to what is kept
            between them.

    Returns:
        `int`: Bytes.
    """
    backbone = model.model.to(torch.bfloat16 if width == 2 else torch.float32).train()
    whole = _saved_by(backbone, rows, length, width)
    if not checkpointing:
        return whole
    tokens = rows * length
    between = model.config.text_config.num_hidden_layers * tokens * model.config.text_config.hidden_size * width
    return between + whole // model.config.text_config.num_hidden_layers


def _saved_by(backbone: PreTrainedModel, rows: int, length: int, width: int) -> int:
    """Run the backbone once and add up each storage that autograd keeps and that is no parameter."""
    parameters = {id(parameter.untyped_storage()) for parameter in backbone.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and id(storage) not in parameters:
            kept[storage._cdata] = storage
        return tensor

    dtype = torch.bfloat16 if width == 2 else torch.float32
    hidden = backbone.config.hidden_size
    embeddings = torch.empty(rows, length, hidden, dtype=dtype, device="meta", requires_grad=True)
    mask = torch.empty(rows, 1, length, length, dtype=torch.bool, device="meta")
    positions = torch.empty(rows, length, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = backbone(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False)
    del output
    return sum(storage.nbytes() for storage in kept.values())


def _with_adapter(model: TttForConditionalGeneration, method: str, lora_r: int) -> Any:
    """Put an adapter into a model, as `adapters.add_adapter` does; `rows` trains the audio rows alone."""
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model

    markers = 3  # of the text side
    rows = list(range(max(0, model.config.audio_token_start_id - markers), model.config.vocab_size))
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    tables = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    if method == "rows":
        return get_peft_model(model, TrainableTokensConfig(token_indices=rows, target_modules=tables))
    lora = LoraConfig(r=lora_r, target_modules="all-linear", trainable_token_indices=dict.fromkeys(tables, rows))
    return get_peft_model(model, lora)


def sized_config(size: str) -> TttConfig:
    """Give the configuration of a Text-to-Talk model with the released alphabet, on a backbone of `SIZES`."""
    hidden, intermediate, layers, heads, key_value_heads, tied = SIZES[size]
    text_config = AutoConfig.for_model(
        "qwen2",
        vocab_size=TEXT_VOCABULARY + AUDIO_ALPHABET,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=tied,
    )
    return TttConfig(text_config=text_config, audio_token_start_id=TEXT_VOCABULARY, audio_codebook_size=16_384)


def table(configs: dict[str, TttConfig], tokens: int, length: int) -> str:
    """
    Write the table of memory.

    Args:
        configs (`dict[str, TttConfig]`): By name.
        tokens (`int`): Of a batch on one device.
        length (`int`): Of a row.

    Returns:
        `str`: Markdown: GiB in all, and what logits and activations are of it.
    """
    lines = [
        "| model | method | weights, gradients, optimizer | activations | logits | in all, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, config in configs.items():
        for method in METHODS:
            memory = estimate(config, method, max(1, tokens // length), length, checkpointing=True)
            fixed = memory.weights + memory.gradients + memory.optimizer
            numbers = (fixed, memory.activations, memory.logits, memory.total)
            lines.append(f"| {name} | {method} | " + " | ".join(f"{number / GIB:.1f}" for number in numbers) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub id, instead of the sizes of Qwen2.5")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a batch on one device")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a row")
    given = parser.parse_args(arguments)
    configs = (
        {given.model: AutoConfig.from_pretrained(given.model)}
        if given.model
        else {size: sized_config(size) for size in SIZES}
    )
    print(
        f"bfloat16, gradient checkpointing, {given.tokens} tokens a batch in rows of {given.length}, LoRA of rank 32\n"
    )
    print(table(configs, given.tokens, given.length))


if __name__ == "__main__":
    main()
