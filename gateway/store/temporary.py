"""A folder for a store that is to be gone with its server, however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".in-use"


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder among the system's temporary files, yield it, and remove it.

    A process that is killed removes nothing; so those that former processes have left are removed first.

    Args:
        prefix: Begins the folder's name. All folders of this name are taken to be made here.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _remove_unused(folder)
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        lock = _lock(Path(name))
        try:
            yield Path(name)
        finally:
            os.close(lock)


def _lock(folder: Path) -> int:
    """Take the lock of a folder, and return its file descriptor. It ends with the process, however that ends."""
    # The lock appears held: nobody can take it in the moment between.
    new = folder / f"{_LOCK}.new"
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder / _LOCK)
    return lock


def _remove_unused(folder: Path) -> None:
    """Remove a folder whose process has ended. One without a lock, or of another user, is left alone."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
