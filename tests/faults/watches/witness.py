"""Sees what really happens while it happens: compactions and deletions take it out of the store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.faults.watches.recording import Event, Truth

_INTERVAL = 0.05


class Witness:
    """Reads what was committed from the database of a gateway, beside it and whether it runs or not.

    Args:
        folder: The folder of the `GatewayProcess`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store" / "qgateway.db"
        self._events: list[Event] = []
        self._seen_at: dict[int, float] = {}
        self._marks: list[tuple[float, int]] = []
        self.missed = False
        """Whether something was gone before it was seen: what is known then is not the whole."""

    @property
    def last(self) -> int:
        """Revision of the last event that was seen."""
        return self._events[-1].revision if self._events else 0

    @property
    def compacted(self) -> int:
        """Revision up to which the history was compacted."""
        return self._marks[-1][1] if self._marks else 0

    def truth(self, acknowledged: list[Event]) -> Truth:
        """Return all that was seen."""
        return Truth(tuple(self._events), tuple(acknowledged), tuple(self._marks), dict(self._seen_at))

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_INTERVAL)

    async def sees(self, revision: int) -> None:
        """Wait until an event was seen."""
        while self.last < revision:
            await asyncio.sleep(_INTERVAL)

    def look(self) -> None:
        """Take in what was committed since the last look."""
        with closing(sqlite3.connect(self._path, timeout=10)) as database:
            # One snapshot: what is gone by it and was not seen before was missed.
            database.execute("BEGIN")
            (mark,) = database.execute("SELECT revision FROM marks WHERE name = 'compacted'").fetchone()
            found = database.execute(
                "SELECT revision, type, document FROM events WHERE revision > ? ORDER BY revision", (self.last,)
            ).fetchall()
        now = time.monotonic()
        self.missed |= mark > self.last
        for revision, kind, document in found:
            self._events.append(_event(revision, kind, json.loads(document)))
            self._seen_at[revision] = now
        if mark > self.compacted:
            self._marks.append((now, mark))


def _event(revision: int, kind: str, job: dict[str, object]) -> Event:
    tags = job["tags"]
    assert isinstance(tags, list)
    return Event(
        revision,
        f"jobs/{job['id']}",
        str(job["status"]),
        str(job["display_name"]),
        tuple(tags),
        deletes=kind == "DELETED",
    )
