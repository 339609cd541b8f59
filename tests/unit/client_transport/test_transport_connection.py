"""A connection: key and deadline on every call, repeats where they are safe, no channel across a fork."""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from qgateway._aio_connection import AioConnection
from qgateway._connection import Connection, ConnectionSettings, GatewayCallError
from qgateway.v1 import job_pb2, job_service_pb2, server_service_pb2

from tests.support.refusals import Behaviour, refusal
from tests.unit.client_transport.fake_gateway import JOB, FakeGateway, event, hang, stream

GET = job_service_pb2.GetJobRequest(name=JOB)


def found(_request: object, _context: object) -> job_service_pb2.GetJobResponse:
    return job_service_pb2.GetJobResponse(job=job_pb2.Job(name=JOB))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for gateway.example, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=gateway.example"
    )
    names = ["-addext", "subjectAltName=DNS:gateway.example", "-keyout", str(key), "-out", str(chain)]
    subprocess.run([*make.split(), *names], check=True, capture_output=True)
    return chain, key


def test_every_call_carries_the_key_and_the_clients_name(fake: FakeGateway, connection: Connection) -> None:
    fake.on("GetJob", found)
    assert connection.call(connection.jobs.GetJob, GET).job.name == JOB
    assert fake.metadata["GetJob"][0]["authorization"] == "Bearer canary-0123456789"
    assert fake.metadata["GetJob"][0]["user-agent"].startswith("qgateway-python/")


def test_without_a_key_no_authorization_is_sent(fake: FakeGateway) -> None:
    fake.on("GetJob", found)
    with Connection(ConnectionSettings(fake.target)) as connection:
        connection.call(connection.jobs.GetJob, GET)
    assert "authorization" not in fake.metadata["GetJob"][0]


def test_a_call_that_is_not_answered_ends_at_the_deadline_of_the_settings(fake: FakeGateway) -> None:
    fake.on("GetJob", [found, lambda _request, context: hang(context)])
    with Connection(ConnectionSettings(fake.target, timeout=0.2)) as connection:
        connection.call(connection.jobs.GetJob, GET, timeout=20)  # it is connected
        with pytest.raises(GatewayCallError) as caught:
            connection.call(connection.jobs.GetJob, GET)
        assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_submit_has_time_for_the_server_to_read_the_program(fake: FakeGateway, connection: Connection) -> None:
    left: dict[str, float] = {}

    def note(name: str, response: Any) -> Behaviour:
        def behave(_request: Any, context: grpc.ServicerContext) -> Any:
            left[name] = context.time_remaining()
            return response

        return behave

    fake.on("GetJob", note("GetJob", job_service_pb2.GetJobResponse()))
    fake.on("SubmitJob", note("SubmitJob", job_service_pb2.SubmitJobResponse()))
    connection.call(connection.jobs.GetJob, GET)
    connection.call(connection.jobs.SubmitJob, job_service_pb2.SubmitJobRequest())
    assert 20 < left["GetJob"] < 31
    assert 100 < left["SubmitJob"] < 121


def test_a_read_is_repeated_while_the_gateway_is_unavailable(fake: FakeGateway, connection: Connection) -> None:
    fake.on("GetJob", [refusal("UNAVAILABLE", retry_after=0.01), refusal("UNAVAILABLE"), found])
    assert connection.call(connection.jobs.GetJob, GET).job.name == JOB
    assert len(fake.requests["GetJob"]) == 3


def test_a_submit_is_repeated_with_one_request_id(fake: FakeGateway, connection: Connection) -> None:
    accepted = job_service_pb2.SubmitJobResponse(job=job_pb2.Job(name=JOB))
    fake.on("SubmitJob", [refusal("UNAVAILABLE"), lambda _request, _context: accepted])
    connection.call(connection.jobs.SubmitJob, job_service_pb2.SubmitJobRequest(backend="b"))
    first, second = (request.request_id for request in fake.requests["SubmitJob"])
    assert first == second != ""


def test_a_request_id_of_the_caller_is_kept(fake: FakeGateway, connection: Connection) -> None:
    fake.on("SubmitJob", lambda _request, _context: job_service_pb2.SubmitJobResponse())
    connection.call(connection.jobs.SubmitJob, job_service_pb2.SubmitJobRequest(request_id="mine"))
    assert fake.requests["SubmitJob"][0].request_id == "mine"


def test_a_delete_is_not_repeated(fake: FakeGateway, connection: Connection) -> None:
    fake.on("DeleteJob", refusal("UNAVAILABLE"))
    with pytest.raises(GatewayCallError):
        connection.call(connection.jobs.DeleteJob, job_service_pb2.DeleteJobRequest(name=JOB))
    assert len(fake.requests["DeleteJob"]) == 1


def test_a_refusal_is_not_repeated(fake: FakeGateway, connection: Connection) -> None:
    fake.on("GetJob", refusal("NOT_FOUND"))
    with pytest.raises(GatewayCallError):
        connection.call(connection.jobs.GetJob, GET)
    assert len(fake.requests["GetJob"]) == 1


def test_the_server_info_is_read_once(fake: FakeGateway, connection: Connection) -> None:
    info = server_service_pb2.ServerInfo(version="1.2.3")
    fake.on("GetServerInfo", lambda _request, _context: server_service_pb2.GetServerInfoResponse(info=info))
    assert connection.server_info().version == connection.server_info().version == "1.2.3"
    assert len(fake.requests["GetServerInfo"]) == 1


@pytest.fixture(params=["nobody listens", "nobody answers"])
def away(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address where no gateway can be reached."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if request.param == "nobody answers":
            bound.listen()
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def says_what_to_do(error: GatewayCallError, target: str) -> bool:
    told = f"The gateway cannot be reached at {target}: "
    advice = f"What to do: is the gateway running at {target}? Check QGATEWAY_TARGET"
    return error.message.startswith(told) and advice in error.message and error.diagnostics().count(advice) == 1


def test_a_gateway_that_cannot_be_reached_is_unavailable_even_if_the_deadline_comes_first(away: str) -> None:
    with Connection(ConnectionSettings(away, timeout=0.4)) as connection:
        with pytest.raises(GatewayCallError) as caught:
            connection.server_info()
        assert caught.value.code == "UNAVAILABLE"
        assert says_what_to_do(caught.value, away)


async def test_a_gateway_that_cannot_be_reached_is_unavailable_for_asyncio_too(away: str) -> None:
    async with AioConnection(ConnectionSettings(away, timeout=0.4)) as connection:
        with pytest.raises(GatewayCallError) as caught:
            await connection.server_info()
        assert caught.value.code == "UNAVAILABLE"
        assert says_what_to_do(caught.value, away)


async def test_a_reached_gateway_that_does_not_answer_in_time_is_not_called_unreachable_by_asyncio(
    fake: FakeGateway,
) -> None:
    fake.on("GetJob", [found, lambda _request, context: hang(context)])
    async with AioConnection(ConnectionSettings(fake.target, timeout=0.2)) as connection:
        await connection.call(connection.jobs.GetJob, GET, timeout=20)
        with pytest.raises(GatewayCallError) as caught:
            await connection.call(connection.jobs.GetJob, GET)
        assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_closed_connection_says_so(fake: FakeGateway, settings: ConnectionSettings) -> None:
    connection = Connection(settings)
    connection.close()
    with pytest.raises(RuntimeError, match="closed"):
        _ = connection.jobs


def test_a_pickled_connection_connects_anew_and_shows_no_key(fake: FakeGateway, connection: Connection) -> None:
    fake.on("GetJob", found)
    connection.call(connection.jobs.GetJob, GET)
    pickled = pickle.dumps(connection)
    assert b"canary" not in pickled
    assert "canary" not in repr(connection)
    with pickle.loads(pickled) as twin:  # noqa: S301
        assert twin.call(twin.jobs.GetJob, GET).job.name == JOB
    assert fake.metadata["GetJob"][1]["authorization"] == "Bearer canary-0123456789"


def test_after_a_fork_parent_and_child_both_call_even_with_a_watch_under_way(fake: FakeGateway) -> None:
    fake.on("GetJob", found)
    fake.on("WatchJob", stream(event(1, "QUEUED", "SNAPSHOT"), hang))
    code = f"""
import os, sys
from qgateway._connection import Connection, ConnectionSettings
from qgateway._watch import watch_job
from qgateway.v1 import job_service_pb2
connection = Connection(ConnectionSettings({fake.target!r}, timeout=10))
def get():
    return connection.call(connection.jobs.GetJob, job_service_pb2.GetJobRequest(name={JOB!r})).job.name
watching = watch_job(connection, {JOB!r})
next(watching)
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if get() == get() == {JOB!r} else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child could not call"
    assert get() == {JOB!r}
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(fake.requests["GetJob"]) == 15


def test_the_errors_and_the_settings_load_without_grpc_and_qiskit() -> None:
    code = (
        "import sys, qgateway._errors, qgateway._settings;"
        "print([name for name in ('grpc', 'qiskit', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_transport_loads_without_qiskit() -> None:
    code = "import sys, qgateway._transfer, qgateway._aio_watch; print('qiskit' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]


async def test_the_asyncio_connection_does_the_same(fake: FakeGateway, aio_connection: AioConnection) -> None:
    fake.on("GetJob", [refusal("UNAVAILABLE"), found, refusal("NOT_FOUND", reason="JOB_NOT_FOUND")])
    response = await aio_connection.call(aio_connection.jobs.GetJob, GET)
    assert response.job.name == JOB
    assert fake.metadata["GetJob"][0]["authorization"] == "Bearer canary-0123456789"
    with pytest.raises(GatewayCallError) as caught:
        await aio_connection.call(aio_connection.jobs.GetJob, GET, job_id="abc")
    assert (caught.value.reason, caught.value.job_id) == ("JOB_NOT_FOUND", "abc")


async def test_a_closed_asyncio_connection_says_so(settings: ConnectionSettings) -> None:
    connection = AioConnection(settings)
    await connection.close()
    with pytest.raises(RuntimeError, match="closed"):
        _ = connection.jobs


def test_a_call_over_tls_checks_the_name_in_the_certificate(certificate: tuple[Path, Path]) -> None:
    chain, key = certificate
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), chain.read_bytes())])
    fake = FakeGateway(credentials)
    try:
        fake.on("GetJob", found)
        given = {"target": fake.target, "tls": "on", "tls_root": chain, "timeout": 2}
        with Connection(ConnectionSettings.from_environment(**given, tls_server_name="gateway.example")) as connection:
            assert connection.call(connection.jobs.GetJob, GET).job.name == JOB
        other = ConnectionSettings.from_environment(**given, tls_server_name="other.example")
        with Connection(other) as connection, pytest.raises(GatewayCallError):
            connection.call(connection.jobs.GetJob, GET)
    finally:
        fake.stop()
