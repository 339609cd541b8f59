"""Where the gateway is and how to get in: arguments first, then the environment.

Imports neither grpc nor qiskit.
"""

from __future__ import annotations

import ipaddress
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from weakref import WeakValueDictionary

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0
"""Deadline of a unary call, in seconds, unless the caller gives another."""

TlsMode = Literal["auto", "on", "off"]

_VARIABLES = {
    "target": "QGATEWAY_TARGET",
    "api_key": "QGATEWAY_API_KEY",
    "api_key_file": "QGATEWAY_API_KEY_FILE",
    "tls": "QGATEWAY_TLS",
    "tls_root": "QGATEWAY_TLS_ROOT",
    "tls_cert": "QGATEWAY_TLS_CERT",
    "tls_key": "QGATEWAY_TLS_KEY",
    "tls_server_name": "QGATEWAY_TLS_SERVER_NAME",
}


class SettingsError(ValueError):
    """A connection setting is missing or wrong. The message names the argument or the environment variable."""


class ApiKey:
    """An API key or a token that cannot be printed, and does not travel with a pickle.

    A pickle holds a random handle instead. In the process that made it, and in those forked from it, the handle leads
    back to the key; anywhere else the key is read from the environment.

    Args:
        value: The key; or a function that returns it, for one that changes. It is called for each call to the gateway, maybe
            from several threads, and must be quick.

    Raises:
        SettingsError: The key is empty, or holds white space or characters that a header cannot carry.
    """

    __slots__ = ("__weakref__", "_handle", "_value")

    def __init__(self, value: str | Callable[[], str]) -> None:
        self._value = value if callable(value) else _checked(value)
        self._handle = uuid.uuid4().hex
        _known_keys[self._handle] = self

    def reveal(self) -> str:
        """Return the key itself, for the `authorization` header and nothing else.

        Raises:
            SettingsError: The function returned something that is no key.
        """
        return _checked(self._value()) if callable(self._value) else self._value

    def __repr__(self) -> str:
        return "ApiKey(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> ApiKey:
        return self

    def __deepcopy__(self, memo: object) -> ApiKey:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _find_api_key, (self._handle,)


class _KeyFile:
    """A file that holds the key, and a new one when the old is about to end: such as a container platform keeps.

    Args:
        path: The file.

    Raises:
        SettingsError: It cannot be read, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key, self._mark = self._read(), self._mark_now()

    def __call__(self) -> str:
        """Return the key. A new one that is not whole yet leaves the old one in use."""
        if (mark := self._mark_now()) != self._mark:
            with suppress(SettingsError):
                self._key, self._mark = self._read(), mark
        return self._key

    def _mark_now(self) -> tuple[int, ...]:
        """Return numbers that change with the content."""
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> str:
        path = _readable(self._path, "api_key_file")
        try:
            return _checked(path.read_text(encoding="utf-8", errors="replace").strip())
        except (OSError, SettingsError) as error:
            raise SettingsError(f"api_key_file (QGATEWAY_API_KEY_FILE) {self._path}: {error}") from None


def _checked(key: str) -> str:
    if not key:
        raise SettingsError("api_key: the key is empty.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError("api_key: the key holds characters other than printable ASCII without spaces.")
    return key


_known_keys: WeakValueDictionary[str, ApiKey] = WeakValueDictionary()


def _find_api_key(handle: str) -> ApiKey | None:
    """Return the key of a handle, or the one of the environment if the handle was made in another process."""
    return _known_keys.get(handle) or _api_key_from(os.environ, {})


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where the gateway is and how to get in.

    Raises:
        SettingsError: A value is wrong; the message names it.
    """

    target: str = DEFAULT_TARGET
    """`HOST:PORT`, `unix:PATH`, or any other gRPC target."""
    api_key: ApiKey | None = None
    """Sent as `authorization: Bearer KEY`: an API key, or a token of an issuer that the gateway accepts. None where a client
    certificate says who calls."""
    tls: TlsMode = "auto"
    """`auto` means on, unless the target is a loopback address or a unix socket."""
    tls_root: Path | None = None
    """PEM file of the authorities to trust. None: those that gRPC brings."""
    tls_cert: Path | None = None
    """PEM file of the client's certificate chain, for mutual TLS. Needs `tls_key`."""
    tls_key: Path | None = None
    """PEM file of the client's private key."""
    tls_server_name: str | None = None
    """Name that the server's certificate must bear. None: the host of the target."""
    timeout: float = DEFAULT_TIMEOUT
    """Deadline of a unary call in seconds. `SubmitJob` is given 90 s more."""

    def __post_init__(self) -> None:
        _check_target(self.target)
        if self.tls not in ("auto", "on", "off"):
            raise SettingsError(f"tls (QGATEWAY_TLS) is {self.tls!r}; give auto, on or off.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError(
                "tls_cert (QGATEWAY_TLS_CERT) and tls_key (QGATEWAY_TLS_KEY) go together; one is missing."
            )
        if not self.timeout > 0:
            raise SettingsError(f"timeout is {self.timeout!r}; give a positive number of seconds.")

    @property
    def is_local(self) -> bool:
        """True if the target is a loopback address or a unix socket."""
        return _is_local(self.target)

    @property
    def uses_tls(self) -> bool:
        """True if the connection is encrypted."""
        return self.tls == "on" or (self.tls == "auto" and not self.is_local)

    @classmethod
    def from_environment(cls, **overrides: Any) -> ConnectionSettings:
        """Make settings from arguments, and from the environment for what is not given.

        Read are `QGATEWAY_TARGET`, `QGATEWAY_API_KEY` or else the file named by `QGATEWAY_API_KEY_FILE`, `QGATEWAY_TLS`
        (auto, on, off), `QGATEWAY_TLS_ROOT`, `QGATEWAY_TLS_CERT`, `QGATEWAY_TLS_KEY` and `QGATEWAY_TLS_SERVER_NAME`. An
        empty variable counts as not set.

        Args:
            overrides: Fields of this class by name, and `api_key_file`. `api_key` may be text or a function that returns it,
                paths may be text. None counts as not given.

        Raises:
            SettingsError: A value is wrong or a file cannot be read; the message names the argument and the variable.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        fields: dict[str, Any] = {"api_key": _api_key_from(os.environ, given)}
        if (timeout := given.pop("timeout", None)) is not None:
            fields["timeout"] = timeout
        for name in ("target", "tls", "tls_server_name"):
            if value := given.pop(name, None) or os.environ.get(_VARIABLES[name]):
                fields[name] = value
        for name in ("tls_root", "tls_cert", "tls_key"):
            if value := given.pop(name, None) or os.environ.get(_VARIABLES[name]):
                fields[name] = _readable(Path(value), name)
        if unknown := given.keys() - {"api_key", "api_key_file"}:
            raise TypeError(f"Unknown connection settings: {', '.join(sorted(unknown))}.")
        return cls(**fields)


def _api_key_from(environment: Mapping[str, str], given: Mapping[str, Any]) -> ApiKey | None:
    """Return the key that was given, or the environment's; None if there is none."""
    if (key := given.get("api_key")) is not None:
        return key if isinstance(key, ApiKey) else ApiKey(key)
    if (path := given.get("api_key_file")) is not None:
        return ApiKey(_KeyFile(Path(path)))
    if value := environment.get("QGATEWAY_API_KEY"):
        try:
            return ApiKey(value.strip())
        except SettingsError as error:
            raise SettingsError(f"QGATEWAY_API_KEY: {error}") from None
    if value := environment.get("QGATEWAY_API_KEY_FILE"):
        return ApiKey(_KeyFile(Path(value)))
    return None


def _readable(path: Path, name: str) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise SettingsError(f"{name} ({_VARIABLES[name]}): {str(path)!r} is not a file that can be read.")
    return path


def _check_target(target: str) -> None:
    def refuse(problem: str) -> NoReturn:
        raise SettingsError(f"target (QGATEWAY_TARGET) {problem}; give HOST:PORT, such as {DEFAULT_TARGET}.")

    if not target or target != target.strip():
        refuse(f"is {target!r}")
    if "://" in target and target.split("://", 1)[0] in ("http", "https", "grpc", "grpcs"):
        refuse(f"is {target!r}, which is a URL")
    if not target.startswith(("unix:", "unix-abstract:")) and not _port(_address(target)).isdigit():
        refuse(f"is {target!r}, which has no port")


def _address(target: str) -> str:
    """Return the `HOST:PORT` of a gRPC target, without its scheme."""
    scheme, _, rest = target.partition(":")
    if scheme in ("dns", "ipv4", "ipv6", "passthrough"):
        return rest.rsplit("/", 1)[-1]
    return target


def _port(address: str) -> str:
    return address.rpartition(":")[2] if ":" in address else ""


def _is_local(target: str) -> bool:
    """True if what is sent to the target does not leave this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = _address(target).rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
