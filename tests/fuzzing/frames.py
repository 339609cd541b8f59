"""Byte sequences for the port of a gRPC server: noise, and HTTP/2 that is broken in every way that we could think of."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from random import Random

from hpack import Encoder

from tests.fuzzing.messages import mutated

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x4, 0x8, 0x20

_PATHS = (
    "/qgateway.v1.JobService/GetJob", "/qgateway.v1.ServerService/GetServerInfo", "/qgateway.v1.JobService/SubmitJob",
    "/qgateway.v1.JobService/WatchJobs", "/qgateway.v1.JobService/UploadProgram", "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/", "", "/x", "*", "/" + "a" * 3_000, "/é\0",
    b"/\x80", b"/qgateway.v1.JobService/GetJob\xff", "/qgateway.v1.JobService/getjob", "//GetJob", "/qgateway.v1.JobService/", "http://h/qgateway.v1.JobService/GetJob",
)  # fmt: skip
_VALUES = (
    b"", b"\0", b"\xff\xfe", b"a" * 4_000, b"a" * 9_000, b"a" * 40_000, b"Bearer ", b"Bearer qgw_", b"Bearer \xc3\xa9",
    b"Basic Og==",
    b"Bearer eyJhbGciOiJub25lIn0.e30.", b"bearer  x  y", b"\r\nx: y", b"1S", b"-1S", b"99999999S", b"1n", b"gzip", b"snappy",
    b"identity",
    b"application/grpc", b"application/grpc+json", b"text/html", b"trailers",
)  # fmt: skip
_NAMES = (
    b"authorization", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"content-type", b"te", b"x-bin", b"X-Upper", b"",
    b"grpc-status", b":path", b":method", b":bogus", b"user-agent", b"grpc-trace-bin", b"grpc-tags-bin", b"grpc-retry-pushback-ms",
    b"content-length", b"host", b"connection", b"lb-token", b"grpc-previous-rpc-attempts", b"a b",
)  # fmt: skip


_SHORT = 2_000
"""Bytes of headers up to which they are coded by Huffman, which takes its time in Python."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Return a frame; `length` is what it says of its own length, if that is to be wrong."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size & 0xFFFFFF)[1:] + struct.pack(">BBI", kind, flags, stream & 0xFFFFFFFF) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def grpc_message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """Return a message as it stands in DATA frames."""
    return struct.pack(">BI", compressed, (len(data) if length is None else length) & 0xFFFFFFFF) + data


def call_headers(path: str | bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode() if isinstance(path, str) else path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]


def call(path: str | bytes, message: bytes, *more: tuple[bytes, bytes], stream: int = 1) -> bytes:
    """Return a whole call, as it should be."""
    block = Encoder().encode(call_headers(path, *more), huffman=False)
    return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, grpc_message(message))


class Attacks:
    """Makes byte sequences, each for a connection of its own.

    Args:
        random: Where chance comes from.
        api_key: A key that the server accepts, so that some attacks get past the gate.
    """

    def __init__(self, random: Random, api_key: str) -> None:
        self._random = random
        self._authorization = (b"authorization", f"Bearer {api_key}".encode())
        self._kinds: tuple[Callable[[], bytes], ...] = (
            self.noise,
            self.noise_behind_the_preface,
            self.random_frames,
            self.mutated_call,
            self.odd_headers,
            self.broken_hpack,
            self.wrong_lengths,
            self.half_open_streams,
            self.rapid_reset,
            self.floods,
            self.odd_messages,
            self.other_protocols,
        )

    def any(self) -> tuple[str, bytes]:
        """Return an attack, and its name."""
        attack = self._random.choice(self._kinds)
        return attack.__name__, attack()

    def noise(self) -> bytes:
        """Bytes that mean nothing."""
        return self._random.randbytes(self._random.choice((1, 9, 24, 100, 5_000)))

    def noise_behind_the_preface(self) -> bytes:
        """The first words of HTTP/2, and nothing that follows from them; sometimes not even those to their end."""
        return PREFACE[: self._random.choice((3, 23, 24, 24, 24))] + self.noise()

    def random_frames(self) -> bytes:
        """Frames of any kind, with any flags, on any stream, with any content."""
        random, frames = self._random, []
        for _ in range(random.randrange(1, 12)):
            stream = random.choice((0, 1, 1, 2, 3, 5, 2**31 - 1, 2**31))
            content = random.randbytes(random.choice((0, 1, 4, 5, 6, 8, 9, 17, 200)))
            frames.append(frame(random.randrange(14), random.randrange(256), stream, content))
        return PREFACE + settings() + b"".join(frames)

    def mutated_call(self) -> bytes:
        """A call as it should be, with something in it changed."""
        return mutated(self._random, PREFACE + settings() + call(self._random.choice(_PATHS), b"", self._authorization))

    def odd_headers(self) -> bytes:
        """A call with headers that say strange things."""
        random = self._random
        odd = [(random.choice(_NAMES), random.choice(_VALUES)) for _ in range(random.choice((1, 1, 2, 5, 30)))]
        size = sum(len(value) for _, value in odd)
        headers = call_headers(random.choice(_PATHS), self._authorization, *odd)
        if random.random() < 0.3:
            random.shuffle(headers)
        if random.random() < 0.2:
            del headers[random.randrange(len(headers))]
        block = Encoder().encode(headers, huffman=size < _SHORT and random.random() < 0.5)
        cut = random.choice((len(block), len(block), 1, len(block) // 2))
        head = frame(HEADERS, END_HEADERS if cut == len(block) else 0, 1, block[:cut])
        rest = b"" if cut == len(block) else frame(CONTINUATION, END_HEADERS, 1, block[cut:])
        return PREFACE + settings() + head + rest + frame(DATA, END_STREAM, 1, grpc_message(b""))

    def broken_hpack(self) -> bytes:
        """Headers that cannot be decoded, or decode to too much."""
        random = self._random
        block = random.choice((
            b"\xff" * 12,  # an integer without end
            b"\x80",  # index 0
            b"\xff\xff\xff\xff\x0f",  # an index beyond the table
            b"\x3f\xe1\xff\xff\xff\x7f",  # a table of gigabytes
            b"\x40\x01a\x7f\xff\xff\xff\x07",  # a value of gigabytes
            b"\x40\x81\xff\xff\xff\xff\x00",  # Huffman padding that is too long
            b"\x40\x03abc\x7f\xa1\x1e" + b"v" * 4_000 + b"\xbe" * 4_000,  # an entry that is repeated four thousand times
            random.randbytes(random.randrange(1, 300)),
            mutated(random, Encoder().encode(call_headers(_PATHS[0], self._authorization))),
        ))  # fmt: skip
        return PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block)

    def wrong_lengths(self) -> bytes:
        """Frames that are longer or shorter than they say, padding and settings included."""
        random = self._random
        made = random.choice((
            frame(DATA, 0, 1, b"x", length=0xFFFFFF),
            frame(HEADERS, END_HEADERS, 1, b"", length=0x100000),
            frame(SETTINGS, 0, 0, b"12345"),
            frame(SETTINGS, 1, 0, b"123456"),
            frame(PING, 0, 0, b"1"),
            frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
            frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3,
            frame(RST_STREAM, 0, 1, b""),
            frame(HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, b"\xff\0\0\0\1\0"),
            frame(PRIORITY, 0, 1, b"\0\0\0\1\xff"),
            frame(GOAWAY, 0, 0, b""),
            frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"),
            frame(CONTINUATION, 0, 1, b"x"),
            settings((4, 2**32 - 1)),
            settings((5, 1)),
            settings((5, 2**32 - 1)),
            settings((1, 2**32 - 1), (3, 0), (4, 0), (6, 0), (99, 99)),
        ))  # fmt: skip
        return PREFACE + settings() + made + call(_PATHS[1], b"", self._authorization)

    def half_open_streams(self) -> bytes:
        """Calls that begin, and do not go on."""
        block = Encoder().encode(call_headers(self._random.choice(_PATHS[:6]), self._authorization), huffman=False)
        streams = range(1, 2 * self._random.choice((1, 5, 50)), 2)
        return PREFACE + settings() + b"".join(frame(HEADERS, END_HEADERS, stream, block) for stream in streams)

    def rapid_reset(self) -> bytes:
        """Calls that are cancelled as soon as they begin."""
        block = Encoder().encode(call_headers(self._random.choice(_PATHS[:6]), self._authorization), huffman=False)
        streams = range(1, 2 * self._random.choice((10, 100)), 2)
        return PREFACE + settings() + b"".join(
            frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in streams
        )  # fmt: skip

    def floods(self) -> bytes:
        """Many frames that each want an answer, or cost more to read than to write."""
        random = self._random
        block = Encoder().encode(call_headers(_PATHS[0]), huffman=False)
        made = random.choice((
            frame(PING, 0, 0, b"12345678"),
            settings((3, 100)),
            frame(CONTINUATION, 0, 1, b""),
            frame(DATA, 0, 1, b""),
            frame(PRIORITY, 0, 3, b"\0\0\0\5\x10"),
            frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        ))  # fmt: skip
        return (
            PREFACE
            + settings()
            + frame(HEADERS, 0, 1, block) * (made[3] == CONTINUATION)
            + made * random.choice((50, 500))
        )

    def odd_messages(self) -> bytes:
        """A call whose message is not what it says: its length, its compression, its end."""
        random = self._random
        bomb = gzip.compress(bytes(4 * 2**20))
        encoding, data = random.choice((
            (b"identity", grpc_message(b"", length=2**32 - 1)),
            (b"identity", grpc_message(b"", length=17 * 2**20)),
            (b"identity", grpc_message(b"\n\xff\xff\xff\xff\x0f")),
            (b"identity", grpc_message(b"x", compressed=1)),
            (b"identity", grpc_message(b"x", compressed=7)),
            (b"gzip", grpc_message(bomb, compressed=1)),
            (b"gzip", grpc_message(bomb[:-9], compressed=1)),
            (b"deflate", grpc_message(b"\x78\x9c\xff\xff", compressed=1)),
            (b"gzip", grpc_message(random.randbytes(50), compressed=1)),
            (b"nonsense", grpc_message(b"", compressed=1)),
            (b"identity", b"\0\0"),
            (b"identity", grpc_message(b"") * 3),
        ))  # fmt: skip
        path = random.choice(_PATHS[:6])
        block = Encoder().encode(call_headers(path, self._authorization, (b"grpc-encoding", encoding)), huffman=False)
        frames = [frame(DATA, 0, 1, data[at : at + 16_384]) for at in range(0, len(data), 16_384)]
        end = random.choice((frame(DATA, END_STREAM, 1), frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), b""))
        return PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, block) + b"".join(frames) + end

    def other_protocols(self) -> bytes:
        """What is meant for another server."""
        return self._random.choice((
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /qgateway.v1.JobService/GetJob HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._random.randbytes(200),
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"PRI * HTTP/1.1\r\n\r\n",
            b"\0" * 1_000,
        ))  # fmt: skip
