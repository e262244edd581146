"""
The systems that are compared: one backbone, and what each of them makes of the same ids.

| name | text | audio | what is different |
|---|---|---|---|
| `ar` | next id | next id | transformers' own causal language model, its loss (a mean over ids) and its `generate` |
| `nar` | diffused | diffused | the whole reply, its end too, is one span without order; see `nar.py` |
| `ttt` | next id | diffused | the paper: BANOM .3, PPM .3, SST .5 |
| `ttt-no-banom`, `ttt-no-ppm`, `ttt-no-sst` | next id | diffused | one probability is 0 |
| `ttt-block`, `ttt-block-8` | next id | diffused | blocks of 16 or 8 attend to themselves and what precedes them |
| `ttt-filled` | next id | diffused | not in the paper: the last span is filled with its end marker to whole blocks |
| `ttt-two-stream` | next id | diffused | not in the paper: blocks are noised in copies, as decoding sees them |
| `ttt-two-stream-half` | next id | diffused | the same, but a step copies about half of an example's spans |

Most spans of a reply are one block of 16 here, so what `ttt-block` encodes otherwise is above all the question's audio;
they are two blocks of 8, and `ttt-block-8` is compared with TtT decoded in blocks of 8 as well.

All begin with the same random weights (those of the seed) and see the same examples in the same rows. What is random
in an example (its cut, its noise) is drawn from (seed, step) alone: two systems that both cut, cut alike, and a run
that is resumed draws what it would have drawn.

Depends on ids, models and the project's objective. Independent of files and audio.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from finetune.training.collate import Example, assign_rows, fill_blocks, lay_rows, truncate_last_span
from finetune.training.corruption import Objective, append_copies
from modeling_ttt import TttConfig, TttForConditionalGeneration
from modeling_ttt.masking_ttt import audio_span_ids
from modeling_ttt.objective_ttt import corrupt
from modeling_ttt.two_streams_ttt import CopyRule, copies_length
from processing_ttt.vocabulary_ttt import TttVocabulary

from .nar import corrupt_reply, fill_reply, nar_loss, truncate_reply

Batch = dict[str, torch.Tensor]

BLOCK_LENGTH = 16
BACKBONE = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class System:
    """
    One row of the table.

    Args:
        title (`str`): Its name there.
        family (`str`): `"ar"`, `"nar"` or `"ttt"`: whose loss and whose decoding.
        span_truncation_prob (`float`): SST; for `"nar"` the same cut, anywhere in the reply.
        fills_blocks (`bool`): Whether what is not cut is filled to whole blocks; `"nar"` always is.
        copied_share (`float`): With copies: the share of an example's blocks that a step copies, rounded up.
        block_length (`int`): Masks of a block in decoding.
        config (`dict`): Fields of `TttConfig`.
    """

    title: str
    family: str
    span_truncation_prob: float = 0.5
    fills_blocks: bool = False
    copied_share: float = 1.0
    block_length: int = BLOCK_LENGTH
    config: dict[str, Any] = field(default_factory=dict)


SYSTEMS = {
    "ar": System("AR", "ar", span_truncation_prob=0.0),
    "nar": System("NAR", "nar"),
    "ttt": System("TtT", "ttt"),
    "ttt-no-banom": System("TtT without BANOM", "ttt", config={"clean_audio_prob": 0.0}),
    "ttt-no-ppm": System("TtT without PPM", "ttt", config={"prefix_preservation_prob": 0.0}),
    "ttt-no-sst": System("TtT without SST", "ttt", span_truncation_prob=0.0),
    "ttt-block": System(
        "TtT, block-causal", "ttt", config={"span_attention": "block", "span_block_length": BLOCK_LENGTH}
    ),
    "ttt-block-8": System(
        "TtT, block-causal, blocks of 8",
        "ttt",
        block_length=8,
        config={"span_attention": "block", "span_block_length": 8},
    ),
    "ttt-filled": System("TtT, blocks filled", "ttt", fills_blocks=True),
    "ttt-two-stream": System("TtT, two streams", "ttt", span_truncation_prob=0.0, config={"objective": "two_stream"}),
    "ttt-two-stream-half": System(
        "TtT, two streams, half of the spans",
        "ttt",
        span_truncation_prob=0.0,
        copied_share=0.5,
        config={"objective": "two_stream"},
    ),
}


def create_model(
    system: System, vocabulary: TttVocabulary, seed: int, backbone: dict[str, Any] | None = None
) -> PreTrainedModel:
    """
    Make a system's model with the random weights of a seed, which are the same for all systems.

    Args:
        system (`System`): Which one.
        vocabulary (`TttVocabulary`): The ids.
        seed (`int`): Of the weights.
        backbone (`dict`, *optional*): Other sizes than `BACKBONE`.

    Returns:
        `PreTrainedModel`: `Qwen2ForCausalLM` for `"ar"`, else [`TttForConditionalGeneration`], float32.
    """
    text_config = AutoConfig.for_model(
        "qwen2",
        vocab_size=vocabulary.vocab_size,
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        **(backbone or BACKBONE),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = TttConfig(text_config=text_config, **vocabulary.config_kwargs(), **system.config)
        model = TttForConditionalGeneration(config)
    if system.family != "ar":
        return model
    causal = AutoModelForCausalLM.from_config(text_config)
    causal.load_state_dict(model.state_dict())
    return causal


def make_batch(
    system: System,
    model: PreTrainedModel,
    rows: Sequence[Sequence[Example]],
    row_length: int,
    vocabulary: TttVocabulary,
    seed: int,
    step: int,
) -> Batch:
    """
    Make a system's view of the rows of a step.

    Args:
        system (`System`): Which one.
        model (`PreTrainedModel`): Its model, whose config has the probabilities of the strategies.
        rows (`Sequence[Sequence[dict]]`): The examples of each packed row.
        row_length (`int`): Ids of a row.
        vocabulary (`TttVocabulary`): Names the markers.
        seed (`int`): Of the run.
        step (`int`): Which step.

    Returns:
        `dict[str, torch.Tensor]`: What `compute_loss` takes, on the CPU.
    """
    rng = random.Random(f"{seed} {step}")
    cut_rows = [[_cut(system, example, vocabulary, rng) for example in row] for row in rows]
    if system.config.get("objective") == "two_stream":
        rule = CopyRule.from_config(model.config, system.block_length)
        return _with_copies(cut_rows, rule, system.copied_share, vocabulary, rng)
    longest = max(sum(len(example["input_ids"]) for example in row) for row in cut_rows)  # what is filled may need more
    batch = lay_rows(cut_rows, max(row_length, longest), vocabulary.pad_token_id)
    if system.family == "ar":
        return {name: batch[name] for name in ("input_ids", "labels", "position_ids")}
    noise = torch.Generator().manual_seed(rng.getrandbits(63))
    if system.family == "nar":
        return batch | vars(corrupt_reply(batch, vocabulary.mask_token_id, noise))
    span_ids = audio_span_ids(batch["input_ids"], vocabulary.audio_token_start_id, batch["sample_ids"])
    noised = corrupt(
        batch["input_ids"],
        batch["labels"],
        span_ids,
        mask_token_id=vocabulary.mask_token_id,
        clean_audio_prob=model.config.clean_audio_prob,
        prefix_preservation_prob=model.config.prefix_preservation_prob,
        sample_ids=batch["sample_ids"],
        generator=noise,
    )
    return batch | vars(noised)


def _with_copies(
    rows: Sequence[Sequence[Example]],
    rule: CopyRule,
    copied_share: float,
    vocabulary: TttVocabulary,
    rng: random.Random,
) -> Batch:
    """Put copies behind the examples, and these into the rows that cost least: which row makes no difference else."""
    copied = []
    for example in (example for row in rows for example in row):
        num_blocks = copies_length(example["input_ids"], example["labels"], rule) // rule.block_length
        longest = len(example["input_ids"]) + math.ceil(copied_share * num_blocks) * rule.block_length
        copied.append(append_copies(example, Objective(copies=rule, max_length=longest), rule, vocabulary, rng))
    lengths = [len(example["input_ids"]) for example in copied]
    longest = max(lengths)
    row_length = min(range(longest, 2 * longest, 8), key=lambda length: _cost(assign_rows(lengths, length), length))
    assigned = assign_rows(lengths, row_length)
    return lay_rows([[copied[i] for i in row] for row in assigned], row_length, vocabulary.pad_token_id)


def _cost(rows: Sequence[Sequence[int]], row_length: int) -> int:
    """Estimate what rows of a length cost: linear layers once a position, attention as much at some 1000 positions."""
    return len(rows) * row_length * (1000 + row_length)


def _cut(system: System, example: Example, vocabulary: TttVocabulary, rng: random.Random) -> Example:
    """Cut the example, or leave it whole and perhaps fill it; what is drawn does not depend on the system."""
    own = random.Random(rng.getrandbits(63))
    is_cut = own.random() < system.span_truncation_prob
    if system.family == "nar":
        if is_cut:
            return truncate_reply(example, own)
        return fill_reply(example, system.block_length, vocabulary.eos_token_id)
    example = truncate_last_span(example, vocabulary, own) if is_cut else example
    return fill_blocks(example, system.block_length, vocabulary) if system.fills_blocks else example


def compute_loss(system: System, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
    """
    Run a batch.

    Args:
        system (`System`): Which one.
        model (`PreTrainedModel`): Its model.
        batch (`dict`): From `make_batch`, on the model's device.

    Returns:
        `dict[str, torch.Tensor]`: `loss`, and `text_loss` and `audio_loss` where the objective has two parts.
    """
    if system.family == "nar":
        return {"loss": nar_loss(model, batch)}
    options = {"skip_logits": True} if system.family == "ttt" else {}
    outputs = model(**batch, use_cache=False, **options)
    return {name: outputs[name] for name in ("loss", "text_loss", "audio_loss") if name in outputs}
