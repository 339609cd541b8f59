"""The server that is fuzzed, and whether it bears it: what it logs, holds open and takes, and whether it still answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

SETTINGS = {
    "WORKERS__TIME_LIMIT": "5",
    "WORKERS__MEMORY_LIMIT": str(512 * 2**20),
    "SERVER__HEARTBEAT_INTERVAL": "1",
}
_GROWTH_MIB = 256.0
"""How much the server's memory may grow behind its warm-up: its caches are bounded by number, and take some of this."""
_SPARE_FDS = 40
"""Descriptors beyond those of the warm server that may stay: pipes of workers, files of the database."""
_SPARE_THREADS = 24
"""Threads that may stay: those of the pools that start them when they are first needed."""
_ANSWER_SECONDS = 20.0
"""Within this the server tells its health: far more than it takes on a machine that does other things beside."""


@dataclass
class Vitals:
    """What the server holds."""

    rss_mib: float
    fds: int
    threads: int


class Victim:
    """A running gateway, and what it was like before.

    Args:
        gateway: The gateway.
    """

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self._process = psutil.Process(gateway.pid)
        self.before = self.vitals()
        self.peak_rss = self.before.rss_mib
        self.slowest_answer = 0.0

    def vitals(self) -> Vitals:
        """Return what the server holds now."""
        with self._process.oneshot():
            vitals = Vitals(
                self._process.memory_info().rss / 2**20, self._process.num_fds(), self._process.num_threads()
            )
        self.peak_rss = max(getattr(self, "peak_rss", 0.0), vitals.rss_mib)
        return vitals

    def warmed_up(self) -> None:
        """Take what the server holds now for what it holds at rest."""
        self.before = self.vitals()

    def answers(self) -> None:
        """Ask for its health over a connection of its own.

        Raises:
            AssertionError: It does not tell that it serves.
        """
        begun = time.monotonic()
        with grpc.insecure_channel(self.gateway.target) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_ANSWER_SECONDS, wait_for_ready=True
            )
        self.slowest_answer = max(self.slowest_answer, time.monotonic() - begun)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        self.vitals()

    def troubles(self) -> list[str]:
        """Return everything that is wrong with the server; waits until it is at rest."""
        if not self.gateway.is_running:
            return [f"the server has ended:\n{self.gateway.log[-4000:]}"]
        found = [f"logged: {line}" for line in bad_lines(self.gateway.log)]
        for name, most in (("fds", self.before.fds + _SPARE_FDS), ("threads", self.before.threads + _SPARE_THREADS)):
            try:
                wait_until(lambda name=name, most=most: getattr(self.vitals(), name) <= most, within=30, every=0.2)  # type: ignore[misc]
            except AssertionError:
                found.append(f"{name} leak: {getattr(self.vitals(), name)}, before {getattr(self.before, name)}")
        growth = self.vitals().rss_mib - self.before.rss_mib
        if growth > _GROWTH_MIB:
            found.append(f"memory grew by {growth:.0f} MiB")
        return found

    def report(self) -> dict[str, Any]:
        """Return what was seen, as values for JSON."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.vitals()),
            "peak_rss_mib": round(self.peak_rss, 1),
            "slowest_health_answer_seconds": round(self.slowest_answer, 3),
            "workers_lost": workers_lost(self.gateway.log),
        }


def bad_lines(log: str) -> list[str]:
    """Return the lines of a log that tell of a bug: errors, and tracebacks of anything at all."""
    return [
        line[:3000]
        for line in log.splitlines()
        if line.startswith("{") and (json.loads(line).get("level") in ("error", "critical") or '"exception"' in line)
    ]


def workers_lost(log: str) -> dict[str, int]:
    """Return how often a worker died, by why."""
    found: dict[str, int] = {}
    for line in log.splitlines():
        if '"worker_lost"' in line:
            why = str(json.loads(line).get("error"))[:80]
            found[why] = found.get(why, 0) + 1
    return found


@contextmanager
def running_victim() -> Iterator[Victim]:
    """Start a gateway to be fuzzed."""
    with TemporaryDirectory(prefix="qgateway-fuzz-") as folder:
        gateway = GatewayProcess(Path(folder), {**SETTINGS, "LOG__LEVEL": "info"}).start()
        try:
            yield Victim(gateway)
            assert gateway.stop() == 0
        finally:
            gateway.kill()
