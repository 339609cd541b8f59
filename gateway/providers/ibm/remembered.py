"""What is read from the provider once in a while, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.domain.errors import ResourceExhausted, Unavailable

_Value = TypeVar("_Value")

_PATIENCE = 1.0
"""Seconds after which the value that is known serves, although a newer one is being read."""


class Remembered(Generic[_Value]):
    """A value that is read anew when it is old. While that takes long, or cannot be done, the old one serves.

    Args:
        read: Reads it. Those who ask meanwhile wait for the same reading.
        seconds: For how long it is young.
        patience: Seconds that the first reading may take before those who wait for it, and those who come then, are sent away. It
            goes on meanwhile.
        late: Returns the error for them.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[_Value]],
        seconds: float,
        *,
        patience: float,
        late: Callable[[], Unavailable],
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._patience = patience
        self._late = late
        self._held: tuple[float, _Value] | None = None
        """Until when it is young, and the value."""
        self._reading: asyncio.Task[_Value] | None = None
        self._began = 0.0

    @property
    def young(self) -> _Value | None:
        """The value if it is young, so that nobody need wait for it; else None."""
        return self._held[1] if self._held is not None and _now() < self._held[0] else None

    async def get(self) -> _Value:
        """Return the value.

        Raises:
            GatewayError: It was never read, and cannot be, or not in time; or there is nothing to be read any more.
        """
        now = _now()
        if self._held is not None and now < self._held[0]:
            return self._held[1]
        if self._reading is None:
            self._began = now
            self._reading = asyncio.create_task(self._refresh())
            self._reading.add_done_callback(self._ended)
        reading, patience = self._reading, self._patience if self._held is None else _PATIENCE
        await asyncio.wait([reading], timeout=max(0.0, self._began + patience - now))
        if reading.done() and not reading.cancelled():
            return reading.result()
        if self._held is None:
            raise self._late()
        return self._held[1]

    def close(self) -> None:
        """Give up the reading that is under way, if one is."""
        if self._reading is not None:
            self._reading.cancel()

    async def _refresh(self) -> _Value:
        try:
            value = await self._read()
        except (Unavailable, ResourceExhausted):
            if self._held is None:
                raise
            value = self._held[1]
        if self._held is not None and value == self._held[1]:
            value = self._held[1]  # who knows the object knows that nothing has changed
        self._held = (_now() + self._seconds, value)
        return value

    def _ended(self, reading: asyncio.Task[_Value]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # nobody may be left to hear of it; the next who asks reads again


def _now() -> float:
    return asyncio.get_running_loop().time()
