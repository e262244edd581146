"""
Which examples are learnt from at which step: the order of each epoch, and how its examples share rows of a batch.

A packed row is one row of a batch: one example, or several. The packed rows of all epochs form one list, decided by the
seed; an update takes the next ones, however they are split into batches, accumulated steps and processes. So these
splits train alike, and a resumed run needs nothing but the number of packed rows that it has used.

Depends on lengths and positions. Independent of token ids.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence

from .collate import assign_rows

WINDOW_ROWS = 64  # packed rows, or batches of similar length, that are laid out together and then shuffled

PackedRow = list[int]  # positions of examples
EpochOrder = Callable[[int], Sequence[int]]  # epoch -> positions of the examples in it, in order


def shuffled(count: int, seed: int) -> EpochOrder:
    """Give the order in which every example comes once an epoch, in another order each time."""

    def order(epoch: int) -> Sequence[int]:
        positions = list(range(count))
        random.Random(f"{seed} order {epoch}").shuffle(positions)
        return positions

    return order


class RowPlan:
    """
    The packed rows of a run.

    Args:
        lengths (`Sequence[int]`): Tokens of each example, at its longest.
        order (`Callable`): Gives the examples of an epoch.
        rows_per_update (`int`): Packed rows that one update takes, over all processes and accumulated steps.
        row_length (`int`, *optional*): Pack examples into rows of this length; without it each row is an example, and
            the examples of an update are of similar length.
        seed (`int`): Shuffles what is laid out together.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        order: EpochOrder,
        rows_per_update: int,
        row_length: int | None = None,
        seed: int = 0,
    ):
        self.lengths = lengths
        self.order = order
        self.rows_per_update = rows_per_update
        self.row_length = row_length
        self.seed = seed
        self._starts = [0]  # number of the first row of each epoch that was laid out
        self._epochs: dict[int, list[PackedRow]] = {}

    def epoch(self, epoch: int) -> list[PackedRow]:
        """Lay out the packed rows of an epoch; the last two asked for are kept."""
        if epoch not in self._epochs:
            self._epochs = {number: rows for number, rows in self._epochs.items() if abs(number - epoch) == 1}
            self._epochs[epoch] = self._lay_out(epoch)
        return self._epochs[epoch]

    def locate(self, number: int) -> tuple[int, PackedRow]:
        """
        Find a packed row.

        Args:
            number (`int`): Of the packed row, counted from the first epoch's first.

        Returns:
            `tuple[int, list[int]]`: Its epoch, and the positions of its examples.
        """
        while self._starts[-1] <= number:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        epoch = bisect_right(self._starts, number) - 1
        return epoch, self.epoch(epoch)[number - self._starts[epoch]]

    def progress(self, number: int) -> float:
        """Give the position of packed row `number` in epochs."""
        if number == 0:
            return 0.0
        epoch, _ = self.locate(number - 1)
        return epoch + (number - self._starts[epoch]) / len(self.epoch(epoch))

    def rows_of(self, epochs: float) -> int:
        """Count the packed rows of so many epochs, the last of which may be a part of one."""
        whole = sum(len(self.epoch(epoch)) for epoch in range(int(epochs)))
        part = epochs - int(epochs)
        return whole + (round(part * len(self.epoch(int(epochs)))) if part else 0)

    def _lay_out(self, epoch: int) -> list[PackedRow]:
        order = list(self.order(epoch))
        if not order:
            raise ValueError("There are no examples to train on.")
        rng = random.Random(f"{self.seed} rows {epoch}")
        rows: list[PackedRow] = []
        for window in self._windows(order):
            rows += self._pack(window, rng) if self.row_length is not None else self._group(window, rng)
        return rows

    def _windows(self, order: list[int]) -> list[list[int]]:
        """Cut an epoch's order into windows that are laid out together."""
        if self.row_length is None:
            size = WINDOW_ROWS * self.rows_per_update
            return [order[start : start + size] for start in range(0, len(order), size)]
        windows: list[list[int]] = [[]]
        filled = 0
        for position in order:
            if filled > WINDOW_ROWS * self.row_length:
                windows.append([])
                filled = 0
            windows[-1].append(position)
            filled += self.lengths[position]
        return windows

    def _pack(self, window: list[int], rng: random.Random) -> list[PackedRow]:
        assert self.row_length is not None
        rows = [[window[i] for i in row] for row in assign_rows([self.lengths[i] for i in window], self.row_length)]
        rng.shuffle(rows)
        return rows

    def _group(self, window: list[int], rng: random.Random) -> list[PackedRow]:
        by_length = sorted(window, key=lambda position: self.lengths[position])
        size = self.rows_per_update
        groups = [by_length[start : start + size] for start in range(0, len(by_length), size)]
        rng.shuffle(groups)
        return [[position] for group in groups for position in group]
