"""Where a secret can be kept. The configuration names the place, never the secret."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.credentials.errors import CredentialError, SourceError
from gateway.credentials.files import read_limited
from gateway.credentials.seal_key import SealKey
from gateway.credentials.sealed_file import SealedFile
from gateway.domain.secret import Secret

SEAL_KEY_VARIABLE = "GATEWAY_SEAL_KEY"
"""Environment variable that can hold the key of the sealed file."""
SEAL_KEY_FILE_VARIABLE = "GATEWAY_CREDENTIALS__SEAL_KEY_FILE"
"""Environment variable that can name a file with the key of the sealed file: that of the setting."""
POLL_INTERVAL = 5.0
"""Seconds between two looks at a file, unless set otherwise."""

_MAX_FILE_BYTES = 64 * 1024


class SecretSource(Protocol):
    """A place where a secret is kept. Its `str` names the place, for errors and health."""

    async def load(self) -> Secret:
        """Return the secret as it is now, without white space around it.

        Raises:
            CredentialError: There is none, or it cannot be reached. The message names the place and nothing of its content.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yield once at the beginning, and then whenever `load` may have a different answer than before.

        A source that cannot change ends after the first. Whoever loads after each turn misses no change.
        """


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """An environment variable. It cannot change while the gateway runs.

    Args:
        variable: Name of the variable.
    """

    variable: str

    def __str__(self) -> str:
        """Return the name of the place."""
        return f"environment variable {self.variable}"

    async def load(self) -> Secret:
        """Return the value of the variable.

        Raises:
            SourceError: It is not set, or empty.
        """
        return _secret(os.environ.get(self.variable, ""), f"The {self} is not set, or empty.")

    async def changes(self) -> AsyncIterator[None]:
        """Yield once."""
        yield


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file with nothing but the secret, such as a container platform mounts. A new content takes effect without a restart.

    The file is read again and again, because that sees every kind of change on every kind of file system: writing in place,
    renaming, the exchange of a symbolic link anywhere on the path, mounts over a network. A few bytes are read as cheaply as their
    date, and no date is fine enough to tell two quick writes apart.

    Args:
        path: Path of the file.
        poll_interval: Seconds between two looks.
    """

    path: Path
    poll_interval: float = POLL_INTERVAL

    def __str__(self) -> str:
        """Return the name of the place."""
        return f"file {self.path}"

    async def load(self) -> Secret:
        """Return the content of the file.

        Raises:
            SourceError: It cannot be read, is empty, longer than 64 KiB, or not UTF-8.
        """
        try:
            content = await asyncio.to_thread(read_limited, self.path, _MAX_FILE_BYTES)
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise SourceError(f"Cannot read the {self}: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise SourceError(f"The {self} is not text in UTF-8.") from None
        return _secret(text, f"The {self} is empty.")

    def changes(self) -> AsyncIterator[None]:
        """Yield at the beginning, and when the content changed."""
        return poll(self.load, self.poll_interval)


@dataclass(frozen=True, slots=True)
class SealedFileSource:
    """An entry of a sealed file.

    Args:
        path: Path of the sealed file.
        name: Name of the entry.
        key: Where the key of the file is kept.
        poll_interval: Seconds between two looks.
    """

    path: Path
    name: str
    key: SecretSource
    poll_interval: float = POLL_INTERVAL

    def __str__(self) -> str:
        """Return the name of the place."""
        return f"entry {self.name!r} of sealed file {self.path}"

    async def load(self) -> Secret:
        """Return the secret of the entry.

        Raises:
            CredentialError: The key or the sealed file cannot be used, or there is no such entry.
        """
        key = SealKey(await self.key.load())
        return await asyncio.to_thread(lambda: SealedFile(self.path, key).get(self.name))

    def changes(self) -> AsyncIterator[None]:
        """Yield at the beginning, and when the secret of the entry changed."""
        return poll(self.load, self.poll_interval)


def seal_key_source(file: Path | None = None) -> SecretSource:
    """Return where the key of the sealed file is kept.

    Args:
        file: File with the key. Default: what one of the variables GATEWAY_SEAL_KEY and GATEWAY_CREDENTIALS__SEAL_KEY_FILE says.

    Raises:
        SourceError: Neither variable is set, or both are.
    """
    if file is not None:
        return FileSource(file)
    named = os.environ.get(SEAL_KEY_FILE_VARIABLE, "")
    if bool(named) == bool(os.environ.get(SEAL_KEY_VARIABLE)):
        raise SourceError(
            f"Set one of the environment variables {SEAL_KEY_FILE_VARIABLE} (a file with the key of the sealed file) and "
            f"{SEAL_KEY_VARIABLE} (the key itself). 'openssl rand -base64 32' makes a key."
        )
    return FileSource(Path(named)) if named else EnvironmentSource(SEAL_KEY_VARIABLE)


async def poll(load: Callable[[], Awaitable[Secret]], interval: float) -> AsyncIterator[None]:
    """Yield once, and then whenever a look shows another secret, or another trouble, than the one before."""
    known = await _look(load)
    yield
    while True:
        await asyncio.sleep(interval)
        if (now := await _look(load)) != known:
            known = now
            yield


async def _look(load: Callable[[], Awaitable[Secret]]) -> Secret | str:
    try:
        return await load()
    except CredentialError as error:
        return str(error)


def _secret(text: str, if_empty: str) -> Secret:
    if not (text := text.strip()):
        raise SourceError(if_empty)
    return Secret(text)
