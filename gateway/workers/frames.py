"""Frames: what the server and a worker process say to each other.

A frame is a JSON object, the header, followed by any number of blobs. Blobs are never looked into, and nothing that arrives is
ever unpickled: the process at the other end has read untrusted input.

    4 bytes   length of the header, big-endian
    8 bytes   length of all blobs together, big-endian
    header    JSON in UTF-8; its member `blobs` lists the length of each blob
    blobs     one after the other
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

PREFIX = struct.Struct(">IQ")
"""Lengths of the header and of the blobs."""


MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Longest header that is read."""


class FrameError(Exception):
    """What arrived is not a frame."""


def encode_head(header: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Return the beginning of a frame; the blobs follow it unchanged."""
    sizes = [len(blob) for blob in blobs]
    text = orjson.dumps({**header, "blobs": sizes})
    return PREFIX.pack(len(text), sum(sizes)) + text


def decode(header: bytes, payload: bytes) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Return header and blobs of a frame.

    Raises:
        FrameError: The header is not what `encode_head` makes, or does not fit the payload.
    """
    try:
        fields = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise FrameError("the header is not JSON") from error
    sizes = fields.pop("blobs", None) if isinstance(fields, dict) else None
    if not isinstance(sizes, list) or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise FrameError("the header does not list the blobs")
    if sum(sizes) != len(payload):
        raise FrameError("the blobs are not as long as the header says")
    if len(sizes) == 1:
        return fields, (payload,)
    blobs, start = [], 0
    for size in sizes:
        blobs.append(payload[start : start + size])
        start += size
    return fields, tuple(blobs)
