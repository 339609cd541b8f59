"""Looks into running processes for secrets that should not be there. Linux only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

_CHUNK = 1 << 24


def family(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def places(pid: int, secrets: Iterable[str], *, memory: bool = True) -> list[str]:
    """Return where in a process any of some secrets is found; empty if nowhere.

    Args:
        pid: The process.
        secrets: The secrets.
        memory: Whether its writable memory is searched, beside its environment and its command line. That is allowed for
            processes that the caller started.
    """
    needles = [secret.encode() for secret in secrets]
    proc = Path(f"/proc/{pid}")
    found = [name for name in ("environ", "cmdline") if _holds((proc / name).read_bytes(), needles)]
    if memory and any(_holds(chunk, needles) for chunk in _memory(proc, max(map(len, needles), default=0))):
        found.append("memory")
    return found


def _holds(data: bytes, needles: Iterable[bytes]) -> bool:
    return any(needle in data for needle in needles)


def _memory(proc: Path, overlap: int) -> Iterator[bytes]:
    """Yield the writable memory of a process in chunks that overlap, so that nothing is cut in two."""
    regions = [line.split(maxsplit=5) for line in (proc / "maps").read_text().splitlines()]
    with (proc / "mem").open("rb", buffering=0) as memory:
        for span, rights, *_ in regions:
            start, end = (int(part, 16) for part in span.split("-"))
            if not rights.startswith("rw"):
                continue
            for at in range(start, end, _CHUNK):
                try:
                    memory.seek(at)
                    yield memory.read(min(_CHUNK + overlap, end - at))
                except OSError:  # the region is gone by now, or belongs to a device
                    break
