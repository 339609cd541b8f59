"""The gateway over accounts of IBM Quantum: the real server process, and a real emulator of the service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qgateway.v1 import job_pb2

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import Wire, connected

ASYMMETRIC = """OPENQASM 3.0;
include "stdgates.inc";
qubit[3] q;
bit[3] c;
x q[0];
x q[1];
c = measure q;
"""
"""Its one outcome is 011: its bits cannot be mistaken for each other."""

FAST = {"shortest_poll": 0.05, "longest_poll": 0.5, "submits_per_minute": 60_000, "settle_seconds": 1}


@pytest.fixture(scope="module")
def running_emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess() as process:
        yield process


@pytest.fixture
def emulator(running_emulator: EmulatorProcess) -> EmulatorProcess:
    running_emulator.control.reset()
    return running_emulator


@pytest.fixture
def control(emulator: EmulatorProcess) -> EmulatorControl:
    return emulator.control


@pytest.fixture
def key_files(emulator: EmulatorProcess, tmp_path: Path) -> dict[str, Path]:
    """The files with the keys of both accounts, as a container platform would mount them."""
    files = {name: tmp_path / f"{name}.key" for name in ("alpha", "beta")}
    for name, path in files.items():
        path.write_text(emulator.api_key(name))
    return files


@pytest.fixture
def new_ibm_gateway(
    emulator: EmulatorProcess, key_files: dict[str, Path], new_gateway: Callable[..., GatewayProcess]
) -> Callable[..., GatewayProcess]:
    """Makes gateways with both accounts; settings of the accounts can be changed by name."""

    def make(**changes: Any) -> GatewayProcess:
        accounts = {
            name: {
                "provider": "ibm",
                "crn": emulator.crn(name),
                "key_file": str(path),
                "api_url": f"{emulator.url}/api/v1",
                "iam_url": emulator.url,
                "use_environment": False,
                **FAST,
                **changes,
            }
            for name, path in key_files.items()
        }
        return new_gateway({"ACCOUNTS": json.dumps(accounts), "SERVER__HEARTBEAT_INTERVAL": "1"})

    return make


@pytest.fixture
def ibm_gateway(new_ibm_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    return new_ibm_gateway().start()


@pytest.fixture
def wire(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


def submit(wire: Wire, account: str = "alpha", **fields: Any) -> job_pb2.Job:
    options = job_pb2.RunOptions(shots=50, transpile=job_pb2.TRANSPILE_LEVEL_1)
    return wire.submit(ASYMMETRIC, "ibm_alder", account=f"accounts/{account}", options=options, **fields)


def test_circuits_go_to_both_accounts_and_come_back_with_their_counts(wire: Wire, control: EmulatorControl) -> None:
    jobs = {account: submit(wire, account, tags=["mine"]) for account in ("alpha", "beta")}
    for job in jobs.values():
        done = wire.finish(job.name)
        assert done.status == job_pb2.JOB_STATUS_DONE, done.failure
        assert wire.counts(job.name) == [{"011": 50}]
        assert list(done.tags) == ["mine"]
    upstream = control.jobs()
    assert len({job["instance"] for job in upstream}) == len(upstream) == 2
    assert all("mine" in job["tags"] and job["results_reads"] == 1 for job in upstream)
