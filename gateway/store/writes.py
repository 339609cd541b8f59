"""What is written, and by which rules. Runs on the writer's thread, inside the transactions of `GroupCommit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, select, true, update

from gateway.domain.access import AuditEntry
from gateway.domain.errors import Internal, NotFound, ResourceExhausted
from gateway.domain.job import Change, EventType, Job, JobEvent, ResultSummary
from gateway.domain.payload import KeptFile, KeptPayload
from gateway.domain.policy import NO_LIMITS, Limits
from gateway.store.api_keys import ApiKeyWrites
from gateway.store.audit import AuditWrites, Link
from gateway.store.codec import Blob, Encoding, decode_job, encode_blob, encode_job, to_micros
from gateway.store.database import driver_connection
from gateway.store.ledger import LedgerWrites, settled
from gateway.store.recent_jobs import RecentJobs
from gateway.store.records import EncodedRecord, RecordWrites
from gateway.store.schema import (
    events,
    has_provider_job_id,
    has_request_id,
    insert_sql,
    job_tags,
    jobs,
    marks,
    programs,
    result_files,
    results,
    sql,
    twins_due,
    uploads,
)
from gateway.store.sessions import SessionWrites

_FIND_JOB = sql(select(jobs.c.seq, jobs.c.document).where(jobs.c.id == bindparam("id")))
_FIND_REQUEST = sql(
    select(jobs.c.document).where(
        jobs.c.tenant == bindparam("tenant"), jobs.c.request_id == bindparam("request_id"), has_request_id
    )
)
_FIND_PROVIDER_JOB = sql(
    select(jobs.c.document).where(
        jobs.c.account == bindparam("account"),
        jobs.c.provider_job_id == bindparam("provider_job_id"),
        has_provider_job_id,
    )
)
_ADD_PROGRAM = f"{insert_sql(programs)} ON CONFLICT (sha256) DO NOTHING"
_ADD_JOB = f"{insert_sql(jobs, numbered=True)} ON CONFLICT (tenant, request_id) WHERE request_id != '' DO NOTHING"
_ADD_TAG = insert_sql(job_tags)
_ADD_RESULT = insert_sql(results)
_ADD_RESULT_FILE = insert_sql(result_files)
_ADD_UPLOAD = f"{insert_sql(uploads)} ON CONFLICT (tenant, sha256) DO UPDATE SET expires_at = excluded.expires_at"
_DROP_EXPIRED_UPLOADS = sql(delete(uploads).where(uploads.c.expires_at <= bindparam("now")))
_ADD_TWINS_DUE = f"{insert_sql(twins_due)} ON CONFLICT (job_seq) DO UPDATE SET until = excluded.until"
_DROP_TWINS_DUE = sql(
    delete(twins_due).where(
        twins_due.c.job_seq == select(jobs.c.seq).where(jobs.c.id == bindparam("id")).scalar_subquery()
    )
)
_ADD_EVENT = insert_sql(events)
_VARIABLE_COLUMNS = ("status", "final", "display_name", "session", "provider_job_id", "revision", "document")
_CHANGE_JOB = sql(
    update(jobs).where(jobs.c.seq == bindparam("job_seq")).values({name: bindparam(name) for name in _VARIABLE_COLUMNS})
)
_DROP_JOB = sql(delete(jobs).where(jobs.c.seq == bindparam("job_seq")))
_DROP_TAGS = sql(delete(job_tags).where(job_tags.c.job_seq == bindparam("job_seq")))
_DROP_RESULT = sql(delete(results).where(results.c.job_seq == bindparam("job_seq")))
_DROP_RESULT_FILE = sql(delete(result_files).where(result_files.c.job_seq == bindparam("job_seq")))
_DROP_EVENTS = sql(delete(events).where(events.c.job_id == bindparam("id")))
_DROP_PROGRAM = sql(
    delete(programs).where(
        programs.c.sha256 == bindparam("sha256"), ~exists().where(jobs.c.program_sha256 == programs.c.sha256)
    )
)

_FIND_MARK = sql(select(marks.c.revision).where(marks.c.name == bindparam("name")))
_MOVE_MARK = sql(update(marks).where(marks.c.name == bindparam("mark_name")).values(revision=bindparam("up_to")))
_OLDEST_EVENTS = sql(
    select(events.c.revision, events.c.at).where(events.c.revision > bindparam("after")).order_by(events.c.revision)
)
_DROP_HISTORY = sql(
    delete(events).where(
        events.c.revision > bindparam("after"),
        events.c.revision <= bindparam("up_to"),
        ~exists().where(jobs.c.id == events.c.job_id, jobs.c.revision == events.c.revision, jobs.c.final == true()),
    )
)

_FIXED_FIELDS = attrgetter("id", "tenant", "account", "backend", "created_at", "request_id", "program.sha256")


class Mark(NamedTuple):
    """Where the writes stood at some moment."""

    events: int
    audit_end: Link


class Writes:
    """The writes of a store, each to be called inside a transaction.

    Args:
        connection: The only connection that writes. It begins no transaction by itself.
        last_revision: The highest revision that was ever given out.
    """

    def __init__(self, connection: Connection, last_revision: int) -> None:
        self.events: list[JobEvent] = []
        """What happened since it was cleared, in the order of the revisions."""
        self.connection = driver_connection(connection)
        self._execute = self.connection.execute
        self.audit = AuditWrites(connection)
        self.api_keys = ApiKeyWrites(connection, self.audit.append)
        self.sessions = SessionWrites(connection, self.audit.append)
        self.records = RecordWrites(connection)
        self.ledger = LedgerWrites(connection)
        self._recent = RecentJobs()
        self._revision = last_revision

    def mark(self) -> Mark:
        """Return where the writes stand, for `back_to`."""
        return Mark(len(self.events), self.audit.end)

    def back_to(self, mark: Mark) -> None:
        """Forget what was written since a mark, because the database has undone it."""
        del self.events[mark.events :]
        self.audit.end = mark.audit_end
        self._recent.clear()

    def create_job(self, job: Job, program: Blob, entry: AuditEntry, limits: Limits = NO_LIMITS) -> Job:
        """See `Store.create_job`."""
        try:
            self.ledger.check(job, limits)
        except ResourceExhausted:
            if (known := self._find_request(job)) is not None:
                return known
            raise
        self._execute(_ADD_PROGRAM, {"sha256": program.sha256, **_blob_columns(program)})
        job, document = self._numbered(job)
        columns = {
            "id": job.id,
            "tenant": job.tenant,
            "account": job.account,
            "backend": job.backend,
            "request_id": job.request_id,
            "program_sha256": program.sha256,
            "created_at": to_micros(job.created_at),
            **_variable_columns(job, document),
        }
        added = self._execute(_ADD_JOB, columns)
        if not added.rowcount and (known := self._find_request(job)) is not None:
            self._execute(_DROP_PROGRAM, {"sha256": program.sha256})
            return known
        seq = added.lastrowid or 0
        self._add_tags(seq, job)
        self.ledger.move(None, job)
        self._add_event(EventType.CREATED, job, document, job.created_at)
        self._recent.put(seq, job)
        self.audit.append(entry)
        return job

    def adopt_job(self, job: Job, program: Blob, entry: AuditEntry) -> Job:
        """See `Store.adopt_job`."""
        known = self._execute(
            _FIND_PROVIDER_JOB, {"account": job.account, "provider_job_id": job.provider_job_id}
        ).fetchone()
        return decode_job(known[0]) if known else self.create_job(job, program, entry)

    def change_job(self, job_id: str, change: Callable[[Job], Change | None], entry: AuditEntry | None) -> Job:
        """See `Store.change_job`."""
        seq, current = self._find(job_id)
        what = change(current)
        if entry:
            self.audit.append(entry)
        if what is None:
            return current
        _check_follows(current, what)
        new = settled(what.job, charge_expected=what.record_due or current.status.is_final)
        job, document = self._numbered(new)
        self._execute(_CHANGE_JOB, {"job_seq": seq, **_variable_columns(job, document)})
        self._add_event(what.type, job, document, job.updated_at, what.message)
        self.ledger.move(current, job)
        if job.tags != current.tags:
            self._execute(_DROP_TAGS, {"job_seq": seq})
            self._add_tags(seq, job)
        if current.result is not None and (job.result != current.result or what.result is not None):
            self._execute(_DROP_RESULT, {"job_seq": seq})
            self._execute(_DROP_RESULT_FILE, {"job_seq": seq})
        if what.result is not None:
            self._add_result(seq, what.result, job.result)
        if what.record_due:
            self.records.note_due(seq)
        if what.twins_until is not None:
            self._execute(_ADD_TWINS_DUE, {"job_seq": seq, "until": to_micros(what.twins_until)})
        self._recent.put(seq, job)
        return job

    def twins_settled(self, job_id: str) -> None:
        """See `Store.twins_settled`."""
        self._execute(_DROP_TWINS_DUE, {"id": job_id})

    def add_record(self, job_id: str, record: EncodedRecord, change: Callable[[Job], Change | None]) -> Job:
        """See `Store.add_record`."""
        seq, _ = self._find(job_id)
        self.records.add(seq, record)
        return self.change_job(job_id, change, None)

    def delete_job(self, job_id: str, check: Callable[[Job], None], entry: AuditEntry) -> tuple[str, str]:
        """See `Store.delete_job`. Returns the SHA-256s of program and result; empty without a result."""
        seq, current = self._find(job_id)
        check(current)
        self.records.drop(seq)
        self._execute(_DROP_JOB, {"job_seq": seq})  # its tags and its result go with it
        self._execute(_DROP_PROGRAM, {"sha256": current.program.sha256})
        self._execute(_DROP_EVENTS, {"id": job_id})
        if not current.status.is_final:
            self.ledger.move(current, None)
        deleted, document = self._numbered(current)
        self._add_event(EventType.DELETED, deleted, document, entry.at)
        self._recent.drop(job_id)
        self.audit.append(entry)
        return current.program.sha256, current.result.sha256 if current.result else ""

    def add_upload(self, tenant: str, file: KeptFile, expires_at: datetime, entry: AuditEntry) -> None:
        """See `Store.add_upload`."""
        columns = {
            "tenant": tenant,
            "sha256": file.sha256,
            "size": file.size_bytes,
            "expires_at": to_micros(expires_at),
        }
        self._execute(_ADD_UPLOAD, columns)
        self.audit.append(entry)

    def drop_expired_uploads(self, now: datetime) -> None:
        """Forget the uploads whose time has come; their files are removed later."""
        self._execute(_DROP_EXPIRED_UPLOADS, {"now": to_micros(now)})

    def compact_history(self, before: datetime, keep: int, limit: int) -> int:
        """See `Store.compact_history`."""
        (compacted,) = self._execute(_FIND_MARK, {"name": "compacted"}).fetchone()
        oldest = self._execute(_OLDEST_EVENTS, {"after": compacted}).fetchmany(limit)
        # Their times need not grow with the revisions: the first that is to stay ends it.
        gone = list(takewhile(lambda event: event[1] < to_micros(before) or event[0] <= self._revision - keep, oldest))
        if gone:
            span = {"after": compacted, "up_to": gone[-1][0]}
            self._execute(_DROP_HISTORY, span)
            self._execute(_MOVE_MARK, {"mark_name": "compacted", "up_to": span["up_to"]})
        return len(gone)

    def _find_request(self, job: Job) -> Job | None:
        """Return the job that was made by the same request as a new one."""
        row = self._execute(_FIND_REQUEST, {"tenant": job.tenant, "request_id": job.request_id}).fetchone()
        return decode_job(row[0]) if row else None

    def _find(self, job_id: str) -> tuple[int, Job]:
        if (recent := self._recent.get(job_id)) is not None:
            return recent
        row = self._execute(_FIND_JOB, {"id": job_id}).fetchone()
        if row is None:
            raise NotFound.job(job_id)
        return row[0], decode_job(row[1])

    def _numbered(self, job: Job) -> tuple[Job, str]:
        """Give a job its next revision. Returns it with that, and its document."""
        # A revision that is undone is not given out again: nobody saw it, and a gap harms nobody.
        self._revision += 1
        job = replace(job, revision=self._revision)
        return job, encode_job(job)

    def _add_event(self, type_: EventType, job: Job, document: str, at: datetime, message: str = "") -> None:
        """Record the event that led to the revision of a job."""
        columns = {
            "revision": job.revision,
            "job_id": job.id,
            "tenant": job.tenant,
            "type": type_.value,
            "at": to_micros(at),
            "message": message,
            "document": document,
        }
        self._execute(_ADD_EVENT, columns)
        self.events.append(JobEvent(revision=job.revision, type=type_, at=at, job=job, message=message))

    def _add_tags(self, seq: int, job: Job) -> None:
        for tag in set(job.tags):
            self._execute(_ADD_TAG, {"tag": tag, "tenant": job.tenant, "job_seq": seq})

    def _add_result(self, seq: int, data: KeptPayload, summary: ResultSummary | None) -> None:
        blob = encode_blob(data)
        if summary is None or (summary.sha256, summary.size_bytes) != (blob.sha256, blob.size):
            raise Internal("A result does not match its summary.")
        if blob.encoding is Encoding.FILE:
            self._execute(_ADD_RESULT_FILE, {"job_seq": seq, "sha256": blob.sha256, "size": blob.size})
        else:
            self._execute(_ADD_RESULT, {"job_seq": seq, **_blob_columns(blob)})


def _variable_columns(job: Job, document: str) -> dict[str, Any]:
    return {
        "status": job.status.value,
        "final": int(job.status.is_final),
        "display_name": job.display_name,
        "session": job.session,
        "provider_job_id": job.provider_job_id,
        "revision": job.revision,
        "document": document,
    }


def _blob_columns(blob: Blob) -> dict[str, Any]:
    return {"size": blob.size, "encoding": blob.encoding.value, "data": blob.data}


def _check_follows(current: Job, what: Change) -> None:
    """Refuse a change that no job may undergo, whoever asks for it.

    Raises:
        Internal: The change breaks a promise that the store keeps.
    """
    job = what.job
    if _FIXED_FIELDS(job) != _FIXED_FIELDS(current):
        raise Internal(f"A change of job {current.id!r} touches a field that is fixed when a job is created.")
    if current.status.is_final and job.status != current.status:
        raise Internal(f"Job {current.id!r} is {current.status} for good and cannot become {job.status}.")
    if what.result is None and job.result not in (None, current.result):
        raise Internal(f"The result of job {current.id!r} must come with the change that announces it.")
