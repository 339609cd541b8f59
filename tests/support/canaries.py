"""Looks for planted secrets in everything that a gateway tells or leaves behind."""

from __future__ import annotations

import base64
import sqlite3
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import zstandard

from tests.support.processes import places

_ZSTD = b"\x28\xb5\x2f\xfd"
_LARGEST = 64 * 2**20
"""Bytes of a file that are looked through: results of gigabytes hold outcomes at random."""


class Canaries:
    """Planted secrets.

    Args:
        secrets: Text of each by a name that tells what it is.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        assert all(secrets.values()), "an empty secret is everywhere"
        self._needles = [(name, needle) for name, text in secrets.items() for needle in _forms(text)]
        self._texts = tuple(secrets.values())

    def in_data(self, where: str, data: bytes | str) -> list[str]:
        """Return what is found in some bytes, or in a text."""
        haystack = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        return sorted({f"{name} in {where}" for name, needle in self._needles if needle in haystack})

    def in_folder(self, folder: Path, leave_out: Iterable[Path] = ()) -> list[str]:
        """Return what is found in the files below a folder: as they are, and in every value of every database."""
        skipped, found = set(leave_out), []
        for path in sorted(folder.rglob("*")):
            if path in skipped or not path.is_file():
                continue
            with path.open("rb") as file:
                start = file.read(_LARGEST)
            found += self.in_data(str(path), start)
            if start.startswith(b"SQLite format 3\0"):
                found += self.in_database(path)
        return found

    def in_database(self, path: Path) -> list[str]:
        """Return what is found in the values of all tables, those unpacked that are compressed."""
        found = []
        for table, column, value in _values(path):
            data = zstandard.decompress(value) if isinstance(value, bytes) and value.startswith(_ZSTD) else value
            if isinstance(data, (bytes, str)):
                found += self.in_data(f"{path.name}: {table}.{column}", data)
        return sorted(set(found))

    def in_processes(self, pids: Iterable[int], *, memory: bool) -> list[str]:
        """Return what is found in environments and titles of processes, and in their memory if that is asked for."""
        return [
            f"a secret in the {place} of {pid}" for pid in pids for place in places(pid, self._texts, memory=memory)
        ]


def _forms(text: str) -> Iterator[bytes]:
    """Yield a text as it could be written: plain, quoted for URLs, and in base64 behind any number of other bytes."""
    plain = text.encode()
    yield plain
    yield urllib.parse.quote(text, safe="").encode()
    for lead in range(3):
        # The characters at both ends depend on the neighbours.
        yield base64.b64encode(b"\0" * lead + plain)[4 if lead else 0 : -4]


def _values(path: Path) -> Iterator[tuple[str, str, object]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - the names are the database's own
            columns = [column[0] for column in rows.description]
            for row in rows:
                yield from ((table, column, value) for column, value in zip(columns, row, strict=True))
