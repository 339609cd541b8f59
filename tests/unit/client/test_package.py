"""The package as a whole: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import qgateway


def test_every_name_in_all_can_be_imported() -> None:
    for name in qgateway.__all__:
        assert getattr(qgateway, name) is not None


def test_all_is_exactly_the_public_names() -> None:
    assert sorted(qgateway.__all__) == [
        "BackendConfiguration",
        "BackendProperties",
        "BackendPropertyError",
        "BackendStatus",
        "ConnectionSettings",
        "GatewayBackend",
        "GatewayCallError",
        "GatewayCircuitJob",
        "GatewayProvider",
        "IBMAccountError",
        "IBMApiError",
        "IBMBackendApiError",
        "IBMBackendApiProtocolError",
        "IBMBackendError",
        "IBMBackendJobLimitError",
        "IBMBackendNotFoundError",
        "IBMBackendValueError",
        "IBMError",
        "IBMInputValueError",
        "IBMJobApiError",
        "IBMJobError",
        "IBMJobFailureError",
        "IBMJobInvalidStateError",
        "IBMJobNotFoundError",
        "IBMJobTimeoutError",
        "IBMNotAuthorizedError",
        "IBMProviderError",
        "QueueInfo",
        "SamplerV2",
        "Session",
        "SettingsError",
        "__version__",
        "job_monitor",
        "least_busy",
    ]
    assert dir(qgateway) == sorted(qgateway.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'IBMWrong'"):
        _ = qgateway.IBMWrong


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import qgateway; "
        "print(sorted(name.partition('.')[0] for name in set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['qgateway']"


def test_the_settings_and_the_call_error_come_without_qiskit_and_grpc() -> None:
    code = (
        "import sys; from qgateway import ConnectionSettings, GatewayCallError; "
        "assert not {'qiskit', 'grpc', 'numpy', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_changed_lines_are_enough() -> None:
    from qgateway import GatewayProvider as IBMProvider
    from qgateway.job import (
        IBMJobApiError,
        IBMJobError,
        IBMJobFailureError,
        IBMJobInvalidStateError,
        IBMJobTimeoutError,
    )

    assert IBMProvider.__name__ == "GatewayProvider"
    kinds = (IBMJobApiError, IBMJobFailureError, IBMJobInvalidStateError, IBMJobTimeoutError)
    assert all(issubclass(kind, IBMJobError) for kind in kinds)
