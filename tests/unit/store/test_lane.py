"""Which calls share a batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from gateway.domain.job import JobEvent
from gateway.store.lane import Lane, Request
from tests.support.waiting import until


class HeldWork:
    """The work of a lane: it notes how many calls each batch has, and is held up until it is released."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.released = threading.Event()

    def __call__(self, batch: Sequence[Request[None]]) -> Sequence[JobEvent]:
        self.sizes.append(len(batch))
        assert self.released.wait(30)
        return ()


def nothing(_: None) -> None:
    """Do nothing."""


async def grow(lane: Lane[None], calls: int) -> list[asyncio.Task[None]]:
    """Make calls, and return when the thread has them or they wait for it."""
    tasks = [asyncio.create_task(lane.run(nothing)) for _ in range(calls)]
    await asyncio.sleep(0)
    await until(lambda: not lane._new)
    return tasks


async def after_a_batch_of(calls: int, lane: Lane[None], work: HeldWork) -> None:
    """Have a batch of so many calls done, and let work go on by itself from then on."""
    first = await grow(lane, 1)
    await until(lambda: work.sizes == [1])
    rest = await grow(lane, calls - 1)
    work.released.set()
    await asyncio.gather(*first)
    await asyncio.gather(*rest, *await grow(lane, 1))  # whoever was answered calls again
    assert work.sizes == [1, calls]


async def test_behind_a_batch_of_many_calls_the_next_begins_as_soon_as_as_many_are_there() -> None:
    work = HeldWork()
    lane = Lane[None]("gathering", work, gather=60.0)
    await after_a_batch_of(20, lane, work)
    calls = await grow(lane, 1)
    await until(lane._queue.empty)  # the thread has taken it
    for _ in range(19):
        assert work.sizes == [1, 20]
        calls += await grow(lane, 1)
    await asyncio.gather(*calls)
    assert work.sizes == [1, 20, 20]
    await lane.close()


async def test_if_fewer_come_they_need_not_wait_for_long() -> None:
    work = HeldWork()
    lane = Lane[None]("gathering", work, gather=0.5)
    await after_a_batch_of(20, lane, work)
    calls = await grow(lane, 1)
    await until(lane._queue.empty)
    calls += await grow(lane, 1)
    await asyncio.gather(*calls)
    assert work.sizes == [1, 20, 2]
    await lane.close()


async def test_behind_a_batch_of_few_calls_none_waits_for_others() -> None:
    work = HeldWork()
    lane = Lane[None]("gathering", work, gather=60.0)
    work.released.set()
    for _ in range(3):
        await asyncio.gather(*await grow(lane, 1))
    assert work.sizes == [1, 1, 1]
    await lane.close()


async def test_what_is_to_be_tidied_up_is_done_when_the_callers_have_been_told() -> None:
    work, told = HeldWork(), threading.Event()
    lane = Lane[None]("tidy", work, tidy=lambda: assert_soon(told))
    work.released.set()
    await lane.run(nothing)
    told.set()
    await lane.run(nothing)
    assert work.sizes == [1, 1]
    await lane.close()


def assert_soon(event: threading.Event) -> None:
    """Wait for an event, which comes."""
    assert event.wait(30)
