"""What tenants have used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What the jobs of one tenant on one account have used that were submitted on one day."""

    tenant: str
    account: str
    day: int
    """Days since 1970, UTC."""
    jobs: int
    pending: int
    """Those of the jobs that are in no final status."""
    reserved_seconds: float
    """QPU seconds held for jobs whose charge is not known."""
    charged_seconds: float
    """QPU seconds that the provider has charged. Jobs that are not metered count in none of both."""
    tag: str = ""
    """Tag that the jobs have, where usage was asked for by tag."""
