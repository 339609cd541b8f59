"""Secrets that tests plant, and the search for them in any bytes, however they are written there."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ahocorasick_rs import BytesAhoCorasick, Implementation

API_KEY = re.compile(rb"qgw_[a-z2-9]{12}_([A-Za-z0-9_-]{43})(?![A-Za-z0-9_-])")
"""A whole API key of the gateway: prefix, id, and what is secret of it."""
JSON_WEB_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]+\.([A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})")
"""A signed token: its first part, which says nothing, and what is secret of it."""

_PIECE = 16
"""Bytes of a secret that give it away: this many at its beginning, at its end, or anywhere in a longer part of it are found."""
_SHORTEST = 12
"""Shorter texts are found by chance."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret where it should not be. Tells everything about it but its text."""

    kind: str
    where: str
    planted_by: str
    """The test that planted it."""

    def __str__(self) -> str:
        """Return what is to be read in the report of a test."""
        return f"{self.kind} is in {self.where} (planted by {self.planted_by})"


@dataclass(slots=True)
class _Canary:
    kind: str
    planted_by: str
    homes: set[str]
    lasting: bool


class Canaries:
    """Planted secrets. Can be used by several threads."""

    def __init__(self) -> None:
        self._planted: dict[bytes, _Canary] = {}
        self._lock = threading.Lock()
        self._search: tuple[BytesAhoCorasick, list[_Canary]] | None = None

    def __len__(self) -> int:
        """Return how many are planted."""
        return len(self._planted)

    def plant(self, kind: str, secret: str | bytes, *, homes: Iterable[str] = (), lasting: bool = False) -> None:
        """Look for a secret from now on. To plant one twice adds its homes.

        Args:
            kind: What it is, for people.
            secret: Its text. Of API keys and tokens, what is public is not looked for.
            homes: Places that are meant to hold it, as `in_data` is given them.
            lasting: Whether it outlives the test that plants it.
        """
        core = _core(secret.encode() if isinstance(secret, str) else secret)
        assert len(core) >= _SHORTEST, f"{kind} is too short to be looked for"
        with self._lock:
            canary = self._planted.get(core)
            if canary is None:
                test = os.environ.get("PYTEST_CURRENT_TEST", "no test").rpartition(" (")[0] or "no test"
                self._planted[core] = _Canary(kind, test, set(homes), lasting)
                self._search = None
            else:
                canary.homes.update(homes)
                canary.lasting |= lasting

    def kinds(self) -> set[str]:
        """Return what kinds of secrets are planted."""
        with self._lock:
            return {canary.kind for canary in self._planted.values()}

    def mark(self) -> int:
        """Return a mark for `forget`."""
        with self._lock:
            return len(self._planted)

    def forget(self, mark: int) -> None:
        """Forget what was planted after a mark was taken, but for what is to last."""
        with self._lock:
            kept = {
                core: canary
                for number, (core, canary) in enumerate(self._planted.items())
                if number < mark or canary.lasting
            }
            if len(kept) < len(self._planted):
                self._planted, self._search = kept, None

    def in_data(self, where: str, data: bytes | str) -> list[Leak]:
        """Return what is found in some bytes, or in a text, that come from a place which is no home of it."""
        haystack = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        search, owners = self._prepared()
        found = {id(owners[index]): owners[index] for index, _, _ in search.find_matches_as_indexes(haystack)}
        return [Leak(canary.kind, where, canary.planted_by) for canary in found.values() if where not in canary.homes]

    def _prepared(self) -> tuple[BytesAhoCorasick, list[_Canary]]:
        with self._lock:
            if self._search is None:
                forms = {form: canary for core, canary in self._planted.items() for form in _forms(core)}
                search = BytesAhoCorasick(list(forms), implementation=Implementation.NoncontiguousNFA)
                self._search = search, list(forms.values())
            return self._search


def _core(secret: bytes) -> bytes:
    """Return what is secret of a secret."""
    for shape in (API_KEY, JSON_WEB_TOKEN):
        if match := shape.fullmatch(secret):
            return match[1]
    return secret.strip()


def _forms(core: bytes) -> Iterator[bytes]:
    """Yield every piece of a secret in the ways in which it can be written."""
    for start in {*range(0, max(len(core) - _PIECE, 0) + 1, _PIECE), max(len(core) - _PIECE, 0)}:
        piece = core[start : start + _PIECE]
        text = piece.decode("latin-1")
        yield piece
        yield text.encode()  # bytes that were taken for a text
        yield urllib.parse.quote(piece, safe="").encode()
        yield json.dumps(text)[1:-1].encode()
        yield repr(piece)[2:-1].encode()
        yield piece.hex().encode()
        yield piece.hex().upper().encode()
        for lead in range(3):
            # The characters at both ends depend on the neighbours.
            encoded = base64.b64encode(b"\0" * lead + piece)[4 if lead else 0 : -4]
            yield encoded
            yield encoded.translate(bytes.maketrans(b"+/", b"-_"))
