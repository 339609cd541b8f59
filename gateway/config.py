"""The configuration: every setting of the server, where it comes from, and what it may be.

Settings come from a TOML file (`--config`, or the variable `GATEWAY_CONFIG`) and from the environment, which wins. The variable of
a setting is `GATEWAY_` and its path in capitals, with two underscores between the parts: `GATEWAY_STORE__PATH`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from gateway.access.api_keys import ApiKey, hash_api_key
from gateway.config_accounts import AccountSettings, LocalAccountSettings
from gateway.config_base import Section
from gateway.config_callers import CertificateSettings, IssuerSettings
from gateway.domain.access import NAME, Role
from gateway.domain.hosts import is_loopback_host


class ConfigError(Exception):
    """The configuration is wrong. The message names each wrong setting, and what would be right."""


def is_loopback(listen: str) -> bool:
    """Return whether `HOST:PORT` can be reached from this machine only."""
    return is_loopback_host(listen.rpartition(":")[0].strip("[]"))


def _check_address(value: str | None) -> str | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:50051")
    return value


class TlsSettings(Section):
    """TLS of the server. Without `certificate` and `key` it speaks plain text, and then on loopback only."""

    certificate: Path | None = None
    """PEM file with the server's certificate chain."""
    key: Path | None = None
    """PEM file with its private key."""
    client_ca: Path | None = None
    """PEM file with the authorities of client certificates. If it is set, clients must show one (mTLS): all of them, or those that
    call at `client_listen`."""
    client_listen: str | None = None
    """Second address and port, for clients with certificates. If it is set, those that call at `server.listen` need none."""
    poll_interval: Annotated[float, Field(ge=0.05, le=3600)] = 5.0
    """Seconds between two looks at these files. New ones take effect for new connections, without a restart; wrong ones leave the
    old in use, and turn the health of `tls` red."""

    @model_validator(mode="after")
    def _complete(self) -> TlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: set both, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key")
        if self.client_listen is not None and self.client_ca is None:
            raise ValueError("client_listen needs client_ca")
        return self

    @field_validator("client_listen")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        return _check_address(value)


class ServerSettings(Section):
    """Where and how the server listens."""

    listen: str = "127.0.0.1:50051"
    """Address and port, `HOST:PORT` (`[::1]:50051` for IPv6). Port 0 takes a free one."""
    allow_insecure: bool = False
    """Allow to listen without TLS on an address that is not loopback: for a service mesh or a proxy that brings TLS itself."""
    tls: TlsSettings = TlsSettings()
    """TLS of the server."""
    health_listen: str | None = None
    """Address and port on which health, and nothing else, is also told in plain text: for probes that speak no TLS."""
    heartbeat_interval: Annotated[float, Field(ge=0.1, le=300)] = 15.0
    """Longest time between two messages of a watch, in seconds."""
    drain_timeout: Annotated[float, Field(ge=0, le=600)] = 20.0
    """Seconds that running calls get to end when the server stops."""
    chunk_bytes: Annotated[int, Field(ge=16 * 1024, le=2 * 1024 * 1024)] = 1024 * 1024
    """Size of the chunks of a download, and the largest chunk of an upload."""
    max_request_bytes: Annotated[int, Field(ge=64 * 1024, le=256 * 1024 * 1024)] = 16 * 1024 * 1024
    """Largest request message. Larger programs are uploaded in chunks."""
    max_program_bytes: Annotated[int, Field(ge=64 * 1024, lt=2**31)] = 256 * 1024 * 1024
    """Largest program, in bytes. Reading it takes a multiple of that: `workers.memory_limit`."""
    upload_retention: Annotated[float, Field(ge=60)] = 24 * 3600.0
    """Seconds after which an uploaded program is removed that no job uses."""
    max_connection_age: Annotated[float, Field(ge=60)] = 3600.0
    """Seconds after which a connection is asked to reconnect, so that load balancers can spread clients anew."""
    keepalive_interval: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Seconds without a sign of life after which a client is asked for one, so that those who vanished are noticed."""
    keepalive_timeout: Annotated[float, Field(ge=1, le=600)] = 10.0
    """Seconds after which a client that does not answer is taken for gone, and its streams end."""
    stalled_stream_timeout: Annotated[float, Field(ge=1, le=24 * 3600)] = 300.0
    """Seconds after which a watch or a download ends whose client is alive, but takes nothing of what it asked for. It can go on
    where it stopped."""
    handshake_timeout: Annotated[float, Field(ge=1, le=120)] = 10.0
    """Seconds that a new connection has to say its first words, those of TLS included, before it is closed."""
    max_connection_idle: Annotated[float, Field(ge=1)] = 900.0
    """Seconds without a call after which a connection is closed. Clients connect again by themselves."""
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Most connections that are open at a time. Each takes a file descriptor, and about 30 KiB of memory."""
    max_streams_per_connection: Annotated[int, Field(ge=1)] = 10_000
    """Most calls and watches that are open at a time on one connection. What is beyond that waits at the client."""
    max_metadata_bytes: Annotated[int, Field(ge=2 * 1024, le=1024 * 1024)] = 16 * 1024
    """Most bytes of metadata of a call, names and values. A call with more is refused before it is read."""
    max_streams_per_caller: Annotated[int, Field(ge=1)] = 5_000
    """Most watches that one caller has open at a time. Each costs about 30 KiB of memory."""
    max_transfers_per_caller: Annotated[int, Field(ge=1)] = 16
    """Most uploads and downloads of programs and results that one caller has under way at a time. An upload costs up to some 20 MiB
    of memory, a download some MiB. Clients of this project wait for their turn."""
    reflection: bool = True
    """Whether tools such as grpcurl can ask for the contract."""

    @field_validator("listen", "health_listen")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        return _check_address(value)

    @model_validator(mode="after")
    def _safe(self) -> ServerSettings:
        if self.tls.certificate is None and not self.allow_insecure and not is_loopback(self.listen):
            raise ValueError(
                f"listen = {self.listen!r} is not loopback, and there is no TLS: API keys would cross the network in plain text. "
                "Set tls.certificate and tls.key, or allow_insecure = true if something in front brings TLS"
            )
        return self


class StoreSettings(Section):
    """Where jobs, results and the audit trail are kept."""

    path: Path = Path("qgateway.db")
    """File of the SQLite database. Its directory is made if it is missing."""


class HistorySettings(Section):
    """How much of the history of changes is kept: what watches resume from, and what ListJobEvents lists.

    The last event of a finished job stays for as long as the job does.
    """

    max_age: Annotated[float, Field(ge=60)] = 30 * 24 * 3600.0
    """Seconds for which changes are kept: the longest break after which a watch still resumes without a gap."""
    max_events: Annotated[int, Field(ge=100)] = 1_000_000
    """Most changes that are kept."""
    interval: Annotated[float, Field(ge=0.1, le=24 * 3600)] = 60.0
    """Seconds between two looks for what is to be forgotten."""


class WorkerSettings(Section):
    """The processes that read programs. They are started when they are first needed."""

    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of processes that read and transpile programs."""
    time_limit: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Longest time for one program, in seconds."""
    memory_limit: Annotated[int, Field(ge=256 * 1024 * 1024)] = 2 * 1024**3
    """Most memory for one program, in bytes."""


class CredentialsSettings(Section):
    """Where the keys of accounts are kept whose settings say `key_sealed`."""

    sealed_file: Path = Path("credentials.sealed")
    """The sealed file. `gateway credentials` writes it."""
    seal_key_file: Path | None = None
    """File with the key of the sealed file. Default: the key is what the variable GATEWAY_SEAL_KEY holds."""


class ApiKeySettings(Section):
    """One API key. `gateway keys generate` makes a key and the lines to paste here."""

    name: str
    """Who bears the key, as logs and audit name it."""
    tenant: str = "default"
    """Whose jobs the bearer sees."""
    role: Role = Role.SUBMITTER
    """`viewer` reads, `submitter` also submits and changes, `operator` also administers."""
    sha256: str | None = None
    """SHA-256 of the key in hexadecimal."""
    key_env: str | None = None
    """Instead of `sha256`: environment variable that holds the key."""
    key_file: Path | None = None
    """Instead of `sha256`: file that holds the key."""

    @field_validator("name", "tenant")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("must be 1 to 63 lower-case letters, digits, '-' and '_'")
        return value

    @field_validator("sha256")
    @classmethod
    def _hexadecimal(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("must be 64 hexadecimal digits; 'gateway keys generate' prints it")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> ApiKeySettings:
        if sum(source is not None for source in (self.sha256, self.key_env, self.key_file)) != 1:
            raise ValueError("exactly one of sha256, key_env and key_file must be set")
        return self

    def load(self) -> ApiKey:
        """Return the key as the server holds it.

        Raises:
            ConfigError: The variable or file that holds the key is missing or empty.
        """
        sha256 = self.sha256 or hash_api_key(self._read().get_secret_value())
        return ApiKey(self.name, self.tenant, self.role, sha256)

    def _read(self) -> SecretStr:
        if self.key_env is not None:
            text, source = os.environ.get(self.key_env, ""), f"environment variable {self.key_env}"
        else:
            source = f"file {self.key_file}"
            try:
                text = self.key_file.read_text() if self.key_file else ""
            except OSError as error:
                raise ConfigError(
                    f"access.api_keys, key {self.name!r}: cannot read {source}: {error.strerror}"
                ) from None
        if not text.strip():
            raise ConfigError(f"access.api_keys, key {self.name!r}: {source} is empty or not set")
        return SecretStr(text.strip())


class AccessSettings(Section):
    """Who may call."""

    api_keys: tuple[ApiKeySettings, ...] = ()
    """The API keys that are accepted."""
    certificates: tuple[CertificateSettings, ...] = ()
    """The callers that client certificates name."""
    issuers: tuple[IssuerSettings, ...] = ()
    """The issuers whose tokens (JWT) are accepted."""
    policy: Path | None = None
    """TOML file that says what each tenant may use: accounts, backends and limits. It is read again when it changes. Default: all
    accounts and backends, within the limits that hold for tenants which such a file does not name."""
    max_calls_per_second: Annotated[float, Field(gt=0)] = 2_000.0
    """Most calls a second that one caller goes on making; ten times as many can come at once after a rest."""

    @field_validator("issuers")
    @classmethod
    def _one_entry_each(cls, value: tuple[IssuerSettings, ...]) -> tuple[IssuerSettings, ...]:
        if len({issuer.issuer for issuer in value}) != len(value):
            raise ValueError("each issuer can have one entry only")
        return value

    @field_validator("api_keys")
    @classmethod
    def _distinct(cls, value: tuple[ApiKeySettings, ...]) -> tuple[ApiKeySettings, ...]:
        names = [key.name for key in value]
        if len(set(names)) != len(names):
            raise ValueError("each key needs a name of its own")
        return value


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""
    format: Literal["auto", "json", "text"] = "auto"
    """`json` for machines, `text` for people; `auto` is text on a terminal."""


def _local_account() -> dict[str, AccountSettings]:
    return {"local": LocalAccountSettings(provider="local")}


class Settings(BaseSettings):
    """All settings of the server."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
    )

    server: ServerSettings = ServerSettings()
    """Where and how the server listens."""
    store: StoreSettings = StoreSettings()
    """Where things are kept."""
    history: HistorySettings = HistorySettings()
    """How long changes are kept."""
    workers: WorkerSettings = WorkerSettings()
    """The processes that read programs."""
    access: AccessSettings = AccessSettings()
    """Who may call."""
    credentials: CredentialsSettings = CredentialsSettings()
    """Where keys are kept."""
    accounts: dict[str, AccountSettings] = Field(default_factory=_local_account)
    """Provider accounts by name, in the order in which a backend is looked for. Default: one local account."""
    log: LogSettings = LogSettings()
    """What is logged."""

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Settings:
        if self.access.certificates and self.server.tls.client_ca is None:
            raise ValueError("access.certificates needs server.tls.client_ca: clients are not asked for certificates")
        return self

    @field_validator("accounts")
    @classmethod
    def _account_names(cls, value: dict[str, AccountSettings]) -> dict[str, AccountSettings]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"account name {name!r} must be 1 to 63 lower-case letters, digits, '-' and '_'")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """Read the configuration.

    Args:
        path: TOML file; None: the one that `GATEWAY_CONFIG` names, or no file.
        overrides: Sections to set before anything else, as nested dictionaries.

    Raises:
        ConfigError: A setting is wrong or unknown, or the file cannot be read.
    """
    if path is None and (named := os.environ.get("GATEWAY_CONFIG")):
        path = Path(named)
    if path is not None and not path.is_file():
        raise ConfigError(f"There is no configuration file {path}.")

    class FileSettings(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return FileSettings(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except SettingsError as error:
        raise ConfigError(_explain_variable(error.__cause__)) from None
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None


def _explain_variable(error: BaseException | None) -> str:
    """Return which variable is not JSON, and why. Its value is left out: it could hold a secret."""
    text = error.doc if isinstance(error, json.JSONDecodeError) else None
    names = [name for name, value in os.environ.items() if value == text and name.upper().startswith("GATEWAY_")]
    return f"{' or '.join(names) or 'A variable of the environment'} is not JSON: {error}"


def _explain(error: ValidationError, path: Path | None) -> str:
    """Return one line per wrong setting. Values are left out: one of them could be a secret in the wrong place."""
    lines = [
        "The configuration is wrong:" if path is None else f"The configuration in {path} (or the environment) is wrong:"
    ]
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in _path(problem["loc"])) or "configuration"
        if problem["type"].startswith("union_tag_"):
            name, text = f"{name}.provider", "must be 'local' or 'ibm'"
        elif problem["type"] == "extra_forbidden":
            text = "there is no such setting"
        else:
            text = problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {name}: {text}")
    return "\n".join(lines)


def _path(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where a setting stands in the file: behind an account's name comes its kind, which is no part of that."""
    return location[:2] + location[3:] if location[:1] == ("accounts",) else location
