"""Where keys of provider accounts are kept, how they are changed under way, and that none of them gets out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway.v1 import account_pb2, account_service_pb2, job_pb2

from gateway.credentials.seal_key import SealKey
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected

FLIP = """OPENQASM 3.0;
include "stdgates.inc";
bit c;
x $0;
c = measure $0;
"""


@pytest.fixture
def wire(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


def submit(wire: Wire, account: str = "alpha") -> job_pb2.Job:
    return wire.submit(FLIP, "ibm_alder", account=f"accounts/{account}", options=job_pb2.RunOptions(shots=10))


def assert_done(wire: Wire, job: job_pb2.Job) -> None:
    done = wire.finish(job.name)
    assert done.status == job_pb2.JOB_STATUS_DONE, done.failure
    assert wire.counts(job.name) == [{"1": 10}]


def health(gateway: GatewayProcess, account: str) -> str:
    """Return what the health service tells of an account."""
    with grpc.insecure_channel(gateway.target) as channel:
        request = health_pb2.HealthCheckRequest(service=f"account/{account}")
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def account(wire: Wire, name: str) -> account_pb2.Account:
    """Return what the gateway tells of an account."""
    listed = wire.accounts.ListAccounts(account_service_pb2.ListAccountsRequest(), metadata=wire.metadata, timeout=10)
    return next(each for each in listed.accounts if each.name == f"accounts/{name}")


def test_a_key_is_rotated_by_its_file_while_jobs_wait(
    wire: Wire, control: EmulatorControl, key_files: dict[str, Path]
) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.change_keys("alpha", add=["a-new-key"], remove=[key_files["alpha"].read_text()])
    key_files["alpha"].write_text("a-new-key")
    exchanges = control.counts()["POST /identity/token"]
    wait_until(lambda: control.counts()["POST /identity/token"] > exchanges)
    control.expire_tokens()
    control.advance(job.provider_job_id, "Completed")
    assert_done(wire, job)


def test_a_refused_key_turns_the_account_red_and_a_right_one_green(
    wire: Wire, ibm_gateway: GatewayProcess, control: EmulatorControl, key_files: dict[str, Path]
) -> None:
    assert_done(wire, submit(wire))
    control.change_keys("alpha", remove=[key_files["alpha"].read_text()])
    control.expire_tokens()
    waiting = submit(wire)
    assert waiting.pending_reason.kind == job_pb2.PendingReason.KIND_CREDENTIALS_REFUSED
    wait_until(lambda: health(ibm_gateway, "alpha") == "NOT_SERVING")
    assert account(wire, "alpha").health == account_pb2.Account.HEALTH_NOT_SERVING
    assert health(ibm_gateway, "beta") == "SERVING"
    control.change_keys("alpha", add=["another-key"])
    key_files["alpha"].write_text("another-key")
    wait_until(lambda: health(ibm_gateway, "alpha") == "SERVING")
    assert_done(wire, waiting)


def test_a_bad_new_key_turns_the_account_red_and_leaves_the_old_one_in_use(
    wire: Wire, ibm_gateway: GatewayProcess, key_files: dict[str, Path]
) -> None:
    assert_done(wire, submit(wire))
    right = key_files["alpha"].read_text()
    key_files["alpha"].write_text("no-such-key")
    wait_until(lambda: health(ibm_gateway, "alpha") == "NOT_SERVING")
    told = account(wire, "alpha")
    assert told.health == account_pb2.Account.HEALTH_DEGRADED
    assert "refuses the key" in told.health_message
    assert "still in use" in told.health_message
    assert_done(wire, submit(wire))
    key_files["alpha"].write_text(right)
    wait_until(lambda: health(ibm_gateway, "alpha") == "SERVING")


@pytest.mark.parametrize("where", ["environment", "file"])
def test_the_command_and_the_server_find_the_sealed_file_by_the_same_settings(
    emulator: EmulatorProcess,
    control: EmulatorControl,
    new_gateway: Callable[..., GatewayProcess],
    tmp_path: Path,
    where: str,
) -> None:
    seal_key, sealed, config = (tmp_path / name for name in ("seal.key", "keys.sealed", "gateway.toml"))
    seal_key.write_text(SealKey.generate().reveal())
    settings = {"CREDENTIALS__SEALED_FILE": str(sealed), "CREDENTIALS__SEAL_KEY_FILE": str(seal_key)}
    if where == "file":
        config.write_text(f'[credentials]\nsealed_file = "{sealed}"\nseal_key_file = "{seal_key}"\n')
        settings = {"CONFIG": str(config)}

    def seal(key: str) -> None:
        command = [sys.executable, "-m", "gateway", "credentials", "set", "lab"]
        environment = os.environ | {f"GATEWAY_{name}": value for name, value in settings.items()}
        subprocess.run(command, input=key, env=environment, text=True, check=True, cwd=tmp_path)

    seal(emulator.api_key("beta"))
    accounts = {"lab": ibm_account(emulator, "beta", key_sealed="lab")}
    gateway = new_gateway({"ACCOUNTS": json.dumps(accounts), **settings}).start()
    with connected(gateway) as wire:
        assert_done(wire, submit(wire, "lab"))
        control.change_keys("beta", add=["a-new-key"], remove=[emulator.api_key("beta")])
        control.expire_tokens()
        waiting = submit(wire, "lab")
        assert waiting.pending_reason.kind == job_pb2.PendingReason.KIND_CREDENTIALS_REFUSED
        seal("a-new-key")
        assert_done(wire, waiting)
