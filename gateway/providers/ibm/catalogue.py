"""The account's backends, read once in a while however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from gateway.domain.backend import Backend, BackendStatus
from gateway.domain.errors import GatewayError, NotFound, ResourceExhausted, Unavailable
from gateway.providers.ibm import wire
from gateway.providers.ibm.backends import backend_of, status_of
from gateway.providers.ibm.client import IbmClient
from gateway.providers.ibm.settings import IbmSettings
from gateway.providers.ibm.together import for_each

_log = structlog.get_logger(__name__)

_Value = TypeVar("_Value")


class Remembered(Generic[_Value]):
    """A value that is read anew when it is old. While it cannot be read, the old one serves.

    Args:
        read: Reads it. Those who ask meanwhile wait for the same reading.
        seconds: For how long it is young.
    """

    def __init__(self, read: Callable[[], Awaitable[_Value]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._held: tuple[float, _Value] | None = None

    async def get(self) -> _Value:
        """Return the value.

        Raises:
            GatewayError: It was never read, and cannot be.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._held is not None and now < self._held[0]:
                return self._held[1]
            try:
                value = await self._read()
            except (Unavailable, ResourceExhausted):
                if self._held is None:
                    raise
                value = self._held[1]
            if self._held is not None and value == self._held[1]:
                value = self._held[1]  # who knows the object knows that nothing has changed
            self._held = (now + self._seconds, value)
            return value


class Catalogue:
    """The backends of one account.

    Args:
        client: Reads them.
        settings: For how long they are remembered.
    """

    def __init__(self, client: IbmClient, settings: IbmSettings) -> None:
        self._client = client
        self._settings = settings
        self._devices = Remembered(self._read_devices, settings.status_seconds)
        self._backends: dict[str, Remembered[Backend]] = {}

    async def backends(self) -> tuple[Backend, ...]:
        """Return all backends. One that cannot be read is left out, unless none can."""
        names = await self._devices.get()
        found = await for_each(names, self._try_to_describe, at_once=self._settings.threads)
        known = tuple(item for item in found if isinstance(item, Backend))
        failures = [item for item in found if isinstance(item, GatewayError)]
        if failures and not known:
            raise failures[0]
        return known

    async def backend(self, name: str) -> Backend:
        """Return one backend.

        Raises:
            NotFound: There is none of that name.
        """
        await self._device(name)
        return await self._describe(name)

    async def status(self, name: str) -> BackendStatus:
        """Return whether a backend takes jobs, and how many wait.

        Raises:
            NotFound: There is none of that name.
        """
        return status_of(await self._device(name))

    async def _device(self, name: str) -> wire.Device:
        device = (await self._devices.get()).get(name)
        if device is None:
            raise NotFound.backend(name)
        return device

    async def _describe(self, name: str) -> Backend:
        remembered = self._backends.get(name)
        if remembered is None:
            remembered = self._backends[name] = Remembered(
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
        except NotFound:
            raise NotFound.backend(name) from None
        return backend_of(
            configuration,
            properties,
            account=self._settings.account,
            fractional_gates=self._settings.fractional_gates,
        )
