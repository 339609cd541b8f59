"""The command `qgateway` on a running gateway: from a file to counts, and all that can be done with a job."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qgateway.v1 import result_pb2
from qiskit import QuantumCircuit, qpy
from qiskit.circuit.library import quantum_volume

from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, connected

TURN = """OPENQASM 3.0;
include "stdgates.inc";
input float theta;
qubit q;
bit c;
rx(theta) q;
c = measure q;
"""

Command = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def environment(gateway: GatewayProcess) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QGATEWAY_")}
    return {**inherited, **gateway.environment()}


@pytest.fixture(scope="module")
def qgateway(environment: dict[str, str]) -> Command:
    def run(*arguments: str, data: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-c", "from qgateway.cli import main; main()", *arguments],
            input=data,
            capture_output=True,
            env=environment,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        return done

    return run


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("circuits") / "bell.qasm"
    path.write_text(BELL)
    return str(path)


@pytest.fixture(scope="module")
def done_job(qgateway: Command, bell: str) -> str:
    """Id of a job that is done."""
    document = qgateway("run", bell, "--shots", "500", "--seed", "7", "--name", "bell", "--tag", "cli", "--json")
    job: dict[str, Any] = json.loads(document.stdout)["job"]
    return str(job["id"])


def long_circuit() -> bytes:
    """A circuit that takes minutes."""
    circuit = quantum_volume(22, depth=400, seed=7).decompose()
    circuit.measure_all()
    file = io.BytesIO()
    qpy.dump(circuit, file)
    return file.getvalue()


def test_the_backends_are_listed_and_shown(qgateway: Command) -> None:
    found = {each["backend_id"]: each for each in json.loads(qgateway("backends", "--json").stdout)}
    assert found["local_simulator"]["simulator"]
    assert {each["num_qubits"] for each in found.values()} >= {5, 27}
    for name in found:
        assert json.loads(qgateway("backend", name, "--json").stdout)["backend_id"] == name
    assert b"local_simulator" in qgateway("backends").stdout
    qgateway("backend", "nowhere", code=3)


def test_a_circuit_runs_from_a_file_to_a_histogram(qgateway: Command, bell: str) -> None:
    done = qgateway("run", bell, "--shots", "1000", "--seed", "1")
    lines = [line.split() for line in done.stdout.decode().splitlines() if "%" in line]
    assert sorted(line[0] for line in lines) == ["00", "11"]
    assert b"DONE" in done.stderr


def test_the_same_seed_gives_the_same_counts(qgateway: Command, bell: str) -> None:
    documents = [json.loads(qgateway("run", bell, "--seed", "3", "--json").stdout) for _ in range(2)]
    first, second = (document["result"]["experiments"][0]["counts"] for document in documents)
    assert first == second
    assert sum(first.values()) == 4000


def test_a_circuit_may_come_from_the_input_as_text_or_qpy(qgateway: Command) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    file = io.BytesIO()
    qpy.dump(circuit, file)
    for data in (file.getvalue(), BELL.encode()):
        document = json.loads(qgateway("run", "-", "--shots", "10", "--json", data=data).stdout)
        assert sum(document["result"]["experiments"][0]["counts"].values()) == 10


def test_a_parameter_is_bound(qgateway: Command) -> None:
    arguments = ("run", "-", "--param", "theta=3.141592653589793", "--shots", "50", "--json")
    document = json.loads(qgateway(*arguments, data=TURN.encode()).stdout)
    assert document["result"]["experiments"][0]["counts"] == {"1": 50}


def test_a_circuit_is_transpiled_for_a_device(qgateway: Command, bell: str) -> None:
    arguments = ("--backend", "local_noisy_27q", "--transpile", "1", "--shots", "200", "--json")
    document = json.loads(qgateway("run", bell, *arguments).stdout)
    counts = document["result"]["experiments"][0]["counts"]
    assert sum(counts.values()) == 200
    assert counts.get("00", 0) + counts.get("11", 0) > 150


def test_broken_text_is_refused_with_its_line(qgateway: Command) -> None:
    done = qgateway("run", "-", data=b"OPENQASM 3.0;\nqubit q;\nnonsense q;\n", code=4)
    assert b"line 3" in done.stderr


def test_a_job_is_found_again(qgateway: Command, done_job: str) -> None:
    listed = json.loads(qgateway("jobs", "--tag", "cli", "--name", "bell", "--status", "done", "--json").stdout)
    assert done_job in [each["id"] for each in listed]
    assert done_job.encode() in qgateway("jobs", "--since", "1h", "--limit", "500").stdout
    assert json.loads(qgateway("jobs", "--status", "error", "--tag", "cli", "--json").stdout) == []
    assert b"bell" in qgateway("show", f"jobs/{done_job}").stdout
    qgateway("show", "nowhere", code=3)


def test_a_job_that_is_done_is_watched_to_its_end(qgateway: Command, done_job: str) -> None:
    events = [json.loads(line) for line in qgateway("watch", done_job, "--json").stdout.splitlines()]
    assert events[-1]["event"]["job"]["status"] == "DONE"


def test_a_result_is_shown_and_written(qgateway: Command, done_job: str, tmp_path: Path) -> None:
    counts = json.loads(qgateway("result", done_job, "--json").stdout)["experiments"][0]["counts"]
    assert sum(counts.values()) == 500
    assert b"500 shots" in qgateway("result", done_job).stdout
    qgateway("result", done_job, "--output", str(tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text())["experiments"][0]["counts"] == counts
    qgateway("result", done_job, "--output", str(tmp_path / "result.pb"))
    stored = result_pb2.JobResult.FromString((tmp_path / "result.pb").read_bytes())
    assert stored.experiments[0].shots == 500


def test_tags_and_name_change(qgateway: Command, done_job: str) -> None:
    assert b"cli, more" in qgateway("tag", done_job, "more", "--add").stdout
    assert json.loads(qgateway("tag", done_job, "cli", "--remove", "--json").stdout)["tags"] == ["more"]
    assert json.loads(qgateway("tag", done_job, "cli", "--json").stdout)["tags"] == ["cli"]
    assert b"'ghz'" in qgateway("rename", done_job, "ghz").stdout
    assert json.loads(qgateway("rename", done_job, "bell", "--json").stdout)["display_name"] == "bell"


def test_a_job_that_runs_is_watched_and_cancelled(qgateway: Command, environment: dict[str, str]) -> None:
    job = qgateway("run", "-", "--no-wait", data=long_circuit()).stdout.decode().strip()
    command = [sys.executable, "-c", "from qgateway.cli import main; main()", "watch", job]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as watching:
        running = wait_until(lambda: json.loads(qgateway("show", job, "--json").stdout)["status"] == "RUNNING")
        assert running
        qgateway("watch", job, "--timeout", "0.2", code=5)
        qgateway("result", job, code=4)
        qgateway("cancel", job)
        shown, _ = watching.communicate(timeout=30)
        assert watching.returncode == 1
    assert "CANCELLED" in shown.splitlines()[-1]
    qgateway("cancel", job, code=4)
    qgateway("result", job, code=1)
    qgateway("delete", job)
    qgateway("show", job, code=3)


def test_a_wrong_key_is_refused(qgateway: Command, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from qgateway.cli import main; main()", "jobs"],
        env={**environment, "QGATEWAY_API_KEY": "wrong"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 4
    assert b"QGATEWAY_API_KEY" in done.stderr


def test_the_server_is_shown(qgateway: Command) -> None:
    assert json.loads(qgateway("server", "--json").stdout)["min_qpy_version"] == 13
    assert b"QPY versions" in qgateway("server").stdout


def test_a_job_runs_in_a_session(gateway: GatewayProcess, qgateway: Command, bell: str) -> None:
    with connected(gateway) as wire:
        session = wire.open_session()
        qgateway("run", bell, "--shots", "10", "--session", session.name.removeprefix("sessions/"))
        assert len(wire.list(session=session.name)) == 1
        wire.close_session(session.name)
        told = qgateway("run", bell, "--session", session.name, code=4).stderr.decode()
    assert "takes no further jobs" in told
