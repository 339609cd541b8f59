"""The store as the engine sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from gateway.domain.access import AuditEntry
from gateway.domain.errors import Internal
from gateway.domain.job import Change, Job, JobEvent, utc_now
from gateway.domain.payload import KeptFile, KeptPayload, Payload
from gateway.domain.policy import NO_LIMITS, Limits
from gateway.domain.query import JobFilter, JobPage
from gateway.domain.usage import UsageQuery, UsageSum
from gateway.store.api_key_store import ApiKeyStore
from gateway.store.audit import AuditQuery, AuditRecord
from gateway.store.codec import Blob, encode_blob
from gateway.store.database import Database
from gateway.store.files import PayloadFiles
from gateway.store.lane import Lane
from gateway.store.payloads import Payloads
from gateway.store.reader import SharedSnapshot
from gateway.store.reads import Reads
from gateway.store.record_store import RecordStore
from gateway.store.session_store import SessionStore
from gateway.store.spool import FileSpool
from gateway.store.writer import GroupCommit
from gateway.store.writes import Writes

T = TypeVar("T")

_INLINE_BYTES = 16 * 1024
"""Size up to which a program is hashed and compressed on the event loop: below it, a change of thread takes longer."""
_GATHER_SECONDS = 0.006
"""For so long at most writes gather where many come. It is about what a commit takes."""

Listener = Callable[[Sequence[JobEvent]], None]
"""Is told of committed events, in the order of their revisions."""


class _Files:
    """A database with a connection for each lane. Blocks while it is opened."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        try:
            self.files = PayloadFiles(path.with_name(f"{path.name}.files"))
            self.spool = FileSpool(self.files.spool)
            # The last one is for looking, outside of any batch, at what is committed by now.
            self.points, self.pages, self.current = (Reads(self.database.connect(), self.files) for _ in range(3))
            self.token_key = self.points.key("resume_tokens")
            self.api_key_key = self.points.key("api_keys")
            self.writes = Writes(self.database.connect(), last_revision=self.points.last_revision())
        except BaseException:
            self.database.close()
            raise


class Store:
    """What must survive: jobs, programs, results, events and the audit trail, in one SQLite file.

    What is too large for that stands in files beside it.

    A write returns when it is on disk. Each write is one transaction of its row, its event and its audit entry, and writes that
    wait at the same time share a commit. A write that has begun is finished even if its caller is cancelled.

    A read sees every commit that anybody was told of. Single jobs are read on a thread of their own and never wait for listings
    and blobs.

    Beside what they name, all methods raise `Unavailable` after `close`, and `Internal` when the database fails.

    Args:
        files: What `open` opened. The store closes it.
    """

    def __init__(self, files: _Files) -> None:
        self._database = files.database
        self.token_key = files.token_key
        """Signs resume tokens: drawn when the database was made, and the same for every gateway over it."""
        self.api_key_key = files.api_key_key
        """Key of the hashes of API keys."""
        self.payloads = Payloads(files.files, files.current.uses_file)
        """Programs and results that are too large for a row."""
        self.spool = files.spool
        """Results as they were read from providers, until they are stored."""
        self._closing = asyncio.Lock()
        self._listeners: list[Listener] = []
        commit = GroupCommit(files.writes)
        self._writer = Lane(
            "store-writer", commit, publish=self._publish, gather=_GATHER_SECONDS, tidy=commit.checkpoint
        )
        self._points = Lane("store-points", SharedSnapshot(files.points))
        # Pages are long work: sharing a snapshot saves little there, and waiting for one another costs much.
        self._pages = Lane("store-pages", SharedSnapshot(files.pages), capacity=256, batch=8)
        self.sessions = SessionStore(self._writer, self._points, self._pages)
        """What callers did to sessions."""
        self.api_keys = ApiKeyStore(self._writer, self._pages)
        """API keys, without their secrets."""
        self.records = RecordStore(self._writer, self._pages)
        """What providers know of runs."""

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open a database, and create or migrate it as needed.

        Args:
            path: The database file. A missing file is created with mode 0600, a missing directory with 0700. Two more files stand
                beside it while it is open (`-wal`, `-shm`), a lock file (`.lock`), and a directory for large payloads (`.files`).

        Raises:
            StoreUnusable: Another server has it open, it is no database, or a newer gateway wrote it.
        """
        return cls(await asyncio.to_thread(_Files, path))

    async def close(self) -> None:
        """Finish what was asked for, refuse everything else, and close the database. To close twice does no harm."""
        async with self._closing:
            for lane in (self._writer, self._points, self._pages):
                await lane.close()
            await self.payloads.close()
            await asyncio.to_thread(self._database.close)

    def subscribe(self, listener: Listener) -> None:
        """Have a function called with the events of each commit, for as long as the store is open.

        It is called on the event loop, before the writers of those events go on. It gets every event once, in the order of the
        revisions. It must be quick and must not raise.
        """
        self._listeners.append(listener)

    # Writes

    async def create_job(self, job: Job, program: Payload, audit: AuditEntry, limits: Limits = NO_LIMITS) -> Job:
        """Store a new job with its program, and tell it as CREATED.

        Args:
            job: The job; its revision is ignored.
            program: Serialised `qgateway.v1.Program`. Equal programs are stored once.
            audit: Entry to write with it.
            limits: What the tenant may have pending, and use of QPU time. What the job reserves is booked with it, in the same
                transaction: no two jobs can have the same rest of a budget.

        Returns:
            The job with its revision. If the tenant has a job with the same non-empty request id, that job, and nothing is written.

        Raises:
            ResourceExhausted: The job would exceed one of the limits. Nothing is written.
            Internal: The program does not match `job.program`, or the id is taken.
        """
        kept = await self.payloads.keep(program)
        blob = await _program_blob(job, kept)
        return await self._writer.run(lambda writes: writes.create_job(job, blob, audit, limits))

    async def adopt_job(self, job: Job, program: Payload, audit: AuditEntry) -> Job:
        """Store a job that its provider has and the gateway did not send, as in `create_job`.

        Returns:
            The job with its revision. If there is one with the provider's id in that account, that job, and nothing is written.
        """
        kept = await self.payloads.keep(program)
        blob = await _program_blob(job, kept)
        return await self._writer.run(lambda writes: writes.adopt_job(job, blob, audit))

    async def change_job(
        self, job_id: str, change: Callable[[Job], Change | None], audit: AuditEntry | None = None
    ) -> Job:
        """Change a job.

        Args:
            job_id: Which job.
            change: Is given the current job and returns what is to become of it, or None if nothing is to be done. It is called on
                another thread, inside the transaction: it must be quick and look at nothing but its argument. What it raises
                goes to the caller, and nothing is written. The event gets the time in `updated_at`.
            audit: Entry to write with it, also when there is nothing to do.

        Returns:
            The job after the change, with its revision; the current job if there was nothing to do.

        Raises:
            NotFound: There is no such job.
            Internal: The change touches a fixed field (id, tenant, account, backend, program, request id, time of creation),
                leaves a final status, or has a result that does not match its summary.
        """
        return await self._writer.run(lambda writes: writes.change_job(job_id, change, audit))

    async def delete_job(self, job_id: str, check: Callable[[Job], None], audit: AuditEntry) -> None:
        """Delete a job with its tags, result and history, and its program unless another job has the same.

        One DELETED event with the last state of the job stays, at the time of the audit entry, so that watchers learn of it.

        Args:
            job_id: Which job.
            check: Is given the current job, as in `change_job`. What it raises goes to the caller, and nothing is written.
            audit: Entry to write with it.

        Raises:
            NotFound: There is no such job.
        """
        program, result = await self._writer.run(lambda writes: writes.delete_job(job_id, check, audit))
        await self.payloads.remove_unused({program, result} - {""})

    async def append_audit(self, audit: AuditEntry) -> None:
        """Write an audit entry that belongs to no change of a job."""
        await self._writer.run(lambda writes: writes.audit.append(audit))

    async def usage(self, asked: UsageQuery) -> Sequence[UsageSum]:
        """Return what was used, by group: those first that used most, and days in their order. At most 5000 groups."""
        return await self._pages.run(lambda reads: reads.ledger.sums(asked))

    async def count_pending(self, tenant: str) -> int:
        """Return how many jobs of a tenant are in no final status."""
        return await self._points.run(lambda reads: reads.ledger.pending(tenant))

    async def compact_history(self, *, before: datetime, keep: int, limit: int) -> int:
        """Forget the oldest events: those before a time, and those beyond a number.

        The last event of a job that is final stays for as long as the job does, so that its history tells how it ended.

        Args:
            before: Events older than this are forgotten.
            keep: Number of the newest revisions to keep.
            limit: Largest number of events to look at: the size of the transaction.

        Returns:
            How many events it looked at. Fewer than `limit`: there is nothing left to do.
        """
        return await self._writer.run(lambda writes: writes.compact_history(before, keep, limit))

    async def twins_settled(self, job_id: str) -> None:
        """Forget that the provider may turn out to have a job twice."""
        await self._writer.run(lambda writes: writes.twins_settled(job_id))

    async def add_upload(self, tenant: str, file: KeptFile, expires_at: datetime, audit: AuditEntry) -> None:
        """Let a tenant refer to a file as its program until a time. A second upload renews the time."""
        await self._writer.run(lambda writes: writes.add_upload(tenant, file, expires_at, audit))

    async def collect_garbage(self) -> int:
        """Forget uploads whose time has come, and remove the files that nothing refers to. Returns the number of files."""
        await self._writer.run(lambda writes: writes.drop_expired_uploads(utc_now()))
        return await self.payloads.remove_unused()

    # Reads of one job

    async def get_job(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        return await self._points.run(lambda reads: reads.job(job_id))

    async def get_job_by_provider_id(self, account: str, provider_job_id: str) -> Job | None:
        """Return the job that a provider knows under an id, or None. The newest, should there be several."""
        return await self._points.run(lambda reads: reads.job_of_provider(account, provider_job_id))

    async def get_job_by_request_id(self, tenant: str, request_id: str) -> Job | None:
        """Return the job that a tenant created with a request id, or None."""
        return await self._points.run(lambda reads: reads.job_of_request(tenant, request_id))

    async def count_unfinished(self, account: str) -> int:
        """Return how many jobs of an account are in no final status."""
        return await self._points.run(lambda reads: reads.count_unfinished(account))

    async def last_revision(self) -> int:
        """Return the highest revision given out, 0 if there is none. No revision is ever given out twice."""
        return await self._points.run(lambda reads: reads.last_revision())

    # Reads of many rows, and of blobs

    async def list_jobs(
        self, where: JobFilter, *, limit: int, cursor: int | None = None, oldest_first: bool = False, skip: int = 0
    ) -> JobPage:
        """Return a page of jobs in the order of their creation.

        Pages neither repeat nor miss a job, whatever is created or deleted between them.

        Args:
            where: Which jobs.
            limit: Largest number of jobs, at least 1.
            cursor: `next_cursor` of the page before, with the same filter and order; None for the first page.
            oldest_first: Whether the oldest job comes first; by default the newest does.
            skip: Number of jobs to leave out before the page.
        """
        return await self._pages.run(
            lambda reads: reads.jobs(where, limit=limit, cursor=cursor, oldest_first=oldest_first, skip=skip)
        )

    async def unfinished_jobs(self, account: str | None = None) -> tuple[Job, ...]:
        """Return all jobs in no final status, the oldest first. Of all accounts if `account` is None."""
        return await self._pages.run(lambda reads: reads.unfinished_jobs(account))

    async def job_events(self, job_id: str, *, after: int = 0, limit: int) -> tuple[JobEvent, ...]:
        """Return up to `limit` events of a job with a revision above `after`, ascending. Empty for an unknown job."""
        return await self._pages.run(lambda reads: reads.events(job_id=job_id, after=after, limit=limit))

    async def events(self, *, after: int, limit: int) -> tuple[JobEvent, ...]:
        """Return up to `limit` stored events of all jobs with a revision above `after`, ascending."""
        return await self._pages.run(lambda reads: reads.events(job_id=None, after=after, limit=limit))

    async def history(self, *, after: int, job_id: str | None = None, limit: int) -> tuple[JobEvent, ...]:
        """Return up to `limit` events with a revision above `after`, ascending, without a gap. Of all jobs if `job_id` is None.

        Raises:
            OutOfRange: Some of it is no longer kept.
        """
        return await self._pages.run(lambda reads: reads.history(job_id=job_id, after=after, limit=limit))

    async def twins_due(self) -> tuple[tuple[Job, datetime], ...]:
        """Return the jobs, also final ones, that their provider may turn out to have twice, each with the time until when."""
        return await self._pages.run(lambda reads: reads.twins_due())

    async def read_program(self, job_id: str) -> KeptPayload:
        """Return the serialised `qgateway.v1.Program` of a job, a large one as a file.

        Raises:
            NotFound: There is no such job.
        """
        return await self._read_file(lambda reads: reads.program(job_id))

    async def read_result(self, job_id: str) -> KeptPayload | None:
        """Return the serialised `qgateway.v1.JobResult` of a job, a large one as a file. None if there is no result or no job."""
        return await self._read_file(lambda reads: reads.result(job_id))

    async def find_upload(self, tenant: str, sha256: str) -> KeptFile | None:
        """Return a program that a tenant uploaded and may still refer to, or None."""
        return await self._read_file(lambda reads: reads.upload(tenant, sha256, utc_now()))

    async def audit_records(
        self, where: AuditQuery | None = None, *, after: int = 0, limit: int, newest_first: bool = False
    ) -> tuple[AuditRecord, ...]:
        """Return up to `limit` audit records beyond the position `after`, oldest or newest first."""
        query = where or AuditQuery()
        return await self._pages.run(
            lambda reads: reads.audit.records(query, after=after, limit=limit, newest_first=newest_first)
        )

    async def _read_file(self, call: Callable[[Reads], T]) -> T:
        try:
            return await self._pages.run(call)
        except FileNotFoundError:  # it was deleted between the look at the row and the look at the file; or it is lost
            try:
                return await self._pages.run(call)
            except FileNotFoundError as error:
                raise Internal(
                    f"A file of the store is missing or damaged ({error}). Restore the database and its files from a backup."
                ) from error

    def _publish(self, events: Sequence[JobEvent]) -> None:
        for listener in self._listeners:
            try:
                listener(events)
            except Exception as error:  # noqa: BLE001 - the commit stands, and its writers must learn of it
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "A listener of the store failed.", "exception": error, "listener": listener}
                )


async def _program_blob(job: Job, program: KeptPayload) -> Blob:
    """Return the program of a new job as it is stored."""
    small = isinstance(program, KeptFile) or len(program) <= _INLINE_BYTES
    blob = encode_blob(program) if small else await asyncio.to_thread(encode_blob, program)
    if (blob.sha256, blob.size) != (job.program.sha256, job.program.size_bytes):
        raise Internal(f"The program of job {job.id!r} does not match its summary.")
    return blob
