"""Calls that take longer than they may."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.errors import DeadlineExceeded
from gateway.rpc.deadlines import Deadline


async def test_a_call_that_takes_too_long_is_ended_and_told_so() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"longer than the 0\.05 seconds"):
        await Deadline(0.05).of(endless())
    assert time.monotonic() - began >= 0.05
    assert ended.is_set()
    await asyncio.sleep(0)  # nothing of it is left in the task


async def test_each_call_has_its_own_time() -> None:
    deadline = Deadline(1.0)
    gate = asyncio.Event()

    async def call() -> str:
        return await deadline.of(_after(gate))

    early = asyncio.create_task(call())
    await asyncio.sleep(0.5)
    late = asyncio.create_task(call())
    with pytest.raises(DeadlineExceeded):
        await early
    assert not late.done()
    gate.set()
    assert await late == "answer"
    with pytest.raises(DeadlineExceeded):
        await asyncio.create_task(deadline.of(asyncio.Event().wait()))


async def test_what_a_call_returns_or_raises_passes() -> None:
    deadline = Deadline(10)
    gate = asyncio.Event()
    gate.set()
    assert await deadline.of(_after(gate)) == "answer"

    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await deadline.of(fail())


async def test_a_call_whose_caller_goes_away_is_cancelled_as_ever() -> None:
    task = asyncio.create_task(Deadline(10).of(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _after(gate: asyncio.Event) -> str:
    await gate.wait()
    return "answer"
