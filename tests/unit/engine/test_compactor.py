from __future__ import annotations

import asyncio

import pytest

from gateway.engine import compactor as compactor_module
from gateway.engine.compactor import Compactor
from tests.unit.engine.conftest import ALICE, Engine

NEVER = 10**6


async def _renamed(engine: Engine, times: int) -> None:
    job = await engine.submit()
    for index in range(times):
        await engine.jobs.update(ALICE, job.id, display_name=f"name {index}", tags=None, etag="")


async def test_what_is_beyond_the_number_is_forgotten_in_as_many_steps_as_it_takes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor_module, "_BATCH", 3)
    await _renamed(engine, 20)
    compactor = Compactor(engine.store, max_age=3600, max_events=5, interval=NEVER)
    try:
        assert await compactor.compact() == engine._hub.last_revision - 5
        assert len(await engine.store.events(after=0, limit=100)) == 5
        assert await compactor.compact() == 0
    finally:
        await compactor.close()


async def test_it_looks_again_and_again_by_itself(engine: Engine) -> None:
    compactor = Compactor(engine.store, max_age=3600, max_events=5, interval=0.01)
    try:
        for _ in range(2):
            await _renamed(engine, 10)
            async with asyncio.timeout(20):
                while len(await engine.store.events(after=0, limit=100)) > 5:
                    await asyncio.sleep(0.01)
    finally:
        await compactor.close()
