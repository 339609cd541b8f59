"""What is read. Runs on a reader's thread, on a connection that never writes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, literal_column, select, text

from gateway.domain.errors import NotFound, OutOfRange, Reason
from gateway.domain.job import EventType, Job, JobEvent
from gateway.domain.payload import KeptFile, KeptPayload
from gateway.domain.query import JobFilter, JobPage
from gateway.store.api_keys import ApiKeyReads
from gateway.store.audit import AuditReads
from gateway.store.codec import Encoding, decode_blob, decode_job, from_micros, to_micros
from gateway.store.database import driver_connection
from gateway.store.files import PayloadFiles
from gateway.store.ledger import LedgerReads
from gateway.store.listing import page_of_jobs
from gateway.store.records import RecordReads
from gateway.store.schema import (
    events,
    has_provider_job_id,
    has_request_id,
    is_unfinished,
    jobs,
    keys,
    marks,
    programs,
    result_files,
    results,
    sql,
    twins_due,
    uploads,
)
from gateway.store.sessions import SessionReads

_JOB = sql(select(jobs.c.document).where(jobs.c.id == bindparam("id")))
_JOB_OF_PROVIDER = sql(
    select(jobs.c.document)
    .where(
        jobs.c.account == bindparam("account"),
        jobs.c.provider_job_id == bindparam("provider_job_id"),
        has_provider_job_id,
    )
    .order_by(jobs.c.seq.desc())
)
_JOB_OF_REQUEST = sql(
    select(jobs.c.document).where(
        jobs.c.tenant == bindparam("tenant"), jobs.c.request_id == bindparam("request_id"), has_request_id
    )
)
_COUNT_UNFINISHED = sql(
    select(func.count()).select_from(jobs).where(jobs.c.account == bindparam("account"), is_unfinished)
)
_COMPACTED = select(marks.c.revision).where(marks.c.name == "compacted")
# Kept by SQLite for the numbering of rows: it does not forget what was deleted.
_LAST_REVISION = text("SELECT seq FROM sqlite_sequence WHERE name = 'events'")


_USES_OF_FILE = tuple(
    sql(select(literal_column("1")).where(table.c.sha256 == bindparam("sha256"), *conditions))
    for table, *conditions in (
        (programs, programs.c.encoding == literal_column(f"'{Encoding.FILE}'")),
        (result_files,),
        (uploads,),
    )
)


class Reads:
    """The reads of a store. A job that is not there is None, unless a method says otherwise.

    Args:
        connection: A connection of the thread's own. It begins no transaction by itself.
        files: Where large payloads stand.
    """

    def __init__(self, connection: Connection, files: PayloadFiles) -> None:
        self.connection = driver_connection(connection)
        self._core = connection
        self.api_keys = ApiKeyReads(connection)
        self.audit = AuditReads(connection)
        self.sessions = SessionReads(connection)
        self.records = RecordReads(connection)
        self.ledger = LedgerReads(connection)
        self._execute = self.connection.execute
        self._files = files

    def job(self, job_id: str) -> Job | None:
        """See `Store.get_job`."""
        return self._job(_JOB, id=job_id)

    def job_of_provider(self, account: str, provider_job_id: str) -> Job | None:
        """See `Store.get_job_by_provider_id`."""
        return self._job(_JOB_OF_PROVIDER, account=account, provider_job_id=provider_job_id)

    def job_of_request(self, tenant: str, request_id: str) -> Job | None:
        """See `Store.get_job_by_request_id`."""
        return self._job(_JOB_OF_REQUEST, tenant=tenant, request_id=request_id)

    def count_unfinished(self, account: str) -> int:
        """See `Store.count_unfinished`."""
        count: int = self._execute(_COUNT_UNFINISHED, {"account": account}).fetchone()[0]
        return count

    def twins_due(self) -> tuple[tuple[Job, datetime], ...]:
        """See `Store.twins_due`."""
        query = select(jobs.c.document, twins_due.c.until).join(twins_due).order_by(twins_due.c.job_seq)
        return tuple((decode_job(document), from_micros(until)) for document, until in self._core.execute(query))

    def jobs(self, where: JobFilter, *, limit: int, cursor: int | None, oldest_first: bool, skip: int) -> JobPage:
        """See `Store.list_jobs`."""
        query = page_of_jobs(where, cursor=cursor, oldest_first=oldest_first)
        # One more than asked for tells whether there is another page.
        rows = self._core.execute(query.limit(limit + 1).offset(skip)).all()
        page = rows[:limit]
        return JobPage(
            jobs=tuple(decode_job(row.document) for row in page),
            next_cursor=page[-1].seq if len(rows) > limit else None,
        )

    def unfinished_jobs(self, account: str | None) -> tuple[Job, ...]:
        """See `Store.unfinished_jobs`."""
        # The few are to be sorted: in the order of a plain `seq`, SQLite would look for them among all jobs.
        query = select(jobs.c.document).where(is_unfinished).order_by(jobs.c.seq + 0)
        if account is not None:
            query = query.where(jobs.c.account == account)
        return tuple(decode_job(document) for document in self._core.scalars(query))

    def events(self, *, job_id: str | None, after: int, limit: int) -> tuple[JobEvent, ...]:
        """See `Store.job_events` and `Store.events`. All jobs if `job_id` is None."""
        query = select(events).where(events.c.revision > after).order_by(events.c.revision).limit(limit)
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        return tuple(_event(row) for row in self._core.execute(query))

    def history(self, *, job_id: str | None, after: int, limit: int) -> tuple[JobEvent, ...]:
        """See `Store.history`."""
        # In the same snapshot as the events: nothing can be removed between the two.
        compacted = self.compacted_revision()
        if after < compacted:
            raise OutOfRange(
                "The history after this token is no longer kept. Begin the watch without a token, or ask for a snapshot "
                "with on_compacted.",
                reason=Reason.HISTORY_COMPACTED,
                metadata={"compacted_revision": str(compacted), "resume_revision": str(after)},
            )
        return self.events(job_id=job_id, after=after, limit=limit)

    def compacted_revision(self) -> int:
        """Return the revision up to which the history is no longer whole; 0 if all of it is there."""
        return self._core.scalar(_COMPACTED) or 0

    def key(self, name: str) -> bytes:
        """Return a secret of the gateway's own."""
        value: bytes = self._core.execute(select(keys.c.value).where(keys.c.name == name)).scalar_one()
        return value

    def last_revision(self) -> int:
        """See `Store.last_revision`."""
        return self._core.scalar(_LAST_REVISION) or 0

    def program(self, job_id: str) -> KeptPayload:
        """See `Store.read_program`."""
        row = self._core.execute(select(programs).join(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound.job(job_id)
        if row.encoding == Encoding.FILE:
            return self._files.find(row.sha256, row.size)
        return decode_blob(row.encoding, row.size, row.data)

    def result(self, job_id: str) -> KeptPayload | None:
        """See `Store.read_result`."""
        row = self._core.execute(select(results).join(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is not None:
            return decode_blob(row.encoding, row.size, row.data)
        file = self._core.execute(select(result_files).join(jobs).where(jobs.c.id == job_id)).one_or_none()
        return self._files.find(file.sha256, file.size) if file else None

    def upload(self, tenant: str, sha256: str, now: datetime) -> KeptFile | None:
        """See `Store.find_upload`."""
        row = self._core.execute(
            select(uploads).where(
                uploads.c.tenant == tenant, uploads.c.sha256 == sha256, uploads.c.expires_at > to_micros(now)
            )
        ).one_or_none()
        return self._files.find(row.sha256, row.size) if row else None

    def uses_file(self, sha256: str) -> bool:
        """Return whether a row refers to a file."""
        return any(self._execute(query, {"sha256": sha256}).fetchone() for query in _USES_OF_FILE)

    def _job(self, query: str, **parameters: str) -> Job | None:
        row = self._execute(query, parameters).fetchone()
        return decode_job(row[0]) if row else None


def _event(row: Row[Any]) -> JobEvent:
    return JobEvent(
        revision=row.revision,
        type=EventType(row.type),
        at=from_micros(row.at),
        job=decode_job(row.document),
        message=row.message,
    )
