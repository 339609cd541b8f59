"""What tenants have used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class UsageGroup(StrEnum):
    """By what usage is added up, beside the tenant."""

    TENANT = "TENANT"
    ACCOUNT = "ACCOUNT"
    TAG = "TAG"
    DAY = "DAY"


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which usage to add up: that of the jobs submitted from one day on and before another. Days are numbers since 1970, UTC."""

    first_day: int
    end_day: int
    group: UsageGroup = UsageGroup.TENANT
    """By TAG, a job with two tags counts in both, and one without tags nowhere."""
    tenant: str = ""
    """Whose; empty: everybody's."""
    account: str = ""
    """On which account; empty: on all."""


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What the jobs of one group have used. Jobs that are not metered count as jobs only."""

    tenant: str
    jobs: int
    pending: int
    """Those of the jobs that are in no final status."""
    reserved_seconds: float
    """QPU seconds held for jobs whose charge is not known."""
    charged_seconds: float
    """QPU seconds that providers have charged."""
    account: str = ""
    tag: str = ""
    day: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used over a period, of something that may be limited."""

    limit_name: str
    tenant: str
    start: datetime | None
    """First moment of the period. None: it is what is used now."""
    end: datetime | None
    """End of the period, when a limit of this kind is reset."""
    used: float
    reserved: float = 0.0
    limit: float | None = None
    """None: there is none."""
    jobs: int = 0
    """Jobs submitted in the period."""
    account: str = ""
    tag: str = ""
