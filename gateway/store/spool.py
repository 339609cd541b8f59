"""Results as their providers gave them out, in files beside the database, until they are stored as results of jobs.

DATABASE.files/spool/0f3a…      what one provider said for one job; named after the SHA-256 of account and id
DATABASE.files/spool/….about    what is to be known of the job to understand that
DATABASE.files/spool/….new      one that is being written
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from gateway.domain.errors import Unavailable
from gateway.domain.payload import PayloadFile
from gateway.domain.spool import SpooledResult

_MOST_BYTES = 8 * 1024**3
_LEAST_FREE_BYTES = 256 * 1024**2
_RETRY_SECONDS = 30.0


class FileSpool:
    """See `gateway.domain.spool.ResultSpool`. A file is there whole or not at all.

    Args:
        directory: Where the files stand. It is made, with mode 0700, if it is missing. What a former run was still writing is
            removed.
        most_bytes: With more than this, nothing more is to be asked for.
        least_free_bytes: Nor with less room than this on the disk.
    """

    def __init__(
        self, directory: Path, most_bytes: int = _MOST_BYTES, least_free_bytes: int = _LEAST_FREE_BYTES
    ) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._least_free_bytes = least_free_bytes
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, exist_ok=True)
        for unfinished in directory.glob("*.new"):
            unfinished.unlink()
        for about in directory.glob("*.about"):
            if not about.with_suffix("").exists():
                about.unlink()
        self._sizes = {file.name: file.stat().st_size for file in directory.iterdir() if not file.suffix}

    def get(self, account: str, provider_job_id: str) -> SpooledResult | None:
        """Return what was put in for a job, or None."""
        path = self._path(account, provider_job_id)
        try:
            results = PayloadFile(path, path.stat().st_size)
        except FileNotFoundError:
            return None
        try:
            about = _about(path).read_bytes()
        except FileNotFoundError:
            about = b""
        return SpooledResult(about, results)

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
        if shutil.disk_usage(self._directory).free < self._least_free_bytes:
            raise Unavailable(
                "The disk of the gateway is nearly full, so it asks for no more results: they could be lost. Make room; it goes "
                "on by itself.",
                retry_after=_RETRY_SECONDS,
            )

    def put(self, account: str, provider_job_id: str, about: bytes, results: Iterable[bytes]) -> bool:
        """Keep what a provider gives out for a job, piece by piece; it is on disk when this returns. False: that is nothing.

        Raises:
            OSError: It cannot be written.
        """
        path = self._path(account, provider_job_id)
        new = path.with_suffix(".new")
        try:
            size = _write(new, results)
            if not size:
                return False
            _write(_about(path), [about])
            new.rename(path)
        finally:
            new.unlink(missing_ok=True)
        with self._lock:
            self._sizes[path.name] = size
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return True

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
            path = self._directory / name
            path.unlink(missing_ok=True)
            _about(path).unlink(missing_ok=True)

    def _path(self, account: str, provider_job_id: str) -> Path:
        # A provider's words lead to no other place.
        return self._directory / hashlib.sha256(f"{account}/{provider_job_id}".encode()).hexdigest()


def _about(path: Path) -> Path:
    return path.with_suffix(".about")


def _write(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file and bring it to disk. Returns its size."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
