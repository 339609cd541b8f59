"""The provider: an instance of IBM Quantum in the terms of `gateway.domain.provider.Provider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import orjson
from qgateway.v1 import program_pb2

from gateway.domain.backend import Backend, BackendProperties, BackendStatus
from gateway.domain.errors import (
    FailedPrecondition,
    GatewayError,
    NotFound,
    Reason,
    Unavailable,
)
from gateway.domain.job import JobFailure, JobStatus, ProgramKind, RunOptions, SchedulingMode, utc_now
from gateway.domain.payload import Payload, payload_size
from gateway.domain.provider import (
    AccountHealth,
    AccountUsage,
    Capability,
    Health,
    NoNews,
    ProviderJob,
    ProviderJobQuery,
    ProviderMetrics,
    ProviderSession,
    ProviderSubmission,
    ProviderUpdate,
    QueuePlace,
)
from gateway.domain.secret import TokenSource
from gateway.domain.spool import ResultSpool
from gateway.providers.ibm import states
from gateway.providers.ibm.backends import properties_of
from gateway.providers.ibm.bodies import in_utc, listing, new_job, raw_program
from gateway.providers.ibm.catalogue import Catalogue
from gateway.providers.ibm.client import PAGE_SIZE, IbmClient
from gateway.providers.ibm.health import HealthRecord
from gateway.providers.ibm.options import check_options
from gateway.providers.ibm.payloads import Payloads
from gateway.providers.ibm.polling import Polling
from gateway.providers.ibm.results import Results
from gateway.providers.ibm.sessions import IbmSessions
from gateway.providers.ibm.settings import IbmSettings
from gateway.providers.ibm.tags import hidden, marker_of, marker_tag, unclaimed, visible
from gateway.providers.ibm.usage import InstanceUsage

_RETRY_SECONDS = 5.0
_LAST_SECONDS = 5.0
"""How long the end of the gateway waits for calls that are under way."""


class IbmProvider:
    """One instance of the service. See `gateway.domain.provider.Provider`.

    A job bears two hidden tags: its marker, and one that is common to all jobs of the gateway.

    Args:
        settings: Where the instance is, and limits.
        tokens: Where tokens come from. Whoever made it starts and closes it.
        payloads: Writes circuits and reads results.
        spool: Keeps results as they came until the engine has stored them: they may be given out once only.
        health: How the account is; the same record that is told of the credentials.
    """

    def __init__(
        self,
        settings: IbmSettings,
        tokens: TokenSource,
        payloads: Payloads,
        spool: ResultSpool,
        health: HealthRecord,
    ) -> None:
        self._settings = settings
        self._payloads = payloads
        self._health = health
        self._client = IbmClient(settings, tokens, health)
        self._tokens = tokens
        self._catalogue = Catalogue(self._client, settings)
        self._usage = InstanceUsage(self._client, settings)
        self._results = Results(self._client, settings.account, spool)
        self._polling = Polling(self._client, self._results, settings)
        self._sessions = IbmSessions(self._client)
        self._looking: asyncio.Task[None] | None = None

    @property
    def account(self) -> str:
        """Name of the account."""
        return self._settings.account

    @property
    def kind(self) -> str:
        """Kind of provider."""
        return "ibm"

    @property
    def description(self) -> str:
        """What the account is for, for people."""
        return self._settings.description

    @property
    def capabilities(self) -> frozenset[Capability]:
        """It runs programs of its own definition, has sessions, and tells what the account has used."""
        return frozenset({Capability.RAW_PROGRAMS, Capability.SESSIONS, Capability.USAGE})

    async def start(self) -> None:
        """Begin to learn about the backends, so that the first caller need not wait for that, and to look after the health."""
        self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Begin no more calls, and give those under way a moment: they may bring what is given out once. Work upstream goes on."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._catalogue.close()
        self._usage.close()
        self._client.close()
        await self._client.ended(_LAST_SECONDS)

    def health(self) -> AccountHealth:
        """Return how the account is: what its credentials and its last call say."""
        return self._health.current()

    async def reload_credentials(self) -> bool:
        """Read the account's key anew. Returns whether it is another one, and works.

        Raises:
            GatewayError: It cannot be read, or IAM refuses it. What was in use stays in use.
        """
        return await self._tokens.refresh()

    async def usage(self) -> AccountUsage:
        """Return what the account has used of its QPU time: a minute old at most, unless the provider takes long.

        Raises:
            Unavailable: The provider does not tell now.
        """
        return await self._usage.get()

    # --- Backends -----------------------------------------------------------------------------------------------------------

    async def backends(self) -> tuple[Backend, ...]:
        """Return all backends."""
        return await self._catalogue.backends()

    async def backend(self, name: str) -> Backend:
        """Return one backend.

        Raises:
            NotFound: There is none of that name.
            Unavailable: There is one, and it cannot be read now.
        """
        return await self._catalogue.backend(name)

    async def backend_status(self, name: str) -> BackendStatus:
        """Return whether a backend takes jobs, and how many wait: some seconds old at most.

        Raises:
            NotFound: There is none of that name.
        """
        return await self._catalogue.status(name)

    async def properties(self, name: str, at: datetime | None) -> BackendProperties | None:
        """Return the last calibration before a time (None: now), or None where there is none.

        Raises:
            NotFound: There is no backend of that name.
        """
        try:
            properties = await self._client.properties(name, in_utc(at) if at is not None else "")
        except NotFound:
            raise NotFound.backend(name) from None
        return properties_of(name, properties) if properties is not None else None

    def check_options(self, backend: Backend, options: RunOptions) -> None:
        """Refuse what the backend cannot do.

        Raises:
            InvalidArgument: Names each option, as `options.NAME`.
        """
        check_options(backend, options)

    # --- Jobs ---------------------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Ask whether the provider is back, if it was found down.

        Raises:
            Unavailable: It is down.
        """
        await self._client.ready()

    async def submit(self, submission: ProviderSubmission) -> ProviderUpdate:
        """Send a job, once.

        A caller that is cancelled meanwhile does not hear whether the job was taken: `find` tells.

        Raises:
            InvalidArgument: The provider refuses the job for good.
            NotFound: It has no such backend.
            FailedPrecondition: The backend takes no jobs now, or the account may not use its instance for this.
            AccountRefused: The provider does not take the account's key.
            ResourceExhausted: A limit is reached; `retry_after` says when to try again.
            Unavailable: The provider cannot be reached, and does not have the job.
            SubmissionInDoubt: Whether it has the job is not known; `find` tells in time.
        """
        if submission.program.summary.kind is ProgramKind.RAW:
            program, parameters = await asyncio.to_thread(raw_program, submission.program.circuits)
        else:
            program = self._settings.program.value
            parameters = await self._payloads.encode(
                submission, program=program, circuit_format=self._settings.circuit_format.value
            )
        body = new_job(submission, program, parameters, self._settings.common_tag)
        submitted = await self._client.submit(body, submission.backend)
        return ProviderUpdate(submitted.id, JobStatus.QUEUED, "Queued", utc_now())

    async def find(self, marker: str) -> tuple[str, ...]:
        """Return the ids of the jobs that bear a marker, oldest first."""
        tag = marker_tag(marker)
        page = await self._client.jobs([("tags", tag), ("sort", "ASC"), ("limit", str(PAGE_SIZE))])
        return tuple(job.id for job in page.jobs if tag in job.tags)

    async def poll(self, provider_job_ids: tuple[str, ...]) -> tuple[ProviderUpdate | NoNews, ...]:
        """Return what is known of some jobs.

        One listing tells of all that are pending, in pages of 200; those that it does not show are looked up. News of the end of a
        job comes with the times of its steps. A job that the provider does not know is left out.

        Raises:
            GatewayError: There is no news of any.
        """
        return await self._polling.poll(provider_job_ids)

    async def updates(self) -> AsyncIterator[ProviderUpdate]:
        """Yield nothing: this provider is polled."""
        nothing: tuple[ProviderUpdate, ...] = ()
        for update in nothing:
            yield update

    async def fetch_result(self, provider_job_id: str) -> Payload:
        """Return the result of a DONE job as a serialised `qgateway.v1.JobResult`.

        It is read from the provider once, straight to disk, and kept there until `forget`: with it, the job itself, so that the
        provider need not be asked any more.

        Raises:
            NotFound: The provider has no such job, or no result of it any more.
            FailedPrecondition: The job is not DONE.
            OutOfRange: The result is larger than the account takes in.
            Unavailable: The result cannot be read now.
        """
        kept = await self._results.kept(provider_job_id)
        job = (kept and kept.job) or self._polling.ended(provider_job_id) or await self._client.job(provider_job_id)
        if states.status_of(job) is not JobStatus.DONE:
            raise FailedPrecondition(
                f"The job is {job.state.status}, so there is no result to fetch.", reason=Reason.RESULT_NOT_READY
            )
        decoded = await self._payloads.decode(
            kept.results if kept is not None else await self._results.read(job),
            program=job.program.id,
            job=_job_name(job.tags),
            backend=job.backend,
            backend_version=await self._version(job.backend),
            status=job.state.status,
        )
        if decoded is None:
            await self._results.drop(provider_job_id)
            raise Unavailable(
                f"What the provider of account {self.account!r} sent is no result. The gateway asks again by itself.",
                metadata={"account": self.account},
                retry_after=_RETRY_SECONDS,
            )
        if payload_size(decoded) > self._settings.max_result_bytes:
            raise self._settings.result_too_large()
        return decoded

    async def fetch_program(self, provider_job_id: str) -> bytes:
        """Return the program of a job, also of one that the gateway did not submit, as a serialised `qgateway.v1.Program`.

        Raises:
            NotFound: There is no such job, or it is private.
        """
        job = await self._client.program(provider_job_id)
        if job.params is None:
            raise NotFound("The provider does not give out the program of a private job.")
        raw = program_pb2.RawProgram(program_id=job.program.id, parameters=orjson.dumps(job.params))
        return program_pb2.Program(raw=raw).SerializeToString()

    async def forget(self, provider_job_id: str) -> None:
        """Release what is kept of a final job whose result is stored."""
        await self._results.drop(provider_job_id)
        self._polling.forget(provider_job_id)

    async def queue_place(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place in the queue, or None if the provider does not tell."""
        try:
            return states.place_of(await self._client.metrics(provider_job_id))
        except NotFound:
            return None

    async def metrics(self, provider_job_id: str) -> ProviderMetrics:
        """Return what else is known of a job. Empty for an unknown id, and not settled: it may be known in a moment."""
        try:
            return states.metrics_of(await self._client.metrics(provider_job_id))
        except NotFound:
            return ProviderMetrics(settled=False)

    async def logs(self, provider_job_id: str) -> str:
        """Return the log of a job; empty if there is none."""
        return await self._client.logs(provider_job_id)

    async def cancel(self, provider_job_id: str) -> ProviderUpdate:
        """Cancel a job, and return what the provider says of it after that. A final job stays as it is.

        Raises:
            NotFound: There is no such job.
        """
        with suppress(FailedPrecondition):
            await self._client.cancel(provider_job_id)
        update = await self._polling.look_up(provider_job_id)
        if update is None:
            raise NotFound("The provider does not know the job any more.")
        if update.status is JobStatus.CANCELLED:
            return replace(update, failure=JobFailure(Reason.CANCELLED_BY_CALLER, "A caller cancelled the job."))
        return update

    async def set_tags(self, provider_job_id: str, tags: tuple[str, ...]) -> None:
        """Replace the tags of a job that callers see; the hidden ones stay.

        Raises:
            NotFound: There is no such job.
        """
        common = self._settings.common_tag
        before = (await self._client.job(provider_job_id)).tags
        await self._client.set_tags(provider_job_id, [*hidden(before, common), *visible(tags, common)])

    async def delete(self, provider_job_id: str) -> None:
        """Delete a final job at the provider. An unknown one is gone already.

        Raises:
            InvalidArgument: It is not final.
        """
        with suppress(NotFound):
            await self._client.delete(provider_job_id)

    async def job(self, provider_job_id: str) -> ProviderJob:
        """Return a job, whoever submitted it.

        Raises:
            NotFound: There is no such job.
        """
        return states.job_of(await self._client.job(provider_job_id), self._settings.common_tag)

    async def claim(self, provider_job_id: str, marker: str) -> None:
        """Give a job the tags of the gateway's own. One that bears another marker keeps that.

        Raises:
            NotFound: There is no such job.
        """
        before = (await self._client.job(provider_job_id)).tags
        missing = unclaimed(before, marker, self._settings.common_tag)
        if missing:
            await self._client.set_tags(provider_job_id, [*before, *missing])

    async def list_jobs(self, query: ProviderJobQuery) -> tuple[ProviderJob, ...]:
        """Return a page of the account's jobs, whoever submitted them, newest first."""
        page = await self._client.jobs(listing(query))
        return tuple(states.job_of(job, self._settings.common_tag) for job in page.jobs)

    # --- Sessions -----------------------------------------------------------------------------------------------------------

    async def open_session(self, backend: str, mode: SchedulingMode, max_seconds: int | None = None) -> ProviderSession:
        """Open a session or a batch.

        Args:
            backend: Where its jobs run.
            mode: SESSION or BATCH.
            max_seconds: Longest time that it may last; None: the provider's default.
        """
        return await self._sessions.open(backend, mode, max_seconds)

    async def session(self, session_id: str) -> ProviderSession:
        """Return a session.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._sessions.get(session_id)

    async def close_session(self, session_id: str) -> ProviderSession:
        """Let a session take no more jobs; those that it has still run.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._sessions.close(session_id)

    async def cancel_session(self, session_id: str) -> ProviderSession:
        """End a session at once; the provider cancels its jobs.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._sessions.cancel(session_id)

    # --- Helpers ------------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Read the backends once, and again for as long as the account is not well: nobody else may call meanwhile."""
        wanted = True
        while True:
            if wanted:
                with suppress(GatewayError):  # the account's health tells of it, and the next caller tries again
                    await self._catalogue.backends()
            await asyncio.sleep(self._settings.probe_seconds)
            wanted = self._health.current().health is not Health.SERVING

    async def _version(self, backend: str) -> str:
        """Return the version of a backend; empty if it is gone or cannot be read now."""
        with suppress(GatewayError):
            return (await self._catalogue.backend(backend)).version
        return ""


def _job_name(tags: Iterable[str]) -> str:
    """Return the resource name of the job that bears some tags: its marker is its id. Empty if it is not the gateway's."""
    marker = marker_of(tags)
    return f"jobs/{marker}" if marker else ""
