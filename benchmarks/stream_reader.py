"""A reader of many streams that costs next to nothing: HTTP/2 frames straight from the socket.

A gRPC client in Python spends more on a message than the server that sends it, so it would be the client that is measured. This
one only counts messages. Run as a process, it opens streams and then answers commands on its standard input:

    open                 opens the streams; answers when as many messages have come: one of each
    all COUNT            answers when so many further messages have come. Both answer the times of all of them (`time.monotonic`)
    last COUNT           the same, with the time of the last only
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks import http2
from benchmarks.side_process import SideProcess, side_process


@dataclass(frozen=True, slots=True)
class Streams:
    """Which streams to open."""

    target: str
    method: str
    request: str
    """The serialised request, in hexadecimal."""
    headers: dict[str, str]
    connections: int
    streams: int
    """Streams of each connection."""
    window: int = http2.LARGEST_WINDOW
    """Bytes that the server may send on a stream: it is never told that they were read."""


class Reader:
    """A process that reads streams."""

    def __init__(self, process: SideProcess) -> None:
        self._process = process
        self.command = process.command

    def times(self) -> list[float]:
        """Return its answer."""
        times: list[float] = json.loads(self._process.answer())
        return times


@contextmanager
def reading(streams: Streams) -> Iterator[Reader]:
    """Run a reader, with its streams open."""
    with side_process("benchmarks.stream_reader", json.dumps(asdict(streams))) as process:
        reader = Reader(process)
        reader.command("open")
        reader.times()
        yield reader


class Connection(asyncio.Protocol):
    """One connection with some streams; each whole message that comes is noted in `arrivals`."""

    def __init__(self, streams: Streams, arrivals: Arrivals) -> None:
        self._streams = streams
        self._arrivals = arrivals
        self._frames = http2.Frames(self._take)
        self._partial: dict[int, bytes] = {}
        """The beginning of a message, by stream."""
        self._unacknowledged = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, and open the streams."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(http2.greeting(self._streams.window))
        headers = http2.request_headers(self._streams.target, self._streams.method, self._streams.headers)
        request = bytes.fromhex(self._streams.request)
        for number in range(self._streams.streams):
            transport.write(http2.call(2 * number + 1, headers, request))

    def data_received(self, data: bytes) -> None:
        """Take the frames that are complete."""
        self._frames.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that nothing more will come."""
        del error
        self._arrivals.fail("the server closed a connection")

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.DATA:
            self._take_data(stream, payload)
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            self._transport.write(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        elif kind == http2.PING and not flags & http2.ACK:
            self._transport.write(http2.frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.RST_STREAM or (kind == http2.HEADERS and flags & http2.END_STREAM):
            self._arrivals.fail(f"the server ended a stream: {payload!r}")

    def _take_data(self, stream: int, payload: bytes) -> None:
        self._unacknowledged += len(payload)
        if self._unacknowledged > http2.LARGEST_WINDOW // 2:
            self._transport.write(http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">L", self._unacknowledged)))
            self._unacknowledged = 0
        partial = self._partial.pop(stream, b"") + payload
        while len(partial) >= http2.MESSAGE_PREFIX:
            (size,) = struct.unpack_from(">L", partial, 1)
            if len(partial) < http2.MESSAGE_PREFIX + size:
                break
            partial = partial[http2.MESSAGE_PREFIX + size :]
            self._arrivals.note()
        if partial:
            self._partial[stream] = partial


class Arrivals:
    """When messages came."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._wanted = 0
        self._all_there: asyncio.Future[None] | None = None

    def note(self) -> None:
        """Note that a message came now."""
        self._times.append(time.monotonic())
        if self._all_there is not None and len(self._times) >= self._wanted and not self._all_there.done():
            self._all_there.set_result(None)

    def fail(self, why: str) -> None:
        """Note that not all will come."""
        if self._all_there is not None and not self._all_there.done():
            self._all_there.set_exception(ConnectionError(why))

    async def take(self, count: int) -> list[float]:
        """Wait for so many messages, and return when each of them came."""
        self._wanted = count
        self._all_there = asyncio.get_running_loop().create_future()
        if len(self._times) < count:
            await asyncio.wait_for(self._all_there, 120)
        taken, self._times = self._times[:count], self._times[count:]
        return taken


async def _serve(streams: Streams) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    arrivals = Arrivals()
    host, _, port = streams.target.rpartition(":")
    transports = []
    while command := (await commands.readline()).split():
        if command[0] == b"open":
            for _ in range(streams.connections):
                transport, _ = await loop.create_connection(lambda: Connection(streams, arrivals), host, int(port))
                transports.append(transport)
            count = streams.connections * streams.streams
        else:
            count = int(command[1])
        times = await arrivals.take(count)
        print(json.dumps(times[-1:] if command[0] == b"last" else times), flush=True)
    for transport in transports:
        transport.abort()


if __name__ == "__main__":
    asyncio.run(_serve(Streams(**json.loads(sys.argv[1]))))
