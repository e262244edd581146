"""
Replies that clients name by an id in later requests, as OpenAI's chat completions do: kept for an hour, in memory.

Independent of HTTP and the model.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from ..service import RequestError

KEPT_SECONDS = 3600
MOST_KEPT = 1000  # of a few kilobytes each


class PastReplies:
    """
    Token ids of replies by id.

    Args:
        most (`int`, *optional*, defaults to 1000): How many are kept; the oldest go first.
        seconds (`float`, *optional*, defaults to 3600): How long they are kept.
    """

    def __init__(self, most: int = MOST_KEPT, seconds: float = KEPT_SECONDS):
        self.most, self.seconds = most, seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, tuple[int, ...]]] = OrderedDict()

    def new_id(self) -> tuple[str, int]:
        """Choose an id that cannot be guessed; return it, and when it ends, in seconds since 1970."""
        return f"audio_{secrets.token_hex(16)}", int(time.time() + self.seconds)

    def keep(self, reply_id: str, token_ids: Sequence[int]) -> None:
        """Keep a reply."""
        with self._lock:
            self._kept[reply_id] = (time.monotonic() + self.seconds, tuple(token_ids))
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)

    def find(self, reply_id: str) -> tuple[int, ...]:
        """
        Find a reply.

        Args:
            reply_id (`str`): Its id.

        Returns:
            `tuple[int, ...]`: Its token ids.

        Raises:
            RequestError: If it is not kept here.
        """
        with self._lock:
            until, token_ids = self._kept.get(reply_id, (0.0, ()))
        if until <= time.monotonic():
            raise RequestError(
                "There is no audio of that id (it is kept for an hour, by the server that made it): send the "
                "assistant's text as content.",
                "messages",
            )
        return token_ids
