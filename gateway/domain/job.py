"""A job, its parts, and the rules by which it changes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any

from gateway.domain.errors import Reason
from gateway.domain.payload import KeptPayload

DEFAULT_SHOTS = 4000
"""Shots of a circuit when the caller names none; the default of the classic IBM client."""


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


_LETTERS = b"0123456789abcdefghjkmnpqrstvwxyz"
_LETTER_OF_BYTE = _LETTERS * 8
"""The letter for each byte: of its eight bits, three do not count."""


def new_id() -> str:
    """Return a new id of a job or session: a ULID in lower case, 26 characters, of the time in ms and 80 random bits.

    What is made later stands later in the indexes of a database: new rows touch the same few pages, and not one each. See
    https://github.com/ulid/spec.
    """
    return _time_letters(time.time_ns() // 1_000_000) + secrets.token_bytes(16).translate(_LETTER_OF_BYTE).decode()


@lru_cache(maxsize=1)
def _time_letters(millis: int) -> str:
    """Return a time as ten letters, whose order is that of the times."""
    return bytes(_LETTERS[millis >> shift & 31] for shift in range(45, -1, -5)).decode()


class JobStatus(StrEnum):
    """Where a job stands; the words are those of Qiskit's `JobStatus`."""

    INITIALIZING = "INITIALIZING"
    QUEUED = "QUEUED"
    VALIDATING = "VALIDATING"
    RUNNING = "RUNNING"
    CANCELLED = "CANCELLED"
    DONE = "DONE"
    ERROR = "ERROR"

    @property
    def is_final(self) -> bool:
        """True if a job never leaves this status."""
        return self in _FINAL


_FINAL = frozenset({JobStatus.CANCELLED, JobStatus.DONE, JobStatus.ERROR})


class PendingKind(StrEnum):
    """Why a job is not done."""

    PACED = "PACED"
    PROVIDER_UNREACHABLE = "PROVIDER_UNREACHABLE"
    PROVIDER_QUEUE = "PROVIDER_QUEUE"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    CREDENTIALS_REFUSED = "CREDENTIALS_REFUSED"
    SUBMISSION_UNKNOWN = "SUBMISSION_UNKNOWN"
    RUNNING = "RUNNING"
    FETCHING_RESULT = "FETCHING_RESULT"
    SUBMITTING = "SUBMITTING"
    INSTANCE_LIMIT = "INSTANCE_LIMIT"


@dataclass(frozen=True, slots=True)
class PendingReason:
    """Why a job is not done, since when, and when the gateway tries again."""

    kind: PendingKind
    message: str
    since: datetime
    retry_at: datetime | None = None


class SubmissionState(StrEnum):
    """How far the hand-over to the provider has come."""

    PENDING = "PENDING"
    SENT = "SENT"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Submission:
    """The hand-over of a job to its provider."""

    state: SubmissionState = SubmissionState.PENDING
    attempts: int = 0


class MeasLevel(StrEnum):
    """Which data a measurement returns."""

    KERNELED = "KERNELED"
    CLASSIFIED = "CLASSIFIED"


class MeasReturn(StrEnum):
    """Whether kerneled data is averaged over the shots."""

    SINGLE = "SINGLE"
    AVERAGE = "AVERAGE"


class SchedulingMode(StrEnum):
    """How the provider schedules a job."""

    JOB = "JOB"
    SESSION = "SESSION"
    BATCH = "BATCH"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a program is run. The defaults are those of the classic IBM client."""

    shots: int = DEFAULT_SHOTS
    memory: bool = False
    """Whether the caller wants the outcome of each shot. The result always holds them."""
    meas_level: MeasLevel = MeasLevel.CLASSIFIED
    meas_return: MeasReturn = MeasReturn.AVERAGE
    init_qubits: bool = True
    rep_delay: float | None = None
    """Delay between shots in seconds; None is the backend's default."""
    dynamic: bool | None = None
    """Whether the circuits have control flow; None: found out from the circuits."""
    seed_simulator: int | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    """Given back with the job and in its result, unread."""
    transpile: int | None = None
    """Optimisation level 0 to 3; None: circuits are run as they are."""
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    """Options that only one provider knows."""


class ProgramKind(StrEnum):
    """The form in which a program was given."""

    OPENQASM = "OPENQASM"
    QPY = "QPY"
    RAW = "RAW"


@dataclass(frozen=True, slots=True)
class ProgramSummary:
    """What is known of a program without reading it."""

    kind: ProgramKind
    circuit_count: int
    """Number of experiments: circuits, times the bindings of each."""
    size_bytes: int
    """Size of the serialised `qgateway.v1.Program`."""
    sha256: str
    """Its content address, 64 hexadecimal digits."""
    num_qubits: int
    """Width of the widest circuit as submitted."""


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job failed or was cancelled."""

    reason: Reason
    message: str
    provider_code: str = ""


@dataclass(frozen=True, slots=True)
class JobUsage:
    """QPU time in seconds; None where it is not known."""

    estimated_seconds: float | None = None
    charged_seconds: float | None = None
    reserved_seconds: float | None = None
    """What the budgets of the tenant hold for the job while its charge is not known. None: it counts in no budget."""


@dataclass(frozen=True, slots=True)
class ResultSummary:
    """What is known of a stored result without reading it."""

    size_bytes: int
    """Size of the serialised `qgateway.v1.JobResult`."""
    sha256: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobStep:
    """When a job first reached a status."""

    status: JobStatus
    reached_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job: one program on one backend. Immutable; `Change` describes how one state follows another."""

    id: str
    tenant: str
    creator: str
    """Name of the caller that submitted it."""
    account: str
    backend: str
    options: RunOptions
    program: ProgramSummary
    created_at: datetime
    updated_at: datetime
    status: JobStatus = JobStatus.INITIALIZING
    revision: int = 0
    """Store-wide revision of the last change; 0 before the first commit."""
    display_name: str = ""
    tags: tuple[str, ...] = ()
    session: str = ""
    """Resource name of the session in which it runs; empty if in none."""
    provider_session_id: str = ""
    """The provider's id of that session."""
    request_id: str = ""
    request_digest: str = ""
    """SHA-256 of the request, to tell a repeated request from a reused id."""
    provider_status: str = ""
    provider_job_id: str = ""
    pending_reason: PendingReason | None = None
    submission: Submission = Submission()
    cancel_requested: bool = False
    steps: tuple[JobStep, ...] = ()
    failure: JobFailure | None = None
    usage: JobUsage = JobUsage()
    result: ResultSummary | None = None
    client_version: Mapping[str, str] = field(default_factory=dict)
    scheduling_mode: SchedulingMode = SchedulingMode.JOB

    def reached(self, status: JobStatus) -> datetime | None:
        """Return when the job first reached a status, or None."""
        return next((step.reached_at for step in self.steps if step.status == status), None)

    @property
    def ended_at(self) -> datetime | None:
        """When the job reached its final status, or None."""
        return self.reached(self.status) if self.status.is_final else None


_VALUES = attrgetter(*(each.name for each in fields(Job)))
_REVISION = [each.name for each in fields(Job)].index("revision")


def at_revision(job: Job, revision: int) -> Job:
    """Return a job at another revision. All that is written passes here, and `replace` takes twice as long."""
    values = list(_VALUES(job))
    values[_REVISION] = revision
    return Job(*values)


class EventType(StrEnum):
    """What kind of change an event tells."""

    SNAPSHOT = "SNAPSHOT"
    CREATED = "CREATED"
    STATUS_CHANGED = "STATUS_CHANGED"
    UPDATED = "UPDATED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    NOTE = "NOTE"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One committed change: the job after it, under a store-wide increasing revision (`job.revision`)."""

    revision: int
    type: EventType
    at: datetime
    job: Job
    message: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a job that the store is to commit: the new state, and the event that tells it."""

    job: Job
    type: EventType
    message: str = ""
    result: KeptPayload | None = None
    """The serialised `qgateway.v1.JobResult` to store with it; a large one in a file that the store keeps."""
    twins_until: datetime | None = None
    """Until when the provider may turn out to have the job twice, if that is so."""
    record_due: bool = False
    """Whether the provider is yet to be asked for the record of the run: see `gateway.domain.record`."""


def with_status(job: Job, status: JobStatus, at: datetime, **fields: Any) -> Job:
    """Return the job in another status, with its steps, times and pending reason kept right.

    The caller has made sure that `job` is not final.

    Args:
        job: The job before.
        status: The status to take.
        at: When it was reached.
        fields: Other fields of `Job` to set in the same change.
    """
    steps = job.steps if any(step.status == status for step in job.steps) else (*job.steps, JobStep(status, at))
    if status.is_final:
        fields.setdefault("pending_reason", None)
    return replace(job, status=status, steps=steps, updated_at=at, **fields)
