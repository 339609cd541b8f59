"""A token cache with all that surrounds it in the hands of a test: time, source and provider."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from gateway.credentials.errors import SourceError
from gateway.credentials.token_cache import TokenCache
from gateway.domain.provider import Health
from gateway.domain.secret import Secret, Token

LIFE = 3600.0


class ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._numbers), timer))
        return timer

    def next_at(self) -> float:
        """Return when the next timer is due."""
        return min(at for at, _, timer in self._timers if timer.callback)

    def advance(self, seconds: float) -> None:
        self._now += seconds
        while self._timers and self._timers[0][0] <= self._now:
            _, _, timer = heapq.heappop(self._timers)
            if timer.callback:
                timer.callback()


class MemorySource:
    """Holds a key that a test can exchange. None: it cannot be read."""

    def __init__(self) -> None:
        self.key: Secret | None = Secret(secrets.token_urlsafe(24))
        self.loads = 0
        self._changes: asyncio.Queue[None] = asyncio.Queue()
        self._changes.put_nowait(None)

    def __str__(self) -> str:
        return "file /run/secrets/ibm"

    def rotate(self, key: Secret | None) -> None:
        self.key = key
        self._changes.put_nowait(None)

    async def load(self) -> Secret:
        self.loads += 1
        if self.key is None:
            raise SourceError(f"Cannot read the {self}.")
        return self.key

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self._changes.get()
            yield


class Provider:
    """Exchanges keys for tokens as long as `error` is None and the key is not among those refused."""

    def __init__(self) -> None:
        self.asked: list[Secret] = []
        self.error: Exception | None = None
        self.refused: dict[Secret, Exception] = {}
        self.life = LIFE
        self.skew = 0.0
        """Seconds by which the provider's clock is ahead."""
        self.open = asyncio.Event()
        self.open.set()

    async def exchange(self, key: Secret) -> Token:
        self.asked.append(key)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if key in self.refused:
            raise self.refused[key]
        issued_at = datetime.now(UTC) + timedelta(seconds=self.skew)
        return Token(Secret(secrets.token_urlsafe(32)), issued_at, issued_at + timedelta(seconds=self.life))


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.source = MemorySource()
        self.provider = Provider()
        self.health: list[tuple[Health, str]] = []
        self.cache = TokenCache(
            "ibm-eu",
            self.source,
            self.provider.exchange,
            on_health=lambda health, message: self.health.append((health, message)),
            clock=self.clock,
        )

    @property
    def exchanges(self) -> int:
        return len(self.provider.asked)

    async def settle(self) -> None:
        """Let everything happen that can happen without time going on."""
        for _ in range(100):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle()

    async def to_next_timer(self) -> float:
        """Go on to the next moment at which the cache wants to act; return how long that was."""
        await self.settle()
        pause = self.clock.next_at() - self.clock.time()
        await self.advance(pause)
        return pause
