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
from collections.abc import Iterable
from dataclasses import asdict, dataclass

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_FRAME_HEADER = struct.Struct(">BHBBL")
_PREFIX = 5
"""Bytes before a gRPC message: a flag and its length."""


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
    window: int = _LARGEST_WINDOW
    """Bytes that the server may send on a stream: it is never told that they were read."""

    def command(self) -> list[str]:
        """Return the command that runs a reader of them."""
        return [sys.executable, "-m", "benchmarks.stream_reader", json.dumps(asdict(self))]


class Connection(asyncio.Protocol):
    """One connection with some streams; each whole message that comes is noted in `arrivals`."""

    def __init__(self, streams: Streams, arrivals: Arrivals) -> None:
        self._streams = streams
        self._arrivals = arrivals
        self._buffer = bytearray()
        self._partial: dict[int, bytes] = {}
        """The beginning of a message, by stream."""
        self._unacknowledged = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, and open the streams."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HL", _INITIAL_WINDOW_SIZE, self._streams.window)
        grow = struct.pack(">L", _LARGEST_WINDOW - _DEFAULT_WINDOW)
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, grow))
        headers = _headers(
            {
                ":method": "POST",
                ":scheme": "http",
                ":path": self._streams.method,
                ":authority": self._streams.target,
                "content-type": "application/grpc",
                "te": "trailers",
            }
            | self._streams.headers
        )
        request = bytes.fromhex(self._streams.request)
        message = struct.pack(">BL", 0, len(request)) + request
        for number in range(self._streams.streams):
            stream = 2 * number + 1
            transport.write(
                _frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_DATA, _END_STREAM, stream, message)
            )

    def data_received(self, data: bytes) -> None:
        """Take the frames that are complete."""
        buffer, position = self._buffer, 0
        buffer += data
        while len(buffer) - position >= _FRAME_HEADER.size:
            high, low, kind, flags, stream = _FRAME_HEADER.unpack_from(buffer, position)
            end = position + _FRAME_HEADER.size + (high << 16 | low)
            if end > len(buffer):
                break
            self._take(kind, flags, stream, bytes(buffer[position + _FRAME_HEADER.size : end]))
            position = end
        del buffer[:position]

    def connection_lost(self, error: Exception | None) -> None:
        """Note that nothing more will come."""
        del error
        self._arrivals.fail("the server closed a connection")

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._take_data(stream, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
            self._arrivals.fail(f"the server ended a stream: {payload!r}")

    def _take_data(self, stream: int, payload: bytes) -> None:
        self._unacknowledged += len(payload)
        if self._unacknowledged > _LARGEST_WINDOW // 2:
            self._transport.write(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", self._unacknowledged)))
            self._unacknowledged = 0
        partial = self._partial.pop(stream, b"") + payload
        while len(partial) >= _PREFIX:
            (size,) = struct.unpack_from(">L", partial, 1)
            if len(partial) < _PREFIX + size:
                break
            partial = partial[_PREFIX + size :]
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


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME_HEADER.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _headers(headers: dict[str, str]) -> bytes:
    """Return headers as HPACK literals that are neither indexed nor compressed (RFC 7541, 6.2.2)."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in headers.items())


def _string(text: str) -> bytes:
    data = text.encode()
    return bytes(_integer(len(data))) + data


def _integer(value: int) -> Iterable[int]:
    """Yield an integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 0x7F:
        yield value
        return
    yield 0x7F
    value -= 0x7F
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


if __name__ == "__main__":
    asyncio.run(_serve(Streams(**json.loads(sys.argv[1]))))
