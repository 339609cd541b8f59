"""What tenants use, in the store: what runs for it on the threads of the lanes.

The ledger is a sum over jobs: each counts under its tenant and account, on the day on which it was submitted, with what it reserves
until its charge is known, and with its charge from then on. Every write of a job moves its share in the same transaction. So the
sums are right at each commit, whoever writes, and a reservation cannot be lost or given back twice. What a deleted job cost stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select, text

from gateway.domain.errors import QuotaViolation, Reason, ResourceExhausted
from gateway.domain.job import Job, JobStatus, utc_now
from gateway.domain.policy import Limits, day_of, day_start, month_span
from gateway.domain.usage import UsageGroup, UsageQuery, UsageSum
from gateway.store.database import driver_connection
from gateway.store.rows import RowStatement, WaitingRows, insert_rows
from gateway.store.schema import has_pending, sql, usage, usage_by_tag

_MICROS = 1_000_000
_LOOK_AGAIN_SECONDS = 10.0
"""After this time it is worth to try again where nobody knows when a job ends."""
_AMOUNTS = ("jobs", "pending", "reserved", "charged")
_MORE = ", ".join(f"{name} = {name} + excluded.{name}" for name in _AMOUNTS)
ADD_USAGE = insert_rows(usage, f"ON CONFLICT (tenant, day, account) DO UPDATE SET {_MORE}")
ADD_USAGE_BY_TAG = insert_rows(usage_by_tag, f"ON CONFLICT (tenant, tag, day, account) DO UPDATE SET {_MORE}")
_PENDING = sql(select(func.sum(usage.c.pending)).where(usage.c.tenant == bindparam("tenant"), has_pending))
_SPENT = sql(
    select(func.sum(usage.c.charged), func.sum(usage.c.reserved)).where(
        usage.c.tenant == bindparam("tenant"), usage.c.day >= bindparam("first"), usage.c.day < bindparam("end")
    )
)

_KEYS = {
    UsageGroup.TENANT: ("tenant",),
    UsageGroup.ACCOUNT: ("tenant", "account"),
    UsageGroup.TAG: ("tenant", "tag"),
    UsageGroup.DAY: ("tenant", "day"),
}
_MOST_FIRST = (text("sum(charged) + sum(reserved) DESC"),)
_MOST_SUMS = 5_000
"""Most sums that one question returns: an answer has to fit into a message."""


def settled(job: Job, *, charge_expected: bool) -> Job:
    """Return a job with its reservation as it is to be from now on.

    The provider's own estimate takes the place of the one before. A reservation ends when the charge is known, or when the job
    ended without a run. A job that is DONE and whose charge its provider never tells keeps it: it cost something.

    Args:
        job: The job after a change.
        charge_expected: Whether the provider may yet tell of a charge.
    """
    reserved, known = job.usage.reserved_seconds, job.usage
    if not reserved:
        return job
    if not job.status.is_final:
        reserved = reserved if known.estimated_seconds is None else known.estimated_seconds
    elif known.charged_seconds is not None or not (charge_expected or job.status is JobStatus.DONE):
        reserved = 0.0
    return job if reserved == known.reserved_seconds else replace(job, usage=replace(known, reserved_seconds=reserved))


class _Share(NamedTuple):
    """What one job adds to the sums."""

    jobs: int = 0
    pending: int = 0
    reserved: int = 0
    """Microseconds: sums of integers are exact, however often something is added and taken away."""
    charged: int = 0

    @classmethod
    def of(cls, job: Job) -> _Share:
        reserved, charged = job.usage.reserved_seconds, job.usage.charged_seconds
        if reserved is None:  # not metered
            return cls(1, int(not job.status.is_final))
        return cls(1, int(not job.status.is_final), round(reserved * _MICROS), round((charged or 0.0) * _MICROS))

    def plus(self, other: _Share) -> _Share:
        return _Share(
            self.jobs + other.jobs,
            self.pending + other.pending,
            self.reserved + other.reserved,
            self.charged + other.charged,
        )

    def minus(self, other: _Share) -> _Share:
        return _Share(
            self.jobs - other.jobs,
            self.pending - other.pending,
            self.reserved - other.reserved,
            self.charged - other.charged,
        )


_NOTHING = _Share()


class LedgerWrites:
    """Checks limits and moves shares, each to be called inside the transaction that changes the job.

    Args:
        connection: The only connection that writes.
        rows: What is written at the end of the transaction.
    """

    def __init__(self, connection: Connection, rows: WaitingRows) -> None:
        self._execute = driver_connection(connection).execute
        self._rows = rows
        self._pending: dict[str, int] = {}
        """Pending jobs by tenant, as read in this transaction and moved since."""
        self._spent: dict[tuple[str, int, int], tuple[int, int]] = {}
        """What is charged and what is reserved, by tenant and span of days, in the same way."""

    def forget(self) -> None:
        """Forget what was read: the transaction has ended, or was undone."""
        self._pending.clear()
        self._spent.clear()

    def check(self, job: Job, limits: Limits) -> None:
        """Refuse a new job that would exceed a limit.

        Raises:
            ResourceExhausted: It would.
        """
        if limits.pending_jobs is not None:
            pending = self._pending_of(job.tenant)
            if pending >= limits.pending_jobs:
                raise _too_many_pending(job.tenant, limits.pending_jobs, pending)
        if job.usage.reserved_seconds is None:
            return
        day = day_of(job.created_at)
        self._check_budget(job, "qpu_seconds_per_day", limits.qpu_seconds_per_day, (day, day + 1))
        self._check_budget(job, "qpu_seconds_per_month", limits.qpu_seconds_per_month, month_span(job.created_at))

    def move(self, before: Job | None, after: Job | None) -> None:
        """Book what a change of a job means: of a new one there is nothing before, of one that is taken back nothing after."""
        old = _NOTHING if before is None else _Share.of(before)
        new = _NOTHING if after is None else _Share.of(after)
        job = after or before
        if job is None:
            return
        if new != old:
            self._add(job, new.minus(old))
        old_tags = set(before.tags) if before else set()
        new_tags = set(after.tags) if after else set()
        if new == old and new_tags == old_tags:
            return
        for tag in old_tags | new_tags:
            share = (new if tag in new_tags else _NOTHING).minus(old if tag in old_tags else _NOTHING)
            if share != _NOTHING:
                self._add(job, share, tag)

    def _add(self, job: Job, share: _Share, tag: str | None = None) -> None:
        day = day_of(job.created_at)
        if tag is not None:
            self._put(ADD_USAGE_BY_TAG, (job.tenant, tag, day, job.account), share)
            return
        self._put(ADD_USAGE, (job.tenant, day, job.account), share)
        if job.tenant in self._pending:
            self._pending[job.tenant] += share.pending
        for (tenant, first, end), (charged, reserved) in self._spent.items():
            if tenant == job.tenant and first <= day < end:
                self._spent[tenant, first, end] = charged + share.charged, reserved + share.reserved

    def _put(self, statement: RowStatement, key: tuple[str | int, ...], share: _Share) -> None:
        """Have a share added to a sum. The shares of a transaction are added up before, as most are of one sum."""
        if (waiting := self._rows.waiting(statement, key)) is not None:
            share = share.plus(_Share(*waiting[len(key) :]))
        self._rows.put(statement, key, *key, *share)

    def _check_budget(self, job: Job, name: str, limit: float | None, span: tuple[int, int]) -> None:
        if limit is None:
            return
        charged, reserved = self._spent_in(job.tenant, span)
        requested = round((job.usage.reserved_seconds or 0.0) * _MICROS)
        if charged + reserved + requested > round(limit * _MICROS):
            raise _over_budget(job, name, limit, (charged / _MICROS, reserved / _MICROS), span[1])

    def _pending_of(self, tenant: str) -> int:
        if tenant not in self._pending:
            self._rows.write()
            self._pending[tenant] = self._execute(_PENDING, {"tenant": tenant}).fetchone()[0] or 0
        return self._pending[tenant]

    def _spent_in(self, tenant: str, span: tuple[int, int]) -> tuple[int, int]:
        """Return what is charged and what is reserved, in microseconds."""
        key = (tenant, *span)
        if key not in self._spent:
            self._rows.write()
            charged, reserved = self._execute(_SPENT, {"tenant": tenant, "first": span[0], "end": span[1]}).fetchone()
            self._spent[key] = charged or 0, reserved or 0
        return self._spent[key]


class LedgerReads:
    """Reads what was used.

    Args:
        connection: A connection of the thread's own.
    """

    def __init__(self, connection: Connection) -> None:
        self._core = connection

    def sums(self, asked: UsageQuery) -> Sequence[UsageSum]:
        """See `Store.usage`."""
        table = usage_by_tag if asked.group is UsageGroup.TAG else usage
        keys = [table.c[name] for name in _KEYS[asked.group]]
        query = (
            select(*keys, *(func.sum(table.c[name]).label(name) for name in _AMOUNTS))
            .where(table.c.day >= asked.first_day, table.c.day < asked.end_day)
            .group_by(*keys)
            .order_by(*([table.c.day] if asked.group is UsageGroup.DAY else []), *_MOST_FIRST, *keys)
            .limit(_MOST_SUMS)
        )
        if asked.tenant:
            query = query.where(table.c.tenant == asked.tenant)
        if asked.account:
            query = query.where(table.c.account == asked.account)
        return tuple(
            UsageSum(
                tenant=row["tenant"],
                jobs=row["jobs"],
                pending=row["pending"],
                reserved_seconds=row["reserved"] / _MICROS,
                charged_seconds=row["charged"] / _MICROS,
                account=row.get("account", ""),
                tag=row.get("tag", ""),
                day=row.get("day"),
            )
            for row in self._core.execute(query).mappings()
        )

    def pending(self, tenant: str) -> int:
        """See `Store.count_pending`."""
        query = select(func.sum(usage.c.pending)).where(usage.c.tenant == tenant, has_pending)
        return self._core.scalar(query) or 0


def _too_many_pending(tenant: str, limit: int, pending: int) -> ResourceExhausted:
    text = f"The tenant {tenant!r} may have {limit} unfinished jobs, and has {pending}."
    return ResourceExhausted(
        f"{text} Wait until one has ended, or cancel one.",
        reason=Reason.PENDING_JOBS_EXCEEDED,
        metadata={"tenant": tenant, "limit_name": "pending_jobs", "limit": str(limit), "used": str(pending)},
        quota=QuotaViolation(f"tenants/{tenant}", "pending_jobs", text),
        retry_after=_LOOK_AGAIN_SECONDS,
    )


def _over_budget(job: Job, name: str, limit: float, spent: tuple[float, float], end_day: int) -> ResourceExhausted:
    requested, (charged, reserved) = job.usage.reserved_seconds or 0.0, spent
    reset = day_start(end_day)
    text = (
        f"The tenant {job.tenant!r} may use {limit:g} QPU seconds {name.removeprefix('qpu_seconds_').replace('_', ' ')}: "
        f"{charged:g} are used, {reserved:g} are reserved by jobs whose charge is not known yet, and this job asks for "
        f"{requested:g}. The budget is whole again at {reset:%Y-%m-%d %H:%M} UTC."
    )
    return ResourceExhausted(
        text,
        reason=Reason.BUDGET_EXCEEDED,
        metadata={
            "tenant": job.tenant,
            "limit_name": name,
            "limit": f"{limit:g}",
            "used": f"{charged:g}",
            "reserved": f"{reserved:g}",
            "requested": f"{requested:g}",
            "reset_time": f"{reset:%Y-%m-%dT%H:%M:%SZ}",
        },
        quota=QuotaViolation(f"tenants/{job.tenant}", name, text),
        # Waiting does not help a job that the whole budget is too small for.
        retry_after=(reset - utc_now()).total_seconds() if requested <= limit else None,
    )
