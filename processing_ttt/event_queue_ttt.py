"""
A bounded queue between one producing thread and one consumer, which either side can end.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class QueueEnd(Exception):
    """The queue has ended."""


class EventQueue(Generic[Item]):
    """
    A queue that makes the producer wait when it is full; when either side ends it, the other one does not wait.

    Args:
        size (`int`): Largest number of waiting items.
    """

    def __init__(self, size: int):
        if size < 1:
            raise ValueError(f"`queue_size` must be at least 1, but is {size}.")
        self.size = size
        self.on_change: Callable[[], None] = lambda: None  # called, in any thread, when there is something to get
        self.is_closed = False
        self.is_cancelled = False
        self._error: BaseException | None = None
        self._items: deque[Item] = deque()
        # re-entrant: a finalizer may cancel at any point of the thread that holds it
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Add an item, waiting for room; after the end it is dropped."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or len(self._items) < self.size)
            if not self.is_closed:
                self._items.append(item)
                self._notify()

    def close(self, error: BaseException | None = None) -> None:
        """End the queue, as its producer: the consumer gets the remaining items, then the error, if there is one."""
        with self._changed:
            if not self.is_closed:
                self.is_closed, self._error = True, error
                self._notify()

    def cancel(self) -> None:
        """End the queue, as its consumer: remaining items are dropped, and a waiting producer continues."""
        with self._changed:
            if not self.is_cancelled:
                self.is_closed = self.is_cancelled = True
                self._error = None
                self._items.clear()
                self._notify()

    def get(self) -> Item:
        """
        Take the next item, waiting for it.

        Raises:
            QueueEnd: After the last one; or the producer's error, once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.is_closed)
            return self._take()

    def get_nowait(self) -> Item | None:
        """Take the next item, or `None` if there is none yet; raises as `get` does."""
        with self._changed:
            return self._take() if self._items or self.is_closed else None

    def _take(self) -> Item:
        if self._items:
            item = self._items.popleft()
            self._changed.notify_all()
            return item
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise QueueEnd

    def _notify(self) -> None:
        self._changed.notify_all()
        self.on_change()
