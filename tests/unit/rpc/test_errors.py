from __future__ import annotations

import re

import grpc
import pytest
from google.rpc import status_pb2

from gateway.domain import errors
from gateway.domain.errors import GatewayError, InvalidArgument, Reason
from gateway.rpc.errors import CODES, to_code, to_status, to_trailers


def _classes() -> list[type[GatewayError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, GatewayError) and value is not GatewayError
    ]


@pytest.mark.parametrize("error_class", _classes(), ids=lambda each: each.__name__)
def test_every_error_has_a_code_and_an_error_info(error_class: type[GatewayError]) -> None:
    error = error_class("What is wrong.", metadata={"key": "value"})
    status = to_status(error)
    assert status.code == to_code(error).value[0]
    assert to_code(error) not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK}
    assert [detail.type_url.rpartition(".")[2] for detail in status.details].count("ErrorInfo") == 1


def test_only_a_bug_is_internal() -> None:
    internal = [each.__name__ for each, code in CODES.items() if code is grpc.StatusCode.INTERNAL]
    assert internal == ["Internal"]


def test_reasons_keep_the_form_that_aip_193_asks_for() -> None:
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]", reason) for reason in Reason)


def test_a_violation_names_its_field() -> None:
    status = to_status(InvalidArgument.field("options.shots", "must be positive"))
    (detail,) = (detail for detail in status.details if detail.type_url.endswith("BadRequest"))
    assert b"options.shots" in detail.value


def test_a_refused_account_is_not_worth_a_repetition() -> None:
    error = errors.AccountRefused("No.", metadata={"account": "lab"}, retry_after=30.0)
    assert to_code(error) is grpc.StatusCode.FAILED_PRECONDITION
    trailers = dict(to_trailers(error))
    assert "grpc-retry-pushback-ms" not in trailers
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])  # type: ignore[arg-type]
    details = {detail.type_url.rpartition(".")[2]: detail.value for detail in status.details}
    assert "RetryInfo" not in details
    assert b"accounts/lab" in details["PreconditionFailure"]


def test_an_error_that_passes_tells_when_to_come_back() -> None:
    trailers = dict(to_trailers(errors.Unavailable("Away.", retry_after=1.5)))
    assert trailers["grpc-retry-pushback-ms"] == "1500"
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])  # type: ignore[arg-type]
    assert any(detail.type_url.endswith("RetryInfo") for detail in status.details)
