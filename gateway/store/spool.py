"""Results as their providers gave them out, in files beside the database, until they are stored as results of jobs.

DATABASE.files/spool/0f3a…    what one provider said for one job; named after the SHA-256 of account and id
DATABASE.files/spool/….new    one that is being written
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gateway.domain.errors import Unavailable

_MOST_BYTES = 8 * 1024**3
_RETRY_SECONDS = 30.0


class FileSpool:
    """See `gateway.domain.spool.ResultSpool`. A file is there whole or not at all.

    Args:
        directory: Where the files stand. It is made, with mode 0700, if it is missing. What a former run was still writing is
            removed.
        most_bytes: With more than this, nothing more is to be asked for.
    """

    def __init__(self, directory: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, exist_ok=True)
        for unfinished in directory.glob("*.new"):
            unfinished.unlink()
        self._sizes = {file.name: file.stat().st_size for file in directory.iterdir()}

    def get(self, account: str, provider_job_id: str) -> bytes | None:
        """Return what was put in for a job, or None."""
        with suppress(FileNotFoundError):
            return self._path(account, provider_job_id).read_bytes()
        return None

    def check_room(self) -> None:
        """Make sure that there is room for more.

        Raises:
            Unavailable: There is none.
        """
        with self._lock:
            waiting = sum(self._sizes.values())
        if waiting > self._most_bytes:
            raise Unavailable(
                "The gateway holds so many results that it has yet to read that it asks for no more. It goes on by itself.",
                retry_after=_RETRY_SECONDS,
            )

    def put(self, account: str, provider_job_id: str, results: bytes) -> None:
        """Keep what a provider gave out for a job; it is on disk when this returns.

        Raises:
            OSError: It cannot be written.
        """
        path = self._path(account, provider_job_id)
        new = path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(results)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        with self._lock:
            self._sizes[path.name] = len(results)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def drop(self, account: str, provider_job_id: str) -> None:
        """Forget what is kept for a job, if anything is."""
        self._remove(self._path(account, provider_job_id).name)

    def keep_only(self, jobs: Iterable[tuple[str, str]]) -> int:
        """Forget what is kept for other jobs than these, by account and provider's id: they have ended, or are gone.

        Returns how many results that were.
        """
        wanted = {self._path(account, provider_job_id).name for account, provider_job_id in jobs}
        with self._lock:
            gone = self._sizes.keys() - wanted
        for name in gone:
            self._remove(name)
        return len(gone)

    def _remove(self, name: str) -> None:
        with self._lock:
            known = self._sizes.pop(name, None) is not None
        if known:
            (self._directory / name).unlink(missing_ok=True)

    def _path(self, account: str, provider_job_id: str) -> Path:
        # A provider's words lead to no other place.
        return self._directory / hashlib.sha256(f"{account}/{provider_job_id}".encode()).hexdigest()
