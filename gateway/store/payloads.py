"""The files of a store as the engine sees them: kept, received and read without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.domain.payload import LARGE_PAYLOAD_BYTES, KeptFile, KeptPayload, Payload, PayloadFile
from gateway.store.files import IncomingFile, PayloadFiles
from gateway.store.reception import Reception

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4
_BLOCKS = 6
"""Blocks of each file that is received: one is filled while others are worked on, or wait for that.

With four, a disk that is slow for some ms makes the sender wait; eight gain nothing over six.
"""


class Payloads:
    """Programs and results that are too large for a row.

    Args:
        files: The files.
        is_used: Tells whether a committed row refers to a SHA-256. Called on another thread, by one at a time.
    """

    def __init__(self, files: PayloadFiles, is_used: Callable[[str], bool]) -> None:
        self._files = files
        self._is_used = is_used
        self._threads = ThreadPoolExecutor(_THREADS, "store-files")
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def incoming(self) -> Path:
        """Directory in which a file is best written that is to be kept: from there it is moved, not copied.

        It was emptied at the start, so that it is also the place for what nobody needs after the end of the server.
        """
        return self._files.incoming

    async def keep(self, payload: Payload) -> KeptPayload:
        """Bring a payload into a form that a change can refer to: a large one to disk, a small one to memory.

        As long as what is returned is held, its file stays, even before anything refers to it.
        """
        if isinstance(payload, KeptFile):
            return payload
        if isinstance(payload, PayloadFile):
            small = payload.size_bytes <= LARGE_PAYLOAD_BYTES
            return await self._run(payload.path.read_bytes) if small else await self._run(self._files.keep, payload)
        return payload if len(payload) <= LARGE_PAYLOAD_BYTES else await self._run(self._files.keep, payload)

    async def receive(
        self,
        pieces: AsyncIterator[memoryview],
        check: Callable[[int], None],
        check_whole: Callable[[int, str], None],
    ) -> KeptFile:
        """Write a file from pieces, while they come, and bring it to disk. Nothing stays of one that breaks off.

        Args:
            pieces: The bytes.
            check: Called with the number of bytes so far; what it raises ends the reception.
            check_whole: Called with the number of all bytes and their SHA-256; what it raises does so, too.
        """
        new = self._files.create()
        reception = Reception(self._threads, new, _BLOCKS)
        size = 0
        try:
            block = await reception.free_block()
            async for piece in pieces:
                size += len(piece)
                check(size)
                rest = piece
                while rest := block.fill(rest):
                    reception.give(block)
                    block = await reception.free_block()
            reception.give(block)
            await reception.finish()
            check_whole(size, new.sha256)
            return await self._run(new.keep)
        finally:
            # Whoever called may be cancelled once more; what was begun is removed all the same.
            ending = asyncio.create_task(self._end(new, reception))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            await asyncio.shield(ending)

    async def _end(self, new: IncomingFile, reception: Reception) -> None:
        await reception.stop()
        await self._run(new.discard)

    async def read_pieces(self, payload: KeptPayload, offset: int, size: int) -> AsyncIterator[bytes]:
        """Yield a payload from an offset on, in pieces of `size` bytes; the next one is read while one is in use."""
        if not isinstance(payload, KeptFile):
            for start in range(offset, len(payload), size):
                yield payload[start : start + size]
            return
        loop = asyncio.get_running_loop()
        with await self._run(payload.path.open, "rb", 0) as file:

            def read(start: int) -> asyncio.Future[bytes]:
                return loop.run_in_executor(self._threads, os.pread, file.fileno(), size, start)

            ahead = read(offset)
            try:
                while piece := await ahead:
                    offset += len(piece)
                    ahead = read(offset)
                    yield piece
            finally:
                await asyncio.wait([ahead])  # or it would read from a file that is closed

    async def remove_unused(self, names: Iterable[str] | None = None) -> int:
        """Remove files that nothing refers to, of all or of some SHA-256s. Returns their number."""
        return await self._run(self._files.remove_unused, self._is_used, names)

    async def close(self) -> None:
        """Finish what was begun."""
        await asyncio.gather(*self._endings)
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
