"""`client_import` and `rss_idle_server`: what it costs to be there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import grpc
import psutil
from qgateway.v1 import backend_service_pb2, backend_service_pb2_grpc

from benchmarks.harness import Figure, Server, bare_server, gateway_server, interleaved, median

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
    return Figure.compared(
        "client_import",
        "ms",
        value,
        baseline,
        "`import qgateway` ÷ `import grpc`, wall time of a fresh interpreter",
        at_most=_IMPORT_TARGET,
    )


def _idle_servers(progress: Callable[[], None]) -> list[Figure]:
    with bare_server() as bare:
        baseline = _megabytes([psutil.Process(bare.pid)])
    figures = []
    for name, settings in (("rss_idle_server", {}), ("rss_idle_server_without_local", {"ACCOUNTS": "{}"})):
        with gateway_server(**settings) as gateway:
            _list_backends(gateway)  # answered when the local provider has come to rest
            server = psutil.Process(gateway.pid)
            value, workers = _megabytes([server]), server.children(recursive=True)
            how = f"resident memory of the server before the first circuit ÷ bare grpc.aio server; beside it {len(workers)} worker"
            how += f" of {_megabytes(workers):.0f} MB, in which Qiskit and Aer live" if workers else "s"
        progress()
        figures.append(Figure.alone(name, "MB", value, how, at_most=_RSS_TARGET, baseline=baseline))
    return figures


def _list_backends(gateway: Server) -> None:
    with grpc.insecure_channel(gateway.target) as channel:
        backend_service_pb2_grpc.BackendServiceStub(channel).ListBackends(
            backend_service_pb2.ListBackendsRequest(),
            metadata=(("authorization", f"Bearer {gateway.api_key}"),),
            timeout=60,
        )


def _megabytes(processes: Iterable[psutil.Process]) -> float:
    return sum(process.memory_info().rss for process in processes) / 1e6
