"""
How fast training is, beside plain supervised fine-tuning of the same backbone, and packed beside padded.

    # a small random model, nano's tokenizer; lengths as of recordings
    python benchmarks/train.py
    python benchmarks/train.py --data prepared/italian             # the lengths of prepared data
    # larger, on a GPU (an H100's dense bfloat16)
    python benchmarks/train.py --hidden-size 1024 --layers 12 --peak-tflops 989

1. ours, packed: an update of `ttt train` (collator with noise, modality-aware mask, joint loss, LoRA off: all
   weights) in full rows.
2. plain SFT: transformers' Trainer on a `...ForCausalLM` of the same backbone and vocabulary, rows of the same length
   and number, next-token loss on every id. It is what one would use without audio, and does less: no noise, no mask,
   no second loss.
3. ours, padded: the same examples as (1), batches of like length, padded. Counted in ids that are not padding, as (1).
4. ours, padded at random: the same without sorting by length, as an ordinary collator does.
5. ours, two streams: (1) with `objective: two_stream`. A packed row holds copies too; counted are the ids without them.

Each runs in a process of its own, so that peak memory is its own; tokens a second are all ids over all seconds after
the first two updates, and the table's the median over rounds. On a CPU these are seconds of CPU time of one thread,
so that other work on the machine counts less. Computed is in bfloat16 where the machine has kernels for it, else in
float32.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, Trainer, TrainerCallback, TrainingArguments

from finetune.hardware import computes_bfloat16, peak_memory
from finetune.training.batch_plan import RowPlan, shuffled
from finetune.training.corruption import Objective, longest_length
from finetune.training.mixture import MixedExamples, read_mixture
from finetune.training.trainer import TttTrainer
from finetune.training.training_data import NoisingCollator, PlannedRows
from modeling_ttt import TttConfig, TttForConditionalGeneration, nano_checkpoint
from modeling_ttt.two_streams_ttt import CopyRule
from processing_ttt import TttProcessor

VARIANTS = ("ours, packed", "plain SFT", "ours, padded", "ours, padded at random", "ours, two streams")


class Clock(TrainerCallback):
    """Notes when each update ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after each update."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        # On a CPU the time of this process and no other, so that what else the machine does costs nothing.
        self.times.append(time.perf_counter() if torch.cuda.is_available() else time.process_time())


def made_up_examples(processor: TttProcessor, count: int = 400) -> list[dict]:
    """
    Read-aloud and dictation examples: 1 to 12 seconds, as short recordings are spread (log-normal, median 3 s), 13
    characters a second.
    """
    rng = random.Random(0)
    layout, tokenizer = processor.layout, processor.tokenizer
    examples = []
    for index in range(count):
        seconds = min(12.0, max(1.0, rng.lognormvariate(1.1, 0.6)))
        codes = [rng.randrange(processor.vocabulary.codebook_size) for _ in range(round(25 * seconds))]
        text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz      ", k=round(13 * seconds)))
        if index % 2:
            examples.append(layout.build_example(tokenizer, "asr", codes=codes, reply_text=text))
        else:
            examples.append(layout.build_example(tokenizer, "tts", text, reply_text=text, reply_codes=codes))
    return examples


def backbone(given: argparse.Namespace, vocab_size: int) -> Any:
    """The configuration that all variants share."""
    return AutoConfig.for_model(
        "qwen2",
        vocab_size=vocab_size,
        hidden_size=given.hidden_size,
        intermediate_size=3 * given.hidden_size,
        num_hidden_layers=given.layers,
        num_attention_heads=given.hidden_size // 64,
        num_key_value_heads=max(1, given.hidden_size // 128),
        tie_word_embeddings=False,
    )


def chosen_examples(processor: TttProcessor, given: argparse.Namespace) -> list[Any]:
    """The examples that fit a row: of prepared data, or made up."""
    examples: Any = made_up_examples(processor)
    if given.data:
        examples = MixedExamples(read_mixture(given.data), processor.tokenizer, processor.layout)
    every = map(examples.__getitem__, range(len(examples)))
    return [example for example in every if len(example["input_ids"]) <= given.row_length]


def run(variant: str, given: argparse.Namespace) -> dict[str, float]:
    """Train some updates of one variant, in this process."""
    torch.manual_seed(0)
    processor: TttProcessor = AutoProcessor.from_pretrained(nano_checkpoint())
    vocabulary = processor.vocabulary
    examples = chosen_examples(processor, given)
    packs = variant in ("ours, packed", "plain SFT", "ours, two streams")
    text_config = backbone(given, vocabulary.vocab_size)
    config = TttConfig(text_config=text_config, **vocabulary.config_kwargs())
    copies = CopyRule.from_config(config, given.block_length) if variant == "ours, two streams" else None
    objective = Objective(copies=copies, max_length=given.row_length)
    lengths = [longest_length(example, objective, vocabulary) for example in examples]
    mean = sum(lengths) / len(lengths)
    # about as many ids in every update
    rows = given.rows if packs else max(1, round(given.rows * given.row_length / mean))
    order = shuffled(len(examples), 0)
    plan = RowPlan(lengths, order, rows, given.row_length if packs else None)
    if variant == "ours, padded at random":
        plan.epoch = lambda epoch: [[position] for position in order(epoch)]  # type: ignore[method-assign]
    clock = Clock()
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), max_steps=given.updates, per_device_train_batch_size=rows, report_to=[],
        save_strategy="no",
        bf16=computes_bfloat16(), use_cpu=not torch.cuda.is_available(), disable_tqdm=True, remove_unused_columns=False,
        logging_strategy="no",
        dataloader_pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    dataset = PlannedRows(examples, plan, given.updates)
    collate = NoisingCollator(vocabulary, objective, 0, packs)
    used: list[int] = []

    def counting(rows_of_batch: Any) -> dict[str, torch.Tensor]:
        batch = collate(rows_of_batch)
        real = batch["sample_ids"] >= 0 if packs else batch["attention_mask"] > 0
        if copies is not None:
            real &= batch["copy_ids"] == 0
        used.append(int(real.sum()))
        return batch

    def plain(rows_of_batch: Any) -> dict[str, torch.Tensor]:
        ids = torch.full((len(rows_of_batch), given.row_length), vocabulary.pad_token_id)
        for index, row in enumerate(rows_of_batch):
            joined = [token_id for keyed in row for token_id in keyed.example["input_ids"]]
            ids[index, : len(joined)] = torch.tensor(joined)
        used.append(sum(len(keyed.example["input_ids"]) for row in rows_of_batch for keyed in row))
        return {"input_ids": ids, "labels": ids.masked_fill(ids == vocabulary.pad_token_id, -100)}

    if variant == "plain SFT":
        model: Any = AutoModelForCausalLM.from_config(text_config, attn_implementation="sdpa")
        trainer: Trainer = Trainer(
            model=model, args=arguments, train_dataset=dataset, data_collator=plain, callbacks=[clock]
        )
    else:
        model = TttForConditionalGeneration(config)
        trainer = TttTrainer(
            model=model, args=arguments, train_dataset=dataset, data_collator=counting, callbacks=[clock]
        )
    trainer.train()
    seconds = [after - before for before, after in zip(clock.times[1:], clock.times[2:], strict=False)]
    tokens = used[2 : 2 + len(seconds)]
    table = model.get_input_embeddings().weight.numel()
    return {
        "parameters": model.num_parameters(),
        # PaLM, appendix B: six operations for each parameter that multiplies, and attention over the row, for each id
        # forth and back.
        "flops_per_token": 6 * (model.num_parameters() - table)
        + 12 * given.layers * given.hidden_size * given.row_length,
        "tokens_per_update": statistics.mean(tokens),
        "tokens_per_second": sum(tokens) / sum(seconds),
        "peak_memory_gib": peak_memory() / 2**30,
    }


def report(measured: dict[str, list[dict]], given: argparse.Namespace) -> None:
    """Print the table, and how packed compares with padded."""
    speeds = {
        variant: sorted(result["tokens_per_second"] for result in results) for variant, results in measured.items()
    }
    speed = {variant: statistics.median(of_rounds) for variant, of_rounds in speeds.items()}
    parameters, flops = (measured["plain SFT"][0][name] for name in ("parameters", "flops_per_token"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} thread(s)"
    precision = "bfloat16" if computes_bfloat16() else "float32"
    print(f"{parameters / 1e6:.1f}M parameters, {precision}, {device}, {given.rounds} round(s)\n")
    print("| training | ids an update | ids a second (lowest to highest) | of plain SFT | peak memory, GiB |")
    print("|---|---|---|---|---|")
    for variant, results in measured.items():
        around = f"{speed[variant]:.0f} ({speeds[variant][0]:.0f} to {speeds[variant][-1]:.0f})"
        memory = max(result["peak_memory_gib"] for result in results)
        share = speed[variant] / speed["plain SFT"]
        print(f"| {variant} | {results[0]['tokens_per_update']:.0f} | {around} | {share:.2f}x | {memory:.2f} |")
    for variant in VARIANTS[2:4]:
        print(f"\npacked is {speed[VARIANTS[0]] / speed[variant]:.2f}x of {variant.removeprefix('ours, ')}")
    print(f"\nan id with copies costs {speed[VARIANTS[0]] / speed[VARIANTS[4]]:.2f}x of one without")
    if given.peak_tflops:
        for variant in VARIANTS[:2]:
            print(f"\n{variant}: {speed[variant] * flops / (given.peak_tflops * 1e12):.1%} of the device's peak")


def main() -> None:
    """Run every variant by turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="prepared folder; nano's codec")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--row-length", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=2, help="packed rows of an update")
    parser.add_argument("--block-length", type=int, default=16, help="masks of a block that is copied")
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2, help="each variant's median over so many processes, by turns")
    parser.add_argument(
        "--peak-tflops", type=float, help="of the device; prints the share of it that training in full rows reaches"
    )
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.variant:
        print(json.dumps(run(given.variant, given)))
        return
    measured: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    for _ in range(given.rounds):
        for variant in VARIANTS:
            command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
            done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - this very script
            if done.returncode:
                raise RuntimeError(f"{variant}: {done.stderr[-2000:]}")
            measured[variant].append(json.loads(done.stdout.strip().splitlines()[-1]))
    report(measured, given)


if __name__ == "__main__":
    main()
