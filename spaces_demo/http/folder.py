"""
Keeps a folder that strangers fill within a number of bytes.

Depends on files. Independent of what writes them.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 5.0


@contextlib.contextmanager
def kept_small(folder: Path, most_bytes: int) -> Iterator[None]:
    """
    Look at a folder every few seconds, until the block ends.

    Args:
        folder (`Path`): May not be there yet.
        most_bytes (`int`): As for `trim`.
    """
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            trim(folder, most_bytes)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def trim(folder: Path, most_bytes: int) -> None:
    """
    Delete the oldest files of a folder.

    Args:
        folder (`Path`): With its subfolders.
        most_bytes (`int`): What is left has at most as many.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another thread has deleted it
            if path.is_file():
                files.append((path.stat().st_mtime, path.stat().st_size, path))
    excess = sum(size for _, size, _ in files) - most_bytes
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size
