"""Sends byte sequences to the port of a running server, each over a connection of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from random import Random

from tests.fuzzing.frames import PREFACE, Attacks, settings
from tests.fuzzing.tally import Tally

_IN_FLIGHT = 16
_LOITERERS = 50
_PATIENCE = 0.02
"""Seconds that an attacker waits for an answer: most of them never look."""
_RESET_AT_ONCE = struct.pack("ii", 1, 0)


class PortFuzzer:
    """Connects to a server.

    Args:
        target: Its address.
        api_key: A key that it accepts.
        seed: The same seed makes the same bytes.
    """

    def __init__(self, target: str, api_key: str, seed: int) -> None:
        self.tally = Tally("port")
        host, _, port = target.rpartition(":")
        self._address = (host, int(port))
        self._random = Random(f"port-{seed}")
        self._attacks = Attacks(self._random, api_key)

    async def run(self, inputs: int) -> None:
        """Make connections, some at a time, while others just stand there."""
        loiterers = [await self._loiter(index) for index in range(min(_LOITERERS, inputs))]
        todo = iter(range(inputs - len(loiterers)))
        try:
            await asyncio.gather(*(self._work(todo) for _ in range(_IN_FLIGHT)))
        finally:
            for loiterer in loiterers:
                loiterer.close()
        self.tally.counts["loiterers"] += len(loiterers)

    async def _loiter(self, index: int) -> asyncio.StreamWriter:
        """Connect, say nothing, half a word, or the first words, and stay."""
        _, writer = await asyncio.open_connection(*self._address)
        writer.write((b"", PREFACE[:5], PREFACE, PREFACE + settings())[index % 4])
        return writer

    async def _work(self, todo: object) -> None:
        for _ in todo:  # type: ignore[attr-defined]
            name, data = self._attacks.any()
            self.tally.counts[name] += 1
            with suppress(ConnectionError):  # the server may close whenever it has heard enough
                await self._send(data)

    async def _send(self, data: bytes) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            pieces = self._random.choice((1, 1, 3))
            for at in range(0, len(data), max(1, len(data) // pieces)):
                writer.write(data[at : at + max(1, len(data) // pieces)])
                await asyncio.sleep(0)
            if self._random.random() < 0.5:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        while await reader.read(65_536):
                            pass
            if self._random.random() < 0.3 and not writer.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
