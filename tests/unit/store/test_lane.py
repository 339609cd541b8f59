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


async def test_behind_a_batch_of_many_calls_the_next_share_one_though_they_come_one_by_one() -> None:
    work = HeldWork()
    lane = Lane[None]("gathering", work, gather=2.0)
    calls = [asyncio.create_task(lane.run(nothing))]
    await until(lambda: work.sizes == [1])
    calls += [asyncio.create_task(lane.run(nothing)) for _ in range(20)]
    await until(lambda: lane._queue.qsize() == 20)
    work.released.set()
    await asyncio.gather(*calls)
    first = asyncio.create_task(lane.run(nothing))
    await asyncio.sleep(0)
    await until(lambda: not lane._new and lane._queue.empty())  # the thread has taken it
    await asyncio.gather(first, lane.run(nothing))
    assert work.sizes == [1, 20, 2]
    await lane.close()
