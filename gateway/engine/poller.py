"""Follows the jobs of a provider that has to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from gateway.domain.errors import GatewayError, NotFound, OutOfRange, Reason, Unavailable, WorkerFailure
from gateway.domain.failpoints import async_failpoint
from gateway.domain.job import Change, Job, JobFailure, JobStatus, PendingKind, utc_now
from gateway.domain.provider import NoNews, Provider, ProviderUpdate
from gateway.engine import transitions
from gateway.engine.hub import Hub
from gateway.engine.pacing import Pacing, jittered
from gateway.engine.queue_places import QueuePlaces
from gateway.engine.recent_results import RecentResults
from gateway.engine.recorder import Recorder
from gateway.store import Store

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_ROUND_SECONDS = 600.0
"""A round that takes longer than this is given up."""
_LOOK_SECONDS = 1.0
"""How long a pause goes on before its length is thought over: somebody may have begun to watch."""
_AT_ONCE = 4
"""Jobs whose news is brought into the store at a time."""
_LATER_SECONDS = 5.0
"""Wait after the first failed look at one job, or fetch of its result."""
_MOST_WORKER_FAILURES = 3
"""So often a result is read anew that crashed the process which read it, or was too much for it."""


@dataclass(slots=True)
class _Later:
    """Failed attempts to learn of a job, or to bring its result in."""

    attempts: int = 0
    worker_failures: int = 0
    """How many of them the process that read the result did not outlive."""
    not_before: float = 0.0
    absent_since: float | None = None
    """Since when the provider has no result of it, although it is DONE."""


class Poller:
    """Follows the jobs of one provider by asking for all of them together, as often as is worth it."""

    def __init__(
        self,
        provider: Provider,
        store: Store,
        hub: Hub,
        *,
        places: QueuePlaces,
        recent_results: RecentResults,
        pacing: Pacing,
        recorder: Recorder,
    ) -> None:
        self._provider = provider
        self._places = places
        self._store = store
        self._hub = hub
        self._recent_results = recent_results
        self._pacing = pacing
        self._recorder = recorder
        self._jobs: dict[str, str] = {}
        self._busy: dict[str, asyncio.Lock] = {}
        self._later: dict[str, _Later] = {}
        self._long: dict[str, asyncio.Task[None]] = {}
        """What takes long: results on their way, and calls that cancel jobs. Rounds go on beside it, and leave these jobs out."""
        self._few_long = asyncio.Semaphore(_AT_ONCE)
        self._missing: dict[str, float] = {}
        """Since when the provider does not know a job, on the clock of the event loop."""
        self._failures = 0
        self._wake = asyncio.Event()

    def track(self, provider_job_id: str, job_id: str) -> None:
        """Follow a job from now on."""
        self._jobs[provider_job_id] = job_id
        self._wake.set()

    async def run(self) -> None:
        """Ask for the jobs until cancelled."""
        try:
            while True:
                while not self._jobs:
                    self._wake.clear()
                    await self._wake.wait()
                try:
                    least = await self._round()
                except Exception:  # noqa: BLE001 - the next round may do better, and nobody else would make one
                    _log.exception("round_failed", account=self._provider.account)
                    least = self._pacing.longest_poll
                await self._pause(least)
        finally:
            for task in self._long.values():
                task.cancel()
            await asyncio.gather(*self._long.values(), return_exceptions=True)

    async def apply(self, update: ProviderUpdate) -> None:
        """Commit what one update says; ignore it if the job is final or gone."""
        provider_job_id = update.provider_job_id
        if provider_job_id not in self._jobs:
            return
        # One at a time for each job: its end can be heard twice, in a round and as the answer to a caller.
        async with self._busy.setdefault(provider_job_id, asyncio.Lock()):
            job_id = self._jobs.get(provider_job_id)
            if job_id is None:
                return
            if update.status is not JobStatus.QUEUED:
                self._places.drop(provider_job_id)
            if not update.status.is_final:
                self._later.pop(provider_job_id, None)
            job = await self._hub.job(job_id)
            if job is None or job.status.is_final:
                await self._drop(provider_job_id)
            elif update.status is JobStatus.DONE:
                await self._finish(job, update)
            elif update.status.is_final:
                await self._change(job_id, partial(transitions.ended, update=update))
                await self._drop(provider_job_id)
            elif transitions.progressed(job, update, asked=True) is not None:  # most rounds bring nothing new
                await self._change(job_id, partial(transitions.progressed, update=update, asked=True))

    # --- Rounds ---------------------------------------------------------------------------------------------------------

    async def _round(self) -> float:
        """Ask for all jobs once. Returns the least number of seconds until the next round."""
        now = _now()
        asked = tuple(
            known
            for known in self._jobs
            if known not in self._long and (known not in self._later or self._later[known].not_before <= now)
        )
        if not asked:
            return 0.0
        try:
            async with asyncio.timeout(_ROUND_SECONDS):
                updates = await self._provider.poll(asked)
        except TimeoutError:
            error: GatewayError = Unavailable(
                f"The provider of account {self._provider.account!r} does not answer in time."
            )
        except GatewayError as failure:
            error = failure
        else:
            self._failures = 0
            await async_failpoint("poll.told")
            await _each(updates, self._apply_safely)
            await self._look_for_missing(asked, updates)
            self._places.refresh()
            return 0.0
        self._failures += 1
        await self._tell_trouble(asked, error)
        pause = min(self._pacing.longest_poll, self._pacing.shortest_poll * 2.0 ** min(self._failures, 20))
        _log.warning("round_failed", account=self._provider.account, detail=error.message, failures=self._failures)
        return max(pause, error.retry_after or 0.0)

    async def _apply_safely(self, update: ProviderUpdate | NoNews) -> None:
        name = update.provider_job_id
        with self._told_if_it_fails(name):
            if isinstance(update, NoNews):
                self._try_later(name, update.error)
                await self._tell_trouble([name], update.error)
                return
            if update.status is JobStatus.DONE:
                self._begin_long(name, partial(self.apply, update))
                return
            await self.apply(update)
            job = await self._hub.job(self._jobs.get(name, ""))
            if job is not None and job.cancel_requested and not job.status.is_final and not update.status.is_final:
                # The call that asked for it may have failed, or come before the provider had the job.
                self._begin_long(name, partial(self._cancel, name))

    async def _cancel(self, provider_job_id: str) -> None:
        await self.apply(await self._provider.cancel(provider_job_id))

    def _begin_long(self, provider_job_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do what may take long about one job, and leave it out of the rounds meanwhile."""

        async def do() -> None:
            async with self._few_long:
                with self._told_if_it_fails(provider_job_id):
                    await work()

        if provider_job_id in self._long:
            return
        task = self._long[provider_job_id] = asyncio.create_task(do())
        task.add_done_callback(lambda _: self._long.pop(provider_job_id))

    @contextmanager
    def _told_if_it_fails(self, provider_job_id: str) -> Iterator[None]:
        """Let one job's trouble not end the news of all others."""
        try:
            yield
        except GatewayError as error:
            _log.warning("update_not_applied", account=self._provider.account, detail=error.message)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("update_not_applied", account=self._provider.account, provider_job_id=provider_job_id)

    async def _pause(self, least: float) -> None:
        """Wait until the next round is worth it, at least so many seconds."""
        began, factor = _now(), jittered(1.0)
        interval = self._interval()
        while (left := began + factor * max(least, interval) - _now()) > 0:
            self._wake.clear()
            # A job that comes now asks for a look in twice the shortest time, and for no sooner one.
            soon = interval <= 2 * self._pacing.shortest_poll
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(left) if soon else self._wake.wait(), min(left, _LOOK_SECONDS))
            interval = self._interval()

    def _interval(self) -> float:
        """Return the seconds between two rounds: few if a job has just changed, above all if somebody watches it."""
        shortest, longest, now = self._pacing.shortest_poll, self._pacing.longest_poll, utc_now()
        interval = longest
        for job_id in self._jobs.values():
            job = self._hub.known(job_id)
            if job is None:
                continue
            quiet = (now - job.updated_at).total_seconds()
            watched = self._hub.is_watched(job_id)
            soon = watched or job.status is JobStatus.RUNNING
            low, high = shortest if soon else 2 * shortest, longest / 4 if soon else longest
            interval = min(interval, max(low, min(high, quiet / (20 if watched else 10))))
        return max(shortest, interval)

    async def _tell_trouble(self, asked: Iterable[str], error: GatewayError) -> None:
        change = partial(transitions.troubled, kind=transitions.trouble_kind(error), message=error.message)

        async def tell(provider_job_id: str) -> None:
            job = await self._hub.job(self._jobs.get(provider_job_id, ""))
            if job is not None and change(job) is not None:
                await self._change(job.id, change)

        await _each(asked, tell)

    async def _look_for_missing(self, asked: Iterable[str], updates: Iterable[ProviderUpdate | NoNews]) -> None:
        """Give up jobs that the provider does not know any more, once that is certain."""
        told = {update.provider_job_id for update in updates}
        for provider_job_id in asked:
            job_id = self._jobs.get(provider_job_id)
            if provider_job_id in told or job_id is None:
                self._missing.pop(provider_job_id, None)
                continue
            since = self._missing.setdefault(provider_job_id, _now())
            if _now() - since >= self._pacing.settle_seconds:
                failure = JobFailure(Reason.PROVIDER_ERROR, "The provider does not know the job any more.")
                await self._change(job_id, partial(transitions.failed, failure=failure))
                await self._drop(provider_job_id)

    # --- One job --------------------------------------------------------------------------------------------------------

    async def _finish(self, job: Job, update: ProviderUpdate) -> None:
        """Bring the result in, and only then let the job be DONE."""
        try:
            await async_failpoint("result.before_fetch")
            fetched = await self._provider.fetch_result(update.provider_job_id)
            await async_failpoint("result.fetched")
            result = await self._store.payloads.keep(fetched)
        except NotFound as error:
            later = self._try_later(update.provider_job_id, error)
            if not self._is_absent(later):
                await self._tell_unfetched(job, error)
                return
            failure = JobFailure(Reason.RESULT_ABSENT, error.message)
            await self._change(job.id, partial(transitions.failed, failure=failure))
        except OutOfRange as error:
            await self._change(job.id, partial(transitions.failed, failure=JobFailure(error.reason, error.message)))
        except GatewayError as error:
            later = self._try_later(update.provider_job_id, error)
            later.worker_failures += isinstance(error, WorkerFailure)
            if later.worker_failures < _MOST_WORKER_FAILURES:
                await self._tell_unfetched(job, error)
                return
            await self._change(job.id, partial(transitions.failed, failure=JobFailure(error.reason, error.message)))
        else:
            with self._recent_results.kept(job.id, result):
                await self._change(job.id, partial(transitions.finished, update=update, result=result))
            await async_failpoint("result.stored")
        await self._drop(update.provider_job_id)

    async def _tell_unfetched(self, job: Job, error: GatewayError) -> None:
        kind = PendingKind.FETCHING_RESULT
        await self._change(job.id, partial(transitions.troubled, kind=kind, message=error.message))

    def _is_absent(self, later: _Later) -> bool:
        """Return whether a result was not found for so long that it is certainly not there."""
        if later.absent_since is None:
            later.absent_since = _now()
        return _now() - later.absent_since >= self._pacing.settle_seconds

    def _try_later(self, provider_job_id: str, error: GatewayError) -> _Later:
        """Leave one job alone for a while, after something about it went wrong."""
        later = self._later.setdefault(provider_job_id, _Later())
        later.attempts += 1
        pause = min(self._pacing.longest_poll, _LATER_SECONDS * 2.0 ** min(later.attempts - 1, 20))
        later.not_before = _now() + max(jittered(pause), error.retry_after or 0.0)
        return later

    async def _change(self, job_id: str, change: Callable[[Job], Change | None]) -> Job | None:
        try:
            job = await self._store.change_job(job_id, lambda job: transitions.to_be_recorded(change(job)))
        except NotFound:
            _log.info("update_of_deleted_job", account=self._provider.account, job=job_id)
            return None
        if job.status.is_final:
            self._recorder.add(job_id)
        return job

    async def _drop(self, provider_job_id: str) -> None:
        self._jobs.pop(provider_job_id, None)
        self._later.pop(provider_job_id, None)
        self._missing.pop(provider_job_id, None)
        self._places.drop(provider_job_id)
        self._busy.pop(provider_job_id, None)
        await self._provider.forget(provider_job_id)


async def _each(items: Iterable[_T], act: Callable[[_T], Awaitable[None]]) -> None:
    """Act on all items, a few at a time."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(item: _T) -> None:
        async with few:
            await act(item)

    await asyncio.gather(*(one(item) for item in items))


def _now() -> float:
    return asyncio.get_running_loop().time()
