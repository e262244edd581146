"""
The data of a training run as the Trainer takes it: rows of a plan, and the collator that noises and lays them out.

Knows examples, plans and the objective. Knows no model and no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from processing_ttt.vocabulary_ttt import TttVocabulary

from .collate import Example, lay_rows, pad_batch
from .corruption import Objective, corrupt_example
from .plan import RowPlan

VALIDATION_EPOCH = -1  # the noise of validation is always the same, and none that training draws


@dataclass(frozen=True)
class Keyed:
    """An example, and what its noise is drawn from."""

    epoch: int
    row: int
    example: Example


class PlannedRows(torch.utils.data.Dataset):
    """
    All rows of a run, one after the other.

    Args:
        examples (`Sequence[dict]`): `input_ids` and `labels` each.
        plan (`RowPlan`): Says which of them make up a row.
        num_updates (`int`): How many updates the run has.
    """

    def __init__(self, examples: Sequence[Example], plan: RowPlan, num_updates: int):
        self.examples = examples
        self.plan = plan
        self.num_updates = num_updates

    def __len__(self) -> int:
        return self.num_updates * self.plan.rows_per_update

    def __getitem__(self, number: int) -> list[Keyed]:
        epoch, row = self.plan.locate(number)
        return [Keyed(epoch, position, self.examples[position]) for position in row]

    def epoch_after(self, updates: int) -> float:
        """Say how often the data has been seen after so many updates."""
        return round(self.plan.progress(updates * self.plan.rows_per_update), 4)


def validation_rows(examples: Sequence[Example]) -> list[list[Keyed]]:
    """Make a row of each example, those of like length side by side."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
    return [[Keyed(VALIDATION_EPOCH, i, examples[i])] for i in order]


@dataclass(frozen=True)
class NoisingCollator:
    """
    Noises the examples of some rows and makes a batch of them.

    Args:
        vocabulary (`TttVocabulary`): Names the markers.
        objective (`Objective`): What may happen to an example.
        seed (`int`): Of the run.
        packs (`bool`): Whether rows hold several examples.
    """

    vocabulary: TttVocabulary
    objective: Objective
    seed: int
    packs: bool

    def __call__(self, rows: Sequence[Sequence[Keyed]]) -> dict[str, torch.Tensor]:
        """Give a batch as `pad_batch` or `lay_rows` do, with `audio_mask` and `mask_prob`."""
        noised = [[self._noised(keyed) for keyed in row] for row in rows]
        if self.packs:
            longest = max(sum(len(example["input_ids"]) for example in row) for row in noised)
            return lay_rows(noised, longest, self.vocabulary.pad_token_id)
        return pad_batch([example for row in noised for example in row], self.vocabulary.pad_token_id)

    def _noised(self, keyed: Keyed) -> dict[str, Any]:
        return corrupt_example(keyed.example, self.seed, keyed.epoch, keyed.row, self.objective, self.vocabulary)
