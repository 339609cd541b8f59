"""What is written, and by which rules. Runs on the writer's thread, inside the transactions of `GroupCommit`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import takewhile
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, select, text, true, update

from gateway.domain.access import AuditEntry
from gateway.domain.errors import Internal, NotFound, ResourceExhausted
from gateway.domain.job import Change, EventType, Job, JobEvent, ResultSummary, at_revision
from gateway.domain.payload import KeptFile, KeptPayload
from gateway.domain.policy import NO_LIMITS, Limits
from gateway.store.api_keys import ApiKeyWrites
from gateway.store.audit import ADD_AUDIT, AuditWrites, Link
from gateway.store.codec import Blob, Encoding, decode_job, encode_blob, encode_job, to_micros
from gateway.store.database import driver_connection
from gateway.store.ledger import ADD_USAGE, ADD_USAGE_BY_TAG, LedgerWrites, settled
from gateway.store.recent_jobs import RecentJobs
from gateway.store.records import EncodedRecord, RecordWrites
from gateway.store.rows import WaitingRows, insert_rows, update_rows
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
# Kept by SQLite for the numbering of rows: it does not forget what was deleted.
_LAST_SEQ = text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
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
_ADD_PROGRAM = insert_rows(programs, "ON CONFLICT (sha256) DO NOTHING")
_ADD_JOB = insert_rows(jobs)
_ADD_TAG = insert_rows(job_tags)
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
_ADD_EVENT = insert_rows(events)
_VARIABLE_COLUMNS = ("status", "final", "display_name", "session", "provider_job_id", "revision", "document")
_CHANGE_JOB = update_rows(jobs, jobs.c.seq, _VARIABLE_COLUMNS)
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

# In the order in which they can be run: what is referred to comes first.
_STATEMENTS = (_ADD_PROGRAM, _ADD_JOB, _CHANGE_JOB, _ADD_TAG, _ADD_EVENT, ADD_AUDIT, ADD_USAGE, ADD_USAGE_BY_TAG)

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

_FIXED_FIELDS = attrgetter(
    "id",
    "tenant",
    "creator",
    "account",
    "backend",
    "options",
    "program",
    "created_at",
    "session",
    "scheduling_mode",
    "request_id",
    "client_version",
)


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
        self.one_by_one = False
        """Whether each write is written at once, by itself, instead of together with others."""
        self.connection = driver_connection(connection)
        self._execute = self.connection.execute
        self.rows = WaitingRows(self.connection, _STATEMENTS)
        """What is written at the end of the transaction, or when somebody needs it before."""
        self.audit = AuditWrites(connection, self.rows)
        self.api_keys = ApiKeyWrites(connection, self.audit.append)
        self.sessions = SessionWrites(connection, self.audit.append)
        self.records = RecordWrites(connection)
        self.ledger = LedgerWrites(connection, self.rows)
        self._recent = RecentJobs()
        self._revision = last_revision
        self._last_seq: int = connection.scalar(_LAST_SEQ) or 0

    def mark(self) -> Mark:
        """Return where the writes stand, for `back_to`. Nothing waits to be written."""
        return Mark(len(self.events), self.audit.end)

    def back_to(self, mark: Mark) -> None:
        """Forget what was done since a mark, because the database has undone it."""
        del self.events[mark.events :]
        self.audit.end = mark.audit_end
        self.rows.forget()
        self.ledger.forget()
        self._recent.clear()

    def finish(self) -> None:
        """Write what waits: the transaction is about to be committed.

        Raises:
            sqlite3.Error: The database refuses some of it.
        """
        self.rows.write()
        self.ledger.forget()

    def create_job(self, job: Job, program: Blob, entry: AuditEntry, limits: Limits = NO_LIMITS) -> Job:
        """See `Store.create_job`.

        Among others, it does not look for a job of the same request: the database refuses all of them if there is one.
        """
        if self.one_by_one and (known := self._find_request(job)) is not None:
            return known
        try:
            self.ledger.check(job, limits)
        except ResourceExhausted:
            if (known := self._find_request(job)) is not None:
                return known
            raise
        self.rows.put(_ADD_PROGRAM, program.sha256, program.sha256, program.size, program.encoding.value, program.data)
        job, document = self._numbered(job)
        # Numbered here and not by the database, which tells of the last row of a statement only.
        seq = self._last_seq = self._last_seq + 1
        self.rows.put(
            _ADD_JOB,
            seq,
            seq,
            job.id,
            job.tenant,
            job.account,
            job.backend,
            job.status.value,
            int(job.status.is_final),
            job.display_name,
            job.session,
            job.request_id,
            job.provider_job_id,
            program.sha256,
            to_micros(job.created_at),
            job.revision,
            document,
        )
        self._add_tags(seq, job)
        self.ledger.move(None, job)
        self._add_event(EventType.CREATED, job, document, job.created_at)
        self._recent.put(seq, job)
        self.audit.append(entry)
        return job

    def adopt_job(self, job: Job, program: Blob, entry: AuditEntry) -> Job:
        """See `Store.adopt_job`."""
        self.rows.write()
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
        self.rows.put(
            _CHANGE_JOB,
            seq,
            seq,
            job.status.value,
            int(job.status.is_final),
            job.display_name,
            job.session,
            job.provider_job_id,
            job.revision,
            document,
        )
        self._add_event(what.type, job, document, job.updated_at, what.message)
        self.ledger.move(current, job)
        if job.tags != current.tags:
            self.rows.write()
            self._execute(_DROP_TAGS, {"job_seq": seq})
            self._add_tags(seq, job)
        self._note(seq, current, job, what)
        self._recent.put(seq, job)
        return job

    def twins_settled(self, job_id: str) -> None:
        """See `Store.twins_settled`."""
        self.rows.write()
        self._execute(_DROP_TWINS_DUE, {"id": job_id})

    def add_record(self, job_id: str, record: EncodedRecord, change: Callable[[Job], Change | None]) -> Job:
        """See `Store.add_record`."""
        seq, _ = self._find(job_id)
        self.rows.write()
        self.records.add(seq, record)
        return self.change_job(job_id, change, None)

    def delete_job(self, job_id: str, check: Callable[[Job], None], entry: AuditEntry) -> tuple[str, str]:
        """See `Store.delete_job`. Returns the SHA-256s of program and result; empty without a result."""
        seq, current = self._find(job_id)
        check(current)
        self.rows.write()
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
        self.rows.write()
        (compacted,) = self._execute(_FIND_MARK, {"name": "compacted"}).fetchone()
        oldest = self._execute(_OLDEST_EVENTS, {"after": compacted}).fetchmany(limit)
        # Their times need not grow with the revisions: the first that is to stay ends it.
        gone = list(takewhile(lambda event: event[1] < to_micros(before) or event[0] <= self._revision - keep, oldest))
        if gone:
            span = {"after": compacted, "up_to": gone[-1][0]}
            self._execute(_DROP_HISTORY, span)
            self._execute(_MOVE_MARK, {"mark_name": "compacted", "up_to": span["up_to"]})
        return len(gone)

    def _note(self, seq: int, current: Job, job: Job, what: Change) -> None:
        """Write what a change means beside the job itself."""
        drops_result = current.result is not None and (job.result != current.result or what.result is not None)
        if not (drops_result or what.result is not None or what.record_due or what.twins_until is not None):
            return
        self.rows.write()  # all of it refers to the job
        if drops_result:
            self._execute(_DROP_RESULT, {"job_seq": seq})
            self._execute(_DROP_RESULT_FILE, {"job_seq": seq})
        if what.result is not None:
            self._add_result(seq, what.result, job.result)
        if what.record_due:
            self.records.note_due(seq)
        if what.twins_until is not None:
            self._execute(_ADD_TWINS_DUE, {"job_seq": seq, "until": to_micros(what.twins_until)})

    def _find_request(self, job: Job) -> Job | None:
        """Return the job that was made by the same request as a new one."""
        if not job.request_id:
            return None
        self.rows.write()
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
        job = at_revision(job, self._revision)
        return job, encode_job(job)

    def _add_event(self, type_: EventType, job: Job, document: str, at: datetime, message: str = "") -> None:
        """Record the event that led to the revision of a job."""
        revision, micros = job.revision, to_micros(at)
        self.rows.put(_ADD_EVENT, revision, revision, job.id, job.tenant, type_.value, micros, message, document)
        self.events.append(JobEvent(revision=job.revision, type=type_, at=at, job=job, message=message))

    def _add_tags(self, seq: int, job: Job) -> None:
        for tag in set(job.tags):
            self.rows.put(_ADD_TAG, (seq, tag), tag, job.tenant, seq)

    def _add_result(self, seq: int, data: KeptPayload, summary: ResultSummary | None) -> None:
        blob = encode_blob(data)
        if summary is None or (summary.sha256, summary.size_bytes) != (blob.sha256, blob.size):
            raise Internal("A result does not match its summary.")
        if blob.encoding is Encoding.FILE:
            self._execute(_ADD_RESULT_FILE, {"job_seq": seq, "sha256": blob.sha256, "size": blob.size})
        else:
            columns = {"size": blob.size, "encoding": blob.encoding.value, "data": blob.data}
            self._execute(_ADD_RESULT, {"job_seq": seq, **columns})


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
