"""The account's backends, read once in a while however many ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from gateway.domain.backend import Backend, BackendStatus
from gateway.domain.errors import GatewayError, NotFound, Unavailable
from gateway.providers.ibm import wire
from gateway.providers.ibm.backends import backend_of, status_of
from gateway.providers.ibm.client import IbmClient
from gateway.providers.ibm.concurrency import map_concurrently
from gateway.providers.ibm.remembered import Remembered
from gateway.providers.ibm.settings import IbmSettings

_log = structlog.get_logger(__name__)

_Value = TypeVar("_Value")

_RETRY_SECONDS = 2.0


class Catalogue:
    """The backends of one account.

    Args:
        client: Reads them.
        settings: For how long they are remembered, and how long callers wait for those that were never read.
    """

    def __init__(self, client: IbmClient, settings: IbmSettings) -> None:
        self._client = client
        self._settings = settings
        self._devices = self._remembered(self._read_devices, settings.status_seconds)
        self._backends: dict[str, Remembered[Backend]] = {}

    def close(self) -> None:
        """Give up what is being read."""
        self._devices.close()
        for described in self._backends.values():
            described.close()

    async def backends(self) -> tuple[Backend, ...]:
        """Return all backends. One that cannot be read is left out, unless none can."""
        names = await self._devices.get()
        found = await map_concurrently(names, self._try_to_describe, at_once=self._settings.threads)
        known = tuple(item for item in found if isinstance(item, Backend))
        failures = [item for item in found if isinstance(item, GatewayError)]
        if failures and not known:
            raise failures[0]
        return known

    async def backend(self, name: str) -> Backend:
        """Return one backend.

        Raises:
            NotFound: There is none of that name.
            Unavailable: There is one, and it cannot be read now.
        """
        # Every submission asks, and nearly always for what is at hand.
        if (
            (described := self._backends.get(name))
            and name in (self._devices.young or ())
            and (known := described.young)
        ):
            return known
        await self._device(name)
        return await self._describe(name)

    async def status(self, name: str) -> BackendStatus:
        """Return whether a backend takes jobs, and how many wait.

        Raises:
            NotFound: There is none of that name.
        """
        return status_of(await self._device(name))

    def _remembered(self, read: Callable[[], Awaitable[_Value]], seconds: float) -> Remembered[_Value]:
        return Remembered(read, seconds, patience=self._settings.inline_seconds, late=self._late)

    def _late(self) -> Unavailable:
        account = self._settings.account
        return Unavailable(
            f"The provider of account {account!r} has not told yet which backends it has. The gateway goes on asking; try again in "
            "a moment.",
            metadata={"account": account},
            retry_after=_RETRY_SECONDS,
        )

    def _listed_only(self, name: str, refusal: NotFound) -> Unavailable:
        """Return the error for a backend that is listed: that there is nothing to read of it passes, or it leaves the list."""
        account = self._settings.account
        return Unavailable(
            f"The provider of account {account!r} lists backend {name!r}, and does not describe it now. The gateway asks again by "
            "itself.",
            metadata={**refusal.metadata, "account": account, "backend": name},
            retry_after=_RETRY_SECONDS,
        )

    async def _device(self, name: str) -> wire.Device:
        device = (await self._devices.get()).get(name)
        if device is None:
            raise NotFound.backend(name)
        return device

    async def _describe(self, name: str) -> Backend:
        remembered = self._backends.get(name)
        if remembered is None:
            remembered = self._backends[name] = self._remembered(
                lambda: self._read_backend(name), self._settings.description_seconds
            )
        return await remembered.get()

    async def _try_to_describe(self, name: str) -> Backend | GatewayError:
        try:
            return await self._describe(name)
        except GatewayError as error:
            _log.warning("backend_left_out", account=self._settings.account, backend=name, error=error.message)
            return error

    async def _read_devices(self) -> dict[str, wire.Device]:
        return {device.name: device for device in (await self._client.devices()).devices}

    async def _read_backend(self, name: str) -> Backend:
        try:
            configuration = await self._client.configuration(name)
            properties = None if configuration.simulator else await self._client.properties(name)
        except NotFound as error:
            raise self._listed_only(name, error) from None
        return backend_of(
            configuration,
            properties,
            account=self._settings.account,
            fractional_gates=self._settings.fractional_gates,
        )
