"""The watch for secrets over a whole run of the tests.

Every secret that a gateway is given or makes is planted, and everything that a gateway tells or leaves behind is searched. Nothing
of this needs to be remembered in a test. Secrets are planted where they are made: by `GatewayProcess`, `EmulatorProcess`,
`Authority`, `VaultServer`, `TokenIssuer`, and by what listens to the calls of tests (`tests.support.taps`). What is searched is
named by what is left out of it, so that whatever a gateway writes, serves or sends tomorrow is searched, too.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support import remains
from tests.support.canaries import API_KEY, Canaries, Leak

_HOLDS_SECRET = re.compile(r"(^|[._])(key|token|secret|secret_id|password|proof)(_file)?$")
"""Settings that name a file with a secret."""
_NAMES_VARIABLE = re.compile(r"(key|token|secret|secret_id|password)_env$")
_SEAL_KEY = "GATEWAY_SEAL_KEY"
_SHORTEST, _LONGEST = 12, 65_536
_BATCH = 256 * 1024
_STORE_KEYS = "SELECT name, value FROM keys"


class Watched(Protocol):
    """A gateway of a test."""

    folder: Path
    """Everything below it was left by the gateway, but for what it was given."""
    given: Mapping[str, str]
    """What it was started with: variables."""
    target: str
    """Where it serves gRPC, once it does."""

    @property
    def written(self) -> tuple[Path, ...]:
        """Files that grow while it runs."""

    @property
    def is_running(self) -> bool:
        """Whether it runs."""

    @property
    def pid(self) -> int:
        """Id of its process while it runs."""


class LeakWatch:
    """Collects secrets, and what is found of them. Can be used by several threads."""

    def __init__(self) -> None:
        self.canaries = Canaries()
        self._given: set[Path] = set()
        self._gateways: dict[Path, Watched] = {}
        self._searched: dict[Path, int] = {}
        self._heard: list[tuple[str, bytes]] = []
        self._heard_bytes = 0
        self._found: dict[Leak, None] = {}
        self._lock = threading.Lock()

    def plant_file(self, kind: str, path: Path) -> None:
        """Plant what a file holds. The file itself is where it belongs."""
        self._given.add(path)
        with suppress(OSError):
            if path.is_file() and path.stat().st_size <= _LONGEST:
                self._plant_text(kind, path.read_bytes())

    def plant_private_key(self, kind: str, pem: bytes) -> None:
        """Plant the number that a private key consists of: what is around it in a PEM file is the same in all."""
        with suppress(ValueError, TypeError):
            key = load_pem_private_key(pem, None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                number = key.private_numbers().private_value
                self.canaries.plant(kind, number.to_bytes((key.key_size + 7) // 8))
                self.canaries.plant(kind, str(number))

    def plant_settings(self, environment: Mapping[str, str]) -> None:
        """Plant every secret that settings refer to: what their files and variables hold."""
        for name, value in _leaves(environment):
            if _NAMES_VARIABLE.search(name):
                self._plant_text(f"what {name} names", environment.get(value, "").encode())
            elif _HOLDS_SECRET.search(name):
                self.plant_file(f"what {name} names", Path(value))
        self._plant_text(f"what {_SEAL_KEY} holds", environment.get(_SEAL_KEY, "").encode())

    def plant_store_keys(self, database: Path) -> None:
        """Plant the keys that a store draws for itself: those of hashes and of resume tokens. One table holds them, on purpose."""
        homes = [f"{database}: keys.value", *(f"{database}{suffix}" for suffix in ("", "-wal", "-journal"))]
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            for name, value in connection.execute(_STORE_KEYS):
                self.canaries.plant(f"the store's key {name!r}", value, homes=homes)

    def plant_made_keys(self, kind: str, told: bytes) -> bytes:
        """Plant the API keys in what their makers told. Returns the rest of it."""
        for key in API_KEY.finditer(told):
            self.canaries.plant(kind, key[0], lasting=True)
        return API_KEY.sub(b"", told)

    def add(self, gateway: Watched) -> None:
        """Search what a gateway leaves, from now on."""
        self.plant_settings(gateway.given)
        self._gateways[gateway.folder] = gateway

    def hear(self, where: str, data: bytes | str) -> None:
        """Take note of something that a program told to whoever called it."""
        told = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        with self._lock:
            self._heard.append((where, told))
            self._heard_bytes += len(told)
            full = self._heard_bytes > _BATCH
        if full:
            self._search_heard()

    def look_at_process(self, gateway: Watched) -> None:
        """Search what a running gateway shows: its title, its workers' titles and environments, and what else it serves."""
        port = gateway.target.rpartition(":")[2]
        self._note(remains.in_process(self.canaries, gateway.pid, environment=False))
        for worker in remains.children(gateway.pid):
            self._note(remains.in_process(self.canaries, worker))
        self._note(remains.at_ports(self.canaries, gateway.pid, [int(port)] if port else []))

    def look(self) -> None:
        """Search all that there is by now: what was heard, what running gateways show, and what others left."""
        self._search_heard()
        for folder, gateway in tuple(self._gateways.items()):
            self.plant_settings(gateway.given)  # files may hold others by now
            if gateway.is_running:
                self.look_at_process(gateway)
                for path in gateway.written:
                    self._search_growing(path)
            else:
                self._note(remains.in_folder(self.canaries, folder, self._given))
                del self._gateways[folder]

    def take(self) -> list[str]:
        """Return what was found, and forget it."""
        with self._lock:
            found, self._found = self._found, {}
        return sorted(map(str, found))

    def _search_growing(self, path: Path) -> None:
        start = self._searched.get(path, 0)
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            if size > start:
                self._note(remains.in_file(self.canaries, path, start))
                self._searched[path] = size

    def _search_heard(self) -> None:
        with self._lock:
            heard, self._heard, self._heard_bytes = self._heard, [], 0
        if self.canaries.in_data("", b"\0".join(told for _, told in heard)):
            for where, told in heard:
                self._note(self.canaries.in_data(where, told))

    def _plant_text(self, kind: str, text: bytes) -> None:
        if b"PRIVATE KEY" in text:
            self.plant_private_key(kind, text)
        elif len(text.strip()) >= _SHORTEST:
            self.canaries.plant(kind, text)

    def _note(self, leaks: Iterable[Leak]) -> None:
        with self._lock:
            self._found |= dict.fromkeys(leaks)


WATCH = LeakWatch()
"""The watch over this run."""


def holds_secret(setting: str) -> bool:
    """Return whether a setting names a file or a variable with a secret, by its path as in `server.tls.key`."""
    return bool(_HOLDS_SECRET.search(setting) or _NAMES_VARIABLE.search(setting))


def _leaves(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every setting of a gateway by its path, as in `server.tls.key`."""
    for name, value in environment.items():
        if name.startswith("GATEWAY_"):
            path = name.removeprefix("GATEWAY_").lower().replace("__", ".")
            yield from _leaves_of(path, value)


def _leaves_of(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves_of(f"{path}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves_of(path, inner)
    elif isinstance(value, str):
        yield path, value
