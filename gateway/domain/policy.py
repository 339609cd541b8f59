"""What a tenant may use: which accounts and backends, and how much of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tenant may ask for. None: no limit.

    The defaults are far above what a person does and below what a program gone wild can do.
    """

    pending_jobs: int | None = 10_000
    """Jobs that are in no final status, on all accounts together."""
    shots_per_circuit: int | None = 1_000_000
    """Shots of each circuit of a job."""
    shots_per_job: int | None = 100_000_000
    """Shots of all circuits of a job together."""
    circuits_per_job: int | None = 10_000
    """Experiments of a job: circuits, times the bindings of each."""
    program_bytes: int | None = 256 * 1024 * 1024
    """Size of a program, serialised."""
    submissions_per_minute: float | None = 60_000.0
    """Submitted jobs a minute; as many at once after a rest."""
    qpu_seconds_per_day: float | None = 86_400.0
    """QPU time of the jobs that are submitted on one day, UTC, on all metered accounts together."""
    qpu_seconds_per_month: float | None = 864_000.0
    """QPU time of the jobs that are submitted in one month, UTC, on all metered accounts together."""


NO_LIMITS = Limits(None, None, None, None, None, None, None, None)
"""For work that is nobody's submission."""


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """What one tenant may use."""

    accounts: tuple[str, ...] = ("*",)
    """Patterns of the accounts, with the wildcards `*`, `?` and `[...]`."""
    backends: tuple[str, ...] = ("*",)
    """Patterns of the names of backends."""
    limits: Limits = Limits()

    def allows_account(self, account: str) -> bool:
        """Return whether the tenant may know of an account."""
        return any(fnmatchcase(account, pattern) for pattern in self.accounts)

    def allows_backend(self, backend: str) -> bool:
        """Return whether the tenant may know of a backend, on the accounts that it may use."""
        return any(fnmatchcase(backend, pattern) for pattern in self.backends)


@dataclass(frozen=True, slots=True)
class Policy:
    """What all tenants may use."""

    default: TenantPolicy = TenantPolicy()
    """For tenants that are not named."""
    tenants: Mapping[str, TenantPolicy] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, tenant: str) -> TenantPolicy:
        """Return what a tenant may use."""
        return self.tenants.get(tenant, self.default)


class PolicySource(Protocol):
    """Where the policy of a tenant is found as it is now."""

    def of(self, tenant: str) -> TenantPolicy:
        """Return what a tenant may use."""


@dataclass(frozen=True, slots=True)
class Metering:
    """How the jobs of one account count in the budgets of QPU time."""

    metered: bool = False
    """Whether they count at all."""
    seconds_per_job: float = 0.0
    """Reserved for each job whose provider has given no estimate yet."""
    seconds_per_shot: float = 0.0
    """Reserved beside that for each shot of each circuit."""

    def reservation(self, shots: int) -> float | None:
        """Return the QPU seconds to reserve for a job of so many shots, all circuits together; None if it is not metered."""
        return self.seconds_per_job + shots * self.seconds_per_shot if self.metered else None


def day_of(at: datetime) -> int:
    """Return the day of a moment as a number: days since 1970, UTC."""
    return (at - _EPOCH).days


def day_start(day: int) -> datetime:
    """Return the first moment of a day."""
    return _EPOCH + timedelta(days=day)


def month_span(at: datetime) -> tuple[int, int]:
    """Return the first day of the month of a moment, and the first day of the next, both as numbers."""
    return _month_span(day_of(at))


@lru_cache(maxsize=64)
def _month_span(day: int) -> tuple[int, int]:
    first = day_start(day).replace(day=1)
    return day_of(first), day_of((first + timedelta(days=32)).replace(day=1))
