"""Jobs and their life."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tests.emulators.ibm_quantum.accounts import Account, Instance
from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.outcome import Outcome
from tests.emulators.ibm_quantum.execution.worker import PROGRAMS, Worker
from tests.emulators.ibm_quantum.sessions import Session, Sessions
from tests.emulators.ibm_quantum.settings import Settings
from tests.emulators.ibm_quantum.wire import ApiError, invalid_body, not_found, now, stamp

_MAX_COST = 10_800
_ID_LETTERS = "0123456789abcdefghijklmnopqrstuv"
_ID_LENGTH = 20
_DEFAULT_COST = 300


class State(StrEnum):
    """State of a job, in the service's words."""

    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    CANCELLED = "Cancelled"
    FAILED = "Failed"

    @property
    def pending(self) -> bool:
        """Whether it is not final."""
        return self in (State.QUEUED, State.RUNNING)


@dataclass
class Job:
    """A job."""

    id: str
    crn: str
    user_id: str
    backend: str
    program: str
    params: dict[str, Any]
    tags: list[str]
    cost: int
    private: bool
    session_id: str | None
    runtime: str | None
    calibration_id: str | None
    manual: bool
    created: datetime = field(default_factory=now)
    state: State = State.QUEUED
    state_word: str | None = None
    """What `state.status` says, if not the state."""
    status_word: str | None = None
    """What the legacy field `status` says, if not the state."""
    reason: str | None = None
    reason_code: int | None = None
    reason_solution: str | None = None
    running_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    results_reads: int = 0
    deleted: bool = False
    forgotten: bool = False
    steps: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    """Each entry lets a job that is advanced by hand take one step."""

    @property
    def mock(self) -> bool:
        """Whether it is for the mock of a device."""
        return self.backend.startswith("mock_")

    @property
    def known(self) -> bool:
        """Whether the service still knows it."""
        return not (self.deleted or self.forgotten)

    def document(self, *, exclude_params: bool, version: str) -> dict[str, Any]:
        """Return the job as JSON, in the shape of a version of the API."""
        optional = {
            "session_id": self.session_id,
            "runtime": self.runtime,
            "calibration_id": self.calibration_id,
            "private": self.private or None,
            "usage": None if self.state.pending else self.usage(version),
            "params": None if exclude_params or self.private else self.params,
        }
        reason = {"reason": self.reason, "reason_code": self.reason_code, "reason_solution": self.reason_solution}
        state = {
            "status": self.state_word or self.state,
            **{name: value for name, value in reason.items() if value is not None},
        }
        return {
            "id": self.id,
            "backend": self.backend,
            "state": state,
            "status": self.status_word or self.state,
            "program": {"id": self.program},
            "created": stamp(self.created),
            "cost": self.cost,
            "tags": self.tags,
            "user_id": self.user_id,
            "estimated_running_time_seconds": self.estimated_seconds,
            **{name: value for name, value in optional.items() if value is not None},
        }

    @property
    def estimated_seconds(self) -> float:
        """What the service expects it to take."""
        return 1.5

    def usage(self, version: str) -> dict[str, Any]:
        """Return the quantum time that was used, in the shape of a version of the API."""
        if version >= "2026-03-15":
            status = "pending" if self.state.pending else "complete"
            return {"qpu_charge_time_seconds": self.quantum_seconds, "status": status}
        return {"quantum_seconds": self.quantum_seconds, "seconds": self.quantum_seconds}

    @property
    def quantum_seconds(self) -> int:
        """Quantum time that is charged."""
        return self.outcome.quantum_seconds if self.outcome and self.state is State.COMPLETED else 0

    def metrics(self, version: str, position: int | None, start: datetime | None) -> dict[str, Any]:
        """Return the job's metrics, in the shape of a version of the API.

        Args:
            version: The version.
            position: Its place in the queue, if it is told.
            start: When it is expected to run, if it is told.
        """
        completion = None if start is None else start + timedelta(seconds=self.estimated_seconds)
        document: dict[str, Any] = {
            "timestamps": {
                "created": stamp(self.created),
                "running": stamp(self.running_at),
                "finished": stamp(self.finished_at),
            },
            "usage": self.usage(version),
            "qiskit_version": "2.6.2",
            "estimated_start_time": stamp(start),
            "estimated_completion_time": stamp(completion),
            "position_in_queue": position,
            "position_in_provider": position,
        }
        busy = self.outcome.circuits_execution_time_ns if self.outcome else 0
        if version >= "2026-04-15":
            document["circuits_execution_time_ns"] = busy
        if version < "2026-03-15":
            document["bss"] = {"seconds": self.quantum_seconds}
        return document

    def results(self) -> str | None:
        """Return the body of the results: of a failed job what it wrote, otherwise None if there are none."""
        if self.state is State.FAILED:
            return self.outcome.text if self.outcome else ""
        if self.state is not State.COMPLETED or self.outcome is None or self.outcome.failure_code is not None:
            return None
        assert self.running_at is not None
        assert self.finished_at is not None
        return self.outcome.text_at(self.running_at, self.finished_at)


class Jobs:
    """All jobs, and the tasks that live their lives.

    Args:
        settings: How jobs behave.
        worker: Runs programs.
        sessions: To which jobs may belong.
        ids: Where the ids of jobs come from.
    """

    def __init__(self, settings: Settings, worker: Worker, sessions: Sessions, ids: random.Random) -> None:
        self._settings = settings
        self._worker = worker
        self._sessions = sessions
        self._ids = ids
        self._jobs: dict[str, Job] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Job]:
        """Iterate over all jobs, oldest first, those included that the service no longer knows."""
        return iter(self._jobs.values())

    def __getitem__(self, name: str) -> Job:
        """Return a job, even one that the service no longer knows.

        Raises:
            ApiError: 404, if there never was one.
        """
        if name not in self._jobs:
            raise not_found("Job", name)
        return self._jobs[name]

    def get(self, instance: Instance, name: str) -> Job:
        """Return a job of an instance.

        Raises:
            ApiError: 404, if the instance has no such job.
        """
        job = self._jobs.get(name)
        if job is None or job.crn != instance.crn or not job.known:
            raise not_found("Job", name)
        return job

    def submit(self, account: Account, instance: Instance, body: Mapping[str, Any]) -> Job:
        """Take a job, which has passed all checks that need no look at its body.

        Raises:
            ApiError: If the body is not valid, or the session takes no jobs.
        """
        if "start_session" in body:
            raise invalid_body("start_session is no longer supported; open a session first")
        program, params, cost = body.get("program_id"), body.get("params"), body.get("cost", _DEFAULT_COST)
        if program not in PROGRAMS:
            raise invalid_body(f"program_id must be one of {', '.join(PROGRAMS)}")
        if not isinstance(params, dict):
            raise invalid_body("params must be an object")
        if not isinstance(cost, int) or cost < 0:
            raise invalid_body("cost must be 0 or more seconds")
        session = self._session(instance, body.get("session_id"))
        job = Job(
            id="d" + "".join(self._ids.choices(_ID_LETTERS, k=_ID_LENGTH - 1)),
            crn=instance.crn,
            user_id=account.user_id,
            backend=body["backend"],
            program=program,
            params=params,
            tags=checked_tags(body.get("tags", [])),
            cost=min(cost, _MAX_COST) or _MAX_COST,
            private=bool(body.get("private", False)),
            session_id=session.id if session else None,
            runtime=body.get("runtime"),
            calibration_id=body.get("calibration_id"),
            manual=self._settings.manual,
        )
        if session:
            session.job_added()
        self._jobs[job.id] = job
        self._lives[job.id] = asyncio.get_running_loop().create_task(self._live(job, instance))
        return job

    def pending(self, *, crn: str | None = None, backend: str | None = None) -> list[Job]:
        """Return the jobs that are not final, oldest first."""
        return [
            job
            for job in self
            if job.state.pending and not job.forgotten and crn in (None, job.crn) and backend in (None, job.backend)
        ]

    def cancel(self, job: Job) -> None:
        """Cancel a job.

        Raises:
            ApiError: 409, if it is final already.
        """
        if not job.state.pending:
            raise ApiError(409, Code.NOT_IN_THIS_STATE, f"Job {job.id} is {job.state} already.")
        self.end(job, State.CANCELLED, reason="")

    def delete(self, job: Job) -> None:
        """Delete a job.

        Raises:
            ApiError: 400, if it is not final.
        """
        if job.state.pending:
            raise ApiError(400, Code.NOT_IN_THIS_STATE, f"Job {job.id} is {job.state}.", "Cancel it first.")
        job.deleted = True

    def step(self, job: Job) -> None:
        """Let a job that is advanced by hand take its next step."""
        job.steps.put_nowait(None)

    def end(
        self,
        job: Job,
        state: State,
        *,
        reason: str | None = None,
        code: int | None = None,
        solution: str | None = None,
        status_word: str | None = None,
    ) -> None:
        """Bring a job into a final state at once, whatever it does."""
        life = self._lives.pop(job.id, None)
        if life is not None and life is not asyncio.current_task():
            life.cancel()
        was_pending, job.state, job.status_word = job.state.pending, state, status_word
        job.reason, job.reason_code, job.reason_solution = reason, code, solution
        job.finished_at = job.finished_at or now()
        session = self._sessions.of_job(job.session_id)
        if was_pending and session:
            session.job_ended()

    def end_session(self, session: Session, reason: str | None = None) -> None:
        """Close a session, and cancel its jobs."""
        session.state_reason = reason
        session.refuse_jobs()
        for job in self.pending(crn=session.crn):
            if job.session_id == session.id:
                self.end(job, State.CANCELLED, reason="")

    def reset(self) -> None:
        """Forget all jobs."""
        self._jobs.clear()

    async def close(self) -> None:
        """End all lives."""
        lives = list(self._lives.values())
        self._lives.clear()
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    async def _live(self, job: Job, instance: Instance) -> None:
        settings = self._settings.model_copy()
        await self._wait(job, settings.queue_seconds)
        self._start(job)
        # Not before: a job that waits must not slow down whoever measures beside it.
        computing = asyncio.ensure_future(
            self._worker.run(
                job.program,
                job.params,
                job.backend,
                seed=settings.seed,
                noise=settings.noise,
                max_qpy_version=settings.max_qpy_version,
            )
        )
        try:
            too_long = not job.manual and settings.run_seconds > job.cost
            await self._wait(job, min(settings.run_seconds, job.cost))
            if too_long:
                self._ran_too_long(job)
                return
            job.outcome = outcome = await computing
        finally:
            computing.cancel()
        if outcome.failure_code is not None:
            self.end(job, State.FAILED, reason=outcome.failure, code=outcome.failure_code, solution=outcome.solution)
            return
        self.end(job, State.COMPLETED)
        instance.usage_consumed_seconds += job.quantum_seconds

    async def _wait(self, job: Job, seconds: float) -> None:
        if job.manual:
            await job.steps.get()
        else:
            await asyncio.sleep(seconds)

    def _start(self, job: Job) -> None:
        job.state, job.running_at = State.RUNNING, now()
        session = self._sessions.of_job(job.session_id)
        if session:
            session.job_started()

    def _ran_too_long(self, job: Job) -> None:
        self.end(
            job,
            State.CANCELLED,
            reason="Ran too long",
            code=Code.RAN_TOO_LONG,
            solution="Raise the maximum execution time, or run less work per job.",
            status_word="Cancelled - Ran too long",
        )

    def _session(self, instance: Instance, name: Any) -> Session | None:
        if name is None:
            return None
        session = self._sessions.get(instance, str(name))
        if session.expired():
            self.end_session(session, "The session ran for as long as it may.")
        return session


def checked_tags(tags: Any) -> list[str]:
    """Return tags without repetitions.

    Raises:
        ApiError: 400, if they are not a list of strings.
    """
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise invalid_body("tags must be a list of strings")
    return list(dict.fromkeys(tags))
