"""Opaque tokens: where a watch resumes, and where a listing goes on."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

from gateway.domain.errors import InvalidArgument, Reason

_RESUME = struct.Struct(">BQ")
_PAGE = struct.Struct(">BQ8s")
_VERSION = 1


def resume_token(revision: int) -> str:
    """Return the token that stands for "everything up to this revision was seen"."""
    return _encode(_RESUME.pack(_VERSION, revision))


def read_resume_token(token: str) -> int:
    """Return the revision that a resume token stands for.

    Raises:
        InvalidArgument: It was not made by a gateway.
    """
    try:
        version, revision = _RESUME.unpack(_decode(token))
    except (struct.error, ValueError):
        version = revision = 0
    if version != _VERSION:
        raise InvalidArgument.field(
            "resume_token",
            "not a token of this gateway: send back the last token of the stream, or none to begin anew",
            reason=Reason.INVALID_RESUME_TOKEN,
        )
    return int(revision)


def page_token(cursor: int, arguments: bytes) -> str:
    """Return the token of the page that begins at a cursor, bound to the other arguments of the listing."""
    return _encode(_PAGE.pack(_VERSION, cursor, _digest(arguments)))


def read_page_token(token: str, arguments: bytes) -> int:
    """Return the cursor that a page token stands for.

    Raises:
        InvalidArgument: It is broken, or was made for other arguments (AIP-158).
    """
    try:
        version, cursor, digest = _PAGE.unpack(_decode(token))
    except (struct.error, ValueError):
        version, cursor, digest = 0, 0, b""
    if version != _VERSION or digest != _digest(arguments):
        raise InvalidArgument.field(
            "page_token",
            "not a token of this listing: send next_page_token back with all other fields unchanged",
            reason=Reason.INVALID_PAGE_TOKEN,
        )
    return int(cursor)


def _digest(arguments: bytes) -> bytes:
    return hashlib.sha256(arguments).digest()[:8]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(token: str) -> bytes:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(token) from error
