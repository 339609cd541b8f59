"""The policy file: what tenants may use, from TOML, read again when it changes.

[default]                       # tenants without a table of their own
accounts = ["*"]
backends = ["*"]
limits.pending_jobs = 500

[tenants.research]              # what it leaves out is as in `default`
accounts = ["ibm"]
backends = ["ibm_*"]
limits.qpu_seconds_per_month = 600
limits.pending_jobs = "unlimited"
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.domain.access import NAME
from gateway.domain.policy import Policy, TenantPolicy

_log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
"""Seconds between two looks at the file."""
_MAX_BYTES = 4 * 1024 * 1024
_WILDCARDS = frozenset("*?[")


class PolicyError(Exception):
    """The policy is wrong. The message names each wrong entry, and what would be right."""


def _or_unlimited(value: object) -> object:
    if value == "unlimited":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number, or 'unlimited'")  # noqa: TRY004 - pydantic takes this for the entry's mistake
    return value


_Count = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_or_unlimited)]
_Amount = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, BeforeValidator(_or_unlimited)]
_Rate = Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_or_unlimited)]
_Patterns = tuple[Annotated[str, Field(min_length=1)], ...]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Limits(_Table):
    """See `gateway.domain.policy.Limits`. What is not set comes from elsewhere, so the defaults here mean nothing."""

    pending_jobs: _Count = None
    shots_per_circuit: _Count = None
    shots_per_job: _Count = None
    circuits_per_job: _Count = None
    program_bytes: _Count = None
    submissions_per_minute: _Rate = None
    qpu_seconds_per_day: _Amount = None
    qpu_seconds_per_month: _Amount = None


class _Tenant(_Table):
    accounts: _Patterns | None = None
    backends: _Patterns | None = None
    limits: _Limits = _Limits()

    def over(self, base: TenantPolicy) -> TenantPolicy:
        """Return what this says, and what `base` says where this says nothing."""
        limits = {name: getattr(self.limits, name) for name in self.limits.model_fields_set}
        return TenantPolicy(
            accounts=base.accounts if self.accounts is None else self.accounts,
            backends=base.backends if self.backends is None else self.backends,
            limits=replace(base.limits, **limits),
        )


class _File(_Table):
    default: _Tenant = _Tenant()
    tenants: dict[str, _Tenant] = {}


def read_policy(path: Path, accounts: Collection[str]) -> Policy:
    """Read a policy file.

    Args:
        path: The file.
        accounts: Names of the accounts that there are.

    Raises:
        PolicyError: It cannot be read, or something in it is wrong.
    """
    return _parse(_content(path), path, accounts)


class PolicyFile:
    """The policy in use: that of a file, as it was when it was right for the last time.

    The file is read again and again, as are those of keys: that sees every kind of change on every kind of file system.

    Args:
        path: The file.
        accounts: Names of the accounts that there are.

    Raises:
        PolicyError: It is wrong at the beginning.
    """

    def __init__(self, path: Path, accounts: Collection[str]) -> None:
        self._path = path
        self._accounts = tuple(accounts)
        self._seen: bytes | str = _content(path)
        self._policy = _parse(self._seen, path, self._accounts)
        self.trouble = ""
        """What is wrong with the file as it is now; empty: nothing, it is in use."""

    def of(self, tenant: str) -> TenantPolicy:
        """Return what a tenant may use."""
        return self._policy.of(tenant)

    async def run(self) -> None:
        """Take in what the file says whenever it changed, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take in what the file says, if it changed. A wrong file changes nothing but `trouble`."""
        try:
            content: bytes | str = await asyncio.to_thread(_content, self._path)
        except PolicyError as error:
            content = str(error)
        if content == self._seen:
            return
        self._seen = content
        if isinstance(content, str):
            self._refuse(content)
            return
        try:
            self._policy = await asyncio.to_thread(_parse, content, self._path, self._accounts)
        except PolicyError as error:
            self._refuse(str(error))
            return
        self.trouble = ""
        _log.info("policy_loaded", file=str(self._path), tenants=sorted(self._policy.tenants))

    def _refuse(self, trouble: str) -> None:
        self.trouble = trouble
        _log.error("policy_refused", file=str(self._path), detail=trouble, effect="the policy before stays in use")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"Cannot read the policy {path}: {error.strerror}.") from None
    if len(content) > _MAX_BYTES:
        raise PolicyError(f"The policy {path} has more than {_MAX_BYTES} bytes.")
    return content


def _parse(content: bytes, path: Path, accounts: Collection[str]) -> Policy:
    try:
        file = _File.model_validate(tomllib.loads(content.decode()))
    except UnicodeDecodeError:
        raise PolicyError(f"The policy {path} is not text in UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"The policy {path} is not TOML: {error}.") from None
    except ValidationError as error:
        raise _wrong(path, {_path(problem["loc"]): _text(problem) for problem in error.errors()}) from None
    if problems := _unfit(file, accounts):
        raise _wrong(path, problems)
    default = file.default.over(TenantPolicy())
    return Policy(default, MappingProxyType({name: tenant.over(default) for name, tenant in file.tenants.items()}))


def _unfit(file: _File, accounts: Collection[str]) -> dict[str, str]:
    """Return what is wrong with names, by the path of the entry."""
    problems = {}
    for tenant in file.tenants:
        if not NAME.fullmatch(tenant):
            problems[f"tenants.{tenant}"] = "a tenant's name is 1 to 63 lower-case letters, digits, '-' and '_'"
    tables = {"default": file.default} | {f"tenants.{name}": table for name, table in file.tenants.items()}
    for place, table in tables.items():
        for number, pattern in enumerate(table.accounts or ()):
            # A pattern may be for accounts to come; a plain name that nothing bears is a slip.
            if pattern not in accounts and not _WILDCARDS & set(pattern):
                known = ", ".join(accounts) or "none"
                problems[f"{place}.accounts.{number}"] = f"there is no account {pattern!r}; there are: {known}"
    return problems


def _wrong(path: Path, problems: Mapping[str, str]) -> PolicyError:
    return PolicyError(
        "\n".join([f"The policy {path} is wrong:", *(f"  {name}: {text}" for name, text in problems.items())])
    )


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _text(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such entry"
    return str(problem["msg"]).removeprefix("Value error, ")
