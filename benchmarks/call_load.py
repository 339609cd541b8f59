"""A caller that keeps many unary calls in flight and costs next to nothing: HTTP/2 frames straight to the socket.

Load generators for HTTP/2 send the same request again and again, and show no certificate. Here each call may have a text of its
own in its request, such as a request id, and a connection may be one of mutual TLS. Run as a process, it reads numbers of calls
from its standard input, makes as many, and answers with the seconds that took.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from secrets import token_hex
from typing import cast

from benchmarks import http2
from benchmarks.side_process import side_process

TEXT_BYTES = 24
"""Length of the text that each call has of its own."""
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class MutualTls:
    """What a caller trusts, and what it shows: the paths of PEM files."""

    root: str
    certificate: str
    key: str

    def context(self) -> ssl.SSLContext:
        """Return how connections are made."""
        context = ssl.create_default_context(cafile=self.root)
        context.load_cert_chain(self.certificate, self.key)
        context.set_alpn_protocols(["h2"])
        return context


@dataclass(frozen=True, slots=True)
class Calls:
    """Which calls to make."""

    target: str
    method: str
    request: str
    """Each serialised request, in hexadecimal."""
    headers: dict[str, str]
    connections: int
    in_flight: int
    """Calls in flight on each connection."""
    own_texts: bool = True
    """Whether a text of the call's own follows each request."""
    tls: MutualTls | None = None
    """None: plain text."""


@contextmanager
def calling(calls: Calls) -> Iterator[Callable[[int], float]]:
    """Run a caller. What it yields makes so many calls, and returns the seconds that took."""
    with side_process("benchmarks.call_load", json.dumps(asdict(calls))) as caller:

        def make(number: int) -> float:
            caller.command(str(number))
            return float(caller.answer())

        yield make


class _Connection(asyncio.Protocol):
    """One connection. Whenever a call is answered, the next is made, until there are none left."""

    def __init__(self, calls: Calls, work: _Work) -> None:
        self._calls = calls
        self._work = work
        self._frames = http2.Frames(self._take)
        scheme = "https" if calls.tls else "http"
        self._headers = http2.request_headers(calls.target, calls.method, calls.headers, scheme=scheme)
        self._request = bytes.fromhex(calls.request)
        self._streams = count(1, 2)
        self._answered: set[int] = set()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._transport.write(http2.greeting())

    def begin(self) -> None:
        """Make the first calls of a round."""
        for _ in range(self._calls.in_flight):
            self._call()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take what was answered, and make as many calls."""
        self._frames.feed(data)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that nothing more will come."""
        self._work.fail(f"the server closed a connection: {error}")

    def _call(self) -> None:
        if not self._work.take():
            return
        text = self._work.next_text() if self._calls.own_texts else b""
        self._out.append(http2.call(next(self._streams), self._headers, self._request + text))

    def _flush(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.DATA:
            self._answered.add(stream)
        elif kind == http2.HEADERS and flags & http2.END_STREAM:
            if stream not in self._answered:
                self._work.fail("a call was refused")
            self._answered.discard(stream)
            self._work.answered()
            self._call()
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            self._out.append(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        elif kind == http2.PING and not flags & http2.ACK:
            self._out.append(http2.frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.RST_STREAM:
            self._work.fail("a call was broken off")


class _Work:
    """The calls of a round that are left."""

    def __init__(self) -> None:
        self._prefix = token_hex((TEXT_BYTES - 8) // 2)
        self._numbers = count()
        self._to_make = self._to_answer = 0
        self._done: asyncio.Future[None] | None = None

    async def do(self, number: int, begin: Callable[[], None]) -> float:
        """Make so many calls, and return the seconds until the last was answered."""
        self._to_make = self._to_answer = number
        self._done = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        begin()
        await asyncio.wait_for(self._done, _PATIENCE)
        return time.monotonic() - began

    def take(self) -> bool:
        """Take one of the calls that are left to be made; return whether there was one."""
        if not self._to_make:
            return False
        self._to_make -= 1
        return True

    def next_text(self) -> bytes:
        """Return a text that no other call has."""
        return f"{self._prefix}{next(self._numbers):08d}".encode()

    def answered(self) -> None:
        """Note an answer."""
        self._to_answer -= 1
        if not self._to_answer and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def fail(self, why: str) -> None:
        """Note that not all will be answered."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(why))


async def _serve(calls: Calls) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    host, _, port = calls.target.rpartition(":")
    work = _Work()
    tls = calls.tls.context() if calls.tls else None
    connections = [
        (await loop.create_connection(lambda: _Connection(calls, work), host, int(port), ssl=tls))[1]
        for _ in range(calls.connections)
    ]
    while line := await commands.readline():

        def begin() -> None:
            for connection in connections:
                connection.begin()

        print(await work.do(int(line), begin), flush=True)


def _main() -> None:
    document = json.loads(sys.argv[1])
    tls = document.pop("tls")
    calls = Calls(**document, tls=MutualTls(**tls) if tls else None)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(calls))
    else:
        uvloop.run(_serve(calls))


if __name__ == "__main__":
    _main()
