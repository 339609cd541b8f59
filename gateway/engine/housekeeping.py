"""Removes what nobody needs any more, now and then."""

from __future__ import annotations

import asyncio

import structlog

from gateway.store import Store

_log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 300.0


async def keep_house(store: Store) -> None:
    """Remove uploads whose time has come, and files that nothing refers to, until cancelled."""
    while True:
        try:
            if removed := await store.collect_garbage():
                _log.info("files_removed", count=removed)
        except Exception:  # noqa: BLE001 - the next round may do better, and nobody else would make one
            _log.exception("housekeeping_failed")
        await asyncio.sleep(_PAUSE_SECONDS)
