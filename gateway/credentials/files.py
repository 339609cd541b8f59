"""Files that hold secrets: read whole and small, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_OWNER_ONLY = 0o600


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: The file cannot be read, or has more than `limit` bytes.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"it has more than {limit} bytes", str(path))
    return content


def create_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, and bring it to the disk.

    Raises:
        FileExistsError: There is one already.
        OSError: It cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor is no path
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    _sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that every reader, and a crash at any time, finds the old content or the new.

    A symbolic link stays: what it points to is replaced. The owner stays, so that a file which root changes can still be read by
    the service that owns it.

    Raises:
        OSError: It cannot be written; the old content is still there.
    """
    target = Path(os.path.realpath(path))
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        create_file(scratch, content)
        _keep_owner(target, scratch)
        scratch.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            scratch.unlink()
        raise
    _sync_directory(target.parent)


def _keep_owner(old: Path, new: Path) -> None:
    with suppress(FileNotFoundError):
        before, now = old.stat(), new.stat()
        if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            os.chown(new, before.st_uid, before.st_gid)


def _sync_directory(path: Path) -> None:
    # The name of a file is part of its directory: without this it could be gone after a power cut.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
