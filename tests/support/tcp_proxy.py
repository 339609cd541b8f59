"""A TCP proxy on loopback that cuts, stalls, delays and throttles what passes through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_PIECE = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)
"""Makes closing a socket a reset (RST) rather than an orderly end (FIN)."""


class TcpProxy:
    """Passes connections on to an upstream address, and does them harm when told to.

    It runs on a thread with an event loop of its own: every method can be called from any thread, and has taken effect when it
    returns.

    Args:
        upstream: `HOST:PORT` to pass connections on to. It can be changed: connections made later go to the new one.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.accepted = 0
        """Number of connections accepted since the start."""
        self._links: set[_Link] = set()
        self._refusing = False
        self._stalling = False
        self._delay = 0.0
        self._rate: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def target(self) -> str:
        """Address of the proxy, `HOST:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Number of connections that are open."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every open connection. New ones are accepted."""

        def apply() -> None:
            for link in tuple(self._links):
                link.reset()

        self._do(apply)

    def stall(self, *, new: bool = True) -> None:
        """Let nothing pass any more, not even the end of a connection, and close nothing.

        Args:
            new: Stall connections that are made from now on, too.
        """

        def apply() -> None:
            self._stalling = new
            for link in self._links:
                link.flowing.clear()

        self._do(apply)

    def resume(self) -> None:
        """Let everything pass again: what was held back by `stall`, and new connections after `refuse`."""

        def apply() -> None:
            self._stalling = self._refusing = False
            for link in self._links:
                link.flowing.set()

        self._do(apply)

    def refuse(self) -> None:
        """Reset every open connection, and each new one as soon as it is made, until `resume`."""
        self._refusing = True
        self.cut()

    def slow_down(self, *, delay: float = 0.0, bytes_per_second: float | None = None) -> None:
        """Delay each piece of data by some seconds, and let only so many bytes a second pass each way of a connection."""
        self._delay, self._rate = delay, bytes_per_second

    def close(self) -> None:
        """End everything."""

        async def end() -> None:
            self._server.close()
            for link in tuple(self._links):
                link.reset()
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(tasks)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._refusing:
                return
            if self._stalling:
                link.flowing.clear()
            await link.flowing.wait()
            host, _, port = self.upstream.rpartition(":")
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
            link.writers.append(upstream_writer)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, reader, upstream_writer))
                pumps.create_task(self._pump(link, upstream_reader, writer))
        except* OSError:
            pass  # one side is gone, or was reset: so is the other
        finally:
            link.reset()
            self._links.discard(link)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(_PIECE)
            if pause := self._delay + (len(data) / self._rate if self._rate else 0.0):
                await asyncio.sleep(pause)
            await link.flowing.wait()
            if link.is_reset:
                return
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    def _do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        self._run(act())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def __enter__(self) -> Self:
        """Return the proxy."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything."""
        self.close()


class _Link:
    """One connection through the proxy."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.is_reset = False

    def reset(self) -> None:
        """Reset both sides; nothing that was held back is sent."""
        self.is_reset = True
        self.flowing.set()
        for writer in self.writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()
