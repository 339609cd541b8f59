"""Pure rules: what a piece of news does to a job.

Each function takes the job as it is in the store and returns the change to commit, or None if the news changes nothing. They
run inside the store's write transaction, so two pieces of news never see the same job before.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.domain.errors import (
    Aborted,
    AccountRefused,
    FailedPrecondition,
    GatewayError,
    PermissionDenied,
    Reason,
    ResourceExhausted,
)
from gateway.domain.job import (
    Change,
    EventType,
    Job,
    JobFailure,
    JobStatus,
    JobStep,
    JobUsage,
    PendingKind,
    PendingReason,
    ResultSummary,
    Submission,
    SubmissionState,
    utc_now,
    with_status,
)
from gateway.domain.payload import KeptFile, KeptPayload, payload_size
from gateway.domain.provider import ProviderUpdate

_ORDER = {JobStatus.INITIALIZING: 0, JobStatus.QUEUED: 1, JobStatus.VALIDATING: 2, JobStatus.RUNNING: 3}

_PENDING_TEXT = {
    JobStatus.QUEUED: (PendingKind.PROVIDER_QUEUE, "Waiting in the queue of {backend}."),
    JobStatus.VALIDATING: (PendingKind.PROVIDER_QUEUE, "Being checked by {backend}."),
    JobStatus.RUNNING: (PendingKind.RUNNING, "Running on {backend}."),
}
_TROUBLE = frozenset(
    {
        PendingKind.PROVIDER_UNREACHABLE,
        PendingKind.CREDENTIALS_REFUSED,
        PendingKind.PACED,
        PendingKind.INSTANCE_LIMIT,
        PendingKind.SUBMITTING,
        PendingKind.SUBMISSION_UNKNOWN,
    }
)
"""What is over as soon as the provider tells of the job."""


def etag(job: Job) -> str:
    """Return the version tag of a job: it changes with every change."""
    return f"{job.revision:x}"


def presumed_accepted(job: Job) -> Job:
    """Return a new job as it is once a provider has it that runs in the gateway itself: nothing can be lost on that way."""
    text = _PENDING_TEXT[JobStatus.QUEUED][1].format(backend=job.backend)
    return with_status(
        job,
        JobStatus.QUEUED,
        job.created_at,
        provider_job_id=job.id,
        provider_status="queued",
        submission=Submission(SubmissionState.ACCEPTED, attempts=1),
        pending_reason=PendingReason(PendingKind.PROVIDER_QUEUE, text, job.created_at),
    )


def adopted(job: Job, update: ProviderUpdate) -> Job:
    """Return a job that its provider has, as it is before anything is known of its end."""
    last = JobStatus.QUEUED if update.status.is_final else update.status
    if last is JobStatus.INITIALIZING:
        return job
    return _pending(job, replace(update, status=last))


def accepted(
    job: Job, update: ProviderUpdate, twins_until: datetime | None = None, *, is_twice: bool = False
) -> Change | None:
    """Note that the provider has the job, with the status that it gave.

    Args:
        job: The job.
        update: What the provider says.
        twins_until: Until when the provider may turn out to have it twice, if it was sent more than once.
        is_twice: Whether the provider has it twice for certain.
    """
    if job.status.is_final:
        return None
    if _attempts(job) <= 1 and not is_twice:
        twins_until = None
    sent = replace(
        job,
        provider_job_id=update.provider_job_id,
        provider_status=update.provider_status,
        submission=Submission(SubmissionState.ACCEPTED, _attempts(job)),
        updated_at=update.at,
    )
    # The news that the run began can have been committed first; a final status comes with its own news.
    if not update.status.is_final and _ORDER[update.status] > _ORDER[job.status]:
        sent = _pending(sent, update)
    return Change(sent, EventType.STATUS_CHANGED, twins_until=twins_until)


def progressed(job: Job, update: ProviderUpdate, *, asked: bool = False) -> Change | None:
    """Note that the provider works on the job: a status that is not final, and not behind the one that is known.

    The provider's own word and its estimate are noted, too, and that the provider answers again.

    Args:
        job: The job.
        update: What the provider says.
        asked: Whether it said so when it was asked. What it tells by itself may have been overtaken by later news.
    """
    if job.status.is_final:
        return None
    if update.estimated_seconds is not None:
        estimated = replace(job, usage=replace(job.usage, estimated_seconds=update.estimated_seconds))
    else:
        estimated = job
    if _ORDER[update.status] > _ORDER[job.status]:
        return Change(_pending(estimated, update), EventType.STATUS_CHANGED)
    if not asked and update.status is not job.status:
        return None
    # A word that says less than what is known moves the job nowhere; it is kept as the provider said it.
    noted = replace(estimated, provider_status=update.provider_status)
    if job.pending_reason is not None and job.pending_reason.kind in _TROUBLE and job.status in _PENDING_TEXT:
        kind, text = _PENDING_TEXT[job.status]
        noted = replace(noted, pending_reason=PendingReason(kind, text.format(backend=job.backend), update.at))
    return None if noted == job else Change(replace(noted, updated_at=update.at), EventType.STATUS_CHANGED)


def trouble_kind(error: GatewayError) -> PendingKind:
    """Return why a job waits after an error of its provider that may pass."""
    if error.reason is Reason.CREDENTIALS_REFUSED or isinstance(error, AccountRefused | PermissionDenied):
        return PendingKind.CREDENTIALS_REFUSED
    if error.reason is Reason.INSTANCE_LIMIT_REACHED:
        return PendingKind.INSTANCE_LIMIT
    return PendingKind.PACED if isinstance(error, ResourceExhausted) else PendingKind.PROVIDER_UNREACHABLE


def troubled(job: Job, kind: PendingKind, message: str) -> Change | None:
    """Note why there is no news of a job that the provider has. Saying the same again is no change."""
    known = job.pending_reason
    if job.status.is_final or (known is not None and known.kind is kind):
        return None
    now = utc_now()
    reason = PendingReason(kind, message, now)
    return Change(replace(job, pending_reason=reason, updated_at=now), EventType.STATUS_CHANGED, message)


def charged(job: Job, seconds: float | None) -> Change | None:
    """Note what the provider charges for a job, where it told that after the end of the job only."""
    if seconds is None and job.usage.reserved_seconds and job.status is not JobStatus.DONE:
        unused = replace(job, usage=replace(job.usage, reserved_seconds=0.0), updated_at=utc_now())
        return Change(unused, EventType.UPDATED, "The provider charges nothing.")
    if seconds is None or seconds == job.usage.charged_seconds:
        return None
    settled = replace(job, usage=replace(job.usage, charged_seconds=seconds), updated_at=utc_now())
    return Change(settled, EventType.UPDATED, "The provider settled what it charges.")


def to_be_recorded(change: Change | None) -> Change | None:
    """Let the record of a run be made that ends with a change, if it does."""
    if change is None or not change.job.status.is_final:
        return change
    return replace(change, record_due=True)


def failed(job: Job, failure: JobFailure) -> Change | None:
    """Note that the job failed in a way that its provider does not tell of."""
    if job.status.is_final:
        return None
    return Change(
        with_status(job, JobStatus.ERROR, utc_now(), failure=failure), EventType.STATUS_CHANGED, failure.message
    )


def sent(job: Job) -> Job:
    """Return the job as it is while its provider is told of it: from now on the provider may have it."""
    return replace(job, submission=Submission(SubmissionState.SENT, _attempts(job)))


def about_to_be_sent(job: Job) -> Change | None:
    """Note that the provider is about to be told of the job, unless a caller cancelled it meanwhile."""
    if job.status.is_final:
        return None
    return Change(replace(sent(job), updated_at=utc_now()), EventType.STATUS_CHANGED)


def unanswered(job: Job, message: str) -> Change | None:
    """Note that the provider takes long to say whether it takes the job, unless it has said so by now."""
    if job.status.is_final or job.submission.state is not SubmissionState.SENT:
        return None
    now = utc_now()
    reason = PendingReason(PendingKind.SUBMITTING, message, now)
    return Change(replace(job, pending_reason=reason, updated_at=now), EventType.STATUS_CHANGED, message)


def pace(account: str, since: datetime, seconds: float) -> PendingReason:
    """Return why a job waits whose account may not send more jobs for some seconds."""
    message = f"The account {account!r} may send only so many jobs per minute; this one waits for its turn."
    return PendingReason(PendingKind.PACED, message, since, since + timedelta(seconds=seconds))


def held_up(job: Job, reason: PendingReason) -> Change | None:
    """Note what holds up a job that waits behind others for its hand-over. Saying the same again is no change."""
    known = job.pending_reason
    is_told = known is not None and known.kind is reason.kind
    if job.status.is_final or is_told or job.cancel_requested or job.submission.state is not SubmissionState.PENDING:
        return None
    waiting = replace(job, pending_reason=reason, updated_at=utc_now())
    return Change(waiting, EventType.STATUS_CHANGED, reason.message)


def in_doubt(job: Job, message: str, retry_at: datetime) -> Change | None:
    """Note that the provider may or may not have the job."""
    if job.status.is_final or job.submission.state is SubmissionState.UNKNOWN:
        return None
    now = utc_now()
    doubtful = replace(
        job,
        submission=Submission(SubmissionState.UNKNOWN, _attempts(job)),
        pending_reason=PendingReason(PendingKind.SUBMISSION_UNKNOWN, message, now, retry_at),
        updated_at=now,
    )
    return Change(doubtful, EventType.STATUS_CHANGED, message)


def not_taken(job: Job, twins_until: datetime | None = None) -> Change | None:
    """Note that the provider does not have the job, after a doubt. One that is to be cancelled is cancelled by that.

    Args:
        job: The job.
        twins_until: Until when the provider may turn out to have it after all.
    """
    if job.status.is_final:
        return None
    now = utc_now()
    if job.cancel_requested:
        return replace(_cancelled_before(job, now), twins_until=twins_until)
    message = "The provider did not take the job; it is sent again."
    again = replace(
        job,
        submission=replace(job.submission, state=SubmissionState.PENDING),
        pending_reason=PendingReason(PendingKind.SUBMITTING, message, now),
        updated_at=now,
    )
    return Change(again, EventType.STATUS_CHANGED, message)


def twin_found(job: Job, provider_job_id: str, *, alive: bool) -> Change:
    """Tell that the provider has the job twice, and whether the second can still be cancelled."""
    what = "that one is cancelled" if alive else "that one ran before it was found"
    again = "a second time" if job.provider_job_id else "after all"
    message = f"The provider has the job {again}, as {provider_job_id}; {what}."
    return Change(replace(job, updated_at=utc_now()), EventType.NOTE, message)


def finished(job: Job, update: ProviderUpdate, result: KeptPayload) -> Change | None:
    """Note that the job is done, with its result."""
    if job.status.is_final:
        return None
    sha256 = result.sha256 if isinstance(result, KeptFile) else hashlib.sha256(result).hexdigest()
    summary = ResultSummary(payload_size(result), sha256)
    done = with_status(
        _started(job, update),
        JobStatus.DONE,
        update.at,
        provider_status=update.provider_status,
        result=summary,
        usage=_usage(job, update),
    )
    return Change(done, EventType.STATUS_CHANGED, result=result)


def ended(job: Job, update: ProviderUpdate) -> Change | None:
    """Note that the job failed or was cancelled."""
    if job.status.is_final:
        return None
    failure = update.failure or JobFailure(Reason.PROVIDER_ERROR, "The provider gave no reason.")
    if failure.reason is Reason.CANCELLED_UPSTREAM and job.cancel_requested:
        failure = JobFailure(Reason.CANCELLED_BY_CALLER, "A caller cancelled the job.", failure.provider_code)
    job = with_status(
        _started(job, update),
        update.status,
        update.at,
        provider_status=update.provider_status,
        failure=failure,
        usage=_usage(job, update),
    )
    return Change(job, EventType.STATUS_CHANGED, failure.message)


def forgotten(job: Job) -> Change | None:
    """Take the job back to before its hand-over, because the provider forgot it when the gateway stopped."""
    if job.status.is_final:
        return None
    now = utc_now()
    if job.cancel_requested:
        failure = JobFailure(Reason.CANCELLED_BY_CALLER, "Cancelled by the caller while the gateway stopped.")
        return Change(
            with_status(job, JobStatus.CANCELLED, now, failure=failure), EventType.STATUS_CHANGED, failure.message
        )
    message = "Runs again from the beginning, because the gateway was restarted."
    job = with_status(
        job,
        JobStatus.INITIALIZING,
        now,
        provider_job_id="",
        provider_status="",
        submission=Submission(SubmissionState.PENDING, job.submission.attempts),
        pending_reason=PendingReason(PendingKind.SUBMITTING, message, now),
    )
    return Change(job, EventType.STATUS_CHANGED, message)


def refused(job: Job, failure: JobFailure) -> Change | None:
    """Note that the job will never reach its provider."""
    if job.status.is_final:
        return None
    submission = Submission(SubmissionState.REFUSED, _attempts(job))
    job = with_status(job, JobStatus.ERROR, utc_now(), failure=failure, submission=submission)
    return Change(job, EventType.STATUS_CHANGED, failure.message)


def waits(job: Job, reason: PendingReason) -> Change | None:
    """Note why the job is not handed over yet. Saying the same again is no change.

    A job that is to be cancelled waits no longer: it is cancelled.
    """
    known = job.pending_reason
    is_told = known is not None and known.kind is reason.kind
    if job.status.is_final or (is_told and job.submission.state is SubmissionState.PENDING):
        return None
    now = utc_now()
    if job.cancel_requested:
        return _cancelled_before(job, now)
    since = known.since if known is not None and known.kind is reason.kind else now
    waiting = with_status(
        job,
        JobStatus.INITIALIZING,
        now,
        provider_job_id="",
        provider_status="",
        submission=replace(job.submission, state=SubmissionState.PENDING),
        pending_reason=replace(reason, since=since),
    )
    return Change(waiting, EventType.STATUS_CHANGED, reason.message)


def account_missing(job: Job, message: str) -> Change | None:
    """Note that nobody can look after the job, because its account is not configured."""
    now = utc_now()
    reason = PendingReason(PendingKind.PROVIDER_UNREACHABLE, message, now)
    if job.status.is_final or (job.pending_reason is not None and job.pending_reason.message == message):
        return None
    return Change(replace(job, pending_reason=reason, updated_at=now), EventType.STATUS_CHANGED, message)


def cancel_requested(job: Job) -> Change | None:
    """Note that a caller wants the job cancelled. A job that its provider never had is cancelled by that.

    Raises:
        FailedPrecondition: The job is final.
    """
    if job.status.is_final:
        raise FailedPrecondition(
            f"The job is already {job.status}; it cannot be cancelled any more.",
            reason=Reason.JOB_FINAL,
            metadata={"job": job.id, "status": job.status},
        )
    now = utc_now()
    job = replace(job, cancel_requested=True, updated_at=now)
    if job.submission.state is SubmissionState.PENDING:
        return _cancelled_before(job, now)
    return Change(job, EventType.CANCEL_REQUESTED)


def renamed(job: Job, display_name: str | None, tags: tuple[str, ...] | None, expected_etag: str) -> Change | None:
    """Give the job another name, other tags, or both.

    Raises:
        Aborted: `expected_etag` is not empty and not the job's.
    """
    if expected_etag and expected_etag != etag(job):
        raise Aborted(
            "The job changed since it was read. Read it again, and repeat the update if it is still wanted.",
            reason=Reason.ETAG_MISMATCH,
            metadata={"job": job.id, "etag": etag(job)},
        )
    new = replace(
        job,
        display_name=job.display_name if display_name is None else display_name,
        tags=job.tags if tags is None else tags,
    )
    if new == job:
        return None
    return Change(replace(new, updated_at=utc_now()), EventType.UPDATED)


def check_deletable(job: Job) -> None:
    """Refuse to delete a job that is not final.

    Raises:
        FailedPrecondition: The job is not final.
    """
    if not job.status.is_final:
        raise FailedPrecondition(
            f"The job is {job.status}; only a finished job can be deleted. Cancel it first.",
            reason=Reason.JOB_NOT_FINAL,
            metadata={"job": job.id, "status": job.status},
        )


def _cancelled_before(job: Job, now: datetime) -> Change:
    failure = JobFailure(Reason.CANCELLED_BY_CALLER, "Cancelled before it was handed to the provider.")
    cancelled = with_status(job, JobStatus.CANCELLED, now, failure=failure)
    return Change(cancelled, EventType.STATUS_CHANGED, failure.message)


def _attempts(job: Job) -> int:
    """Return how often the job was handed over, the hand-over included that is under way."""
    return job.submission.attempts + (job.submission.state is SubmissionState.PENDING)


def _pending(job: Job, update: ProviderUpdate) -> Job:
    kind, text = _PENDING_TEXT[update.status]
    reason = PendingReason(kind, text.format(backend=job.backend), update.at)
    return with_status(job, update.status, update.at, provider_status=update.provider_status, pending_reason=reason)


def _started(job: Job, update: ProviderUpdate) -> Job:
    """Return the job with the time of its start, where news of that was overtaken."""
    if update.started_at is None or job.reached(JobStatus.RUNNING) is not None:
        return job
    return replace(job, steps=(*job.steps, JobStep(JobStatus.RUNNING, update.started_at)))


def _usage(job: Job, update: ProviderUpdate) -> JobUsage:
    known = job.usage
    return replace(
        known,
        estimated_seconds=known.estimated_seconds if update.estimated_seconds is None else update.estimated_seconds,
        charged_seconds=known.charged_seconds if update.charged_seconds is None else update.charged_seconds,
    )
