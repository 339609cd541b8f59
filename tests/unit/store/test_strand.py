"""Work in order, on the threads of a pool."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.store.strand import Strand

AHEAD = 3


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


class Work:
    """Notes the pieces that it gets, and does not go on until it may."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.may_go_on = threading.Event()
        self.at_once = 0

    def __call__(self, pieces: Sequence[bytes]) -> None:
        self.at_once += 1
        assert self.at_once == 1
        assert self.may_go_on.wait(20)
        self.calls.append(list(pieces))
        self.at_once -= 1


async def put_many(strand: Strand[bytes], pieces: list[bytes], put: list[bytes] | None = None) -> None:
    for piece in pieces:
        await strand.put(piece)
        if put is not None:
            put.append(piece)


async def test_many_strands_share_a_pool_and_each_keeps_its_order(threads: ThreadPoolExecutor) -> None:
    works = [Work() for _ in range(8)]
    strands = [Strand(threads, work, AHEAD) for work in works]
    for work in works:
        work.may_go_on.set()
    numbers = [str(number).encode() for number in range(500)]
    for number in numbers:
        for strand in strands:
            await strand.put(number)
    for strand, work in zip(strands, works, strict=True):
        await strand.finish()
        assert [piece for call in work.calls for piece in call] == numbers


async def test_what_comes_during_a_call_is_one_call_afterwards(threads: ThreadPoolExecutor) -> None:
    work = Work()
    strand = Strand(threads, work, AHEAD)
    await strand.put(b"first")
    while not work.at_once:
        await asyncio.sleep(0)
    for piece in (b"second", b"third"):
        await strand.put(piece)
    work.may_go_on.set()
    await strand.finish()
    assert work.calls == [[b"first"], [b"second", b"third"]]


async def test_whoever_is_too_far_ahead_waits(threads: ThreadPoolExecutor) -> None:
    work = Work()
    strand = Strand(threads, work, AHEAD)
    put: list[bytes] = []
    putting = asyncio.create_task(put_many(strand, [b"x"] * 100, put))
    before = -1
    while len(put) > before:
        before = len(put)
        for _ in range(10):
            await asyncio.sleep(0)
    assert len(put) == AHEAD
    work.may_go_on.set()
    await putting
    await strand.finish()
    assert sum(map(len, work.calls)) == 100


async def test_an_error_comes_to_whoever_puts_and_ends_the_strand(threads: ThreadPoolExecutor) -> None:
    def fail(pieces: Sequence[bytes]) -> None:
        raise OSError(28, os.strerror(28))

    strand = Strand(threads, fail, AHEAD)
    with pytest.raises(OSError, match="No space left"):
        await put_many(strand, [b"x"] * 10)
    with pytest.raises(OSError, match="No space left"):
        await strand.finish()
    await strand.stop()


async def test_stopping_forgets_what_waits_and_waits_for_what_is_done(threads: ThreadPoolExecutor) -> None:
    work = Work()
    strand = Strand(threads, work, AHEAD)
    await strand.put(b"first")
    while not work.at_once:
        await asyncio.sleep(0)
    await strand.put(b"second")
    stopping = asyncio.create_task(strand.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    work.may_go_on.set()
    await stopping
    assert work.calls == [[b"first"]]
    assert not work.at_once
