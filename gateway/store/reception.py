"""Takes in a file in blocks, on the threads of a pool, while more of it comes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Executor
from typing import Protocol

from gateway.store.blocks import Block


class BlockSink(Protocol):
    """What becomes of the blocks of a file."""

    def take(self, block: Block) -> int:
        """Take a block into the checksum and return its place in the file. Called in the order of the blocks."""

    def write(self, block: Block, offset: int) -> None:
        """Write a block to its place. Called for several blocks at a time."""


class Reception:
    """Brings the blocks of a file to a sink: each is taken in its turn, and written while the next ones are taken.

    One thread does both with a block, so that there are few switches of threads, and the next write is begun before the one
    before has ended: a disk that waits for a busy interpreter between two writes is idle for half of the time.

    Args:
        threads: The pool. All who share it get on: no thread waits for the event loop.
        sink: What to do with the blocks. What it raises ends the reception.
        blocks: Number of blocks. They are filled again and again, so no more than these are held.
    """

    def __init__(self, threads: Executor, sink: BlockSink, blocks: int) -> None:
        self._threads = threads
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        # Of the event loop:
        self._free = [Block() for _ in range(blocks)]
        self._given = 0
        """Number of blocks that were given and have not come back."""
        self._came_back = asyncio.Event()
        # Of all threads:
        self._lock = threading.Lock()
        self._waiting: deque[Block] = deque()
        self._is_taking = False
        """Whether a thread takes a block, or is about to."""
        self._is_over = False
        """Whether blocks are only given back."""
        self._error: Exception | None = None
        """What the sink raised first."""

    async def free_block(self) -> Block:
        """Return a block to fill, as soon as there is one.

        Raises:
            Exception: What the sink raised for earlier blocks.
        """
        while not self._free:
            await self._one_back()
        self._check()
        block = self._free.pop()
        block.clear()
        return block

    def give(self, block: Block) -> None:
        """Hand a block over that is full, or the last one."""
        self._given += 1
        with self._lock:
            self._waiting.append(block)
            if self._is_taking:
                return
            self._is_taking = True
        self._threads.submit(self._do_next)

    async def finish(self) -> None:
        """Wait until all blocks are written.

        Raises:
            Exception: What the sink raised.
        """
        while self._given:
            await self._one_back()
        self._check()

    async def stop(self) -> None:
        """Forget the blocks that wait, and wait until the sink has none any more."""
        self._is_over = True
        while self._given:
            await self._one_back()

    async def _one_back(self) -> None:
        self._came_back.clear()
        await self._came_back.wait()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _do_next(self) -> None:
        """Do with the block that waits longest what is to be done; others take the next ones meanwhile."""
        with self._lock:
            block = self._waiting.popleft()
        try:
            try:
                offset = None if self._is_over else self._sink.take(block)
            finally:
                self._let_next_begin()
            if offset is not None:
                self._sink.write(block, offset)
        except Exception as error:  # noqa: BLE001 - told to whoever gives
            self._error = self._error or error
            self._is_over = True
        finally:
            self._loop.call_soon_threadsafe(self._take_back, block)

    def _let_next_begin(self) -> None:
        with self._lock:
            self._is_taking = bool(self._waiting)
        if self._is_taking:
            self._threads.submit(self._do_next)

    def _take_back(self, block: Block) -> None:
        self._free.append(block)
        self._given -= 1
        self._came_back.set()
