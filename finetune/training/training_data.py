"""
The data of a training run as the Trainer takes it: examples of a mixture, packed rows of a plan, and the collator that
noises them and makes batches.

Depends on prepared data, plans and the objective. Independent of models.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from finetune.data.encoding import require_codes_of
from finetune.data.schema import Record, read_info
from modeling_ttt import TttConfig
from modeling_ttt.two_streams_ttt import CopyRule
from processing_ttt import TttProcessor
from processing_ttt.vocabulary_ttt import TttVocabulary

from .batch_plan import EpochOrder, RowPlan
from .collate import CopiedExample, Example, NoisedExample, lay_rows, pad_batch
from .corruption import Objective, corrupt_example, longest_length
from .lengths import count_lengths
from .mixture import MixedExamples, read_mixture
from .recipe import Recipe

VALIDATION_EPOCH = -1  # the noise of validation is always the same, and none that training draws
HASHED_BYTES = 2**20  # at both ends of a file
VALIDATION_EXAMPLES = 256  # of which the loss is measured at each validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """
    The data of a run.

    Args:
        examples (`Sequence[dict]`): `input_ids` and `labels` each.
        lengths (`list[int]`): Tokens of each, with its blocks filled if they may be, and with its copies.
        order (`Callable`): Gives the positions of an epoch's examples.
        validation (`list[dict]`): Examples to measure the loss on.
        recordings (`list[Record]`): Records to measure error rates on.
        hours (`float`): Hours of audio in the training split.
        languages (`list[str]`): Tags.
        left_out (`int`): Examples that are longer than `max_length`.
        fingerprint (`str`): Hash of the training records and their shares.
    """

    examples: MixedExamples | Sequence[Example]
    lengths: list[int]
    order: EpochOrder
    validation: list[Example]
    recordings: list[Record]
    hours: float
    languages: list[str]
    left_out: int
    fingerprint: str = ""


def training_objective(recipe: Recipe, config: TttConfig, block_length: int) -> Objective:
    """
    Give what may happen to an example of a recipe.

    Args:
        recipe ([`Recipe`]): Of one stage.
        config ([`TttConfig`]): The model's.
        block_length (`int`): Masks of a block when it decodes.

    Returns:
        [`Objective`]
    """
    copies = CopyRule.from_config(config, block_length) if recipe.objective == "two_stream" else None
    return Objective(
        recipe.clean_audio_prob,
        recipe.prefix_preservation_prob,
        recipe.span_truncation_prob,
        recipe.block_fill_prob,
        block_length,
        recipe.replaced_prompt_codes,
        copies,
        recipe.max_length,
    )


def check_codec_of_model(recipe: Recipe, processor: TttProcessor) -> None:
    """
    Check that the data of a recipe has the codes of the model's codec.

    Args:
        recipe ([`Recipe`]): Names the data.
        processor ([`TttProcessor`]): The model's; its codec is loaded.

    Raises:
        ValueError: If the codes are of another codec.
    """
    require_codes_of(processor, [entry.path for entry in read_mixture(recipe.data, []).entries], recipe.model)


def read_data(recipe: Recipe, processor: TttProcessor, objective: Objective) -> TrainingData:
    """
    Make the examples of a recipe.

    Args:
        recipe ([`Recipe`]): Names data and tasks.
        processor ([`TttProcessor`]): The model's.
        objective ([`Objective`]): Decides how long an example may become.

    Returns:
        [`TrainingData`]

    Raises:
        ValueError: If nothing is left to train on.
    """
    mixture = read_mixture(recipe.data, [task.strip() for task in recipe.tasks.split(",") if task.strip()])

    def mixed(split: str) -> MixedExamples:
        return MixedExamples(
            mixture,
            processor.tokenizer,
            processor.layout,
            split,
            aligned=recipe.aligned,
            system_prompts=processor.system_prompts,
            default_language=recipe.default_language,
            seed=recipe.seed,
        )

    examples = mixed("train")
    lengths = _lengths(examples, recipe, processor, objective)

    def order(epoch: int) -> list[int]:
        return [position for position in examples.order(epoch).tolist() if lengths[position] <= recipe.max_length]

    validation = mixed("validation")
    chosen = [
        i for i in _evenly(len(validation), VALIDATION_EXAMPLES) if len(validation[i]["input_ids"]) <= recipe.max_length
    ]
    recordings = validation.recordings()
    infos = [read_info(entry.path) for entry in mixture.entries]
    return TrainingData(
        examples=examples,
        lengths=lengths,
        order=order,
        validation=[validation[i] for i in chosen],
        recordings=[validation.record(recordings[i])[0] for i in _evenly(len(recordings), recipe.validation_examples)],
        hours=sum(info.hours.get("train", 0.0) for info in infos),
        languages=examples.languages,
        left_out=sum(length > recipe.max_length for length in lengths),
        fingerprint=data_fingerprint(examples),
    )


def _lengths(examples: MixedExamples, recipe: Recipe, processor: TttProcessor, objective: Objective) -> list[int]:
    """Count the tokens of each example; refuse a recipe whose `max_length` leaves none."""
    settings = {
        "model": recipe.model,
        "aligned": recipe.aligned,
        "default_language": recipe.default_language,
        "block_length": objective.block_length if objective.block_fill_prob else None,
    }
    if objective.copies is not None:
        settings |= {"copies": asdict(objective.copies), "max_length": objective.max_length}
    lengths = count_lengths(
        examples,
        partial(longest_length, objective=objective, vocabulary=processor.vocabulary),
        Path(recipe.output_dir),
        settings,
        recipe.dataloader_num_workers,
    )
    too_long = sum(length > recipe.max_length for length in lengths)
    if too_long == len(lengths):
        raise ValueError(
            f"None of the {len(lengths)} training examples in {recipe.data!r} is left: "
            + (
                "it has no records for these tasks."
                if not lengths
                else f"all are longer than max_length={recipe.max_length}."
            )
        )
    if too_long:
        logger.warning(
            "%d of %d examples are longer than max_length=%d and left out.", too_long, len(lengths), recipe.max_length
        )
    return lengths


def data_fingerprint(examples: MixedExamples) -> str:
    """
    Hash what decides the records of a run: the mixture, and its files by size, beginning and end, wherever they are.

    Args:
        examples ([`MixedExamples`]): Of the training split.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    mixture = examples.mixture
    digest = hashlib.sha256(repr([(e.tasks, e.weight, e.replay) for e in mixture.entries]).encode())
    digest.update(repr((mixture.replay_ratio, [source.task for source in examples.sources])).encode())
    names = dict.fromkeys(file["filename"] for source in examples.sources for file in source.dataset.cache_files)
    for name in names:
        with open(name, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            for start in (0, max(0, size - HASHED_BYTES)):
                file.seek(start)
                digest.update(file.read(HASHED_BYTES))
    return digest.hexdigest()[:16]


def _evenly(count: int, wanted: int) -> list[int]:
    """Choose `wanted` of `count` positions, spread over all of them."""
    wanted = min(count, wanted)
    return [index * count // wanted for index in range(wanted)]


@dataclass(frozen=True)
class Keyed:
    """An example, and the epoch and position that its noise is drawn from."""

    epoch: int
    position: int
    example: Example


class PlannedRows(torch.utils.data.Dataset):
    """
    All packed rows of a run, in order.

    Args:
        examples (`Sequence[dict]`): `input_ids` and `labels` each.
        plan (`RowPlan`): Which of them make up a packed row.
        num_updates (`int`): How many updates the run has.
    """

    def __init__(self, examples: MixedExamples | Sequence[Example], plan: RowPlan, num_updates: int):
        self.examples = examples
        self.plan = plan
        self.num_updates = num_updates

    def __len__(self) -> int:
        return self.num_updates * self.plan.rows_per_update

    def __getitem__(self, number: int) -> list[Keyed]:
        epoch, row = self.plan.locate(number)
        return [Keyed(epoch, position, self.examples[position]) for position in row]

    def epoch_after(self, updates: int) -> float:
        """Give the number of epochs after so many updates."""
        return round(self.plan.progress(updates * self.plan.rows_per_update), 4)


def validation_rows(examples: Sequence[Example]) -> list[list[Keyed]]:
    """Make a row of each example, those of similar length side by side."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
    return [[Keyed(VALIDATION_EPOCH, i, examples[i])] for i in order]


@dataclass(frozen=True)
class NoisingCollator:
    """
    Noises the examples of some packed rows and makes a batch of them.

    Args:
        vocabulary (`TttVocabulary`): Names the markers.
        objective (`Objective`): The random changes of an example.
        seed (`int`): Of the run.
        packs (`bool`): Whether a row holds several examples.
        row_length (`int`, *optional*): Positions of packed rows of training; by default, and in validation, as many
            as a batch's fullest row has.
    """

    vocabulary: TttVocabulary
    objective: Objective
    seed: int
    packs: bool
    row_length: int | None = None

    def __call__(self, rows: Sequence[Sequence[Keyed]]) -> dict[str, torch.Tensor]:
        """Give a batch as `pad_batch` or `lay_rows` do, with the fields of `corrupt_example`."""
        noised = [[self._noised(keyed) for keyed in row] for row in rows]
        if self.packs or self.objective.copies is not None:  # copies have sample ids and positions of their own
            longest = max(sum(len(example["input_ids"]) for example in row) for row in noised)
            is_validation = rows[0][0].epoch == VALIDATION_EPOCH
            row_length = longest if is_validation or self.row_length is None else self.row_length
            return lay_rows(noised, row_length, self.vocabulary.pad_token_id)
        return pad_batch([example for row in noised for example in row], self.vocabulary.pad_token_id)

    def _noised(self, keyed: Keyed) -> NoisedExample | CopiedExample:
        return corrupt_example(keyed.example, self.seed, keyed.epoch, keyed.position, self.objective, self.vocabulary)
