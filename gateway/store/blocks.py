"""Writing a new file straight to the disk, past the memory in which the system keeps the content of files.

What is uploaded is not read again soon. To copy it into that memory, page by page, and from there to the disk, takes the processor
longer than to receive it, and the system would hold all of it. Straight writing wants whole sectors at even addresses, so bytes
are gathered in blocks first.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path

BLOCK_BYTES = 2 * 1024 * 1024
"""Bytes of one write: smaller ones leave the disk idle in between and switch threads more often, larger ones only hold memory."""
_SECTOR_BYTES = 4096
"""A multiple of the sector size of any disk."""
_ROOM_BYTES = 16 * 1024 * 1024
"""By how much the room of a file grows."""
_DIRECT = getattr(os, "O_DIRECT", 0)


class Block:
    """Bytes that are gathered, to be written at once. It can be used again and again."""

    def __init__(self) -> None:
        self._memory = memoryview(_huge_page())
        self._size = 0

    def fill(self, data: memoryview) -> memoryview:
        """Take in as much as there is room for. Returns the rest."""
        end = min(self._size + len(data), BLOCK_BYTES)
        taken = end - self._size
        self._memory[self._size : end] = data[:taken]
        self._size = end
        return data[taken:]

    def clear(self) -> None:
        """Forget the bytes."""
        self._size = 0

    @property
    def content(self) -> memoryview:
        """The bytes."""
        return self._memory[: self._size]

    @property
    def sectors(self) -> memoryview:
        """The bytes, and after them what else stands in their last sector."""
        return self._memory[: self._size + -self._size % _SECTOR_BYTES]


def _huge_page() -> mmap.mmap:
    """Return the memory of a block, which begins with a page: one huge page where the system has such, or many small ones.

    To hand 512 small pages to the disk takes the processor three times as long, and the disk longer, too.
    """
    memory = mmap.mmap(-1, BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # the kernel was built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class BlockFile:
    """A new file that is written in blocks, all of them full but the last. All methods block.

    Args:
        path: Where it is made, with mode 0600.

    Raises:
        FileExistsError: There is one.
    """

    def __init__(self, path: Path) -> None:
        self._file = _create(path)
        self._is_open = True
        self._room = 0

    def make_room(self, size: int) -> None:
        """Reserve the disk's room for so many bytes, and for some more.

        Writes that lengthen a file wait for each other; those into its room do not.
        """
        if self._room < size:
            with suppress(OSError):  # not every file system knows how; writing will tell if there is no room
                os.posix_fallocate(self._file, self._room, _ROOM_BYTES)
            self._room += _ROOM_BYTES

    def write(self, block: Block, offset: int) -> None:
        """Write a block to its place. Several may be written at a time."""
        rest = block.sectors
        while rest:
            written = os.pwrite(self._file, rest, offset)
            rest, offset = rest[written:], offset + written

    def finish(self, size: int) -> None:
        """Bring all of it, so many bytes, to disk, and close the file."""
        os.ftruncate(self._file, size)
        os.fsync(self._file)
        self.close()

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._is_open:
            self._is_open = False
            os.close(self._file)


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags | _DIRECT, 0o600)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    # The file system knows no such way. Some have made the file by the time they say so.
    path.unlink(missing_ok=True)
    return os.open(path, flags, 0o600)
