"""
Which request is served, which waits, and which is refused.

Depends on users' names, groups that cannot be served together, and time. Independent of what is done for them.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable

from .limits import Busy, Limits, in_words

FIRST_GUESS_SECONDS = 3.0  # of one request, before any was measured
NEWEST_WEIGHT = 0.2  # of the newest measurement, in the running mean


class Ticket:
    """
    A place in the queue, and later a slot.

    Args:
        admission ([`Admission`]): The queue.
        user (`str`, *optional*): Who asks.
        group (`Hashable`): Only requests of one group are served at the same time.
        begin (`Callable`): Called once, with the ticket, when its turn comes; must neither wait nor raise.
    """

    def __init__(self, admission: "Admission", user: str | None, group: Hashable, begin: Callable[["Ticket"], None]):
        self.admission = admission
        self.user = user
        self.group = group
        self.begin: Callable[[Ticket], None] | None = begin
        self.begun_at: float | None = None  # of a ticket whose time is measured

    def leave(self) -> None:
        """Give the slot to the next one; a second time this does nothing."""
        self.admission.leave(self)

    def withdraw(self) -> bool:
        """Leave the queue; return whether it was waiting. One that is being served keeps its slot until `leave`."""
        return self.admission.withdraw(self)

    @property
    def num_before(self) -> int:
        """How many wait before this one; 0 also when its turn has come."""
        return self.admission.num_before(self)


class Admission:
    """
    A bounded number of slots behind a bounded queue, first come, first served.

    Only requests of one group are served at the same time; the first one of another group waits until all slots are
    free.

    Args:
        limits ([`Limits`]): The number of slots, of places in the queue, and of both for one user.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.mean_seconds = FIRST_GUESS_SECONDS
        self._lock = threading.Lock()
        self._all_left = threading.Condition(self._lock)
        self._waiting: deque[Ticket] = deque()
        self._running: set[Ticket] = set()
        self._of_user: Counter[str] = Counter()
        self._is_closed = False

    def enter(self, user: str | None, group: Hashable, begin: Callable[[Ticket], None]) -> Ticket:
        """
        Take a place.

        Args:
            user (`str`, *optional*): Who asks; without a name, there is no limit per user.
            group (`Hashable`): Only requests of one group are served at the same time.
            begin (`Callable`): Called with the ticket when its turn comes, at once or later in another thread.

        Returns:
            [`Ticket`]: To `withdraw` while it waits, to `leave` when it was served, whatever happened.

        Raises:
            Busy: If there is no place.
        """
        ticket = Ticket(self, user, group, begin)
        with self._lock:
            self._refuse(user)
            self._waiting.append(ticket)
            if user is not None:
                self._of_user[user] += 1
            begun = self._take_turns()
        _begin_all(begun)
        return ticket

    def enter_if_idle(self, group: Hashable) -> Ticket | None:
        """
        Take a slot for work that nobody waits for, if one is free and there is no queue for it.

        Args:
            group (`Hashable`): As for `enter`.

        Returns:
            [`Ticket`] or `None`: To `leave` soon: who comes meanwhile may have to wait for it.
        """
        ticket = Ticket(self, None, group, _do_nothing)
        with self._lock:
            is_free = not self._is_closed and not self._waiting and len(self._running) < self.limits.served_at_once
            if not is_free or any(other.group != group for other in self._running):
                return None
            self._running.add(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """See [`Ticket`]."""
        with self._lock:
            if ticket not in self._running:
                return
            self._running.remove(ticket)
            if ticket.begun_at is not None:
                seconds = time.monotonic() - ticket.begun_at
                self.mean_seconds += NEWEST_WEIGHT * (seconds - self.mean_seconds)
            self._forget(ticket)
            begun = self._take_turns()
        _begin_all(begun)

    def withdraw(self, ticket: Ticket) -> bool:
        """See [`Ticket`]."""
        with self._lock:
            was_waiting = ticket in self._waiting
            if was_waiting:
                self._waiting.remove(ticket)
                self._forget(ticket)
            begun = self._take_turns()  # those behind it may be of the group that is being served
        _begin_all(begun)
        return was_waiting

    def close(self) -> None:
        """Refuse all further requests."""
        with self._lock:
            self._is_closed = True

    def wait_until_empty(self, timeout: float | None = None) -> bool:
        """Wait until no request is served or waits; return whether that happened in time."""
        with self._lock:
            return self._all_left.wait_for(lambda: not self._running and not self._waiting, timeout)

    def num_before(self, ticket: Ticket) -> int:
        """See [`Ticket`]."""
        with self._lock:
            return self._waiting.index(ticket) if ticket in self._waiting else 0

    @property
    def is_closed(self) -> bool:
        """Whether all further requests are refused."""
        return self._is_closed

    @property
    def num_running(self) -> int:
        """How many are being served."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def expected_wait(self) -> float:
        """Estimated wait of a request that comes now, in seconds, from the mean time of those before it."""
        ahead = len(self._waiting) + (len(self._running) >= self.limits.served_at_once)
        return self.mean_seconds * ahead / self.limits.served_at_once

    def _refuse(self, user: str | None) -> None:
        wait = max(1.0, self.expected_wait)
        if self._is_closed:
            raise Busy("The service is about to stop and takes no more questions: try again in a minute.", 60.0)
        if user is not None and self._of_user[user] >= self.limits.per_user:
            raise Busy(
                f"{self._of_user[user]} of your questions are not answered yet, which is the limit for one person: "
                f"try again in {in_words(wait)}.",
                wait,
            )
        has_free_slot = not self._waiting and len(self._running) < self.limits.served_at_once
        if len(self._waiting) >= self.limits.waiting and not has_free_slot:
            raise Busy(
                f"{len(self._waiting)} questions are waiting already, which is the limit: "
                f"try again in {in_words(wait)}.",
                wait,
            )

    def _take_turns(self) -> list[Ticket]:
        """Give free slots to waiting requests in their order, as long as the first of them can be served now."""
        begun = []
        while self._waiting and len(self._running) < self.limits.served_at_once:
            if any(ticket.group != self._waiting[0].group for ticket in self._running):
                break
            ticket = self._waiting.popleft()
            ticket.begun_at = time.monotonic()
            self._running.add(ticket)
            begun.append(ticket)
        return begun

    def _forget(self, ticket: Ticket) -> None:
        if ticket.user is not None:
            self._of_user[ticket.user] -= 1
            if not self._of_user[ticket.user]:
                del self._of_user[ticket.user]
        self._all_left.notify_all()


def _do_nothing(ticket: Ticket) -> None:
    """Begin work that is done where the ticket was taken."""


def _begin_all(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        begin, ticket.begin = ticket.begin, None  # who keeps a ticket keeps nothing alive that only its turn needed
        if begin is not None:
            begin(ticket)
