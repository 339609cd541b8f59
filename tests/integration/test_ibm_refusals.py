"""What can be wrong with an account, a backend or a program: the Python client tells each apart, and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qgateway import (
    GatewayProvider,
    IBMBackendApiError,
    IBMBackendError,
    IBMBackendNotFoundError,
    IBMBackendValueError,
    IBMError,
    IBMJobTimeoutError,
)
from qgateway.job import GatewayCircuitJob
from qiskit import QuantumCircuit
from qiskit.providers import JobStatus, QiskitBackendNotFoundError

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until


def flip() -> QuantumCircuit:
    """Return a circuit in the instruction set of the device."""
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    return circuit


def client_of(gateway: GatewayProcess) -> GatewayProvider:
    return GatewayProvider(target=gateway.target, api_key=gateway.api_key)


@pytest.fixture
def provider(ibm_gateway: GatewayProcess) -> Iterator[GatewayProvider]:
    with client_of(ibm_gateway) as made:
        yield made


def check(error: IBMError, reason: str, *says: str) -> None:
    """Check that an error has a reason, tells what happened, and says what to do."""
    text = error.diagnostics()
    assert error.reason == reason, text
    told, _, advice = text.partition("What to do: ")
    assert advice, text
    assert "UNKNOWN" not in told
    for each in says:
        assert each in text


def check_waiting(job: GatewayCircuitJob, kind: str, *says: str) -> None:
    """Check that a job waits for a reason, and that whoever does not wait as long as it is told of it."""

    def waits() -> bool:
        job.status()
        return job.pending_reason is not None and job.pending_reason.kind == kind

    wait_until(waits)
    with pytest.raises(IBMJobTimeoutError) as caught:
        job.result(timeout=0.1)
    check(caught.value, "TIMEOUT", f"waiting: {kind}: ", *says)


def test_a_key_that_is_not_where_it_should_be_is_told_at_once(
    new_ibm_gateway: Callable[..., GatewayProcess], key_files: dict[str, Path]
) -> None:
    key_files["alpha"].unlink()
    with client_of(new_ibm_gateway().start()) as provider:
        with pytest.raises(IBMBackendApiError) as caught:
            provider.get_backend("ibm_alder", instance="alpha")
        check(caught.value, "CREDENTIALS_REFUSED", "'alpha' cannot be read", "ask the operator", "use another account")
        assert str(key_files["alpha"]) not in caught.value.diagnostics()


def test_a_wrong_key_is_told_at_once_and_keeps_nobody_from_the_other_account(
    new_ibm_gateway: Callable[..., GatewayProcess], key_files: dict[str, Path]
) -> None:
    key_files["alpha"].write_text("no-such-key")
    with client_of(new_ibm_gateway().start()) as provider:
        with pytest.raises(IBMBackendApiError) as caught:
            provider.get_backend("ibm_alder", instance="alpha")
        check(caught.value, "CREDENTIALS_REFUSED", "'alpha'", "ask the operator", "use another account")
        assert "no-such-key" not in caught.value.diagnostics()
        with pytest.warns(UserWarning, match="backends of alpha"):
            assert {backend.account for backend in provider.backends()} == {"beta"}
        backend = provider.get_backend("ibm_alder")
        assert backend.account == "beta"
        assert backend.run(flip(), shots=10).result().get_counts() == {"1": 10}


def test_a_key_that_is_revoked_lets_jobs_wait_until_there_is_a_right_one(
    provider: GatewayProvider, control: EmulatorControl, key_files: dict[str, Path]
) -> None:
    backend = provider.get_backend("ibm_alder", instance="alpha")
    control.change_keys("alpha", add=["a-new-key-of-the-account"], remove=[key_files["alpha"].read_text()])
    control.expire_tokens()
    job = backend.run(flip(), shots=10)
    assert job.status() is JobStatus.INITIALIZING
    check_waiting(job, "CREDENTIALS_REFUSED", "'alpha'", "ask the operator")
    key_files["alpha"].write_text("a-new-key-of-the-account")
    assert job.result().get_counts() == {"1": 10}
    assert len(control.jobs()) == 1


def test_a_key_that_is_revoked_while_a_job_waits_at_the_provider_is_told(
    provider: GatewayProvider, control: EmulatorControl, key_files: dict[str, Path]
) -> None:
    control.settings(manual=True)
    job = provider.get_backend("ibm_alder", instance="alpha").run(flip(), shots=10)
    assert job.status() is JobStatus.QUEUED
    right = key_files["alpha"].read_text()
    control.change_keys("alpha", remove=[right])
    control.expire_tokens()
    check_waiting(job, "CREDENTIALS_REFUSED", "'alpha'", "ask the operator")
    control.change_keys("alpha", add=[right])
    control.advance(job.provider_job_id_, "Completed")
    assert job.result().get_counts() == {"1": 10}


def test_a_wrong_crn_is_told_at_once(new_ibm_gateway: Callable[..., GatewayProcess], emulator: EmulatorProcess) -> None:
    gateway = new_ibm_gateway(alpha={"crn": emulator.crn("beta")}).start()
    with client_of(gateway) as provider, pytest.raises(IBMBackendApiError) as caught:
        provider.get_backend("ibm_alder", instance="alpha")
    check(caught.value, "INSTANCE_REFUSED", "CRN", "ask the operator")


def test_an_unknown_backend_is_told_with_where_to_look(provider: GatewayProvider) -> None:
    with pytest.raises(IBMBackendNotFoundError) as caught:
        provider.get_backend("ibm_nowhere")
    check(caught.value, "BACKEND_NOT_FOUND", "ibm_nowhere", "qgateway backends")
    assert isinstance(caught.value, QiskitBackendNotFoundError)


def test_a_backend_that_went_offline_is_told_and_takes_no_job(
    provider: GatewayProvider, control: EmulatorControl
) -> None:
    backend = provider.get_backend("ibm_alder", instance="alpha")
    control.change_backend("ibm_alder", state="offline")
    with pytest.raises(IBMBackendError) as caught:
        backend.run(flip())
    check(caught.value, "BACKEND_NOT_OPERATIONAL", "takes no jobs now", "ibm_alder", "take another backend")
    assert not provider.jobs()


def test_jobs_beyond_the_usage_of_the_instance_wait_and_say_so(
    provider: GatewayProvider, control: EmulatorControl
) -> None:
    control.change_instance("alpha-open", usage_consumed_seconds=200_000)
    job = provider.get_backend("ibm_alder", instance="alpha").run(flip())
    check_waiting(job, "INSTANCE_LIMIT", "has used up its QPU time", "use another account")
    assert job.cancel()


def test_jobs_beyond_the_pending_jobs_of_the_instance_wait_and_say_so(
    provider: GatewayProvider, control: EmulatorControl
) -> None:
    control.settings(manual=True, max_pending_jobs=1)
    backend = provider.get_backend("ibm_alder", instance="alpha")
    backend.run(flip())
    job = backend.run(flip())
    check_waiting(job, "INSTANCE_LIMIT", "as many pending jobs as it may have", "use another account")
    assert job.cancel()


def test_circuits_beyond_the_instruction_set_are_refused_before_anything_is_sent(
    provider: GatewayProvider, control: EmulatorControl
) -> None:
    circuit = QuantumCircuit(3, 3)
    circuit.ccx(0, 1, 2)
    circuit.measure(range(3), range(3))
    with pytest.raises(IBMBackendValueError) as caught:
        provider.get_backend("ibm_alder").run(circuit)
    check(caught.value, "INVALID_PROGRAM", "ccx", "ibm_alder", "transpile")
    assert not control.jobs()


def test_too_many_shots_are_refused_before_anything_is_sent(
    provider: GatewayProvider, control: EmulatorControl
) -> None:
    with pytest.raises(IBMBackendValueError) as caught:
        provider.get_backend("ibm_alder").run(flip(), shots=100_001)
    check(caught.value, "INVALID_FIELD", "shots", "1 to 100000", "correct the value")
    assert not control.jobs()
