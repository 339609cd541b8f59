"""The fields of a serialised protobuf message: found without reading what is in them, and written without copying it.

The encoding is that of https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_BYTES = tuple(bytes([value]) for value in range(0x80))


class WireError(ValueError):
    """The bytes are no protobuf message."""


class Field(NamedTuple):
    """A field of a message."""

    number: int
    content: memoryview
    """Its value, without tag and length."""
    whole: memoryview
    """Tag, length and value."""


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in the order in which they stand.

    Raises:
        WireError: The bytes are no message.
    """
    start = 0
    while start < len(message):
        tag, at = _varint(message, start)
        kind = tag & 7
        if kind == _VARINT:
            begin = at
            _, end = _varint(message, at)
        elif kind == _LENGTH_DELIMITED:
            length, begin = _varint(message, at)
            end = begin + length
        elif kind in (_FIXED64, _FIXED32):
            begin, end = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise WireError(f"a field of the unknown wire type {kind}")
        if end > len(message):
            raise WireError("the message is cut off")
        yield Field(tag >> 3, message[begin:end], message[start:end])
        start = end


@lru_cache(maxsize=4096)
def field_head(number: int, size: int) -> bytes:
    """Return what stands before the bytes of a field that holds bytes, a text or a message."""
    return _written(number << 3 | _LENGTH_DELIMITED) + _written(size)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a field that holds bytes or a message, also if there are none."""
    return field_head(number, len(value)) + value


def text_field(number: int, value: str) -> bytes:
    """Return a field that holds a text; nothing if it is empty, which is the default."""
    return bytes_field(number, value.encode()) if value else b""


def number_field(number: int, value: int) -> bytes:
    """Return a field that holds a number of at least 0, or an enum; nothing if it is 0, which is the default."""
    return _written(number << 3 | _VARINT) + _written(value) if value else b""


def _varint(message: memoryview, start: int) -> tuple[int, int]:
    """Return the number that begins somewhere, and where it ends."""
    value = 0
    for place, byte in enumerate(message[start : start + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004
            return value, start + place + 1
    raise WireError("a number is cut off")


def _written(value: int) -> bytes:
    if value <= 0x7F:  # noqa: PLR2004
        return _BYTES[value]
    written = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
