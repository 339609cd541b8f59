"""Payloads too large for a row of the database: files beside it, each named after the SHA-256 of its bytes.

    DATABASE.files/ab/ab12…    a payload
    DATABASE.files/new/        what is being written, by the store or by a worker, and the workers' own temporary files
    DATABASE.files/spool/      what providers said, and is not stored yet: see `gateway.store.spool`

A file is on disk, under its name, before a commit refers to it. Afterwards nothing changes it, so that it can be read in pieces
from any offset, and is written as it is: outcomes at random do not shrink, and a compressed file has no offsets.

A file that no row refers to is removed, but not while somebody holds its `KeptFile`: whoever is about to refer to it, or reads it.
That is known in memory, because a database has one server.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

from gateway.domain.payload import KeptFile, Payload, PayloadFile
from gateway.store.blocks import Block, BlockFile

_COPY_BYTES = 1024 * 1024


class PayloadFiles:
    """The files of a store. All methods block; they may be called from any thread.

    Args:
        directory: Where they stand. It is made, with mode 0700, if it is missing; what a former run was still writing is removed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._held: WeakValueDictionary[str, KeptFile] = WeakValueDictionary()
        self.incoming = directory / "new"
        """Where to write what is to be kept. It is empty at the start."""
        self.spool = directory / "spool"
        """Where the store's `FileSpool` writes."""
        directory.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir(mode=0o700)
        _sync(directory)

    def create(self) -> IncomingFile:
        """Begin a new file. Nothing is made before its first bytes are written."""
        return IncomingFile(self, self.incoming / uuid4().hex)

    def keep(self, payload: Payload) -> KeptFile:
        """Bring bytes, or a file that nobody writes to any more, to disk. The file is moved where that is possible."""
        if isinstance(payload, KeptFile):
            return payload
        if isinstance(payload, PayloadFile):
            try:
                return self._move(payload.path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
        new = self.create()
        try:
            for block in _blocks(payload):
                new.write(block, new.take(block))
            return new.keep()
        finally:
            new.discard()

    def find(self, sha256: str, size: int) -> KeptFile:
        """Return a file that a row refers to.

        Raises:
            FileNotFoundError: It is not there, or has another size.
        """
        kept = self._hold(sha256, size)
        if kept.path.stat().st_size != size:
            raise FileNotFoundError(kept.path)
        return kept

    def remove_unused(self, is_used: Callable[[str], bool], names: Iterable[str] | None = None) -> int:
        """Remove files that nobody holds and no row refers to. Returns their number.

        Args:
            is_used: Tells whether a committed row refers to a SHA-256. Called under a lock that keeps files from being held anew.
            names: SHA-256s of the files to look at; None: all.
        """
        removed = 0
        for name in self._names() if names is None else names:
            with self._lock:
                if name not in self._held and not is_used(name):
                    with suppress(FileNotFoundError):
                        self._path(name).unlink()
                        removed += 1
        return removed

    def publish(self, path: Path, sha256: str, size: int) -> KeptFile:
        """Give a file that is on disk its name. It is moved within the file system.

        Raises:
            OSError: It stands on another file system.
        """
        kept = self._hold(sha256, size)
        kept.path.parent.mkdir(mode=0o700, exist_ok=True)
        path.rename(kept.path)
        _sync(kept.path.parent)
        _sync(self._directory)
        return kept

    def _move(self, path: Path) -> KeptFile:
        # A worker wrote it: no link leads it elsewhere, and what it says of the content is not relied upon.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            digest, size = hashlib.sha256(), 0
            while data := os.read(file, _COPY_BYTES):
                digest.update(data)
                size += len(data)
            os.fchmod(file, 0o600)
            os.fsync(file)
        finally:
            os.close(file)
        return self.publish(path, digest.hexdigest(), size)

    def _hold(self, sha256: str, size: int) -> KeptFile:
        with self._lock:
            kept = self._held.get(sha256)
            if kept is None:
                kept = self._held[sha256] = KeptFile(self._path(sha256), size, sha256)
            return kept

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256[:2] / sha256

    def _names(self) -> Iterator[str]:
        for folder in self._directory.glob("??"):
            yield from (file.name for file in folder.iterdir())


class IncomingFile:
    """A file that is being written, to be kept or discarded. Made by `PayloadFiles.create`."""

    def __init__(self, files: PayloadFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._file: BlockFile | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def take(self, block: Block) -> int:
        """Append a block: take it into the SHA-256, and return where it is to be written. All blocks but the last are full."""
        if self._file is None:
            self._file = BlockFile(self._path)
        offset = self._size
        self._digest.update(block.content)
        self._size += len(block.content)
        self._file.make_room(self._size)
        return offset

    def write(self, block: Block, offset: int) -> None:
        """Write a block that was taken, on any thread."""
        if self._file is not None:
            self._file.write(block, offset)

    @property
    def sha256(self) -> str:
        """SHA-256 of what was taken, 64 hexadecimal digits."""
        return self._digest.hexdigest()

    def keep(self) -> KeptFile:
        """Bring the file, of one block at least, to disk under its name. All that was taken is written."""
        if self._file is None:
            raise ValueError("nothing was written")
        self._file.finish(self._size)
        return self._files.publish(self._path, self.sha256, self._size)

    def discard(self) -> None:
        """Remove the file, unless it was kept."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


def _blocks(payload: Payload) -> Iterator[Block]:
    """Yield a payload in blocks; each is the same one, filled anew."""
    block = Block()
    for piece in _pieces(payload):
        rest = piece
        while rest := block.fill(rest):
            yield block
            block.clear()
    yield block


def _pieces(payload: Payload) -> Iterator[memoryview]:
    if not isinstance(payload, PayloadFile):
        yield memoryview(payload)
        return
    with payload.path.open("rb") as file:
        while data := file.read(_COPY_BYTES):
            yield memoryview(data)


def _sync(directory: Path) -> None:
    """Bring the names in a directory to disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
