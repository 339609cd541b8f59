"""The public keys that an issuer of tokens signs with: a JSON Web Key Set (RFC 7517), fetched and kept up to date."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import jwt
import requests
import structlog
import urllib3

from gateway.domain.errors import Reason, Unavailable

_log = structlog.get_logger(__name__)

_MAX_BYTES = 256 * 1024
"""Most bytes of a key set; the largest known are a few kilobytes."""
_MAX_KEYS = 64
_FETCH_SECONDS = 10.0
"""Longest time for a fetch."""
_SILENCE_SECONDS = 5.0
"""Longest silence of a server during a fetch."""
_MIN_PAUSE = 2.0
"""Least seconds between the beginnings of two fetches, whatever tokens callers show."""
_RETRY_SECONDS = 5.0
"""Seconds until a fetch is tried again that failed, for the first time."""
_MAX_WAITING = 1_000
"""Most calls that wait for a fetch together."""
_PUBLIC_TYPES = frozenset({"RSA", "EC", "OKP"})
_MIN_RSA_BITS = 2048


class KeySetUnusable(Exception):
    """A key set cannot be had, or is none."""


class KeySetSource(Protocol):
    """Where a key set is published. Its `str` names the place."""

    def load(self) -> bytes:
        """Return the key set as JSON. It may take some seconds, and is called in a thread.

        Raises:
            KeySetUnusable: It cannot be had.
        """


@dataclass(frozen=True, slots=True)
class KeySetFile:
    """A key set in a file."""

    path: Path

    def __str__(self) -> str:
        """Return the name of the place."""
        return f"file {self.path}"

    def load(self) -> bytes:
        """Return the content of the file.

        Raises:
            KeySetUnusable: It cannot be read, or is too long.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise KeySetUnusable(f"cannot be read: {error.strerror}") from None
        return _bounded(content)


@dataclass(frozen=True, slots=True)
class KeySetUrl:
    """A key set on a web server. Only the address that was configured is asked: redirects are not followed."""

    url: str

    def __str__(self) -> str:
        """Return the name of the place."""
        return self.url

    def load(self) -> bytes:
        """Return what the server answers.

        Raises:
            KeySetUnusable: It cannot be reached, takes too long, or answers something else than a short HTTP 200.
        """
        deadline = time.monotonic() + _FETCH_SECONDS
        try:
            with requests.get(
                self.url,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=_SILENCE_SECONDS,
                stream=True,
                allow_redirects=False,
                auth=_no_credentials,
            ) as response:
                if response.status_code != requests.codes.ok:
                    raise KeySetUnusable(f"answered HTTP {response.status_code}")
                content = bytearray()
                # Whatever has come is taken at once, so that a server which sends byte by byte meets the deadline.
                while chunk := response.raw.read1(_MAX_BYTES + 1 - len(content), decode_content=False):
                    content += chunk
                    _bounded(content)
                    if time.monotonic() > deadline:
                        raise KeySetUnusable(f"took longer than {_FETCH_SECONDS:g} seconds to answer")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise KeySetUnusable(f"cannot be reached: {type(error).__name__}") from None
        return bytes(content)


class SigningKeys:
    """The keys of an issuer as they were last published.

    They are fetched again from time to time, and when a token names a key that is not among them: at once, but never more often
    than every two seconds, and one fetch for all who wait. A fetch that fails leaves the keys in use.

    Args:
        source: Where they are published.
        interval: Seconds between two fetches.
    """

    def __init__(self, source: KeySetSource, interval: float) -> None:
        self._source = source
        self._interval = interval
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._content = b""
        self._began_at = -_MIN_PAUSE
        self._trouble = ""
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self.generation = 0
        """Grows whenever the keys are others than before."""

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return a key by its id, fetching the keys anew if it is not among them; None if it is not among the new ones either.

        A token may leave out the id (empty) where there is one key only.

        Raises:
            Unavailable: No keys could be fetched so far, or too many calls wait for them.
        """
        if (key := self._known(key_id)) is None:
            await self._wait_for_fetch()
            key = self._known(key_id)
        if key is None and not self._keys:
            raise self._unavailable()
        return key

    async def run(self) -> None:
        """Keep the keys up to date, until cancelled."""
        failures = 0
        while True:
            await asyncio.shield(self._fetch())
            failures = failures + 1 if self._trouble else 0
            pause = min(_RETRY_SECONDS * 2 ** min(failures - 1, 16), self._interval) if failures else self._interval
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311 - it keeps no secret

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _known(self, key_id: str) -> jwt.PyJWK | None:
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _fetch(self) -> Awaitable[None]:
        """Return the fetch that is under way, or begin one."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch_once())
        return self._fetching

    async def _wait_for_fetch(self) -> None:
        if self._waiting >= _MAX_WAITING:
            raise self._unavailable()
        self._waiting += 1
        try:
            async with asyncio.timeout(_MIN_PAUSE + _FETCH_SECONDS):
                await asyncio.shield(self._fetch())
        except TimeoutError:
            raise self._unavailable() from None
        finally:
            self._waiting -= 1

    async def _fetch_once(self) -> None:
        await asyncio.sleep(max(0.0, self._began_at + _MIN_PAUSE - time.monotonic()))
        self._began_at = time.monotonic()
        try:
            content = await asyncio.to_thread(self._source.load)
            if content != self._content:
                self._keys, self._content = _parse(content), content
                self.generation += 1
                _log.info("signing_keys_changed", source=str(self._source), keys=sorted(self._keys))
        except KeySetUnusable as error:
            self._trouble = f"{self._source} {error}"
            _log.warning("signing_keys_not_fetched", detail=self._trouble, keys_in_use=len(self._keys))
        else:
            self._trouble = ""

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            "The keys of the token's issuer cannot be fetched now. Try again in a moment, or use an API key.",
            reason=Reason.TOKEN_KEYS_UNAVAILABLE,
            retry_after=_MIN_PAUSE,
        )


def _parse(content: bytes) -> dict[str, jwt.PyJWK]:
    """Return the public keys of a key set that can sign, by their ids.

    Raises:
        KeySetUnusable: It is none, or holds no such key.
    """
    try:
        entries = json.loads(content)["keys"]
        if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
            raise KeySetUnusable(f"holds no list of at most {_MAX_KEYS} keys")
        keys = {str(entry.get("kid", "")): key for entry in entries if (key := _public_key(entry))}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise KeySetUnusable("holds no JSON Web Key Set") from None
    if not keys:
        raise KeySetUnusable("holds no key that can sign")
    return keys


def _public_key(entry: Mapping[str, object]) -> jwt.PyJWK | None:
    """Return a key of a set; None if it is not for signatures, or of a kind that is not known here or too weak."""
    if entry.get("kty") not in _PUBLIC_TYPES or entry.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict({name: value for name, value in entry.items() if name != "d"})
    except jwt.PyJWTError:
        return None
    return None if key.key_type == "RSA" and key.key.key_size < _MIN_RSA_BITS else key


def _bounded(content: bytes | bytearray) -> bytes:
    if len(content) > _MAX_BYTES:
        raise KeySetUnusable(f"holds more than {_MAX_BYTES} bytes")
    return bytes(content)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep credentials of a `.netrc` file at home."""
    return request
