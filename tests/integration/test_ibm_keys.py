"""Where keys of provider accounts are kept, how they are changed under way, and that none of them gets out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway.v1 import (
    account_pb2,
    account_service_pb2,
    admin_service_pb2,
    admin_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
)

from gateway.credentials.seal_key import SealKey
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.processes import family, places
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected
from tests.unit.credentials.vault_server import VaultServer

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
    control.change_keys("alpha", add=["a-new-key-of-the-account"], remove=[key_files["alpha"].read_text()])
    key_files["alpha"].write_text("a-new-key-of-the-account")
    exchanges = control.counts()["POST /identity/token"]
    wait_until(lambda: control.counts()["POST /identity/token"] > exchanges)
    control.expire_tokens()
    control.advance(job.provider_job_id, "Completed")
    assert_done(wire, job)


def test_an_operator_reloads_keys_and_hears_which_are_refused(
    wire: Wire, control: EmulatorControl, key_files: dict[str, Path]
) -> None:
    assert_done(wire, submit(wire))
    admin = admin_service_pb2_grpc.AdminServiceStub(wire.channel)

    def reload(account: str = "") -> admin_service_pb2.ReloadCredentialsResponse:
        request = admin_service_pb2.ReloadCredentialsRequest(account=account)
        return admin.ReloadCredentials(request, metadata=wire.metadata, timeout=30)

    assert reload() == admin_service_pb2.ReloadCredentialsResponse()
    key_files["alpha"].write_text("a-wrong-key")
    refused = reload().refused_accounts
    assert list(refused) == ["accounts/alpha"]
    assert "a-wrong-key" not in refused["accounts/alpha"]
    assert_done(wire, submit(wire))  # with what was in use
    control.change_keys("alpha", add=["a-new-key-of-the-account"])
    key_files["alpha"].write_text("a-new-key-of-the-account")
    assert not reload("accounts/alpha").refused_accounts
    with pytest.raises(grpc.RpcError) as caught:
        reload("accounts/none")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


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
    control.change_keys("alpha", add=["another-key-of-the-account"])
    key_files["alpha"].write_text("another-key-of-the-account")
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
        control.change_keys("beta", add=["a-new-key-of-the-account"], remove=[emulator.api_key("beta")])
        control.expire_tokens()
        waiting = submit(wire, "lab")
        assert waiting.pending_reason.kind == job_pb2.PendingReason.KIND_CREDENTIALS_REFUSED
        seal("a-new-key-of-the-account")
        assert_done(wire, waiting)


def test_a_key_can_be_kept_in_a_variable(emulator: EmulatorProcess, new_gateway: Callable[..., GatewayProcess]) -> None:
    accounts = {"lab": ibm_account(emulator, "beta", key_env="GATEWAY_KEY_OF_LAB")}
    gateway = new_gateway({"ACCOUNTS": json.dumps(accounts), "KEY_OF_LAB": emulator.api_key("beta")}).start()
    with connected(gateway) as wire:
        assert_done(wire, submit(wire, "lab"))


@pytest.mark.parametrize("sign_in", ["token", "role"])
def test_a_key_can_be_kept_in_vault_and_changed_there_while_jobs_wait(
    emulator: EmulatorProcess,
    control: EmulatorControl,
    new_gateway: Callable[..., GatewayProcess],
    tmp_path: Path,
    sign_in: str,
) -> None:
    with VaultServer() as vault:
        vault.kv["secret/quantum/lab"] = {"value": emulator.api_key("beta")}
        accounts = {"lab": ibm_account(emulator, "beta", key_vault=vault_settings(vault, tmp_path, sign_in))}
        with connected(new_gateway({"ACCOUNTS": json.dumps(accounts)}).start()) as wire:
            assert_done(wire, submit(wire, "lab"))
            control.settings(manual=True)
            job = submit(wire, "lab")
            control.change_keys("beta", add=["a-new-key-of-the-account"])
            exchanges = control.counts()["POST /identity/token"]
            vault.kv["secret/quantum/lab"] = {"value": "a-new-key-of-the-account"}
            wait_until(lambda: control.counts()["POST /identity/token"] > exchanges)
            control.change_keys("beta", remove=[emulator.api_key("beta")])
            control.expire_tokens()
            control.advance(job.provider_job_id, "Completed")
            assert_done(wire, job)
            assert account(wire, "lab").health == account_pb2.Account.HEALTH_SERVING


CLIENT = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from qgateway import GatewayProvider, IBMError
provider = GatewayProvider()
for account in provider.instances():
    job = provider.get_backend("ibm_alder", instance=account).run(sys.argv[1], shots=10)
    print(job.result(), job.metrics(), job.logs() if hasattr(job, "logs") else "", vars(job))
try:
    provider.get_backend("ibm_nowhere")
except IBMError as error:
    print(error.diagnostics())
print("through", flush=True)
sys.stdin.read()
"""


def test_no_key_and_no_token_of_the_provider_gets_out(
    emulator: EmulatorProcess, control: EmulatorControl, new_ibm_gateway: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    with VaultServer() as vault:
        vault.kv["secret/quantum/lab"] = {"value": emulator.api_key("beta")}
        in_vault = {"key_file": None, "key_vault": vault_settings(vault, tmp_path, "role")}
        gateway = new_ibm_gateway(beta=in_vault, settings={"LOG__LEVEL": "debug"}).start()
        # What goes wrong is told, too: a refused token, a broken answer, a key service that fails.
        control.fault("GET /backends", "respond", status=401, times=1)
        control.fault("GET /backends", "garble", times=2, skip=1)
        control.fault("POST /identity/token", "respond", status=500, times=1, skip=2)
        with connected(gateway) as wire:
            told = [str(wire.accounts.ListAccounts(account_service_pb2.ListAccountsRequest(), metadata=wire.metadata))]
            with client_process(gateway) as client:
                printed = through(client)
                secrets = [emulator.api_key("alpha"), emulator.api_key("beta"), *control.tokens()]
                secrets += [token.rpartition(".")[2] for token in control.tokens()]
                secrets += [vault.secret_id, *vault.tokens]
                assert {pid: places(pid, secrets) for pid in family(client.pid)} == {client.pid: []}
                workers = family(gateway.pid)[1:]
                assert workers
                assert {pid: places(pid, secrets) for pid in workers} == {pid: [] for pid in workers}
                assert places(gateway.pid, secrets) == ["memory"], "the search itself does not work"
            told += [str(event) for job in wire.list() for event in events(wire, job)]
            told += [str(each) for each in wire.list()]
        gateway.stop()
    log = gateway.log
    assert '"level": "debug"' in log
    everything = "\n".join([printed, log, *told])
    written = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".key", ".vault")
    )
    for secret in secrets:
        assert secret not in everything
        assert secret.encode() not in written


def vault_settings(vault: VaultServer, folder: Path, sign_in: str) -> dict[str, Any]:
    """Return where a key is kept in Vault; what proves the right to read it lies in a file."""
    proof = folder / "proof.vault"
    proof.write_text(vault.token if sign_in == "token" else vault.secret_id)
    way = {"token_file": str(proof)} if sign_in == "token" else {"role_id": vault.role_id, "secret_id_file": str(proof)}
    return {"address": vault.address, "path": "quantum/lab", "poll_seconds": 1, **way}


@contextmanager
def client_process(gateway: GatewayProcess) -> Iterator[subprocess.Popen[str]]:
    """Run a client in a process of its own."""
    environment = os.environ | gateway.environment()
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, FLIP],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process


def through(client: subprocess.Popen[str]) -> str:
    """Wait until a client is through, and return what it printed."""
    assert client.stdout is not None
    printed = []
    for line in client.stdout:
        if line == "through\n":
            return "".join(printed)
        printed.append(line)
    raise AssertionError("".join(printed))


def events(wire: Wire, job: job_pb2.Job) -> list[job_pb2.JobEvent]:
    request = job_service_pb2.ListJobEventsRequest(name=job.name, page_size=100)
    return list(wire.jobs.ListJobEvents(request, metadata=wire.metadata, timeout=20).events)
