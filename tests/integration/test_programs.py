"""Programs over the wire: what is accepted gives the right counts, and what is wrong is named and leaves nothing behind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_pb2, program_pb2
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter

from tests.support.gateway_process import GatewayProcess
from tests.support.wire import BELL, Wire, connected, details, submission, violations


@pytest.fixture(scope="module")
def wire(gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(gateway) as wire:
        yield wire


def _qpy(*circuits: QuantumCircuit, version: int = qpy.QPY_VERSION) -> bytes:
    blob = io.BytesIO()
    qpy.dump(list(circuits), blob, version=version)
    return blob.getvalue()


def _wide(qubits: int) -> str:
    return f'OPENQASM 3.0; include "stdgates.inc"; qubit[{qubits}] q; bit[{qubits}] c; h q[0]; c = measure q;'


def _program(**kind: Any) -> program_pb2.Program:
    return program_pb2.Program(**kind)


_THETA = Parameter("theta")
_ROTATION = QuantumCircuit(1, 1)
_ROTATION.rx(_THETA, 0)
_ROTATION.measure(0, 0)

_UNBOUND_QASM = 'OPENQASM 3.0; include "stdgates.inc"; input float theta; qubit q; bit c; rx(theta) q; c = measure q;'

BAD = {
    "broken QASM": (
        {"source": "OPENQASM 3.0;\nqubit[2] q;\nh q[0;\n"},
        "program.openqasm.circuits[0].source",
        "line 3",
    ),
    "an unknown gate": (
        {"source": [BELL, "OPENQASM 3.0;\nqubit q;\nhh q;\n"]},
        "program.openqasm.circuits[1].source",
        "line 3",
    ),
    "broken QASM 2": (
        {"source": 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\nh r[0];\n'},
        "program.openqasm.circuits[0].source",
        "line 4",
    ),
    "no circuits": ({"source": []}, "program.openqasm.circuits", ""),
    "QPY of version 12": (
        {"program": _program(qpy={"data": b"QISKIT\x0c" + b"\0" * 32})},
        "program.qpy.data",
        "13",
    ),
    "QPY that ends half-way": (
        {"program": _program(qpy={"data": _qpy(_ROTATION)[:-20]})},
        "program.qpy.data",
        "",
    ),
    "no QPY": ({"program": _program(qpy={"data": b"PK\x03\x04"})}, "program.qpy.data", ""),
    "unbound parameters in QPY": ({"program": _program(qpy={"data": _qpy(_ROTATION)})}, "program.qpy", "theta"),
    "unbound parameters in QASM": ({"source": _UNBOUND_QASM}, "program.openqasm.circuits[0]", "theta"),
    "a circuit wider than the backend": (
        {
            "source": _wide(6),
            "backend": "local_noisy_5q",
            "options": job_pb2.RunOptions(transpile=job_pb2.TRANSPILE_LEVEL_1),
        },
        "program.openqasm.circuits[0]",
        "6",
    ),
    "a circuit wider than memory": ({"source": _wide(60)}, "program.openqasm.circuits[0]", "60"),
    "a gate that the device does not have": (
        {"source": BELL, "backend": "local_noisy_5q"},
        "program.openqasm.circuits[0]",
        "transpile",
    ),
    "0 shots": ({"options": job_pb2.RunOptions(shots=0)}, "options.shots", ""),
    "-1 shots": ({"options": job_pb2.RunOptions(shots=-1)}, "options.shots", ""),
    "10^9 shots": ({"options": job_pb2.RunOptions(shots=10**9)}, "options.shots", "1000000"),
    "a name of 10 000 characters": ({"display_name": "x" * 10_000}, "display_name", "256"),
    "kerneled data from a simulator": (
        {"options": job_pb2.RunOptions(meas_level=job_pb2.MEAS_LEVEL_KERNELED)},
        "options.meas_level",
        "",
    ),
    "a raw program": (
        {"program": _program(raw={"program_id": "sampler", "parameters": b"{}"})},
        "program.raw",
        "",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_nothing_behind(wire: Wire, case: str) -> None:
    fields, field, says = BAD[case]
    before = len(wire.list())
    request = submission(**fields)  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError) as caught:
        wire.jobs.SubmitJob(request, metadata=wire.metadata, timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value
    assert details(caught.value)["ErrorInfo"].domain == "qgateway"
    found = violations(caught.value)
    assert any(name.startswith(field) for name in found), found
    assert says in " ".join(found.values()), found
    assert len(wire.list()) == before


def test_tags_that_are_not_text_are_refused(wire: Wire) -> None:
    request = submission(tags=["tag"]).SerializeToString().replace(b"tag", b"\xff\xfe\xfd")
    call = wire.channel.unary_unary("/qgateway.v1.JobService/SubmitJob")
    with pytest.raises(grpc.RpcError) as caught:
        call(request, metadata=wire.metadata, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_openqasm_3_gives_the_right_counts(wire: Wire) -> None:
    source = """OPENQASM 3.0;
include "stdgates.inc";
qubit[3] q;
bit[2] low;
bit[1] high;
x q[0];
x q[2];
low[0] = measure q[0];
low[1] = measure q[1];
high[0] = measure q[2];
"""
    job = wire.finish(wire.submit(source, options=job_pb2.RunOptions(shots=100)).name)
    assert wire.counts(job.name) == [{"1 01": 100}]
    (experiment,) = wire.result(job.name).experiments
    assert [(register.register_name, register.size) for register in experiment.registers] == [("low", 2), ("high", 1)]
    assert experiment.registers[0].bits.data == b"\x01" * 100


def test_openqasm_2_is_read_too(wire: Wire) -> None:
    source = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nx q[1];\nmeasure q -> c;\n'
    job = wire.finish(wire.submit(source).name)
    assert wire.counts(job.name) == [{"10": 4000}]


def test_a_sweep_makes_one_experiment_per_binding(wire: Wire) -> None:
    circuit = program_pb2.OpenQasmCircuit(
        source=_UNBOUND_QASM,
        circuit_name="sweep",
        bindings=[program_pb2.ParameterBinding(values={"theta": angle}) for angle in (0.0, 3.141592653589793)],
    )
    program = _program(openqasm={"circuits": [circuit]})
    job = wire.finish(wire.submit(program=program).name)
    assert job.program.circuit_count == 2
    assert wire.counts(job.name) == [{"0": 4000}, {"1": 4000}]


def test_qpy_with_bindings_runs(wire: Wire) -> None:
    program = _program(
        qpy={
            "data": _qpy(_ROTATION),
            "circuit_bindings": [{"circuit_index": 0, "bindings": [{"values": {"theta": 3.141592653589793}}]}],
        }
    )
    assert wire.counts(wire.finish(wire.submit(program=program).name).name) == [{"1": 4000}]


def test_the_server_transpiles_for_a_device(wire: Wire) -> None:
    for level in (
        job_pb2.TRANSPILE_LEVEL_0,
        job_pb2.TRANSPILE_LEVEL_1,
        job_pb2.TRANSPILE_LEVEL_2,
        job_pb2.TRANSPILE_LEVEL_3,
    ):
        options = job_pb2.RunOptions(transpile=level, shots=500, seed_simulator=7)
        job = wire.finish(wire.submit(backend="local_noisy_5q", options=options).name)
        assert job.status == job_pb2.JOB_STATUS_DONE, job
        (counts,) = wire.counts(job.name)
        assert counts["00"] + counts["11"] > 400


def test_control_flow_runs(wire: Wire) -> None:
    source = """OPENQASM 3.0;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
h q[0];
c[0] = measure q[0];
if (c[0]) { x q[1]; }
c[1] = measure q[1];
"""
    (counts,) = wire.counts(wire.finish(wire.submit(source).name).name)
    assert set(counts) == {"00", "11"}


def test_the_same_seed_gives_the_same_shots(wire: Wire) -> None:
    options = job_pb2.RunOptions(shots=200, seed_simulator=11)
    first, second = (wire.result(wire.finish(wire.submit(options=options).name).name) for _ in range(2))
    assert first.experiments[0].registers[0].bits.data == second.experiments[0].registers[0].bits.data
