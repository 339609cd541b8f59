"""Client certificates as identity, and certificates that change while the server runs."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway import GatewayProvider
from qgateway.aio import GatewayProvider as AioProvider
from qgateway.v1 import admin_service_pb2, admin_service_pb2_grpc, job_service_pb2, job_service_pb2_grpc

from tests.support.authority import Authority
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.wire import details, submission

ROBOT = "spiffe://lab.example/ns/physics/sa/robot"
CALLERS = [
    {"uri": "spiffe://lab.example/ns/physics/sa/*", "tenant": "physics", "role": "viewer"},
    {"dns": "*.bots.lab.example", "name": "bots", "tenant": "chemistry", "role": "submitter"},
]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def settings(authority: Authority, **more: str) -> dict[str, str]:
    certificate, key = authority.issue("server")
    return {
        "SERVER__TLS__CERTIFICATE": str(certificate),
        "SERVER__TLS__KEY": str(key),
        "SERVER__TLS__POLL_INTERVAL": "0.05",
        **more,
    }


def mutual(authority: Authority, **more: str) -> dict[str, str]:
    return settings(
        authority,
        SERVER__TLS__CLIENT_CA=str(authority.certificate),
        ACCESS__CERTIFICATES=json.dumps(CALLERS),
        **more,
    )


@contextmanager
def jobs_of(target: str, credentials: grpc.ChannelCredentials) -> Iterator[Any]:
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own, and so a handshake of its own
    with grpc.secure_channel(target, credentials, options) as channel:
        yield job_service_pb2_grpc.JobServiceStub(channel)


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return str(details(caught.value)["ErrorInfo"].reason)


def _is_in_nobodys_hand(key: str, in_hand: Sequence[str]) -> bool:
    return key not in in_hand


def serial_shown(target: str) -> int:
    """Return the serial number of the certificate that new connections are shown."""
    host, _, port = target.rpartition(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode()).serial_number


def serial_in(certificate: Path) -> int:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


def health_of_tls(authority: Authority, target: str) -> str:
    with grpc.secure_channel(target, authority.channel_credentials()) as channel:
        request = health_pb2.HealthCheckRequest(service="tls")
        status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
        return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


def test_a_certificate_says_who_calls_and_a_key_says_it_louder(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    gateway = new_gateway(mutual(authority)).start()
    listing = job_service_pb2.ListJobsRequest()
    with jobs_of(gateway.target, authority.channel_credentials(authority.issue("robot", uris=(ROBOT,)))) as jobs:
        assert list(jobs.ListJobs(listing, timeout=20).jobs) == []
        assert reason_of(lambda: jobs.SubmitJob(submission(), timeout=60)) == "ROLE_MISSING"
        key = (("authorization", f"Bearer {gateway.api_key}"),)
        mine = jobs.SubmitJob(submission(), metadata=key, timeout=60).job
        assert reason_of(lambda: jobs.GetJob(job_service_pb2.GetJobRequest(name=mine.name), timeout=20)) == (
            "JOB_NOT_FOUND"
        )
        wrong = (("authorization", "Bearer wrong"),)
        assert reason_of(lambda: jobs.ListJobs(listing, metadata=wrong, timeout=20)) == "API_KEY_INVALID"
    bot = authority.issue("bot", dns=("A1.bots.lab.example",))
    with jobs_of(gateway.target, authority.channel_credentials(bot)) as jobs:
        job = jobs.SubmitJob(submission(), timeout=60).job
        assert [each.name for each in jobs.ListJobs(listing, timeout=20).jobs] == [job.name]
    files = {"tls": "on", "tls_root": authority.certificate, "tls_cert": bot[0], "tls_key": bot[1]}
    with GatewayProvider(target=gateway.target, **files) as provider:
        assert [each.job_id() for each in provider.jobs()] == [job.name.removeprefix("jobs/")]
    strangers: list[dict[str, tuple[str, ...]]] = [
        {"dns": ("deep.a1.bots.lab.example",)},
        {"uris": ("spiffe://lab.example/ns/physics/sa/robot/more",)},
        {"uris": (ROBOT, "https://lab.example")},  # a certificate with a SPIFFE id has no other URI
        {},
    ]
    for stranger in strangers:
        with jobs_of(gateway.target, authority.channel_credentials(authority.issue("stranger", **stranger))) as jobs:
            assert reason_of(lambda: jobs.ListJobs(listing, timeout=20)) == "CERTIFICATE_UNKNOWN"
            assert jobs.ListJobs(listing, metadata=key, timeout=20).jobs


def test_the_audit_trail_names_the_caller_of_a_certificate(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    gateway = new_gateway(mutual(authority)).start()
    credentials = authority.channel_credentials(authority.issue("bot", dns=("a1.bots.lab.example",)))
    with jobs_of(gateway.target, credentials) as jobs:
        job = jobs.SubmitJob(submission(), timeout=60).job
    with grpc.secure_channel(gateway.target, credentials) as channel:
        records = (
            admin_service_pb2_grpc.AdminServiceStub(channel)
            .ListAuditRecords(
                admin_service_pb2.ListAuditRecordsRequest(job=job.name),
                metadata=(("authorization", f"Bearer {gateway.api_key}"),),
                timeout=20,
            )
            .records
        )
    assert {(record.caller, record.tenant) for record in records if record.action == "job.submit"} == {
        ("bots", "chemistry")
    }


def test_an_operator_with_a_certificate_needs_no_key_for_the_commands(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    callers = [{"dns": "ops.lab.example", "role": "operator"}]
    gateway = new_gateway({**mutual(authority), "ACCESS__CERTIFICATES": json.dumps(callers)}).start()
    certificate, key = authority.issue("ops", dns=("ops.lab.example",))
    line = [sys.executable, "-m", "gateway", "keys", "create", "--name", "ci", "--tenant", "physics", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "QGATEWAY_"))}
    environment |= {
        "QGATEWAY_TARGET": gateway.target,
        "QGATEWAY_TLS_ROOT": str(authority.certificate),
        "QGATEWAY_TLS_CERT": str(certificate),
        "QGATEWAY_TLS_KEY": str(key),
    }
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    with jobs_of(gateway.target, authority.channel_credentials((certificate, key))) as jobs:
        metadata = (("authorization", f"Bearer {made['secret']}"),)
        jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=metadata, timeout=20)


def test_clients_with_certificates_can_have_an_address_of_their_own(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    second = f"127.0.0.1:{free_port()}"
    gateway = new_gateway(mutual(authority, SERVER__TLS__CLIENT_LISTEN=second)).start()
    listing = job_service_pb2.ListJobsRequest()
    key = (("authorization", f"Bearer {gateway.api_key}"),)
    with jobs_of(gateway.target, authority.channel_credentials()) as jobs:
        jobs.ListJobs(listing, metadata=key, timeout=20)
        assert reason_of(lambda: jobs.ListJobs(listing, timeout=20)) == "API_KEY_MISSING"
    robot = authority.channel_credentials(authority.issue("robot", uris=(ROBOT,)))
    with jobs_of(second, robot) as jobs:
        jobs.ListJobs(listing, timeout=20)
    with jobs_of(second, authority.channel_credentials()) as jobs, pytest.raises(grpc.RpcError) as caught:
        jobs.ListJobs(listing, metadata=key, timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_stream_ends_when_the_certificate_that_opened_it_expires(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    gateway = new_gateway(mutual(authority)).start()
    brief = authority.channel_credentials(authority.issue("robot", uris=(ROBOT,), lifetime=timedelta(seconds=3)))
    with jobs_of(gateway.target, brief) as jobs:
        watch = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), timeout=30)
        assert reason_of(lambda: list(watch)) == "CERTIFICATE_EXPIRED"
        # The connection stands; whoever came in by it does not.
        assert reason_of(lambda: jobs.ListJobs(job_service_pb2.ListJobsRequest(), timeout=20)) == "CERTIFICATE_EXPIRED"


async def test_clients_take_up_their_new_certificates(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    """Such as those of a service mesh, which live for minutes."""
    gateway = new_gateway(mutual(authority)).start()
    ended = threading.Event()

    def renew() -> tuple[Path, Path]:
        return authority.issue("robot", uris=(ROBOT,), lifetime=timedelta(seconds=4))

    def keep_renewing() -> None:
        while not ended.wait(1):
            renew()

    def follow() -> None:
        with GatewayProvider(target=gateway.target, **files) as provider:
            assert list(provider.watch_jobs(timeout=8)) == []
            assert provider.jobs() == []

    async def follow_in_asyncio() -> None:
        async with AioProvider(target=gateway.target, **files) as provider:
            assert [change async for change in provider.watch_jobs(timeout=8)] == []
            assert await provider.jobs() == []

    certificate, key = renew()
    files: dict[str, Any] = {"tls": "on", "tls_root": authority.certificate, "tls_cert": certificate, "tls_key": key}
    renewing = asyncio.to_thread(keep_renewing)
    following = asyncio.gather(asyncio.to_thread(follow), follow_in_asyncio())
    following.add_done_callback(lambda _: ended.set())
    await asyncio.gather(renewing, following)
    assert gateway.log.count("CERTIFICATE_EXPIRED") >= 2


def test_no_call_fails_while_certificates_and_keys_are_changed_under_load(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    """Certificates change all the time, and so do keys: the old is revoked as soon as nobody uses it any more."""
    certificate = authority.folder / "server.crt"
    gateway = new_gateway(settings(authority)).start()
    trust = authority.channel_credentials()
    operator = (("authorization", f"Bearer {gateway.api_key}"),)
    rounds, callers = 12, 4
    ended, lock, keys = threading.Event(), threading.Lock(), [gateway.api_key]
    # What a caller has in hand: whoever revokes a key waits until nobody has it in hand.
    in_hand: list[str] = [""] * callers

    def call(number: int) -> int:
        calls = 0
        while not ended.is_set():
            with jobs_of(gateway.target, trust) as jobs:
                for _ in range(5):
                    with lock:
                        in_hand[number] = keys[-1]
                    metadata = (("authorization", f"Bearer {in_hand[number]}"),)
                    jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1), metadata=metadata, timeout=20)
                    calls += 1
        in_hand[number] = ""
        return calls

    with jobs_of(gateway.target, trust) as jobs, ThreadPoolExecutor(callers) as threads:
        watch = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=operator)
        next(watch)
        loads = [threads.submit(call, number) for number in range(callers)]
        serials = {serial_shown(gateway.target)}
        try:
            with grpc.secure_channel(gateway.target, trust) as channel:
                admin, revocable = admin_service_pb2_grpc.AdminServiceStub(channel), ""
                for _ in range(rounds):
                    authority.issue("server")
                    wanted = admin_service_pb2.ApiKey(tenant="dev", roles=[admin_service_pb2.ROLE_VIEWER])
                    made = admin_service_pb2.CreateApiKeyRequest(api_key=wanted)
                    key = admin.CreateApiKey(made, metadata=operator, timeout=20)
                    with lock:
                        keys.append(key.secret)
                    wait_until(partial(_is_in_nobodys_hand, keys[-2], in_hand))
                    if revocable:
                        gone = admin_service_pb2.RevokeApiKeyRequest(name=revocable)
                        admin.RevokeApiKey(gone, metadata=operator, timeout=20)
                    revocable = key.api_key.name
                    wait_until(lambda: serial_shown(gateway.target) == serial_in(certificate))
                    serials.add(serial_shown(gateway.target))
        finally:
            ended.set()
        assert sum(load.result(timeout=60) for load in loads) > 0  # each raises what failed
        assert watch.is_active()
        job = jobs.SubmitJob(submission(), metadata=operator, timeout=60).job
        assert any(answer.event.job.name == job.name for answer in watch)
        watch.cancel()
    assert len(serials) == rounds + 1
    assert "certificate_not_reloaded" not in gateway.log


def test_wrong_files_leave_the_old_certificate_in_use_and_turn_its_health_red(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    gateway = new_gateway(settings(authority)).start()
    certificate, key = authority.folder / "server.crt", authority.folder / "server.key"
    in_use, right = serial_in(certificate), (certificate.read_bytes(), key.read_bytes())
    assert health_of_tls(authority, gateway.target) == "SERVING"
    other = authority.issue("other")[1].read_bytes()
    old = authority.issue("old", lifetime=timedelta(seconds=-1))
    for chain, secret, words in (
        (right[0], other, "do not belong together"),
        (b"no certificate", right[1], "no certificate in PEM"),
        (right[0], b"no key", "no key in PEM"),
        (old[0].read_bytes(), old[1].read_bytes(), "has expired"),
    ):
        certificate.write_bytes(chain)
        key.write_bytes(secret)
        wait_until(lambda: health_of_tls(authority, gateway.target) == "NOT_SERVING")
        assert words in gateway.log
        assert serial_shown(gateway.target) == in_use
        certificate.write_bytes(right[0])
        key.write_bytes(right[1])
        wait_until(lambda: health_of_tls(authority, gateway.target) == "SERVING")
    certificate.unlink()
    wait_until(lambda: "Cannot read" in gateway.log)
    renewed, _ = authority.issue("server")
    wait_until(lambda: serial_shown(gateway.target) == serial_in(renewed))


def test_client_authorities_are_exchanged_without_a_restart(
    new_gateway: Callable[..., GatewayProcess], authority: Authority
) -> None:
    bundle = authority.folder / "clients.pem"
    bundle.write_bytes(authority.certificate.read_bytes())
    gateway = new_gateway({**mutual(authority), "SERVER__TLS__CLIENT_CA": str(bundle)}).start()
    new = Authority(authority.folder, "new-ca")
    pairs = {each.name: each.issue(f"robot-of-{each.name}", uris=(ROBOT,)) for each in (authority, new)}

    def is_let_in(by: Authority) -> bool:
        with jobs_of(gateway.target, authority.channel_credentials(pairs[by.name])) as jobs:
            try:
                jobs.ListJobs(job_service_pb2.ListJobsRequest(), timeout=20)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

    with jobs_of(gateway.target, authority.channel_credentials(pairs[authority.name])) as early:
        watch = early.WatchJobs(job_service_pb2.WatchJobsRequest())
        next(watch)
        assert not is_let_in(new)
        bundle.write_bytes(authority.certificate.read_bytes() + new.certificate.read_bytes())
        wait_until(lambda: is_let_in(new))
        assert is_let_in(authority)
        bundle.write_bytes(new.certificate.read_bytes())
        wait_until(lambda: not is_let_in(authority))
        assert is_let_in(new)
        assert watch.is_active()
        watch.cancel()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_nothing_older_than_tls_1_2_is_spoken(
    new_gateway: Callable[..., GatewayProcess], authority: Authority, version: ssl.TLSVersion
) -> None:
    gateway = new_gateway(settings(authority)).start()
    assert handshake(gateway.target, version) is (version is not ssl.TLSVersion.TLSv1_1)


def handshake(target: str, version: ssl.TLSVersion) -> bool:
    """Return whether a server takes connections of a version of TLS."""
    import socket
    import warnings

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the server who refuses
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            with context.wrap_socket(connection):
                return True
        except ssl.SSLError:
            return False
