"""All that keeps jobs going, wired, started and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from gateway.domain.program import ProgramReader
from gateway.domain.provider import Capability
from gateway.engine.accounts import Accounts
from gateway.engine.admission import Admission
from gateway.engine.adoptions import Adoptions
from gateway.engine.audit import AuditTrail
from gateway.engine.dispatcher import Dispatcher
from gateway.engine.housekeeping import keep_house
from gateway.engine.hub import Hub
from gateway.engine.jobs import Jobs
from gateway.engine.pacing import Pacing
from gateway.engine.poller import Poller
from gateway.engine.queue_places import QueuePlaces
from gateway.engine.recent_results import RecentResults
from gateway.engine.recorder import Recorder
from gateway.engine.records import Records
from gateway.engine.recovery import recover
from gateway.engine.results import Results
from gateway.engine.sessions import Sessions
from gateway.engine.submissions import Submissions
from gateway.engine.tokens import ResumeTokens
from gateway.engine.tracker import Tracker
from gateway.engine.uploads import UploadLimits, Uploads
from gateway.engine.usages import Usages
from gateway.engine.watches import Watches
from gateway.store import Store


class Engine:
    """Gives each account its dispatcher and its tracker, and callers what they act through.

    Args:
        accounts: Where jobs run. The caller starts and closes them.
        store: Where jobs are kept. The caller opens and closes it.
        reader: Reads programs and selects parts of results.
        pacing: By account, how fast jobs are handed over and looked after; by default without a limit.
        upload_limits: What may be uploaded.
        admission: Applies the policies of tenants; by default the policy of tenants that are not named.
    """

    def __init__(
        self,
        accounts: Accounts,
        store: Store,
        reader: ProgramReader,
        pacing: Mapping[str, Pacing] = MappingProxyType({}),
        upload_limits: UploadLimits = UploadLimits(),  # noqa: B008 - it never changes
        *,
        admission: Admission | None = None,
    ) -> None:
        self.accounts = accounts
        admission = admission or Admission()
        self._store = store
        self._hub = Hub(store)
        recent_results = RecentResults()
        self._trackers: dict[str, Tracker | Poller] = {}
        self._dispatchers: dict[str, Dispatcher] = {}
        self._places: dict[str, QueuePlaces] = {}
        self._recorders: dict[str, Recorder] = {}
        for name, provider in accounts.providers.items():
            pace = pacing.get(name, Pacing())
            if Capability.PUSH in provider.capabilities:
                self._trackers[name] = Tracker(provider, store, recent_results)
            else:
                places = self._places[name] = QueuePlaces(provider)
                recorder = self._recorders[name] = Recorder(provider, store)
                self._trackers[name] = Poller(
                    provider,
                    store,
                    self._hub,
                    places=places,
                    recent_results=recent_results,
                    pacing=pace,
                    recorder=recorder,
                )
            self._dispatchers[name] = Dispatcher(provider, store, reader, self._trackers[name], pace)
        self._tasks: list[asyncio.Task[None]] = []
        self.tokens = ResumeTokens(store.token_key)
        self.trail = AuditTrail(store)
        self.jobs = Jobs(
            accounts, store, self._hub, trackers=self._trackers, places=self._places, recent_results=recent_results
        )
        self.adoptions = Adoptions(accounts, store, self._trackers, admission)
        self.sessions = Sessions(accounts, store)
        self.uploads = Uploads(store, upload_limits)
        self.submissions = Submissions(
            accounts,
            store,
            reader,
            self._dispatchers,
            sessions=self.sessions,
            uploads=self.uploads,
            admission=admission,
        )
        self.watches = Watches(self.jobs, store, self._hub)
        self.results = Results(self.jobs, store, reader, recent_results)
        self.usages = Usages(store, accounts.policies)
        self.records = Records(self.jobs, accounts, store)

    async def start(self) -> None:
        """Take up the jobs that a former run of the gateway left, and begin to work."""
        await self._hub.start()
        await recover(self._store, self.accounts, self._dispatchers)
        for name in self._dispatchers:
            self._tasks.append(asyncio.create_task(self._trackers[name].run()))
            self._tasks.append(asyncio.create_task(self._dispatchers[name].run()))
        for recorder in self._recorders.values():
            self._tasks.append(asyncio.create_task(recorder.run()))
        self._tasks.append(asyncio.create_task(self.sessions.run()))
        self._tasks.append(asyncio.create_task(self.trail.run()))
        self._tasks.append(asyncio.create_task(keep_house(self._store)))

    def stop_accepting(self) -> None:
        """Refuse new jobs and end all watches, because the server is about to stop."""
        self.submissions.stop()
        self.watches.close()

    async def close(self) -> None:
        """Stop working. Jobs stay where they are; the next start takes them up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.trail.close()
        await self.submissions.close()
        await self.sessions.stop()
        await self.adoptions.close()
        for dispatcher in self._dispatchers.values():
            await dispatcher.close()
        for places in self._places.values():
            await places.close()
