"""Opaque tokens: where a watch resumes, and where a listing goes on."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from functools import lru_cache

from gateway.domain.errors import InvalidArgument, Reason

_RESUME = struct.Struct(">BQ")
_RESUME_VERSION = 2
_SIGNATURE_BYTES = 16
_PAGE = struct.Struct(">BQ8s")
_PAGE_VERSION = 1
_MAX_CURSOR = 2**63 - 1
"""Largest number that a database holds."""


class ResumeTokens:
    """Makes and reads resume tokens: a revision, signed (HMAC-SHA256), so that nobody can make one up.

    Args:
        key: The key of the store. Every gateway over that store, now and later, reads the tokens of every other.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        # The watchers of one event, or of one silence, all get the same token.
        self.token = lru_cache(maxsize=1024)(self._token)
        """Returns the token that stands for "everything up to this revision was seen"."""

    def read(self, token: str) -> int:
        """Return the revision that a token stands for.

        Raises:
            InvalidArgument: It was not made by a gateway over this store.
        """
        try:
            data = _decode(token)
            version, revision = _RESUME.unpack(data[: _RESUME.size])
        except (struct.error, ValueError):
            data, version, revision = b"", 0, 0
        if version != _RESUME_VERSION or not hmac.compare_digest(
            data[_RESUME.size :], self._sign(data[: _RESUME.size])
        ):
            raise InvalidArgument.field(
                "resume_token",
                "not a token of this gateway: send back the last token of the stream, or none to begin anew",
                reason=Reason.INVALID_RESUME_TOKEN,
            )
        return int(revision)

    def _token(self, revision: int) -> str:
        data = _RESUME.pack(_RESUME_VERSION, revision)
        return _encode(data + self._sign(data))

    def _sign(self, data: bytes) -> bytes:
        return hmac.digest(self._key, b"resume" + data, "sha256")[:_SIGNATURE_BYTES]


def page_token(cursor: int, arguments: bytes) -> str:
    """Return the token of the page that begins at a cursor, bound to the other arguments of the listing."""
    return _encode(_PAGE.pack(_PAGE_VERSION, cursor, _digest(arguments)))


def read_page_token(token: str, arguments: bytes) -> int:
    """Return the cursor that a page token stands for.

    Raises:
        InvalidArgument: It is broken, or was made for other arguments (AIP-158).
    """
    try:
        version, cursor, digest = _PAGE.unpack(_decode(token))
    except (struct.error, ValueError):
        version, cursor, digest = 0, 0, b""
    if version != _PAGE_VERSION or digest != _digest(arguments) or cursor > _MAX_CURSOR:
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
