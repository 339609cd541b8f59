"""The queue of jobs that wait for a simulator."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import count


class JobQueue:
    """First come, first served, over all backends; a job may leave at any place."""

    def __init__(self) -> None:
        self._numbers = count()
        self._tickets: dict[str, tuple[int, str]] = {}
        self._order: list[tuple[int, str]] = []
        self._per_backend: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._order)

    def put(self, job: str, backend: str) -> None:
        """Let a job wait behind all others."""
        ticket = (next(self._numbers), job)
        self._tickets[job] = (ticket[0], backend)
        self._order.append(ticket)
        self._per_backend[backend] += 1

    def leave(self, job: str) -> None:
        """Take a job out."""
        number, backend = self._tickets.pop(job)
        del self._order[bisect_left(self._order, (number, job))]
        self._per_backend[backend] -= 1

    def take(self) -> str:
        """Take out the job that has waited longest, and return it."""
        job = self._order[0][1]
        self.leave(job)
        return job

    def place(self, job: str) -> int | None:
        """Return how many jobs are before one; None if it does not wait."""
        ticket = self._tickets.get(job)
        return None if ticket is None else bisect_left(self._order, (ticket[0], job))

    def waiting_for(self, backend: str) -> int:
        """Return how many jobs wait for a backend."""
        return self._per_backend[backend]
