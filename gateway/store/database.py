"""The database file: who may open it, how it is opened, and how it comes to the newest schema."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import quote

from sqlalchemy import URL, Connection, NullPool, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from gateway.store.schema import SCHEMA_REVISION

_BUSY_TIMEOUT_MS = 5000
"""How long a statement waits for another program that has the file open, such as a backup."""


class StoreUnusable(Exception):
    """The database cannot be opened. The message says what to do about it."""


class Database:
    """An SQLite file, held by this process alone until it is closed, and brought to the newest schema.

    Blocks; to be used away from the event loop.

    Args:
        path: The file. It is created with mode 0600 if it is missing, and its directory with 0700.

    Raises:
        StoreUnusable: Another server has it open, it is no database, or a newer gateway has written it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(
            URL.create("sqlite+pysqlite", database=str(path)),
            poolclass=NullPool,
            # The lanes begin and end transactions themselves.
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000},
        )
        event.listen(self._engine, "connect", _configure)
        self._connections: list[Connection] = []
        self._lock: int | None = None
        try:
            self._open()
        except (OSError, DBAPIError) as error:
            self.close()
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StoreUnusable(
                f"{path} cannot be used as a database: {cause}. Check the path, its permissions and the disk, or restore a backup."
            ) from error
        except BaseException:
            self.close()
            raise

    def connect(self) -> Connection:
        """Open a connection that begins no transaction by itself. It may be used by one thread at a time, by any."""
        connection = self._engine.connect()
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close all connections and let the next server have the file. To close twice does no harm."""
        while self._connections:
            self._connections.pop().close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self._path)
        _create(self._path)
        with self._engine.connect() as connection:
            revision = _schema_revision(connection)
            if revision != SCHEMA_REVISION:
                self._upgrade(connection, revision)

    def _upgrade(self, connection: Connection, revision: str | None) -> None:
        # Imported here: Alembic costs 12 MB and 100 ms, and has nothing to do at nearly every start.
        from gateway.store.migrations.upgrade import known_revisions, upgrade

        if revision is not None and revision not in known_revisions():
            raise StoreUnusable(
                f"{self._path} was written by a newer gateway: its schema is {revision}, and this gateway knows none after "
                f"{SCHEMA_REVISION}. Start the newer gateway, or give this one another database."
            )
        upgrade(connection)


@contextmanager
def read_only(path: Path) -> Iterator[Connection]:
    """Open a database for reading, beside a server that may have it open. Yields a connection that sees one state of it.

    Raises:
        StoreUnusable: There is none, or its schema is not the one that this gateway reads.
    """
    if not path.exists():
        raise StoreUnusable(f"There is no database at {path}. Check the setting store.path.")
    url = URL.create("sqlite+pysqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
    try:
        with engine.connect() as connection:
            revision = _schema_revision(connection)
            if revision != SCHEMA_REVISION:
                raise StoreUnusable(
                    f"{path} has the schema {revision}, and this gateway reads {SCHEMA_REVISION}. Start the gateway once to "
                    "bring it up to date."
                )
            connection.exec_driver_sql("BEGIN")
            yield connection
    except DBAPIError as error:
        raise StoreUnusable(f"{path} cannot be read: {error.orig}.") from error


def _configure(connection: sqlite3.Connection, _: object) -> None:
    pragmas = (
        "journal_mode = WAL",
        "synchronous = FULL",  # a commit is on disk before anyone is told of it
        "foreign_keys = ON",
        "wal_autocheckpoint = 8000",  # 32 MB: only if the writer's own checkpoints do not get on
        "temp_store = MEMORY",  # or each savepoint would copy the pages it touches to a file
    )
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").close()


def _lock(path: Path) -> int:
    """Take the lock that keeps a second server away, and return its file descriptor.

    It is on a file of its own, because to open and close the database's own file would release SQLite's locks on it. The lock
    ends with the process, however that ends; the file stays.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
        os.close(lock)
        raise StoreUnusable(
            f"{path} is in use by another server (process {holder}). Stop that one, or give this one a database of its own."
        ) from None
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _create(path: Path) -> None:
    """Make sure that the file is there, readable by its owner only. SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _schema_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def driver_connection(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection under one of SQLAlchemy's."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)
