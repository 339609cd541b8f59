"""Error codes of the service."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Those that the emulator uses. The ones marked with (?) are guesses: their real number is not known."""

    NOT_VALID_FOR_BACKEND = 1002
    BACKEND_NOT_AVAILABLE = 1004
    BACKEND_NOT_FOUND = 1007
    NOT_AUTHORIZED = 1200
    INVALID_CREDENTIALS = 1201
    TOO_MANY_REQUESTS = 1202
    BODY_NOT_VALID = 1208
    NOT_IN_THIS_STATE = 1290  # (?)
    NOT_FOUND = 1291  # (?)
    RAN_TOO_LONG = 1305
    TOO_MANY_PENDING = 3458
    USAGE_LIMIT = 4317
    INTERNAL = 9999
