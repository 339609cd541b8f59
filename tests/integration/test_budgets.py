"""Tenants, limits and budgets over the real server, with its policy file, as foreign clients and the Python client see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway import GatewayProvider
from qgateway.exceptions import IBMBackendJobLimitError
from qgateway.v1 import (
    account_service_pb2,
    admin_service_pb2,
    admin_service_pb2_grpc,
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    session_service_pb2,
)

from gateway.access.api_keys import new_api_key
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, LONG, Wire, connected, details

SECONDS_PER_JOB = 10.0
POLICY = """
[tenants.physics]
accounts = ["lab"]
backends = ["*simulator"]
limits.qpu_seconds_per_day = 35
limits.shots_per_circuit = 100_000
limits.circuits_per_job = 2
limits.shots_per_job = 150_000
limits.program_bytes = 50_000
"""
ACCOUNTS = {
    name: {"provider": "local", "parallel_jobs": 1, "metered": True, "reserved_seconds_per_job": SECONDS_PER_JOB}
    for name in ("lab", "secret")
}


class Lab:
    """A gateway with a policy, and callers of two tenants."""

    def __init__(self, folder: Path, new_gateway: Callable[..., GatewayProcess], **settings: str) -> None:
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        operator_key = new_api_key()
        self.gateway = new_gateway({"ACCOUNTS": json.dumps(ACCOUNTS), "ACCESS__POLICY": str(self.policy), **settings})
        self.gateway.api_key, self.gateway._own_key = operator_key, False
        self._open = ExitStack()
        self.start()

    def start(self) -> None:
        self.gateway.start()
        self.operator = self._open.enter_context(connected(self.gateway))

    def caller(self, tenant: str) -> Wire:
        key = admin_service_pb2.ApiKey(display_name=tenant, tenant=tenant, roles=[admin_service_pb2.ROLE_SUBMITTER])
        stub = admin_service_pb2_grpc.AdminServiceStub(self.operator.channel)
        request = admin_service_pb2.CreateApiKeyRequest(api_key=key)
        secret = stub.CreateApiKey(request, metadata=self.operator.metadata, timeout=20).secret
        return Wire(self.operator.channel, secret)

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def lab(tmp_path: Path, new_gateway: Callable[..., GatewayProcess]) -> Iterator[Lab]:
    lab = Lab(tmp_path, new_gateway)
    yield lab
    lab.close()


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """Return code and details of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), details(caught.value)


def raw_refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, Any]:
    """Return all that a refused call tells."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    trailers = {key: value for key, value in caught.value.trailing_metadata() if not key.startswith("x-")}
    return caught.value.code(), caught.value.details() or "", trailers


def usages(wire: Wire, **fields: Any) -> dict[str, Any]:
    request = account_service_pb2.GetUsageRequest(**fields)
    found = wire.accounts.GetUsage(request, metadata=wire.metadata, timeout=20).usages
    return {f"{each.tenant}/{each.account or each.tag or each.limit_name}": each for each in found}


def test_what_a_tenant_may_not_use_is_not_there(lab: Lab) -> None:
    physics, other = lab.caller("physics"), lab.caller("chemistry")

    def names(wire: Wire) -> tuple[set[str], set[str]]:
        backends = wire.backends.ListBackends(
            backend_service_pb2.ListBackendsRequest(), metadata=wire.metadata
        ).backends
        accounts = wire.accounts.ListAccounts(
            account_service_pb2.ListAccountsRequest(), metadata=wire.metadata
        ).accounts
        return {backend.name for backend in backends}, {account.name for account in accounts}

    backends, accounts = names(physics)
    assert accounts == {"accounts/lab"}
    assert backends == {"accounts/lab/backends/local_simulator"}
    assert names(other)[1] == {"accounts/lab", "accounts/secret"}
    assert len(names(other)[0]) > 2

    def asked(account: str, backend: str) -> list[Any]:
        """All that can be said to an account and a backend, with what comes back; the names are made alike."""
        calls: tuple[Callable[[], Any], ...] = (
            lambda: physics.submit(account=account),
            lambda: physics.submit(backend=backend),
            lambda: physics.open_session(account=account),
            lambda: physics.open_session(backend=backend),
            lambda: physics.backends.ListBackends(
                backend_service_pb2.ListBackendsRequest(account=account), metadata=physics.metadata
            ),
            lambda: physics.backends.GetBackend(
                backend_service_pb2.GetBackendRequest(name=f"accounts/{account}/backends/local_simulator"),
                metadata=physics.metadata,
            ),
            lambda: physics.backends.GetBackend(
                backend_service_pb2.GetBackendRequest(name=f"backends/{backend}"), metadata=physics.metadata
            ),
            lambda: physics.backends.GetBackendProperties(
                backend_service_pb2.GetBackendPropertiesRequest(name=f"backends/{backend}"), metadata=physics.metadata
            ),
        )
        told = []
        for call in calls:
            code, text, trailers = raw_refusal(call)
            assert code is grpc.StatusCode.NOT_FOUND
            told.append(repr((code, text, trailers)).replace(account, "ACCOUNT").replace(backend, "BACKEND"))
        return told

    hidden = next(name.rpartition("/")[2] for name in names(other)[0] if not name.endswith("simulator"))
    absent = "x" * len(hidden)
    assert asked("secret", hidden) == asked("absent", absent)


def test_a_job_that_asks_for_more_than_its_tenant_may_have_is_refused(lab: Lab) -> None:
    physics, other = lab.caller("physics"), lab.caller("chemistry")
    for name, call in {
        "shots_per_circuit": lambda wire: wire.submit(options=job_pb2.RunOptions(shots=100_001)),
        "shots_per_job": lambda wire: wire.submit([BELL, BELL], options=job_pb2.RunOptions(shots=80_000)),
        "circuits_per_job": lambda wire: wire.submit([BELL] * 3),
        "program_bytes": lambda wire: wire.submit(BELL + "//" + "x" * 50_000),
    }.items():
        code, told = refusal(lambda call=call: call(physics))  # type: ignore[misc]
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert told["ErrorInfo"].reason == "LIMIT_EXCEEDED"
        assert name in told["BadRequest"].field_violations[0].description
        call(other)


def test_a_budget_is_reserved_settled_refunded_and_told(lab: Lab) -> None:
    physics, other = lab.caller("physics"), lab.caller("chemistry")
    running = physics.submit(LONG, tags=["long"])
    waiting = physics.submit(tags=["short"])
    physics.submit(tags=["short"])
    code, told = refusal(physics.submit)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told["ErrorInfo"].reason == "BUDGET_EXCEEDED"
    facts = told["ErrorInfo"].metadata
    assert (facts["limit_name"], facts["limit"], facts["requested"]) == ("qpu_seconds_per_day", "35", "10")
    assert float(facts["used"]) + float(facts["reserved"]) + SECONDS_PER_JOB > 35
    assert facts["reset_time"].endswith("T00:00:00Z")
    (violation,) = told["QuotaFailure"].violations
    assert (violation.subject, violation.quota_metric) == ("tenants/physics", "qpu_seconds_per_day")
    assert facts["limit"] in violation.description
    assert 0 < told["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 24 * 3600
    other.submit()

    # What was cancelled before its run is given back.
    physics.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=waiting.name), metadata=physics.metadata)
    assert physics.finish(waiting.name).status == job_pb2.JOB_STATUS_CANCELLED
    physics.submit(tags=["short"])

    # A reservation outlives a restart.
    lab.gateway.kill()
    lab.start()
    physics = lab.caller("physics")
    assert refusal(physics.submit)[1]["ErrorInfo"].reason == "BUDGET_EXCEEDED"
    jobs = physics.list()
    for job in jobs:
        if job.status != job_pb2.JOB_STATUS_CANCELLED:
            assert physics.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    physics.submit()

    charged = {job.name: physics.get(job.name).usage.charged_qpu_time.ToTimedelta().total_seconds() for job in jobs}
    told = usages(physics, group_by=account_service_pb2.GetUsageRequest.GROUP_BY_TAG)
    assert told["physics/long"].used == pytest.approx(charged[running.name], abs=1e-5)
    assert told["physics/short"].jobs == 3
    now = usages(physics)
    assert now["physics/qpu_seconds_per_day"].limit == 35
    assert now["physics/qpu_seconds"].used >= sum(charged.values()) - 1e-5
    assert now["physics/pending_jobs"].limit == 10_000
    assert not any(name.startswith("chemistry") for name in now)
    (account,) = physics.accounts.ListAccounts(
        account_service_pb2.ListAccountsRequest(), metadata=physics.metadata
    ).accounts
    assert {budget.limit_name: budget.limit for budget in account.budgets} == {
        "qpu_seconds_per_day": 35,
        "qpu_seconds_per_month": 864_000,
    }
    days = usages(physics, group_by=account_service_pb2.GetUsageRequest.GROUP_BY_DAY)
    assert sum(day.jobs for day in days.values()) == now["physics/qpu_seconds"].jobs


def test_operators_alone_see_the_usage_of_others(lab: Lab) -> None:
    physics, other = lab.caller("physics"), lab.caller("chemistry")
    other.finish(other.submit().name)
    everybody = usages(lab.operator, tenant="-", group_by=account_service_pb2.GetUsageRequest.GROUP_BY_ACCOUNT)
    assert everybody["chemistry/lab"].jobs == 1
    assert usages(lab.operator, tenant="chemistry")["chemistry/qpu_seconds"].used > 0
    for tenant in ("chemistry", "nobody", "-"):
        code, told = refusal(lambda tenant=tenant: usages(physics, tenant=tenant))  # type: ignore[misc]
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert told["ErrorInfo"].reason == "ROLE_MISSING"


@pytest.mark.parametrize(
    "fields",
    [
        {"group_by": 77},
        {"start_time": Timestamp(seconds=-62_135_596_800)},
        {"end_time": Timestamp(seconds=253_402_300_799)},
        {"start_time": Timestamp(seconds=1_700_000_000), "end_time": Timestamp(seconds=1_600_000_000)},
    ],
)
def test_a_period_that_is_none_is_the_callers_mistake(lab: Lab, fields: dict[str, Any]) -> None:
    assert refusal(lambda: usages(lab.operator, **fields))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_changed_policy_is_in_use_without_a_restart_and_a_wrong_one_is_not(lab: Lab) -> None:
    physics = lab.caller("physics")
    physics.submit(options=job_pb2.RunOptions(shots=2000))
    health = health_pb2_grpc.HealthStub(lab.operator.channel)

    def policy_health() -> int:
        status: int = health.Check(health_pb2.HealthCheckRequest(service="policy"), timeout=10).status
        return status

    assert policy_health() == health_pb2.HealthCheckResponse.SERVING
    lab.policy.write_text(POLICY.replace("100_000", "1000"))

    def refused() -> bool:
        try:
            physics.submit(options=job_pb2.RunOptions(shots=2000))
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined, no-any-return]
        return False

    lab.policy.write_text(POLICY.replace("100_000", "1000").replace("= 35", "= 35_000"))
    wait_until(refused, within=20)
    lab.policy.write_text(POLICY.replace("circuits_per_job", "circuit_per_job"))
    wait_until(lambda: policy_health() == health_pb2.HealthCheckResponse.NOT_SERVING, within=20)
    assert refused()
    assert "tenants.physics.limits.circuit_per_job: there is no such entry" in lab.gateway.log
    lab.policy.write_text(POLICY.replace("= 35", "= 35_000"))
    wait_until(lambda: policy_health() == health_pb2.HealthCheckResponse.SERVING, within=20)
    assert not refused()


def test_submissions_and_calls_have_a_rate(tmp_path: Path, new_gateway: Callable[..., GatewayProcess]) -> None:
    lab = Lab(tmp_path, new_gateway, ACCESS__MAX_CALLS_PER_SECOND="2")
    try:
        lab.policy.write_text(POLICY)
        physics = lab.caller("physics")
        request = session_service_pb2.ListSessionsRequest()

        def calls() -> None:
            for _ in range(100):
                physics.sessions.ListSessions(request, metadata=physics.metadata, timeout=10)

        code, told = refusal(calls)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told["ErrorInfo"].reason == "CALL_RATE_EXCEEDED"
        assert 0 < told["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 1
        assert told["QuotaFailure"].violations[0].quota_metric == "calls_per_second"
        lab.operator.submit()  # others go on
    finally:
        lab.close()


def test_a_tenant_submits_so_many_jobs_a_minute(tmp_path: Path, new_gateway: Callable[..., GatewayProcess]) -> None:
    lab = Lab(tmp_path, new_gateway)
    try:
        lab.policy.write_text("[tenants.physics.limits]\nsubmissions_per_minute = 3\n")
        physics = lab.caller("physics")
        wait_until(lambda: "policy_loaded" in lab.gateway.log, within=20)
        began, jobs = time.monotonic(), list[job_pb2.Job]()

        def submit_until_refused() -> None:
            while True:
                jobs.append(physics.submit(request_id=str(len(jobs))))
                assert len(jobs) <= 3 + (time.monotonic() - began) / 20  # on a slow machine, one more for every 20 s

        code, told = refusal(submit_until_refused)
        assert len(jobs) >= 3
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told["ErrorInfo"].reason == "SUBMISSION_RATE_EXCEEDED"
        assert 0 < told["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 20
        assert physics.submit(request_id="0").name == jobs[0].name  # a repeated request is no new submission
        lab.operator.submit()
    finally:
        lab.close()


def test_callers_that_race_for_a_budget_get_what_fits_and_no_more(lab: Lab) -> None:
    wires = [lab.caller("physics") for _ in range(8)]
    # Runs that take a while, so that nothing is settled meanwhile.

    def submit(wire: Wire) -> list[grpc.StatusCode | None]:
        codes: list[grpc.StatusCode | None] = []
        for _ in range(4):
            try:
                wire.submit(LONG)
            except grpc.RpcError as error:
                codes.append(error.code())  # type: ignore[attr-defined]
            else:
                codes.append(None)
        return codes

    with ThreadPoolExecutor(8) as pool:
        codes = [code for told in pool.map(submit, wires) for code in told]
    accepted = codes.count(None)
    assert set(codes) == {None, grpc.StatusCode.RESOURCE_EXHAUSTED}
    settled = sum(job.status == job_pb2.JOB_STATUS_DONE for job in wires[0].list())
    assert 3 <= accepted <= 3 + settled


def test_the_python_client_tells_what_to_do_about_a_limit(lab: Lab) -> None:
    physics = lab.caller("physics")
    for _ in range(3):
        physics.submit(LONG)
    key = dict(physics.metadata)["authorization"].removeprefix("Bearer ")
    with GatewayProvider(lab.gateway.target, key) as provider:
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(1)
        circuit.measure_all()
        with pytest.raises(IBMBackendJobLimitError, match="QPU seconds") as caught:
            provider.get_backend("local_simulator").run(circuit)
    assert caught.value.reason == "BUDGET_EXCEEDED"
    assert "tenants/physics" in caught.value.diagnostics()
    assert "What to do: wait until the budget is reset" in caught.value.diagnostics()


def test_the_command_shows_usage(lab: Lab) -> None:
    physics = lab.caller("physics")
    physics.finish(physics.submit(tags=["demo"]).name)
    key = dict(physics.metadata)["authorization"].removeprefix("Bearer ")

    def run(*arguments: str) -> str:
        environment = {**os.environ, "QGATEWAY_TARGET": lab.gateway.target, "QGATEWAY_API_KEY": key}
        command = [sys.executable, "-c", "from qgateway.cli import main; main()", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    shown = run("usage")
    assert "qpu_seconds_per_day" in shown
    assert "pending_jobs" in shown
    by_tag = json.loads(run("usage", "--by", "tag", "--json"))
    assert [(each["tag"], each["jobs"]) for each in by_tag] == [("demo", 1)]


def test_a_wrong_policy_is_found_before_the_start(tmp_path: Path) -> None:
    wrong = tmp_path / "policy.toml"
    wrong.write_text("[tenants.physics]\naccounts = ['labb']\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment |= {"GATEWAY_ACCOUNTS": json.dumps(ACCOUNTS), "GATEWAY_ACCESS__POLICY": str(wrong)}
    for arguments in (["policy", "check"], ["policy", "check", str(wrong)], ["config", "check"], ["serve", "--dev"]):
        command = [sys.executable, "-m", "gateway", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2, done.stderr
        assert "tenants.physics.accounts.0: there is no account 'labb'; there are: lab, secret" in done.stderr
    wrong.write_text(POLICY)
    command = [sys.executable, "-m", "gateway", "policy", "check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert "physics" in done.stdout
