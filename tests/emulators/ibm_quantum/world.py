"""All state of the emulated service."""

from __future__ import annotations

import random

from tests.emulators.ibm_quantum.accounts import Accounts, default_accounts
from tests.emulators.ibm_quantum.calls import Calls
from tests.emulators.ibm_quantum.devices import Devices
from tests.emulators.ibm_quantum.execution.worker import Worker
from tests.emulators.ibm_quantum.faults import Faults
from tests.emulators.ibm_quantum.iam import Iam
from tests.emulators.ibm_quantum.jobs import Jobs
from tests.emulators.ibm_quantum.pace import Pace
from tests.emulators.ibm_quantum.sessions import Sessions
from tests.emulators.ibm_quantum.settings import Settings


class World:
    """What there is, and how it all goes back to the start.

    Args:
        settings: How the service behaves at the start, and again after a reset.
        worker: Runs programs.
        devices: The backends.
    """

    def __init__(self, settings: Settings, worker: Worker, devices: Devices) -> None:
        self._at_start = settings
        self._ids = random.Random(settings.seed)  # noqa: S311 - repeatable, not secret
        self.settings = settings.model_copy()
        self.accounts = Accounts(default_accounts)
        self.iam = Iam(self.accounts, self.settings)
        self.devices = devices
        self.sessions = Sessions(self._ids)
        self.jobs = Jobs(self.settings, worker, self.sessions, self._ids)
        self.pace = Pace(self.settings)
        self.faults = Faults(self.accounts)
        self.calls = Calls()

    async def reset(self) -> None:
        """Put everything back to the start: no jobs, no faults, first keys and settings."""
        await self.close()
        for name, value in self._at_start:
            setattr(self.settings, name, value)
        self._ids.seed(self.settings.seed)
        self.accounts.reset()
        self.iam.reset()
        self.devices.reset()
        self.sessions.reset()
        self.jobs.reset()
        self.pace.reset()
        self.calls.clear()

    async def close(self) -> None:
        """End all that goes on by itself."""
        await self.faults.close()
        await self.jobs.close()
