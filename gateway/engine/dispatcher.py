"""Hands jobs over to a provider, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from gateway.domain.errors import (
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
    ResourceExhausted,
    SubmissionInDoubt,
    Unavailable,
    WorkerFailure,
)
from gateway.domain.failpoints import async_failpoint
from gateway.domain.job import Job, JobFailure, PendingReason, Submission, SubmissionState, utc_now
from gateway.domain.program import PreparedProgram, ProgramReader
from gateway.domain.provider import Capability, Provider, ProviderSubmission
from gateway.engine import transitions
from gateway.engine.doubts import Doubts
from gateway.engine.pacing import Pacing, TokenBucket, jittered
from gateway.engine.poller import Poller
from gateway.engine.tracker import Tracker
from gateway.store import Store

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_RETRY_SECONDS = 5.0
"""Wait before the next try where the provider names none."""
_LONGEST_RETRY_SECONDS = 60.0
"""Longest wait between two tries where the provider names none."""

REFUSALS = (InvalidArgument, FailedPrecondition, PermissionDenied, NotFound, WorkerFailure)
"""Errors of a hand-over that no further try would mend."""


class _NotTaken(Exception):
    """The provider does not take a job for now.

    Args:
        why: What it told.
        of_backend: Whether that is about the job's backend alone.
    """

    def __init__(self, why: GatewayError, *, of_backend: bool = False) -> None:
        super().__init__(why.message)
        self.why = why
        self.of_backend = of_backend


class Dispatcher:
    """Hands jobs over to one provider: at once where it can, else as soon as the provider takes them."""

    def __init__(
        self, provider: Provider, store: Store, reader: ProgramReader, tracker: Tracker | Poller, pacing: Pacing
    ) -> None:
        self._provider = provider
        self._store = store
        self._reader = reader
        self._tracker = tracker
        self._volatile = Capability.VOLATILE in provider.capabilities
        self._bucket = TokenBucket(pacing.submits_per_minute, asyncio.get_running_loop().time)
        self._settle_seconds = pacing.settle_seconds
        self._inline_seconds = pacing.inline_seconds
        self._handing: set[asyncio.Task[Any]] = set()
        """Hand-overs of new jobs. They come to their end even if nobody waits for it any more."""
        self._longest_retry = min(_LONGEST_RETRY_SECONDS, pacing.longest_poll)
        self._doubts = Doubts(
            provider, store, follow=tracker.track, send=self.put_back, settle_seconds=pacing.settle_seconds
        )
        self._unsure: set[str] = set()
        """Jobs of a former run: they are looked up before they are sent."""
        self._backlog: deque[str] = deque()
        self._wake = asyncio.Event()
        self._failures = 0
        """Hand-overs in a row that have to be tried again."""
        self._trouble: PendingReason | None = None
        """Why nothing can be handed over, if that is so. All that wait tell it."""
        self._not_before = 0.0
        """When the provider may be asked again, on the clock of the event loop."""

    @property
    def is_immediate(self) -> bool:
        """Whether a job that comes now goes at once to a provider that runs in the gateway itself: see `begin`."""
        return self._volatile and not self._backlog

    def claim(self) -> tuple[Submission, PendingReason | None]:
        """Return how a new job is to be stored: on its way to the provider, or waiting for its turn, and what holds it up then.

        Only one that is on its way is sent by `hand_over`. So it is in the store, before the provider hears of it, that the
        provider may have it.
        """
        if self._volatile:
            return Submission(), None
        if not self._backlog and self._clock() >= self._not_before and self._bucket.take():
            return Submission(SubmissionState.SENT, attempts=1), None
        return Submission(), self._reason(ahead=len(self._backlog))

    def unclaim(self, job: Job) -> None:
        """Take back the claim of a job that is not stored: it was stored before, or a limit refused it."""
        if not self._volatile and job.submission.state is SubmissionState.SENT:
            self._bucket.give_back()

    async def begin(self, job: Job, program: PreparedProgram) -> None:
        """Hand over a job before it is stored, to a provider that runs in the gateway itself.

        What such a provider does ends with the gateway, so nothing is left behind if the job is not stored after all. The
        caller then calls `abandon`, else `follow`.

        Raises:
            InvalidArgument: The provider refuses it for good.
            ResourceExhausted: It takes no more jobs for now.
            Unavailable: It is away.
        """
        await self._provider.submit(_submission(job, program))

    def follow(self, job: Job) -> None:
        """Follow a job that was begun, now that it is stored."""
        self._tracker.track(job.provider_job_id, job.id)

    async def abandon(self, job: Job) -> None:
        """End a job that was begun and could not be stored."""
        await self._provider.cancel(job.id)
        await self._provider.forget(job.id)

    async def hand_over(self, job: Job, program: PreparedProgram) -> Job:
        """Hand over a job that was just accepted, or let it wait behind those that came before.

        With a provider that takes longer than `Pacing.inline_seconds`, the job is returned as it is, and its hand-over goes on. If
        it is refused after that, it ends in ERROR.

        Raises:
            InvalidArgument, FailedPrecondition, PermissionDenied, NotFound, WorkerFailure: It is refused for good.
        """
        if job.submission.state is not SubmissionState.SENT and (self._backlog or not self._volatile):
            self.put_back(job.id)
            return job
        handing = self._own(self._hand_over(job, program))
        await asyncio.wait([handing], timeout=self._inline_seconds)
        if handing.done():
            return handing.result()
        self._own(self._end_late(job.id, handing))
        message = (
            f"The provider of account {self._provider.account!r} has not answered yet whether it takes the job. The gateway waits "
            "for that, and goes on by itself."
        )
        return await self._store.change_job(job.id, partial(transitions.unanswered, message=message))

    async def postpone(self, job: Job, error: GatewayError) -> Job:
        """Let a stored job wait that the provider did not take, and tell why."""
        try:
            return await self._wait(job, error)
        finally:  # even if that could not be stored: then `run` looks the job up
            self.put_back(job.id)

    async def take_up(self, job: Job) -> None:
        """Go on with an unfinished job, of which nobody waits for an answer any more."""
        if self._volatile or job.submission.state is SubmissionState.REFUSED:
            self.put_back(job.id)
        elif job.submission.state is SubmissionState.ACCEPTED:
            self._tracker.track(job.provider_job_id, job.id)
        elif job.submission.state is SubmissionState.PENDING:
            self._unsure.add(job.id)
            self.put_back(job.id)
        elif job.submission.state is SubmissionState.SENT:
            message = (
                "The gateway was stopped before the provider said whether it took the job. The gateway looks for it."
            )
            await self._doubted(job.id, message, self._settle_seconds)
        else:
            self._doubts.add(job.id)

    def look_for_twins(self, job: Job, until: datetime) -> None:
        """Go on looking, up to a time, for what the provider may have twice."""
        self._doubts.look_for_twins(job, until)

    async def close(self) -> None:
        """Stop handing over, and looking for jobs in doubt. The next start finds out about what was under way."""
        for handing in self._handing:
            handing.cancel()
        await asyncio.gather(*self._handing, return_exceptions=True)
        await self._doubts.close()

    def put_back(self, job_id: str) -> None:
        """Let a stored job wait for its hand-over, behind those that wait already."""
        self._backlog.append(job_id)
        self._wake.set()

    async def run(self) -> None:
        """Hand over the waiting jobs, until cancelled."""
        while True:
            await self._wake.wait()
            while self._backlog:
                await asyncio.sleep(max(self._not_before - self._clock(), self._bucket.delay()))
                if await self._try_to_hand_over(self._backlog[0]):
                    self._backlog.popleft()
            self._wake.clear()

    def _own(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)
        return task

    async def _hand_over(self, job: Job, program: PreparedProgram) -> Job:
        """Hand over a new job. What goes wrong beside the provider leaves it to `run`."""
        try:
            return await self._submit(job, program)
        except _NotTaken as refusal:
            return await self.postpone(job, refusal.why)
        except REFUSALS:
            raise
        except Exception:
            self.put_back(job.id)
            raise

    async def _end_late(self, job_id: str, handing: asyncio.Task[Job]) -> None:
        """Tell of a refusal that came after the caller was answered."""
        try:
            await handing
        except REFUSALS as error:
            try:
                await self._refuse(job_id, error)
            except Exception:  # noqa: BLE001 - nobody waits for it; `run` finds out about the job
                _log.exception("refusal_not_stored", account=self._provider.account, job=job_id)
                self.put_back(job_id)
        except Exception:  # noqa: BLE001 - it was put back
            _log.exception("hand_over_failed", account=self._provider.account, job=job_id)

    async def _refuse(self, job_id: str, error: GatewayError) -> None:
        failure = JobFailure(error.reason, error.message)
        await self._store.change_job(job_id, partial(transitions.refused, failure=failure))

    async def _try_to_hand_over(self, job_id: str) -> bool:
        """Hand over one waiting job. Returns False if it has to wait longer."""
        try:
            return await self._hand_over_stored(job_id)
        except Exception:  # noqa: BLE001 - one job's trouble must not end the hand-over of all others
            _log.exception("hand_over_failed", account=self._provider.account, job=job_id)
            self._pause(_RETRY_SECONDS)
            return False

    async def _hand_over_stored(self, job_id: str) -> bool:
        job = await self._store.get_job(job_id)
        if job is None or job.status.is_final:
            return True
        if not self._volatile and job.submission.state is not SubmissionState.PENDING:
            await self.take_up(job)  # it was sent before, and the store failed over what came of that
            return True
        try:
            program = await self._prepare(job)
            if program is None:
                return True
            if not self._volatile:
                self._bucket.take()
                job = await self._store.change_job(job_id, transitions.about_to_be_sent)
                if job.status.is_final:
                    return True
                await async_failpoint("send.again")
            await self._submit(job, program)
        except _NotTaken as refusal:
            await self._wait(job, refusal.why, of_backend=refusal.of_backend)
            if refusal.of_backend:
                self._backlog.rotate(-1)  # jobs for other backends need not wait for this one
            return False
        except REFUSALS as error:
            await self._refuse(job_id, error)
        return True

    async def _prepare(self, job: Job) -> PreparedProgram | None:
        """Read the program of a waiting job. Returns None if its provider turns out to have the job.

        Raises:
            _NotTaken: The provider does not let itself be asked.
        """
        try:
            if job.id in self._unsure:
                if found := await self._provider.find(job.id):
                    await self._doubts.adopt(job.id, found)
                    return None
                self._unsure.discard(job.id)
            await self._provider.ready()
            backend = await self._provider.backend(job.backend)
            return await self._reader.prepare(await self._store.read_program(job.id), backend, job.options)
        except PermissionDenied as error:  # it is the account's key that is refused, and not the job
            refused = Unavailable(error.message, reason=Reason.CREDENTIALS_REFUSED, metadata=error.metadata)
            raise _NotTaken(refused) from None
        except (ResourceExhausted, Unavailable) as error:
            raise _NotTaken(error, of_backend="backend" in error.metadata) from None

    async def _submit(self, job: Job, program: PreparedProgram) -> Job:
        """Tell the provider of a job, once.

        Raises:
            _NotTaken: It does not take the job for now.
            GatewayError: It refuses the job for good.
        """
        await async_failpoint("send.before")
        try:
            update = await self._provider.submit(_submission(job, program))
        except (ResourceExhausted, Unavailable) as error:
            await async_failpoint("send.refused")
            raise _NotTaken(error) from None
        except REFUSALS:
            await async_failpoint("send.refused")
            raise
        except Exception as error:
            if self._volatile:
                raise
            await async_failpoint("send.doubted")
            return await self._doubt(job, error)
        await async_failpoint("send.answered")
        twins_until = None if self._volatile else self._doubts.twins_until()
        accepted = partial(transitions.accepted, update=update, twins_until=twins_until)
        job = await self._store.change_job(job.id, accepted)
        await async_failpoint("send.accepted")
        self._failures = 0
        if self._trouble is not None:
            self._trouble = None
            await self._tell_waiting(job.id)
        self._tracker.track(update.provider_job_id, job.id)
        if job.status.is_final or job.cancel_requested:  # a caller cancelled it while it was on its way
            await self._cancel(update.provider_job_id)
        if twins_until is not None and job.submission.attempts > 1:
            self._doubts.look_for_twins(job, twins_until)
        return job

    async def _cancel(self, provider_job_id: str) -> None:
        try:
            await self._provider.cancel(provider_job_id)
        except GatewayError as error:  # it is tracked, and tracking tries again
            _log.warning("cancel_failed", account=self._provider.account, detail=error.message)

    async def _doubt(self, job: Job, error: Exception) -> Job:
        """Let a job be looked up that the provider may or may not have."""
        seconds = self._settle_seconds
        if isinstance(error, SubmissionInDoubt):
            message, seconds = error.message, error.retry_after or seconds
        else:
            _log.error("submission_failed", account=self._provider.account, job=job.id, exc_info=error)
            message = "Whether the provider has the job is not known yet. The gateway looks it up."
        return await self._doubted(job.id, message, seconds)

    async def _doubted(self, job_id: str, message: str, seconds: float) -> Job:
        retry_at = utc_now() + timedelta(seconds=seconds)
        job = await self._store.change_job(job_id, partial(transitions.in_doubt, message=message, retry_at=retry_at))
        self._doubts.add(job_id, seconds)
        return job

    async def _wait(self, job: Job, error: GatewayError, *, of_backend: bool = False) -> Job:
        kind = transitions.trouble_kind(error)
        self._failures += 1
        pause = min(_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 10), self._longest_retry)
        seconds = error.retry_after or (_RETRY_SECONDS if self._volatile else jittered(pause))
        self._pause(seconds)
        now = utc_now()
        before, reason = self._trouble, PendingReason(kind, error.message, now, now + timedelta(seconds=seconds))
        if of_backend:
            return await self._store.change_job(job.id, partial(transitions.waits, reason=reason))
        self._trouble = reason
        waiting = await self._store.change_job(job.id, partial(transitions.waits, reason=reason))
        if before is None or before.kind is not kind:
            await self._tell_waiting(job.id)
        return waiting

    async def _tell_waiting(self, but: str) -> None:
        """Let the jobs that wait, all but one, say why. That it is still so is not said again."""

        async def tell(job_id: str, reason: PendingReason) -> None:
            with suppress(NotFound):  # deleted
                await self._store.change_job(job_id, partial(transitions.held_up, reason=reason))

        waiting = (job_id for job_id in self._backlog if job_id != but)
        reasons = [(job_id, self._reason(ahead)) for ahead, job_id in enumerate(waiting)]
        await asyncio.gather(*(tell(job_id, reason) for job_id, reason in reasons if reason is not None))

    def _reason(self, ahead: int) -> PendingReason | None:
        """Return what holds up a job that has so many before it; None if it is about to be handed over."""
        if self._trouble is not None:
            return self._trouble
        delay = self._bucket.delay(ahead=ahead)
        return transitions.pace(self._provider.account, utc_now(), delay) if delay else None

    def _pause(self, seconds: float) -> None:
        self._not_before = self._clock() + seconds

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()


def _submission(job: Job, program: PreparedProgram) -> ProviderSubmission:
    return ProviderSubmission(
        marker=job.id,
        backend=job.backend,
        program=program,
        options=job.options,
        job_name=f"jobs/{job.id}",
        tags=job.tags,
        session=job.provider_session_id,
    )
