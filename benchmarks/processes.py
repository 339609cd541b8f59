"""`client_import` and `rss_idle_server`: what it costs to be there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.harness import Figure, bare_server, gateway_server, interleaved, median

_IMPORT_TARGET = 0.3
_RSS_TARGET = 120.0
_ROUNDS = 21


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure the import of the client, and the memory of an idle server."""
    return [_client_import(progress), *_idle_servers(progress)]


def _client_import(progress: Callable[[], None]) -> Figure:
    def importing(module: str) -> Callable[[], float]:
        def seconds() -> float:
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=60)
            return time.perf_counter() - started

        return seconds

    measures = {module: importing(module) for module in ("qgateway", "grpc")}
    for warm_up in measures.values():
        warm_up()
    values = interleaved(measures, _ROUNDS, progress)
    value, baseline = median(values["qgateway"]) * 1000, median(values["grpc"]) * 1000
    return Figure(
        name="client_import",
        value=value,
        unit="ms",
        baseline=baseline,
        ratio=value / baseline,
        target=f"<= {_IMPORT_TARGET}",
        met=value / baseline <= _IMPORT_TARGET,
        how="`import qgateway` ÷ `import grpc`, wall time of a fresh interpreter",
    )


def _idle_servers(progress: Callable[[], None]) -> list[Figure]:
    with bare_server() as bare:
        baseline = _megabytes(bare.pid)
    figures = []
    for name, settings in (("rss_idle_server", {}), ("rss_idle_server_without_local", {"ACCOUNTS": "{}"})):
        with gateway_server(**settings) as gateway:
            _ask_health(gateway.target)
            value = _megabytes(gateway.pid)
        progress()
        figures.append(
            Figure(
                name=name,
                value=value,
                unit="MB",
                baseline=baseline,
                ratio=value / baseline,
                target=f"<= {_RSS_TARGET:g} MB",
                met=value <= _RSS_TARGET,
                how="resident memory of the server and its children before the first circuit ÷ bare grpc.aio echo server",
            )
        )
    return figures


def _ask_health(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)


def _megabytes(pid: int) -> float:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return float(sum(member.memory_info().rss for member in family)) / 1e6
