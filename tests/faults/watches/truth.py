"""Reads what really happened from the store of a gateway that has stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.domain.job import EventType, JobEvent
from gateway.engine.tokens import ResumeTokens
from gateway.store import Store
from tests.faults.watches.recording import Event, Truth

_PAGE = 1000


async def stored_truth(folder: Path) -> tuple[Truth, Callable[[str], int]]:
    """Return the history in a gateway's store, and what tells the positions that its tokens stand for.

    Args:
        folder: The folder of the `GatewayProcess`.
    """
    store = await Store.open(folder / "store" / "qgateway.db")
    try:
        found: list[Event] = []
        while batch := await store.events(after=found[-1].revision if found else 0, limit=_PAGE):
            found += map(_event, batch)
        return Truth(tuple(found)), ResumeTokens(store.token_key).read
    finally:
        await store.close()


def _event(stored: JobEvent) -> Event:
    job = stored.job
    deletes = stored.type is EventType.DELETED
    return Event(stored.revision, f"jobs/{job.id}", job.status.name, job.display_name, tuple(job.tags), deletes=deletes)
