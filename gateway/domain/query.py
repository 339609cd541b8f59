"""Which jobs to list, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.job import Job, JobStatus


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions on a job. All must hold; an empty one matches everything."""

    tenant: str | None = None
    """Only jobs of this tenant; None: of all."""
    statuses: frozenset[JobStatus] = frozenset()
    backends: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    all_tags: frozenset[str] = frozenset()
    any_tags: frozenset[str] = frozenset()
    display_name: str = ""
    session: str = ""
    created_from: datetime | None = None
    """Inclusive."""
    created_to: datetime | None = None
    """Inclusive."""

    def matches(self, job: Job) -> bool:
        """Return whether a job meets every condition."""
        return (
            (self.tenant is None or job.tenant == self.tenant)
            and (not self.statuses or job.status in self.statuses)
            and (not self.backends or job.backend in self.backends)
            and (not self.accounts or job.account in self.accounts)
            and self.all_tags.issubset(job.tags)
            and (not self.any_tags or not self.any_tags.isdisjoint(job.tags))
            and (not self.display_name or job.display_name == self.display_name)
            and (not self.session or job.session == self.session)
            and (self.created_from is None or job.created_at >= self.created_from)
            and (self.created_to is None or job.created_at <= self.created_to)
        )


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a listing."""

    jobs: tuple[Job, ...]
    next_cursor: int | None
    """Where the next page begins; None on the last. Opaque outside the store."""
