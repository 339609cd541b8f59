"""Tokens over the real server: identity, the end of streams, and an issuer that changes its keys under load."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from qgateway import GatewayProvider
from qgateway.v1 import job_service_pb2, job_service_pb2_grpc

from tests.support.gateway_process import GatewayProcess
from tests.support.leaks import WATCH
from tests.support.token_issuer import AUDIENCE, TokenIssuer, token_issuer
from tests.support.waiting import wait_until
from tests.support.wire import details, submission

LISTING = job_service_pb2.ListJobsRequest(page_size=1)


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    with token_issuer() as issuer:
        yield issuer


@pytest.fixture
def gateway(new_gateway: Callable[..., GatewayProcess], issuer: TokenIssuer) -> GatewayProcess:
    entry = {
        "issuer": issuer.name,
        "audience": AUDIENCE,
        "jwks_url": issuer.jwks_url,
        "leeway": 0,
        "tenant_claim": "team",
        "role_claim": "groups",
        "roles": {"readers": "viewer", "runners": "submitter"},
    }
    return new_gateway({"ACCESS__ISSUERS": json.dumps([entry])}).start()


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), details(caught.value)["ErrorInfo"].reason


def test_a_token_is_as_good_as_a_key_and_never_logged(gateway: GatewayProcess, issuer: TokenIssuer) -> None:
    token = issuer.token(team="physics", groups=["runners"])
    with GatewayProvider(target=gateway.target, api_key=token) as provider:
        job = provider.get_backend("local_simulator")
        assert job.name == "local_simulator"
        assert provider.jobs() == []
    with grpc.insecure_channel(gateway.target) as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        mine = jobs.SubmitJob(submission(), metadata=bearer(token), timeout=60).job
        get = job_service_pb2.GetJobRequest(name=mine.name)
        assert jobs.GetJob(get, metadata=bearer(token), timeout=20).job.name == mine.name
        elsewhere = bearer(issuer.token(team="chemistry", groups="runners"))
        assert refused(lambda: jobs.GetJob(get, metadata=elsewhere, timeout=20))[1] == "JOB_NOT_FOUND"
        reader = bearer(issuer.token(team="physics", groups=["readers"]))
        assert jobs.GetJob(get, metadata=reader, timeout=20).job.name == mine.name
        assert refused(lambda: jobs.SubmitJob(submission(), metadata=reader, timeout=60)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_MISSING",
        )
        expired = bearer(issuer.token(seconds=-5, team="physics", groups=["readers"]))
        assert refused(lambda: jobs.ListJobs(LISTING, metadata=expired, timeout=20)) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_EXPIRED",
        )
    assert token not in gateway.log


def test_a_stream_ends_with_its_token(gateway: GatewayProcess, issuer: TokenIssuer) -> None:
    brief = bearer(issuer.token(seconds=3, team="physics", groups=["readers"]))
    with grpc.insecure_channel(gateway.target) as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        watch = jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=brief, timeout=30)
        assert refused(lambda: list(watch)) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


def test_no_call_fails_while_the_issuer_changes_its_keys_under_load(
    gateway: GatewayProcess, issuer: TokenIssuer
) -> None:
    ended = threading.Event()
    calls = [0] * 4

    def call(number: int) -> None:
        with grpc.insecure_channel(gateway.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            jobs = job_service_pb2_grpc.JobServiceStub(channel)
            while not ended.is_set():
                # Made for each call, and so signed with the newest key.
                token = issuer.token(team="physics", groups=["readers"])
                jobs.ListJobs(LISTING, metadata=bearer(token), timeout=30)
                calls[number] += 1

    with ThreadPoolExecutor(len(calls)) as threads:
        loads = [threads.submit(call, number) for number in range(len(calls))]
        try:
            for key in range(3):
                wait_until(lambda: min(calls) >= 5 or any(load.done() for load in loads))
                issuer.new_key(f"key-{key}")
                calls[:] = [0] * len(calls)
            wait_until(lambda: min(calls) >= 5 or any(load.done() for load in loads))
        finally:
            ended.set()
        for load in loads:
            load.result(timeout=60)  # raises what failed
    assert issuer.fetches >= 4


def test_a_wait_outlives_the_tokens_that_its_client_is_given(
    gateway: GatewayProcess, issuer: TokenIssuer, tmp_path: Path
) -> None:
    file, ended = tmp_path / "token", threading.Event()

    def renew() -> None:
        (tmp_path / "new").write_text(issuer.token(seconds=4, team="physics", groups=["runners"]))
        (tmp_path / "new").replace(file)
        WATCH.plant_file("a token of a caller", file)

    def keep_renewing() -> None:
        while not ended.wait(1):
            renew()

    renew()
    with ThreadPoolExecutor() as threads:
        threads.submit(keep_renewing)
        try:
            with GatewayProvider(target=gateway.target, api_key_file=file) as provider:
                begin = time.monotonic()
                assert list(provider.watch_jobs(timeout=10)) == []
                assert time.monotonic() - begin >= 10
        finally:
            ended.set()
    assert gateway.log.count("TOKEN_EXPIRED") >= 2
