"""Several calls at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


async def map_concurrently(
    items: Iterable[_Item], call: Callable[[_Item], Awaitable[_Value]], *, at_once: int
) -> list[_Value]:
    """Return what a call gives for each item, in their order. The first failure ends the calls that are left.

    Args:
        items: What to call with.
        call: The call.
        at_once: Most calls at a time.
    """
    room = asyncio.Semaphore(at_once)

    async def one(item: _Item) -> _Value:
        async with room:
            return await call(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
