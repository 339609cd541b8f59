"""What the gateway asks of a quantum provider.

A `Provider` is one account at one vendor. All methods are coroutines that never block the event loop: an implementation built on
a blocking library runs it in a bounded thread pool of its own. Third parties register theirs under the entry-point group
`qgateway.providers`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.domain.backend import Backend, BackendProperties, BackendStatus
from gateway.domain.errors import GatewayError
from gateway.domain.job import JobFailure, JobStatus, RunOptions, SchedulingMode
from gateway.domain.payload import Payload
from gateway.domain.program import PreparedProgram
from gateway.domain.session import SessionState


class Capability(StrEnum):
    """What a provider can do beyond submit, poll, cancel and fetch."""

    PUSH = "PUSH"
    """It tells of changes through `updates`, and need not be polled."""
    VOLATILE = "VOLATILE"
    """It forgets its jobs when the server stops; they are submitted again. Its ids are the markers, so that a hand-over to it,
    which cannot get lost on the way, is committed together with the job."""
    RAW_PROGRAMS = "RAW_PROGRAMS"
    """It runs programs of its own definition."""
    SESSIONS = "SESSIONS"
    """It has sessions."""
    USAGE = "USAGE"
    """It tells what the account has used of its QPU time."""


class Health(StrEnum):
    """How an account is."""

    SERVING = "SERVING"
    DEGRADED = "DEGRADED"
    """It works, and somebody should look after it, such as after a new key that the provider does not take."""
    NOT_SERVING = "NOT_SERVING"


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """How an account is, since when, and one sentence on it."""

    health: Health
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Place in a provider's queue. `position` is 0 for the next to run."""

    position: int | None = None
    estimated_start: datetime | None = None
    estimated_completion: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProviderSubmission:
    """What a provider gets to run."""

    marker: str
    """Unique per job and never shown to callers; `find` looks jobs up by it."""
    backend: str
    program: PreparedProgram
    options: RunOptions
    job_name: str
    """Resource name of the job, for the result."""
    tags: tuple[str, ...] = ()
    session: str = ""
    """The provider's id of the session in which it runs; empty if in none."""


@dataclass(frozen=True, slots=True)
class ProviderUpdate:
    """What a provider tells of one of its jobs."""

    provider_job_id: str
    status: JobStatus
    provider_status: str
    """The provider's own word."""
    at: datetime
    failure: JobFailure | None = None
    """Set in ERROR and CANCELLED."""
    charged_seconds: float | None = None
    started_at: datetime | None = None
    """When the run began, where the provider knows: news of it may have been overtaken by news of its end."""
    estimated_seconds: float | None = None
    """QPU time that the provider expects the job to take."""


@dataclass(frozen=True, slots=True)
class NoNews:
    """There is no news of one job now, while there is of others; another look may bring some."""

    provider_job_id: str
    error: GatewayError
    """Why."""


@dataclass(frozen=True, slots=True)
class ProviderJob:
    """A job as the provider lists it, whoever submitted it."""

    update: ProviderUpdate
    backend: str
    program_id: str
    """The provider's name of the program that it runs."""
    created_at: datetime
    tags: tuple[str, ...] = ()
    """Its tags, without those that the gateway adds for itself."""
    session: str = ""
    marker: str = ""
    """What it was submitted with, if a gateway submitted it."""


@dataclass(frozen=True, slots=True)
class ProviderJobQuery:
    """Which of the provider's jobs to list, newest first."""

    backend: str = ""
    tags: tuple[str, ...] = ()
    """All of them."""
    pending: bool | None = None
    """True: not final; False: final; None: both."""
    created_from: datetime | None = None
    created_to: datetime | None = None
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """A session as the provider tells of it."""

    id: str
    backend: str
    mode: SchedulingMode
    state: SessionState
    accepting_jobs: bool
    max_seconds: float | None = None
    interactive_seconds: float | None = None
    """How long it waits for the next job."""
    created_at: datetime | None = None
    activated_at: datetime | None = None
    closed_at: datetime | None = None
    usage_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What an account has used in the provider's current period, in seconds of QPU time, through the gateway and without it."""

    consumed_seconds: float
    limit_seconds: float | None = None
    """What may be used in the period; None: without a limit, or the provider does not tell."""
    limit_reached: bool = False
    period_start: datetime | None = None
    period_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProviderMetrics:
    """What a provider reports of a job beyond its status."""

    queue: QueuePlace | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    charged_seconds: float | None = None
    """QPU time that is charged; None while that is not known."""
    settled: bool = True
    """Whether this is the provider's last word on what the job costs."""
    client_version: Mapping[str, str] = field(default_factory=dict)
    """Software that the job was submitted with, by package name."""


class Provider(Protocol):
    """One account at one vendor."""

    @property
    def account(self) -> str:
        """Name of the account."""

    @property
    def kind(self) -> str:
        """Kind of provider, such as `local`."""

    @property
    def description(self) -> str:
        """What the account is for, for people."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond the basics."""

    async def start(self) -> None:
        """Begin to work. Called once, before anything else."""

    async def close(self) -> None:
        """Stop, and release every process, thread and connection. Work upstream goes on."""

    def health(self) -> AccountHealth:
        """Return how the account is, from memory."""

    async def backends(self) -> tuple[Backend, ...]:
        """Return all backends."""

    async def backend(self, name: str) -> Backend:
        """Return one backend.

        Raises:
            NotFound: There is none of that name.
        """

    async def backend_status(self, name: str) -> BackendStatus:
        """Return whether a backend takes jobs, and how many wait."""

    async def properties(self, name: str, at: datetime | None) -> BackendProperties | None:
        """Return the calibration as of a time (None: now), or None where the backend has none."""

    def check_options(self, backend: Backend, options: RunOptions) -> None:
        """Refuse what the backend cannot do.

        Raises:
            InvalidArgument: Names the option as `options.NAME`.
        """

    async def ready(self) -> None:
        """Make sure, as far as that can be known, that a job could be handed over now. Quick while all is well.

        Raises:
            Unavailable: It cannot be reached.
        """

    async def submit(self, submission: ProviderSubmission) -> ProviderUpdate:
        """Hand a job over. Returns what the provider says of it: its id and first status.

        Raises:
            InvalidArgument: The provider refuses the job for good.
            ResourceExhausted: It takes no more jobs for now.
            Unavailable: It cannot be reached, and does not have the job.
            SubmissionInDoubt: Whether it has the job is not known; `find` tells in time.
        """

    async def find(self, marker: str) -> tuple[str, ...]:
        """Return the ids of the provider's jobs that bear a marker."""

    async def poll(self, provider_job_ids: tuple[str, ...]) -> tuple[ProviderUpdate | NoNews, ...]:
        """Return what is known of some jobs. A job that the provider does not know is left out.

        Raises:
            GatewayError: There is no news of any.
        """

    def updates(self) -> AsyncIterator[ProviderUpdate]:
        """Yield changes as they happen, for as long as the provider lives. Only with PUSH. One consumer."""

    async def fetch_result(self, provider_job_id: str) -> Payload:
        """Return the result of a DONE job as a serialised `qgateway.v1.JobResult`; a large one best as a file.

        Raises:
            NotFound: There is no such job, or no result of it any more. It makes the job ERROR.
            OutOfRange: The result is larger than the account takes in. It makes the job ERROR.
            GatewayError: It cannot be had now.
        """

    async def forget(self, provider_job_id: str) -> None:
        """Release what the provider keeps of a final job whose result is stored. Unknown ids are ignored."""

    async def queue_place(self, provider_job_id: str) -> QueuePlace | None:
        """Return a job's place in the queue, or None if it is not queued or not known."""

    async def metrics(self, provider_job_id: str) -> ProviderMetrics:
        """Return what else is known of a job. Empty for an unknown id, and not settled where that may pass."""

    async def logs(self, provider_job_id: str) -> str:
        """Return the log of a job; empty if there is none."""

    async def cancel(self, provider_job_id: str) -> ProviderUpdate:
        """Ask for cancellation, and return what the provider says of the job after that."""

    async def set_tags(self, provider_job_id: str, tags: tuple[str, ...]) -> None:
        """Replace the tags of a job upstream, where the provider has tags."""

    async def job(self, provider_job_id: str) -> ProviderJob:
        """Return a job, whoever submitted it.

        Raises:
            NotFound: There is no such job.
        """

    async def fetch_program(self, provider_job_id: str) -> bytes:
        """Return the program of a job, whoever submitted it, as a serialised `qgateway.v1.Program`.

        Raises:
            NotFound: There is no such job, or its program is not given out.
        """

    async def claim(self, provider_job_id: str, marker: str) -> None:
        """Mark a job that somebody else submitted as if the gateway had, where the provider has a way to do that.

        Raises:
            NotFound: There is no such job.
        """

    async def reload_credentials(self) -> bool:
        """Read the account's key anew. Returns whether it is another one, and works; False where there is none.

        Raises:
            GatewayError: It cannot be read, or the provider refuses it. What was in use stays in use.
        """

    async def usage(self) -> AccountUsage:
        """Return what the account has used, as the provider counts. Only with USAGE.

        It may be some minutes old: whoever asks often must not make as many calls of the provider.

        Raises:
            GatewayError: The provider does not tell now.
        """

    async def open_session(self, backend: str, mode: SchedulingMode, max_seconds: int | None = None) -> ProviderSession:
        """Open a session. Only with SESSIONS, as all that follows.

        Args:
            backend: Where its jobs run.
            mode: SESSION or BATCH.
            max_seconds: Longest time that it may last; None: the provider's default.

        Raises:
            InvalidArgument: The provider refuses it.
            Unavailable: It cannot be reached. It may have opened the session all the same, which then ends by itself.
        """

    async def session(self, session_id: str) -> ProviderSession:
        """Return a session.

        Raises:
            NotFound: There is none of that id, or none any more.
        """

    async def close_session(self, session_id: str) -> ProviderSession:
        """Let a session take no more jobs; those that it has still run. One that has ended stays as it is.

        Raises:
            NotFound: There is none of that id, or none any more.
        """

    async def cancel_session(self, session_id: str) -> ProviderSession:
        """End a session at once, and cancel its waiting jobs. One that has ended stays as it is.

        Raises:
            NotFound: There is none of that id, or none any more.
        """
