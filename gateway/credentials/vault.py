"""Secrets kept in HashiCorp Vault. Needs the extra `vault`, which brings `hvac`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from gateway.credentials.errors import SourceError
from gateway.credentials.sources import SecretSource, poll
from gateway.domain.hosts import is_loopback_host
from gateway.domain.secret import Secret

if TYPE_CHECKING:
    import hvac

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VaultToken:
    """Sign in with a token that somebody else renews, such as Vault's agent.

    Args:
        source: Where the token is kept. It is read anew for each look.
    """

    source: SecretSource


@dataclass(frozen=True, slots=True)
class VaultAppRole:
    """Sign in as an AppRole.

    Args:
        role_id: Id of the role; no secret.
        secret_id: Where the secret id is kept.
        mount: Where the auth method is mounted.
    """

    role_id: str
    secret_id: SecretSource
    mount: str = "approle"


class VaultSource:
    """A field of a secret in a KV engine of version 2. The newest version counts; a new one takes effect without a restart.

    Certificates are always checked, and redirections are not followed: they could carry the token elsewhere.

    Args:
        address: Base URL, such as `https://vault.example.com:8200`. Without TLS on loopback only.
        path: Path of the secret inside the engine.
        auth: How to sign in.
        mount: Where the engine is mounted.
        field: Name of the field that holds the secret.
        namespace: Namespace, for Vault Enterprise.
        ca_file: PEM file with the authorities to trust. Default: those that `requests` trusts.
        timeout: Seconds that one request may take.
        poll_interval: Seconds between two looks.

    Raises:
        SourceError: The address is not of that kind, `ca_file` is missing, or `hvac` is not installed.
    """

    def __init__(
        self,
        address: str,
        path: str,
        *,
        auth: VaultToken | VaultAppRole,
        mount: str = "secret",
        field: str = "value",
        namespace: str | None = None,
        ca_file: Path | None = None,
        timeout: float = 10.0,
        poll_interval: float = 60.0,
    ) -> None:
        self._address = address
        self._path = path
        self._auth = auth
        self._mount = mount
        self._field = field
        self._namespace = namespace
        self._ca_file = ca_file
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._role_token: Secret | None = None
        # One look at a time: a secret id may be good for few sign-ins.
        self._lock = asyncio.Lock()
        _check_address(address)
        if ca_file is not None and not ca_file.is_file():
            raise SourceError(f"There is no file {ca_file} with the authorities to trust for Vault.")
        if find_spec("hvac") is None:
            raise SourceError(f"The {self} needs the package hvac. Install 'qgateway-server[vault]'.")

    def __str__(self) -> str:
        """Return the name of the place."""
        return f"field {self._field!r} of {self._mount}/{self._path} in Vault at {self._address}"

    async def load(self) -> Secret:
        """Return the field of the newest version.

        Raises:
            CredentialError: Vault cannot be reached, refuses, or has no such field.
        """
        async with self._lock:
            if isinstance(self._auth, VaultToken):
                return await self._read(await self._auth.source.load())
            return await self._read_as(self._auth)

    def changes(self) -> AsyncIterator[None]:
        """Yield at the beginning, and when the field changed."""
        return poll(self.load, self._poll_interval)

    async def _read_as(self, role: VaultAppRole) -> Secret:
        if self._role_token is not None:
            try:
                return await self._read(self._role_token)
            except _RefusedError:
                # Its life may be over: one more try with a new one tells.
                self._role_token = None
        secret_id = await role.secret_id.load()
        self._role_token = await self._call(None, lambda client: _sign_in(client, role, secret_id))
        return await self._read(self._role_token)

    async def _read(self, token: Secret) -> Secret:
        answer = await self._call(
            token,
            lambda client: client.secrets.kv.v2.read_secret_version(
                path=self._path, mount_point=self._mount, raise_on_deleted_version=True
            ),
        )
        try:
            text = answer["data"]["data"][self._field]
        except (KeyError, TypeError):
            text = None
        if not isinstance(text, str) or not text.strip():
            raise SourceError(f"There is no text in {self}. Is {self._mount} a KV engine of version 2?")
        return Secret(text.strip())

    async def _call(self, token: Secret | None, call: Callable[[hvac.Client], _T]) -> _T:
        return await asyncio.to_thread(self._call_blocking, token, call)

    def _call_blocking(self, token: Secret | None, call: Callable[[hvac.Client], _T]) -> _T:
        import hvac

        client = hvac.Client(
            url=self._address,
            # An empty token, not None: for None hvac would look for one in the environment and the home directory.
            token=token.reveal() if token else "",
            verify=str(self._ca_file) if self._ca_file else True,
            timeout=self._timeout,
            allow_redirects=False,
            namespace=self._namespace,
        )
        with _errors_of(self):
            try:
                return call(client)
            finally:
                client.adapter.close()


class _RefusedError(SourceError):
    """Vault does not accept the token, or the token may not read the secret."""


def _sign_in(client: hvac.Client, role: VaultAppRole, secret_id: Secret) -> Secret:
    answer: Any = client.auth.approle.login(
        role.role_id, secret_id=secret_id.reveal(), use_token=False, mount_point=role.mount
    )
    return Secret(answer["auth"]["client_token"])


@contextmanager
def _errors_of(source: VaultSource) -> Iterator[None]:
    """Turn errors of Vault into ours. What Vault says is left out: nobody knows what a proxy in between would repeat."""
    import hvac.exceptions
    import requests

    try:
        yield
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
        raise _RefusedError(
            f"Vault refuses to read the {source}: the token is wrong or over, or its policy does not allow it."
        ) from None
    except hvac.exceptions.InvalidRequest:
        raise SourceError(
            f"Vault does not accept the request for the {source}. With an AppRole: are role id and secret id right?"
        ) from None
    except hvac.exceptions.InvalidPath:
        raise SourceError(f"There is no {source}, or its newest version is deleted.") from None
    except requests.exceptions.SSLError:
        raise SourceError(
            f"Cannot read the {source}: its certificate is not trusted. Name its authority with ca_file."
        ) from None
    except (hvac.exceptions.VaultError, requests.exceptions.RequestException, OSError) as error:
        raise SourceError(f"Cannot read the {source}: {type(error).__name__}.") from None
    except (AttributeError, KeyError, TypeError, ValueError):  # hvac's own code trips over what is not Vault's
        raise SourceError(f"Cannot read the {source}: the answer is not one of Vault's.") from None


def _check_address(address: str) -> None:
    url = urlsplit(address)
    if "@" in url.netloc:
        raise SourceError("The address of Vault must not carry a user or password.")
    if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and is_loopback_host(url.hostname))):
        raise SourceError(f"The address of Vault must be https://HOST:PORT, or http on loopback; it is {address!r}.")
