"""Frames: what the server and a worker process say to each other.

A frame is a JSON object, the header, followed by any number of blobs. Blobs are never looked into, and nothing that arrives is
ever unpickled: the process at the other end has read untrusted input. A blob that is too large for a pipe stands in a file, and
the frame says in which.

    4 bytes   length of the header, big-endian
    8 bytes   length of all blobs together, big-endian
    header    JSON in UTF-8; its member `blobs` lists of each blob the length, or the path of its file
    blobs     one after the other
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from gateway.domain.payload import Payload, PayloadFile

PREFIX = struct.Struct(">IQ")
"""Lengths of the header and of the blobs."""


MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Longest header that is read."""


class FrameError(Exception):
    """What arrived is not a frame."""


def encode_head(header: Mapping[str, Any], blobs: Sequence[Payload]) -> bytes:
    """Return the beginning of a frame; those of the blobs that are bytes follow it unchanged."""
    places = [str(blob.path) if isinstance(blob, PayloadFile) else len(blob) for blob in blobs]
    text = orjson.dumps({**header, "blobs": places})
    return PREFIX.pack(len(text), sum(place for place in places if isinstance(place, int))) + text


def decode(header: bytes, payload: bytes) -> tuple[dict[str, Any], tuple[bytes | Path, ...]]:
    """Return header and blobs of a frame; of a blob that stands in a file, the path.

    Raises:
        FrameError: The header is not what `encode_head` makes, or does not fit the payload.
    """
    try:
        fields = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise FrameError("the header is not JSON") from error
    places = fields.pop("blobs", None) if isinstance(fields, dict) else None
    if not isinstance(places, list) or not all(
        isinstance(place, str) or (isinstance(place, int) and place >= 0) for place in places
    ):
        raise FrameError("the header does not list the blobs")
    if sum(place for place in places if isinstance(place, int)) != len(payload):
        raise FrameError("the blobs are not as long as the header says")
    if len(places) == 1 and isinstance(places[0], int):
        return fields, (payload,)
    blobs: list[bytes | Path] = []
    start = 0
    for place in places:
        if isinstance(place, str):
            blobs.append(Path(place))
            continue
        blobs.append(payload[start : start + place])
        start += place
    return fields, tuple(blobs)
