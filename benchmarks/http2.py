"""As much of HTTP/2 and gRPC framing as a measuring client needs (RFC 9113, RFC 7541)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGEST_WINDOW = 2**31 - 1
MESSAGE_PREFIX = 5
"""Bytes before a gRPC message: a flag and its length."""

_DEFAULT_WINDOW = 65_535
_INITIAL_WINDOW_SIZE = 4
_FRAME_HEADER = struct.Struct(">BHBBL")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame."""
    return _FRAME_HEADER.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def greeting(window: int = LARGEST_WINDOW) -> bytes:
    """Return what a client sends first. The server may send `window` bytes on each stream, and as much as it likes on all."""
    settings = struct.pack(">HL", _INITIAL_WINDOW_SIZE, window)
    grow = struct.pack(">L", LARGEST_WINDOW - _DEFAULT_WINDOW)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, grow)


def request_headers(target: str, method: str, more: dict[str, str], *, scheme: str = "http") -> bytes:
    """Return the headers of a gRPC call, as HPACK literals that are neither indexed nor compressed (RFC 7541, 6.2.2)."""
    headers = {
        ":method": "POST",
        ":scheme": scheme,
        ":path": method,
        ":authority": target,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in (headers | more).items())


def call(stream: int, headers: bytes, message: bytes) -> bytes:
    """Return a gRPC call with one message."""
    data = struct.pack(">BL", 0, len(message)) + message
    return frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, data)


class Frames:
    """Cuts a stream of bytes into frames.

    Args:
        take: Called with kind, flags, stream and payload of each.
    """

    def __init__(self, take: Callable[[int, int, int, bytes], None]) -> None:
        self._take = take
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
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
