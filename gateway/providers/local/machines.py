"""The simulated machines of the account, described once by a worker process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from gateway.domain.backend import Backend, BackendProperties
from gateway.domain.errors import GatewayError, NotFound, Reason, Unavailable
from gateway.domain.job import utc_now
from gateway.domain.provider import AccountHealth, Health
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.simulators import Simulators

_RETRY_SECONDS = 5.0
_END_SECONDS = 10.0
"""How long a description may take to end after it was told to; it takes milliseconds."""


class Machine(NamedTuple):
    """A simulated machine."""

    backend: Backend
    properties: BackendProperties | None
    """Its calibration, which never changes; None for the ideal one."""


_Machines: TypeAlias = dict[str, Machine]


class Machines:
    """Learns about the machines, once for all who ask; after a failure, the next who asks tries again.

    Args:
        account: Name of the account that has them.
        simulators: Describes them.
        settings: Their limits.
    """

    def __init__(self, account: str, simulators: Simulators, settings: LocalSettings) -> None:
        self._account = account
        self._simulators = simulators
        self._settings = settings
        self._described: asyncio.Task[_Machines] | None = None
        self.trouble: AccountHealth | None = None
        """How the account is if the machines cannot be described."""

    def start(self) -> None:
        """Begin to learn about the machines."""
        self._begin()

    async def close(self) -> None:
        """Learn no more."""
        if self._described is not None:
            self._described.cancel()
            await asyncio.wait([self._described], timeout=_END_SECONDS)

    async def backends(self) -> tuple[Backend, ...]:
        """Return the backends of all machines."""
        return tuple(machine.backend for machine in (await self._all()).values())

    async def get(self, name: str) -> Machine:
        """Return a machine.

        Raises:
            NotFound: There is none of that name.
            Unavailable: The machines cannot be described, or the server is about to stop.
        """
        machine = (await self._all()).get(name)
        if machine is None:
            raise NotFound.backend(name)
        return machine

    async def _all(self) -> _Machines:
        task = self._begin()
        try:
            # Whoever waits may be cancelled; the description goes on for the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Unavailable("The server is about to stop.", reason=Reason.SERVER_STOPPING) from None
            raise

    def _begin(self) -> asyncio.Task[_Machines]:
        task = self._described
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._described = asyncio.create_task(self._describe())
            task.add_done_callback(_look_at_exception)
        return task

    async def _describe(self) -> _Machines:
        settings = self._settings
        try:
            described = await self._simulators.describe(settings.memory_limit)
        except GatewayError as error:
            message = f"The simulators cannot be started: {error.message}"
            self.trouble = AccountHealth(Health.NOT_SERVING, message, utc_now())
            raise Unavailable(message, retry_after=_RETRY_SECONDS) from error
        self.trouble = None
        return {
            backend.name: Machine(
                replace(
                    backend, account=self._account, max_shots=settings.max_shots, max_circuits=settings.max_circuits
                ),
                properties,
            )
            for backend, properties in described
        }


def _look_at_exception(task: asyncio.Task[_Machines]) -> None:
    """Take note of a failure that nobody waited for: the account's health tells of it, and the next caller tries again."""
    if not task.cancelled():
        task.exception()
