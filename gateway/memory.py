"""How the C library of the server's process keeps memory."""

from __future__ import annotations

import ctypes

# https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8

_LARGEST_KEPT = 8 * 1024 * 1024
"""Bytes of the largest block that is taken from memory which the process has already."""
_KEPT = 8 * 1024 * 1024
"""Most bytes at the end of an arena that are kept although nothing uses them."""
_TAKEN_AT_ONCE = 2 * 1024 * 1024
"""Bytes by which an arena grows, at least."""
_ARENAS = 2
"""Most arenas. By default it is eight for each processor, and each keeps memory for itself."""


def keep_freed_memory() -> None:
    """Let the allocator keep a little of the memory that is freed, for what is needed next.

    glibc would give each chunk of a transfer back to the system as soon as it is freed. To get the next one, page by page, takes
    the processor longer than to receive it. With another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in (
        (_M_MMAP_THRESHOLD, _LARGEST_KEPT),
        (_M_TRIM_THRESHOLD, _KEPT),
        (_M_TOP_PAD, _TAKEN_AT_ONCE),
        (_M_ARENA_MAX, _ARENAS),
    ):
        mallopt(parameter, value)
