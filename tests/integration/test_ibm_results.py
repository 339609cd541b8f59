"""Results of the provider on their way to the store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from qgateway.v1 import job_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import finish, submit
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import connected

MIB = 2**20
LARGE = 128 * MIB


def test_a_large_result_goes_through_the_server_in_pieces(
    new_ibm_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    gateway = new_ibm_gateway().start()
    with connected(gateway) as wire:
        finish(wire, submit(wire).name, "a small one, for all that is needed once")
        before = forget_peak(gateway.pid)
        control.fault("GET /jobs/{job_id}/results", "garble", body='{"data": []}', pad=LARGE)
        done = finish(wire, submit(wire).name, "a large one")
        assert done.status == job_pb2.JOB_STATUS_DONE, done.failure
        assert done.result.size_bytes > LARGE
        assert peak(gateway.pid) - before < LARGE // 4


def forget_peak(pid: int) -> int:
    """Let the peak of a process's memory begin anew, and return what it takes now, in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid: int) -> int:
    """Return the most memory that a process has taken, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
