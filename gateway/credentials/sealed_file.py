"""The gateway's own store of secrets: one encrypted file with many named entries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import filelock

from gateway.credentials.errors import (
    EntryNotFound,
    InvalidEntry,
    SealedFileBusy,
    SealedFileError,
    SealedFileExists,
    SealedFileMissing,
    Tampered,
)
from gateway.credentials.files import read_limited, replace_file
from gateway.credentials.seal_key import Forged, SealKey
from gateway.credentials.sealed_format import Entry, SealedEntry, pack, unpack
from gateway.domain.secret import Secret

MAX_NAME_LENGTH = 200
"""Longest name of an entry, in characters."""
MAX_SECRET_BYTES = 64 * 1024
"""Longest secret, in bytes of UTF-8."""

_MAX_FILE_BYTES = 64 * 1024 * 1024
_LOCK_TIMEOUT = 10.0

_Entries = dict[str, SealedEntry]


class SealedFile:
    """A sealed file and its key. Every call reads the file anew, so that it sees what other processes wrote.

    Writers take turns through a lock file beside it; readers need none, because a write replaces the file at once. All calls block
    for the time of a few file operations. Made by `open` or `create`.
    """

    def __init__(self, path: Path, key: SealKey) -> None:
        self._path = path
        self._key = key

    @classmethod
    def create(cls, path: Path, key: SealKey) -> SealedFile:
        """Write a sealed file without entries.

        Raises:
            SealedFileExists: There is a file at the path already.
            SealedFileError: It cannot be written.
        """
        file = cls(path, key)
        with file._locked():
            if path.exists():
                raise SealedFileExists(f"The {file} exists already.")
            file._write({})
        return file

    @classmethod
    def open(cls, path: Path, key: SealKey) -> SealedFile:
        """Open a sealed file, after a look at whether the key opens it.

        Raises:
            SealedFileError: It is missing, or cannot be read: the class says why.
        """
        file = cls(path, key)
        file._read()
        return file

    def __str__(self) -> str:
        """Return how messages name the file."""
        return f"sealed file {self._path}"

    def set(self, name: str, secret: Secret) -> Entry:
        """Keep a secret under a name, in place of the one before.

        Args:
            name: 1 to 200 printable characters, without spaces around them.
            secret: At most 64 KiB of UTF-8.

        Raises:
            InvalidEntry: The name or the secret is not of that kind.
            SealedFileError: The file cannot be read or written.
        """
        _check(name, secret)

        def with_secret(entries: _Entries) -> _Entries:
            now = datetime.now(UTC)
            before = entries[name].entry if name in entries else None
            entry = Entry(
                name=name,
                version=before.version + 1 if before else 1,
                created_at=before.created_at if before else now,
                changed_at=now,
            )
            return entries | {name: SealedEntry.seal(entry, secret, self._key)}

        return self._change(with_secret)[name].entry

    def get(self, name: str) -> Secret:
        """Return the secret of a name.

        Raises:
            EntryNotFound: There is none.
            SealedFileError: The file cannot be read.
        """
        return self._open_entry(self._find(name, self._read()))

    def list(self) -> tuple[Entry, ...]:
        """Return what may be known of the entries, by name.

        Raises:
            SealedFileError: The file cannot be read.
        """
        return tuple(sealed.entry for _, sealed in sorted(self._read().items()))

    def remove(self, name: str) -> None:
        """Forget a secret.

        Raises:
            EntryNotFound: There is none of that name.
            SealedFileError: The file cannot be read or written.
        """

        def without(entries: _Entries) -> _Entries:
            self._find(name, entries)
            return {other: sealed for other, sealed in entries.items() if other != name}

        self._change(without)

    def rotate(self, key: SealKey) -> int:
        """Seal all entries with another key, which from now on is the only one that opens the file.

        Args:
            key: The new key.

        Returns:
            Number of entries.

        Raises:
            SealedFileError: The file cannot be read or written; the old key still opens it.
        """
        with self._locked():
            entries = self._read()
            resealed = {
                name: SealedEntry.seal(sealed.entry, self._open_entry(sealed), key) for name, sealed in entries.items()
            }
            self._write(resealed, key)
        self._key = key
        return len(resealed)

    def _change(self, change: Callable[[_Entries], _Entries]) -> _Entries:
        with self._locked():
            entries = change(self._read())
            self._write(entries)
        return entries

    def _find(self, name: str, entries: _Entries) -> SealedEntry:
        try:
            return entries[name]
        except KeyError:
            raise EntryNotFound(
                f"The {self} has no entry {name!r}. 'gateway credentials list' shows which there are."
            ) from None

    def _open_entry(self, sealed: SealedEntry) -> Secret:
        try:
            return sealed.open(self._key)
        except Forged:
            raise Tampered(
                f"Entry {sealed.entry.name!r} of the {self} holds what was sealed for another entry or version. Set it again."
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Whatever name a writer knows the file by, the lock is beside the file itself.
        lock = f"{os.path.realpath(self._path)}.lock"
        try:
            with filelock.FileLock(lock, timeout=_LOCK_TIMEOUT, mode=0o600):
                yield
        except filelock.Timeout:
            raise SealedFileBusy(
                f"Another process has been writing the {self} for {_LOCK_TIMEOUT:g} s. Try again when it is done."
            ) from None
        except OSError as error:
            raise SealedFileError(f"Cannot write the {self}: {error.strerror}.") from None

    def _read(self) -> _Entries:
        try:
            content = read_limited(self._path, _MAX_FILE_BYTES)
        except FileNotFoundError:
            raise SealedFileMissing(f"There is no {self}. 'gateway credentials set' makes one.") from None
        except OSError as error:
            raise SealedFileError(f"Cannot read the {self}: {error.strerror}.") from None
        return {sealed.entry.name: sealed for sealed in unpack(content, self._key, str(self))}

    def _write(self, entries: _Entries, key: SealKey | None = None) -> None:
        replace_file(self._path, pack(entries.values(), key or self._key))


def _check(name: str, secret: Secret) -> None:
    if not name.isprintable() or name != name.strip() or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise InvalidEntry(
            f"The name of an entry must be 1 to {MAX_NAME_LENGTH} printable characters, without spaces around them."
        )
    try:
        size = len(secret.reveal().encode())
    except UnicodeEncodeError:
        raise InvalidEntry(f"The secret for {name!r} is not text that can be written as UTF-8.") from None
    if size > MAX_SECRET_BYTES:
        raise InvalidEntry(f"The secret for {name!r} is longer than {MAX_SECRET_BYTES} bytes.")
