"""Blocks of a file on their way to the disk, on the threads of a pool."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.store.blocks import Block
from gateway.store.reception import Reception
from tests.support.waiting import until

BLOCKS = 3


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


class Sink:
    """Notes what it gets, and does not go on with writing until it may."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.written: dict[int, bytes] = {}
        self.writing = 0
        self.may_write = threading.Event()
        self._taking = 0

    def take(self, block: Block) -> int:
        self._taking += 1
        assert self._taking == 1
        self.taken.append(bytes(block.content))
        self._taking -= 1
        return len(self.taken) - 1

    def write(self, block: Block, offset: int) -> None:
        self.writing += 1
        assert self.may_write.wait(20)
        self.written[offset] = bytes(block.content)
        self.writing -= 1


class Full(Sink):
    """A disk without room."""

    def write(self, block: Block, offset: int) -> None:
        raise OSError(28, os.strerror(28))


async def give(reception: Reception, data: bytes) -> None:
    block = await reception.free_block()
    block.fill(memoryview(data))
    reception.give(block)


async def give_many(reception: Reception, count: int, given: list[bytes]) -> None:
    for number in range(count):
        data = str(number).encode()
        await give(reception, data)
        given.append(data)


async def test_many_files_share_a_pool_and_each_keeps_its_order(threads: ThreadPoolExecutor) -> None:
    sinks = [Sink() for _ in range(8)]
    receptions = [Reception(threads, sink, BLOCKS) for sink in sinks]
    for sink in sinks:
        sink.may_write.set()
    given: list[list[bytes]] = [[] for _ in sinks]
    await asyncio.gather(*(give_many(each, 200, notes) for each, notes in zip(receptions, given, strict=True)))
    for reception, sink, notes in zip(receptions, sinks, given, strict=True):
        await reception.finish()
        assert sink.taken == notes
        assert [sink.written[offset] for offset in range(200)] == notes


async def test_blocks_are_taken_while_others_are_written(threads: ThreadPoolExecutor) -> None:
    sink = Sink()
    reception = Reception(threads, sink, BLOCKS)
    for data in (b"first", b"second"):
        await give(reception, data)
    await until(lambda: sink.writing == 2)
    assert sink.taken == [b"first", b"second"]
    sink.may_write.set()
    await reception.finish()


async def test_a_file_is_no_further_ahead_of_the_disk_than_its_blocks(threads: ThreadPoolExecutor) -> None:
    sink = Sink()
    reception = Reception(threads, sink, BLOCKS)
    given: list[bytes] = []
    giving = asyncio.create_task(give_many(reception, 100, given))
    await until(lambda: sink.writing == BLOCKS)
    assert len(given) == BLOCKS
    assert not giving.done()
    sink.may_write.set()
    await giving
    await reception.finish()
    assert len(sink.written) == 100


async def test_an_error_comes_to_whoever_gives_and_ends_the_reception(threads: ThreadPoolExecutor) -> None:
    sink = Full()
    reception = Reception(threads, sink, BLOCKS)
    with pytest.raises(OSError, match="No space left"):
        await give_many(reception, 100, [])
    with pytest.raises(OSError, match="No space left"):
        await reception.finish()
    await reception.stop()
    assert len(sink.taken) <= BLOCKS


async def test_stopping_forgets_what_waits_and_waits_for_what_is_done(threads: ThreadPoolExecutor) -> None:
    sinks = Sink(), Sink()
    receptions = [Reception(threads, sink, BLOCKS) for sink in sinks]
    for number in range(BLOCKS):
        await give(receptions[0], str(number).encode())
    await until(lambda: sinks[0].writing == BLOCKS)  # no thread is left
    await give(receptions[1], b"waits")
    stopping = [asyncio.create_task(reception.stop()) for reception in receptions]
    await asyncio.sleep(0)
    assert not any(task.done() for task in stopping)
    for sink in sinks:
        sink.may_write.set()
    await asyncio.gather(*stopping)
    assert len(sinks[0].written) == BLOCKS
    assert sinks[1].taken == []
