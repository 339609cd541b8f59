"""Submissions as plain data."""

from __future__ import annotations

import pytest
from qgateway.v1 import job_pb2, job_service_pb2, program_pb2

from gateway.domain.errors import InvalidArgument
from gateway.rpc import requests


def submission(request_id: str = "", shots: int = 1, source: str = "OPENQASM 3.0;") -> job_service_pb2.SubmitJobRequest:
    program = program_pb2.Program(
        openqasm=program_pb2.OpenQasmProgram(circuits=[program_pb2.OpenQasmCircuit(source=source)])
    )
    return job_service_pb2.SubmitJobRequest(
        program=program, backend="machine", options=job_pb2.RunOptions(shots=shots), request_id=request_id
    )


def test_requests_that_differ_in_their_id_alone_are_the_same_object_for_a_tenant() -> None:
    first = requests.job_request(submission("a"), "physics")
    assert requests.job_request(submission("b"), "physics") is first
    assert requests.job_request(submission("a"), "chemistry") is not first


def test_requests_that_differ_in_anything_else_have_other_digests() -> None:
    seen = [
        requests.job_request(request, "physics")
        for request in (submission(), submission(shots=2), submission(source="OPENQASM 3.1;"))
    ]
    assert len({request.digest for request in seen}) == len(seen)
    assert [request.options.shots for request in seen] == [1, 2, 1]


def test_large_requests_are_read_each_time() -> None:
    large = submission(source=" " * 20_000)
    first, second = (requests.job_request(large, "physics") for _ in range(2))
    assert first == second
    assert first is not second


def test_a_request_that_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(InvalidArgument):
            requests.job_request(job_service_pb2.SubmitJobRequest(backend="machine"), "physics")


def test_an_id_that_is_too_long_is_refused() -> None:
    assert requests.request_id(submission("a")) == "a"
    with pytest.raises(InvalidArgument):
        requests.request_id(submission("a" * 200))
