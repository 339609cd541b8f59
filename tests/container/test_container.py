"""The container image, built and run as a platform engineer would."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from docker.models.containers import Container
from docker.models.images import Image
from qgateway import GatewayProvider
from qiskit import QuantumCircuit

from tests.container.conftest import Gateway

pytestmark = [
    pytest.mark.container,
    # The first test builds the image.
    pytest.mark.timeout(900),
]


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def connect(gateway: Gateway) -> GatewayProvider:
    return GatewayProvider(target=gateway.target, api_key=gateway.api_key)


def test_a_locked_down_container_gets_healthy_runs_a_circuit_and_drains_on_stop(serve: Callable[[], Gateway]) -> None:
    gateway = serve()
    gateway.wait_until_healthy()
    job = connect(gateway).get_backend("local_simulator").run(bell(), shots=500)
    counts = job.result(timeout=60).get_counts()
    assert counts.keys() == {"00", "11"}
    assert sum(counts.values()) == 500
    assert gateway.stop() == 0
    assert gateway.api_key not in gateway.container.logs().decode()


def test_a_new_container_on_the_same_volume_still_has_the_jobs(serve: Callable[[], Gateway]) -> None:
    first = serve()
    first.wait_until_healthy()
    job = connect(first).get_backend("local_simulator").run(bell(), shots=100)
    counts = job.result(timeout=60).get_counts()
    assert first.stop() == 0

    second = serve()
    second.wait_until_healthy()
    assert connect(second).retrieve_job(job.job_id()).result(timeout=60).get_counts() == counts


def test_the_image_refuses_to_speak_plain_text_unless_it_is_told_to(run: Callable[..., Container]) -> None:
    container = run({})
    assert container.wait(timeout=60)["StatusCode"] == 2
    log = container.logs().decode()
    assert "allow_insecure" in log
    assert "Traceback" not in log


def test_the_image_runs_as_an_ordinary_user_and_has_no_compiler(image: Image, run: Callable[..., Container]) -> None:
    assert image.attrs["Config"]["User"] == "10001:10001"
    container = run({}, entrypoint=["sh", "-c"], command=["id -u; command -v gcc make git || true"])
    assert container.wait(timeout=60)["StatusCode"] == 0
    assert container.logs().decode().split() == ["10001"]
