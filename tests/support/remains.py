"""Looks for planted secrets in all that a program leaves behind, or shows while it runs: files, databases, processes, ports."""

from __future__ import annotations

import gzip
import http.client
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import zstandard

from tests.support.canaries import Canaries, Leak

_LARGEST = 64 * 2**20
"""Bytes of a file that are looked through: results of gigabytes hold outcomes at random."""
_OVERLAP = 4096
_PAGES = ("/metrics", "/", "/health", "/debug/vars", "/traces")
_TIMEOUT = 2.0


def in_folder(canaries: Canaries, folder: Path, leave_out: Collection[Path] = ()) -> list[Leak]:
    """Return what is found in all files below a folder: as they are, unpacked, and in every value of every database.

    Args:
        canaries: The secrets.
        folder: Where to look.
        leave_out: Files and folders that are not looked at.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if leave_out and any(path.is_relative_to(left) for left in leave_out):
            continue
        with suppress(FileNotFoundError):  # a program that still runs may remove it
            if path.is_file():
                found += in_file(canaries, path)
    return found


def in_file(canaries: Canaries, path: Path, start: int = 0) -> list[Leak]:
    """Return what is found in a file.

    Args:
        canaries: The secrets.
        path: The file.
        start: Bytes at its beginning that were looked through before.
    """
    with path.open("rb") as file:
        file.seek(max(start - _OVERLAP, 0))
        data = file.read(_LARGEST)
    found = canaries.in_data(str(path), data)
    if data.startswith(b"SQLite format 3\0"):
        found += in_database(canaries, path)
    elif (plain := unpacked(data)) is not data:
        found += canaries.in_data(f"{path}, unpacked", plain)
    return found


def in_database(canaries: Canaries, path: Path) -> list[Leak]:
    """Return what is found in the values of all tables, those unpacked that are compressed."""
    found: dict[Leak, None] = {}
    for table, column, values in _columns(path):
        texts = [unpacked(value) if isinstance(value, bytes) else value.encode() for value in values]
        found |= dict.fromkeys(canaries.in_data(f"{path}: {table}.{column}", b"\0".join(texts)))
    return list(found)


def unpacked(data: bytes) -> bytes:
    """Return what is in compressed data; the data themselves if they are not, or are cut off."""
    with suppress(zstandard.ZstdError, OSError, EOFError):
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
    return data


def in_process(canaries: Canaries, pid: int, *, environment: bool = True) -> list[Leak]:
    """Return what is found in the title, the command line and the environment of a process; nothing if there is none."""
    found = []
    for name in ("comm", "cmdline", *(["environ"] if environment else [])):
        with suppress(OSError):
            found += canaries.in_data(f"the {name} of process {pid}", Path(f"/proc/{pid}/{name}").read_bytes())
    return found


def children(pid: int) -> Iterator[int]:
    """Yield the processes that one has started, directly or not, and that still run."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from children(int(child))


def at_ports(canaries: Canaries, pid: int, leave_out: Iterable[int] = ()) -> list[Leak]:
    """Return what is found in what a process serves over HTTP: what it would be asked by who collects metrics.

    Args:
        canaries: The secrets.
        pid: The process.
        leave_out: Ports that are not asked.
    """
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
    ports = {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}
    return [
        leak
        for port in sorted(ports - set(leave_out))
        for page in _PAGES
        for leak in canaries.in_data(f"{page} at port {port}", _page(port, page))
    ]


def _page(port: int, page: str) -> bytes:
    """Return what a server says to a request, or nothing if it does not speak HTTP."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)) as connection:
        try:
            connection.request("GET", page)
            response = connection.getresponse()
            return f"{response.headers}".encode() + unpacked(response.read())
        except (OSError, http.client.HTTPException):
            return b""


def _columns(path: Path) -> Iterator[tuple[str, str, list[bytes | str]]]:
    """Yield the texts and blobs of each column of each table."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - the names are the database's own
            names = [column[0] for column in rows.description]
            while some := rows.fetchmany(1000):
                for name, values in zip(names, zip(*some, strict=True), strict=True):
                    if texts := [value for value in values if isinstance(value, (bytes, str))]:
                        yield table, name, texts
