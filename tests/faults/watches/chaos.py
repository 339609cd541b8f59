"""Breaks things, by chance: the server's process from outside and from inside, and the connections of its clients."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.gateway_process import GatewayProcess
from tests.support.tcp_proxy import TcpProxy

_SLOWEST_FAILPOINT = 6.0
"""Seconds beyond its span of life that the server gets to reach the failpoint that is to kill it."""

_LAST_WAY = "store.before_commit=error"
"""What still goes wrong while all jobs come to their end: no restart makes up for it."""


@dataclass(slots=True)
class Damage:
    """What was done, and how long it took to mend."""

    kills: Counter[str] = field(default_factory=Counter)
    """Number of kills by where they hit: `from outside`, or the failpoint."""
    stops: int = 0
    """How often the server was asked to stop (SIGTERM)."""
    cuts: Counter[str] = field(default_factory=Counter)
    """What was done to connections: number of connections by kind."""
    restarts: list[float] = field(default_factory=list)
    """Seconds from each kill to the moment when the next server listened."""

    @property
    def killed(self) -> int:
        """Number of kills."""
        return self.kills.total()


class ServerChaos:
    """Ends the server again and again, each time in one of several ways, and starts it anew.

    Args:
        gateway: The server; it runs.
        proxies: Told where the new server listens.
        rng: Its chance.
        damage: Where it keeps count.
        life: Shortest and longest life of a server, in seconds.
    """

    def __init__(
        self,
        gateway: GatewayProcess,
        proxies: Sequence[TcpProxy],
        rng: random.Random,
        damage: Damage,
        life: tuple[float, float],
    ) -> None:
        self._gateway = gateway
        self._proxies = proxies
        self._rng = rng
        self._damage = damage
        self._life = life
        self._way = "from outside"
        self._over = asyncio.Event()

    def finish(self) -> None:
        """Let `run` end the server once more, start it for the last time, and return."""
        self._over.set()

    async def run(self) -> None:
        """End and start the server again and again."""
        while not self._over.is_set():
            await self._live()
            ended = await self._end()
            await self._start(ended, _LAST_WAY if self._over.is_set() else self._next_way())

    async def _live(self) -> None:
        """Let the server live its life; one that is to be killed by a failpoint, until it is."""
        life = self._rng.uniform(*self._life) + (_SLOWEST_FAILPOINT if self._way.endswith("kill") else 0)
        deadline = time.monotonic() + life
        while time.monotonic() < deadline and self._gateway.is_running and not self._over.is_set():
            await asyncio.sleep(0.005)

    async def _end(self) -> float:
        """End the server, if it has not ended. Returns when it was dead."""
        if not self._gateway.is_running:
            await asyncio.to_thread(self._gateway.wait_killed)
            self._damage.kills[self._way] += 1
        elif self._way == "stop":
            code = await asyncio.to_thread(self._gateway.stop)
            assert code == 0, f"the server ended with {code}"
            self._damage.stops += 1
        else:
            await asyncio.to_thread(self._gateway.kill)
            self._damage.kills["from outside"] += 1
        return time.monotonic()

    async def _start(self, ended: float, way: str) -> None:
        try:
            await asyncio.to_thread(self._gateway.start, FAILPOINTS=_failpoints(way, self._rng))
        except AssertionError:
            # What it wrote to take up its jobs again brought it to its failpoint.
            if way.endswith("kill"):
                await asyncio.to_thread(self._gateway.wait_killed)
                self._damage.kills[f"{way}, while starting"] += 1
            elif way.endswith("error"):
                await asyncio.to_thread(self._gateway.kill)
            else:
                raise
            ended, way = time.monotonic(), "from outside"
            await asyncio.to_thread(self._gateway.start)
        self._way = way
        self._damage.restarts.append(time.monotonic() - ended)
        for proxy in self._proxies:
            proxy.upstream = self._gateway.target

    def _next_way(self) -> str:
        ways = {
            "from outside": 8,
            "store.before_commit=kill": 3,
            "store.after_commit=kill": 3,
            "submit.stored=kill": 2,
            "cancel.stored=kill": 1,
            "watch.tell=kill": 3,
            "watch.tell=error": 1,
            "store.before_commit=error": 2,
            "store.after_commit=delay": 1,
            "stop": 2,
        }
        (way,) = self._rng.choices(list(ways), list(ways.values()))
        return way


def _failpoints(way: str, rng: random.Random) -> str:
    """Return what arms the failpoint of a way to end."""
    match way:
        case "store.before_commit=kill" | "store.after_commit=kill":
            return f"{way}@{rng.randint(1, 300)}"
        case "watch.tell=kill" | "watch.tell=error":
            return f"{way}@{rng.randint(1, 3000)}"
        case "submit.stored=kill" | "cancel.stored=kill":
            return f"{way}@{rng.randint(1, 3)}"
        case "store.before_commit=error":
            return f"{way}@{rng.randint(20, 100)}"
        case "store.after_commit=delay":
            return f"{way}:0.02"
    return ""


async def harm_connections(proxy: TcpProxy, rng: random.Random, damage: Damage, pause: tuple[float, float]) -> None:
    """Cut, stall, slow down and refuse what passes through a proxy, until cancelled; then let everything pass."""
    harms = {"cut": 10, "stalled": 3, "stalled, then cut": 3, "slowed down": 3, "refused": 1}
    try:
        while True:
            await asyncio.sleep(rng.uniform(*pause))
            (harm,) = rng.choices(list(harms), list(harms.values()))
            damage.cuts[harm] += proxy.connections
            match harm:
                case "cut":
                    await asyncio.to_thread(proxy.cut)
                case "stalled":
                    await asyncio.to_thread(proxy.stall)
                    await asyncio.sleep(rng.uniform(0.5, 5))
                    await asyncio.to_thread(proxy.resume)
                case "stalled, then cut":
                    await asyncio.to_thread(proxy.stall, new=False)
                    await asyncio.sleep(rng.uniform(0.5, 5))
                    await asyncio.to_thread(proxy.cut)
                case "slowed down":
                    proxy.slow_down(delay=rng.uniform(0, 0.2), bytes_per_second=rng.uniform(2_000, 50_000))
                    await asyncio.sleep(rng.uniform(1, 4))
                    proxy.slow_down()
                case "refused":
                    await asyncio.to_thread(proxy.refuse)
                    await asyncio.sleep(rng.uniform(0.2, 1.5))
                    await asyncio.to_thread(proxy.resume)
    finally:
        proxy.slow_down()
        proxy.resume()
