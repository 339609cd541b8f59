"""`ibm_status_speedup`: asking the gateway how a job is, against asking IBM Quantum with IBM's own client.

The service is the emulator, which answers every call after a while, as a service far away does. The job waits in its queue.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from qgateway import GatewayProvider
from qiskit import QuantumCircuit

from benchmarks.harness import Figure, gateway_server, interleaved
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.support.ibm_accounts import one_ibm_account

_TARGET = 0.05
_ROUNDS = 10
_CALLS = 100
"""Calls of a round: 1 000 in all."""
_LATENCY_SECONDS = 0.05


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure `job.status()` of a job that waits, over the gateway and with qiskit-ibm-runtime."""
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="qgateway-bench-")))
        emulator = parts.enter_context(EmulatorProcess({"manual": True}))
        gateway = parts.enter_context(gateway_server(**one_ibm_account(emulator, folder)))
        provider = parts.enter_context(GatewayProvider(target=gateway.target, api_key=gateway.api_key))
        job = provider.get_backend("ibm_alder").run(_flip(), transpile=1)
        (upstream,) = emulator.control.jobs()
        with _environment(emulator.environment()):
            from qiskit_ibm_runtime import QiskitRuntimeService

            direct = QiskitRuntimeService().job(upstream["id"])
        emulator.control.settings(latency_seconds=_LATENCY_SECONDS)
        measures = {"gateway": lambda: _total_time(job.status), "direct": lambda: _total_time(direct.status)}
        values = interleaved(measures, _ROUNDS, progress)
    value, baseline = sum(values["gateway"]), sum(values["direct"])
    return [
        Figure.compared(
            "ibm_status_speedup",
            "s",
            value,
            baseline,
            f"{_ROUNDS * _CALLS} job.status() ÷ as many with qiskit-ibm-runtime; the service answers after "
            f"{_LATENCY_SECONDS} s",
            at_most=_TARGET,
        )
    ]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for a while: they are all that configures IBM's client."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _flip() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.measure_all()
    return circuit


def _total_time(status: Callable[[], Any]) -> float:
    started = time.perf_counter()
    for _ in range(_CALLS):
        status()
    return time.perf_counter() - started
