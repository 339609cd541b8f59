"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], *, within: float = 20.0, every: float = 0.02) -> _T:
    """Return the first true value of a condition, looked at `every` so many seconds; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not so within {within} s"
        time.sleep(every)


async def until(condition: Callable[[], _T], *, within: float = 20.0, every: float = 0.01) -> _T:
    """Return the first true value of a condition, without blocking the event loop."""
    async with asyncio.timeout(within):
        while not (value := condition()):
            await asyncio.sleep(every)
        return value
