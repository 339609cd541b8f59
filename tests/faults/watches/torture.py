"""A whole run: watchers that record while everything breaks, and the verdict on what they saw."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.access.api_keys import new_api_key
from tests.faults.watches import watchers
from tests.faults.watches.chaos import Damage, ServerChaos, harm_connections
from tests.faults.watches.gaps import gaps, is_refused_rightly
from tests.faults.watches.load import TAGS, Load
from tests.faults.watches.promises import (
    Violation,
    history_violations,
    listing_violations,
    store_violations,
    violations,
)
from tests.faults.watches.recording import Event, Scope
from tests.faults.watches.tape import Archive
from tests.faults.watches.truth import stored_truth
from tests.faults.watches.witness import Witness
from tests.support.gateway_process import GatewayProcess
from tests.support.tcp_proxy import TcpProxy

_FINISH_SECONDS = 90.0
"""Seconds that jobs and watchers get to come to their end when nothing breaks any more."""
_FILTERS = (None, *TAGS, "nobody")
"""Tags by which watchers of filters choose; no job has the last."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard a run is."""

    seed: int
    seconds: float
    """Least time for which things break. It lasts until all has happened that is asked for, but not longer than `most_seconds`."""
    most_seconds: float
    """Most time for which things break: a slow machine takes longer to get as far."""
    events: int
    """Least number of events that the watchers must have been told. With fewer, the run has failed."""
    kills: int
    """Least number of kills. With fewer, the run has failed."""
    gaps: int = 0
    """Least number of times that watchers must have been told states in place of history that is gone. With fewer, the run has
    failed."""
    deletions: int = 0
    """Least number of jobs that must have been deleted. With fewer, the run has failed."""
    filter_watchers: int = 20
    rewinders: int = 4
    sleepers: int = 6
    """Watchers of filters that leave for longer than the history is kept."""
    job_watchers: int = 16
    aio_watchers: int = 6
    library_watchers: int = 4
    library_filter_watchers: int = 3
    """Watchers of filters with the library, and as many with the library for asyncio."""
    proxies: int = 6
    waiting_jobs: int = 16
    changes_per_second: float = 30.0
    life: tuple[float, float] = (3.0, 10.0)
    """Shortest and longest life of a server, in seconds."""
    heartbeat: float = 1.0
    """Interval of the heartbeats, in seconds."""
    history: int = 300
    """Most events that the server keeps."""
    stalled: float = 1.0
    """Seconds after which the server ends a stream that is not read."""


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    plan: Plan
    seconds: float = 0.0
    damage: Damage = field(default_factory=Damage)
    history: int = 0
    """Events in the history."""
    jobs: int = 0
    acknowledged: int = 0
    """States of jobs that calls returned."""
    compacted: int = 0
    """Revision up to which the history was gone at the end."""
    gaps: int = 0
    """How often a watcher was told states in place of history that was gone."""
    refusals: int = 0
    """How often a watcher was refused because history or job was gone."""
    deletions: int = 0
    """Jobs that were deleted."""
    watches: int = 0
    watches_of_jobs: int = 0
    records: Counter[str] = field(default_factory=Counter)
    """Entries in all records, by kind."""
    violations: list[Violation] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """What did not come to its end in time, and errors that nothing explains."""

    @property
    def seen(self) -> int:
        """Events that watchers were told."""
        return self.records["told"]

    def broken(self, promise: str) -> int:
        """Return how often a promise was broken."""
        return sum(violation.promise == promise for violation in self.violations)

    @property
    def shortcomings(self) -> list[str]:
        """What the run did not do that it was to do."""
        found = []
        if self.seen < self.plan.events:
            found.append(f"only {self.seen} of {self.plan.events} events were seen")
        if self.damage.killed < self.plan.kills:
            found.append(f"the server was killed only {self.damage.killed} of {self.plan.kills} times")
        if self.gaps < self.plan.gaps:
            found.append(
                f"only {self.gaps} of {self.plan.gaps} times states were told in place of history that was gone"
            )
        if self.deletions < self.plan.deletions:
            found.append(f"only {self.deletions} of {self.plan.deletions} jobs were deleted")
        return found + self.unfinished

    @property
    def passed(self) -> bool:
        """Whether every promise was kept, and the run was hard enough to say so."""
        return not self.violations and not self.shortcomings


Progress = Callable[[float, int, int], None]
"""Is told the seconds, the events that were seen, and the kills so far."""


class Torture:
    """One run.

    Args:
        plan: How long and how hard it is.
        folder: Where the server's store and log are kept.
        on_progress: Told now and then how far it is.
    """

    def __init__(self, plan: Plan, folder: Path, on_progress: Progress = lambda *_: None) -> None:
        self._plan = plan
        self._folder = folder
        self._on_progress = on_progress
        self._outcome = Outcome(plan)
        self._witness = Witness(folder)
        self._world = watchers.World(
            Archive(), new_api_key(), plan.heartbeat, history=plan.history, compacted=lambda: self._witness.compacted
        )
        self._gateway = GatewayProcess(
            folder,
            {
                "SERVER__HEARTBEAT_INTERVAL": str(plan.heartbeat),
                "SERVER__DRAIN_TIMEOUT": "1",
                "SERVER__STALLED_STREAM_TIMEOUT": str(plan.stalled),
                "HISTORY__MAX_EVENTS": str(plan.history),
                "HISTORY__INTERVAL": "0.5",
                "ACCOUNTS__LOCAL__PROVIDER": "local",
                "ACCOUNTS__LOCAL__PARALLEL_JOBS": "1",
            },
            api_key=self._world.api_key,
        )
        self._cleanup = AsyncExitStack()

    async def run(self) -> Outcome:
        """Run, and return the verdict."""
        begin = time.monotonic()
        async with self._cleanup:
            self._cleanup.callback(self._gateway.kill)
            await asyncio.to_thread(self._gateway.start)
            await self._torture(begin)
            self._outcome.seconds = time.monotonic() - begin
            code = await asyncio.to_thread(self._gateway.stop)
            if code != 0:
                self._outcome.unfinished.append(f"the server ended with {code}")
        return self._outcome

    async def judge(self, listed: dict[str, list[int]], acknowledged: list[Event]) -> None:
        """Compare what the watchers saw with what the store keeps."""
        stored, position = await stored_truth(self._folder)
        await asyncio.to_thread(self._witness.look)
        truth, compacted = self._witness.truth(acknowledged), self._witness.compacted
        if self._witness.missed:
            self._outcome.unfinished.append("history was gone before it was seen: what came of the run is not known")
        outcome, archive = self._outcome, self._world.archive
        recordings = [tape.recording(position) for tape in archive.tapes if tape.entries]
        outcome.violations = violations(recordings, truth) + history_violations(truth)
        outcome.violations += store_violations(stored, truth, compacted) + listing_violations(listed, truth, compacted)
        outcome.compacted, outcome.deletions = compacted, len(truth.deletions)
        outcome.gaps = sum(bool(gap.states) for recording in recordings for gap in gaps(recording, truth))
        outcome.refusals = sum(is_refused_rightly(recording, truth) for recording in recordings)
        outcome.history, outcome.jobs, outcome.acknowledged = len(truth.events), len(truth.by_job), len(acknowledged)
        outcome.watches = len(recordings)
        outcome.watches_of_jobs = sum(recording.scope.job is not None for recording in recordings)
        outcome.records = sum((tape.count() for tape in archive.tapes), Counter())

    async def _torture(self, begin: float) -> None:
        plan, outcome, world = self._plan, self._outcome, self._world
        proxies = [self._proxy() for _ in range(plan.proxies)]
        calm = self._proxy()
        load = Load(
            world,
            self._witness,
            calm.target,
            self._rng("load"),
            waiting=plan.waiting_jobs,
            changes_per_second=plan.changes_per_second,
        )
        witnessing = asyncio.create_task(self._witness.run())
        self._cleanup.push_async_callback(_cancel, [witnessing])
        self._cleanup.push_async_callback(load.close)
        chaos = ServerChaos(self._gateway, [*proxies, calm], self._rng("server"), outcome.damage, plan.life)
        making = asyncio.create_task(load.run())
        watching = {
            asyncio.create_task(
                self._watcher(kind, number, proxies[number % len(proxies)].target), name=f"{kind} {number}"
            )
            for kind, count in self._kinds().items()
            for number in range(count)
        }
        harming = [
            asyncio.create_task(harm_connections(proxy, self._rng(f"proxy {n}"), outcome.damage, (0.5, 4.0)))
            for n, proxy in enumerate(proxies)
        ]
        ending = asyncio.create_task(chaos.run())
        everything = [making, ending, *watching, *harming]
        self._cleanup.push_async_callback(_cancel, everything)
        while not self._is_enough(time.monotonic() - begin, load):
            self._on_progress(time.monotonic() - begin, world.archive.seen, outcome.damage.killed)
            # Nothing of this ends by itself; what does has failed.
            done, _ = await asyncio.wait(
                [making, ending, witnessing, *harming], timeout=0.5, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        await _cancel(harming)
        chaos.finish()
        await ending
        await self._finish(load, making, watching)
        listed = await load.histories()
        self._outcome.unfinished += load.unexpected
        self._cleanup.push_async_callback(self.judge, listed, load.acknowledged)

    def _is_enough(self, seconds: float, load: Load) -> bool:
        plan, world = self._plan, self._world
        reached = (
            world.archive.seen >= plan.events
            and self._outcome.damage.killed >= plan.kills
            and load.deleted >= plan.deletions
            and world.overslept > plan.gaps  # now and then nothing that a sleeper follows was among what is gone
        )
        return seconds >= plan.most_seconds or (seconds >= plan.seconds and reached)

    async def _finish(self, load: Load, making: asyncio.Task[None], watching: set[asyncio.Task[None]]) -> None:
        """Let all jobs and watchers come to their end."""
        world = self._world
        world.stopping = True
        await making
        try:
            await load.finish(_FINISH_SECONDS)
        except TimeoutError:
            self._outcome.unfinished.append("not all jobs became final, or the last event could not be made")
        world.over = True
        done, late = await asyncio.wait(watching, timeout=_FINISH_SECONDS)
        self._outcome.unfinished += [
            f"{task.get_name()} did not come to its end: {self._whereabouts(task.get_name())}" for task in late
        ]
        for task in done:
            task.result()

    def _whereabouts(self, watcher: str) -> str:
        """Return the last things that happened to a watcher."""
        tapes = [tape for tape in self._world.archive.tapes if tape.watcher.partition(".")[0] == watcher]
        return (
            f"{tapes[-1].watcher} in {tapes[-1].scope}: {tapes[-1].entries[-3:]}" if tapes else "nothing ever happened"
        )

    def _kinds(self) -> dict[str, int]:
        plan = self._plan
        return {
            "filter": plan.filter_watchers,
            "rewind": plan.rewinders,
            "sleeper": plan.sleepers,
            "job": plan.job_watchers,
            "aio": plan.aio_watchers,
            "library": plan.library_watchers,
            "aio filter": plan.library_filter_watchers,
            "library filter": plan.library_filter_watchers,
        }

    def _watcher(self, kind: str, number: int, target: str) -> Coroutine[Any, Any, None]:
        name, world = f"{kind} {number}", self._world
        rng, scope = self._rng(name), Scope(tag=_FILTERS[number % len(_FILTERS)])
        return {
            "filter": lambda: watchers.follow_filter(world, target, scope, name, rng),
            "rewind": lambda: watchers.rewind_filter(world, target, scope, name, rng),
            "sleeper": lambda: watchers.sleep_and_follow_filter(world, target, scope, name, rng),
            "job": lambda: watchers.follow_jobs(world, target, name, rng),
            "aio": lambda: watchers.follow_jobs_with_aio(world, target, name, rng),
            "library": lambda: watchers.follow_jobs_with_library(world, target, name, rng),
            "aio filter": lambda: watchers.follow_filter_with_aio(world, target, scope, name),
            "library filter": lambda: watchers.follow_filter_with_library(world, target, scope, name),
        }[kind]()

    def _proxy(self) -> TcpProxy:
        proxy = TcpProxy(self._gateway.target)
        self._cleanup.callback(proxy.close)
        return proxy

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed} {name}")  # noqa: S311 - it has to be repeatable


def new_seed() -> int:
    """Return a seed that nobody has had."""
    return secrets.randbelow(10**9)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
