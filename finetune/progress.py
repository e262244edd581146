"""How far long work is: a bar on a terminal, and in a log a line now and then. Depends on tqdm."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 30  # between two lines of a log; work that takes less writes none
LOG_LINE = "{desc}: {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} left"


class _Lines:
    """What tqdm draws a bar on, if it is a log: each drawing is a line of its own, on stderr."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(f"{text.strip()}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """
    Begin to show how far work is.

    Args:
        items (iterable, *optional*): What is worked on, if the result is iterated over.
        options (*optional*): Of `tqdm`: `desc`, `total`, `unit`, `leave`.

    Returns:
        `tqdm`
    """
    if not sys.stderr.isatty():
        rarely = {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS, "delay": LOG_SECONDS}
        options |= {"file": _Lines(), "bar_format": LOG_LINE, "leave": True, **rarely}
    return tqdm(items, **options)
