"""Reading programs: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from qgateway.v1 import program_pb2
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter, ParameterVector

from gateway.domain.backend import Backend
from gateway.domain.errors import InvalidArgument, Reason, WorkerFailure
from gateway.domain.job import ProgramKind, RunOptions
from gateway.domain.program import PreparedProgram
from gateway.workers import WorkerPool, WorkerProgramReader
from tests.unit.workers.make import (
    BELL,
    ROTATION,
    bell,
    circuits_of,
    ghz,
    qpy_bytes,
    qpy_data_program,
    qpy_program,
    text_program,
)

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


async def refusal(
    reader: WorkerProgramReader, program: bytes, backend: Backend, transpile: int | None = None
) -> dict[str, str]:
    """Return the violations of a program that must be refused, by field."""
    with pytest.raises(InvalidArgument) as caught:
        await reader.prepare(program, backend, RunOptions(transpile=transpile))
    assert caught.value.reason is Reason.INVALID_PROGRAM
    assert caught.value.violations
    return {violation.field: violation.description for violation in caught.value.violations}


async def read(
    reader: WorkerProgramReader, program: bytes, backend: Backend, transpile: int | None = None
) -> PreparedProgram:
    return await reader.prepare(program, backend, RunOptions(transpile=transpile))


async def test_a_program_is_summed_up_as_it_was_submitted(reader: WorkerProgramReader, noisy: Backend) -> None:
    program = text_program(BELL, BELL)
    prepared = await read(reader, program, noisy, transpile=1)
    assert prepared.summary.kind is ProgramKind.OPENQASM
    assert prepared.summary.circuit_count == 2
    assert prepared.summary.size_bytes == len(program)
    assert prepared.summary.sha256 == hashlib.sha256(program).hexdigest()
    assert prepared.summary.num_qubits == 2
    assert not prepared.dynamic


@pytest.mark.parametrize(
    "source",
    [
        BELL,
        BELL.removeprefix("OPENQASM 3.0;\n"),
        "// a comment\n/* another ** one */\n" + BELL.replace("3.0", "3"),
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\ncx q[0],q[1];\nmeasure q -> c;\n',
        "// old\nOPENQASM 2.0;\nqreg q[2];creg c[2];U(pi/2,0,pi) q[0];CX q[0],q[1];measure q -> c;",
    ],
)
async def test_both_versions_of_openqasm_are_read(reader: WorkerProgramReader, ideal: Backend, source: str) -> None:
    (circuit,) = circuits_of((await read(reader, text_program(source), ideal)).circuits)
    assert (circuit.num_qubits, circuit.num_clbits) == (2, 2)
    assert circuit.count_ops()["measure"] == 2


async def test_circuits_keep_name_metadata_and_phase(reader: WorkerProgramReader, ideal: Backend) -> None:
    program = text_program(BELL, BELL, metadata={"run": 7, "tags": ["a", None]})
    circuits = circuits_of((await read(reader, program, ideal)).circuits)
    assert [circuit.name for circuit in circuits] == ["circuit-0", "circuit-1"]
    assert circuits[0].metadata == {"run": 7, "tags": ["a", None]}
    (named,) = circuits_of((await read(reader, text_program(BELL, name="mine"), ideal)).circuits)
    assert named.name == "mine"
    original = QuantumCircuit(1, 1, name="phased", global_phase=0.5, metadata={"a": {"b": 1.5}})
    original.measure(0, 0)
    (circuit,) = circuits_of((await read(reader, qpy_program(original), ideal)).circuits)
    assert (circuit.name, circuit.global_phase, circuit.metadata) == ("phased", 0.5, {"a": {"b": 1.5}})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (HEAD + "qubit[2] q\nh q[0];\n", "line 4, column 1: unexpected 'h', expected ';'"),
        (HEAD + "qubit[2] q;\nh q[0\n", "line 5, column 1: the text ends too early"),
        (HEAD + "qubit[2] q;\nhh q[0];\n", "line 4, column 1: gate 'hh' is not defined."),
        (HEAD + "qubit[2] q;\nx q[1];\nh q[5];\n", "line 5, column 3: index out of range"),
        (HEAD + "qubit[2] q;\ncx q[0];\n", "line 4, column 1: "),
        (HEAD + "qubit[2] q;\ncx q[0], q[0];\n", "line 4, column 1: duplicate"),
        (HEAD + "qubit[2] q;\nbit[2] q;\n", "line 4, column 1: "),
        (HEAD + "qubit q;\nrx(1/0) q;\n", "line 4, column 4: "),
        (HEAD + "qubit q;\n#\n", "line 4, column "),
        (HEAD + 'qubit q;\ninclude "/etc/passwd";\n', "line 4, column 1: "),
        ("hello world", "line 1, column 12"),
        ("  \n", "empty"),
        ("// nothing\n/* at all */", "empty"),
        ("OPENQASM 4.0;\nqubit q;", "OpenQASM 4"),
        (HEAD + "qubit q;\nrx(" + "(" * 5000 + "1" + ")" * 5000 + ") q;", "nested"),
        ('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2]\nh q[0];', "line 4, column 1: needed ';'"),
        ('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nh q[7];', "line 4, column 5: index 7"),
        ('OPENQASM 2.0;\ninclude "/etc/passwd";\n', "line 2, column 9: unable to find"),
        ("OPENQASM 2.0;\nqreg q[200000000000];\n", "too large"),
    ],
)
async def test_a_broken_text_is_refused_with_line_and_column(
    reader: WorkerProgramReader, ideal: Backend, source: str, words: str
) -> None:
    violations = await refusal(reader, text_program(source), ideal)
    assert list(violations) == ["program.openqasm.circuits[0].source"]
    assert words in violations["program.openqasm.circuits[0].source"]


async def test_no_file_of_the_server_is_included(reader: WorkerProgramReader, ideal: Backend, tmp_path: Path) -> None:
    secret = tmp_path / "secret.inc"
    secret.write_text("gate g a { U(0,0,0) a; }\n")
    for source in (f'OPENQASM 2.0;\ninclude "{secret}";\n', f'OPENQASM 3.0;\ninclude "{secret}";\n'):
        assert "line 2" in str(await refusal(reader, text_program(source), ideal))


async def test_everything_that_is_wrong_is_told_at_once(reader: WorkerProgramReader, ideal: Backend) -> None:
    violations = await refusal(reader, text_program("qubit", BELL, "bit"), ideal)
    assert list(violations) == ["program.openqasm.circuits[0].source", "program.openqasm.circuits[2].source"]


async def test_a_name_of_a_thousand_characters_is_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    violations = await refusal(reader, text_program(BELL, name="x" * 1000), ideal)
    assert list(violations) == ["program.openqasm.circuits[0].circuit_name"]


async def test_metadata_that_json_cannot_hold_is_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    violations = await refusal(reader, text_program(BELL, metadata={"a": math.inf}), ideal)
    assert list(violations) == ["program.openqasm.circuits[0].metadata"]


@pytest.mark.parametrize(
    ("program", "field"),
    [
        (b"", "program"),
        (b"\xff\xff\xff", "program"),
        (text_program(), "program.openqasm.circuits"),
        (qpy_data_program(b""), "program.qpy.data"),
        (qpy_data_program(b"GIF89a\x0d"), "program.qpy.data"),
        (program_pb2.Program(raw=program_pb2.RawProgram(program_id="sampler")).SerializeToString(), "program.raw"),
    ],
)
async def test_a_program_without_circuits_is_refused(
    reader: WorkerProgramReader, ideal: Backend, program: bytes, field: str
) -> None:
    assert list(await refusal(reader, program, ideal)) == [field]


@pytest.mark.parametrize(
    ("version", "words"), [(12, "can run code"), (1, "can run code"), (19, "newer"), (255, "newer")]
)
async def test_qpy_of_a_version_that_is_not_read_is_refused_by_its_header(
    reader: WorkerProgramReader, ideal: Backend, version: int, words: str
) -> None:
    data = bytearray(qpy_bytes(bell()))
    data[6] = version
    violations = await refusal(reader, qpy_data_program(bytes(data)), ideal)
    assert words in violations["program.qpy.data"]


async def test_the_qpy_versions_that_are_read_can_be_asked_for(reader: WorkerProgramReader) -> None:
    oldest, newest = await reader.qpy_versions()
    assert oldest == 13
    assert newest >= 17


async def test_qpy_that_ends_early_is_refused_wherever_it_ends(reader: WorkerProgramReader, ideal: Backend) -> None:
    data = qpy_bytes(bell())
    for length in range(len(data)):
        violations = await refusal(reader, qpy_data_program(data[:length]), ideal)
        assert list(violations) == ["program.qpy.data"], length
        assert "Backtrace" not in violations["program.qpy.data"]


@pytest.mark.parametrize("metadata", [{"a": math.nan}, {"a": [math.inf]}, {"a": 10**400}])
async def test_qpy_metadata_that_cannot_be_given_back_is_refused(
    reader: WorkerProgramReader, ideal: Backend, metadata: dict[str, object]
) -> None:
    circuit = bell()
    circuit.metadata = metadata
    assert "metadata" in (await refusal(reader, qpy_program(circuit), ideal))["program.qpy.data"]


async def test_an_instruction_that_acts_twice_on_a_qubit_is_refused(
    reader: WorkerProgramReader, ideal: Backend
) -> None:
    pair = QuantumCircuit(2, name="pair")
    pair.h(0)
    pair.cx(0, 1)
    circuit = QuantumCircuit(2, 1)
    circuit.append(pair.to_gate(), [0, 1])
    circuit.measure(0, 0)
    twice = circuit.data[0].replace(qubits=[circuit.qubits[0]] * 2)
    circuit._append(twice)
    assert "contradicts itself" in (await refusal(reader, qpy_program(circuit), ideal))["program.qpy.data"]


async def test_a_circuit_that_contradicts_itself_is_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    gate = Gate("mine", 2, [])
    gate.definition = QuantumCircuit(1)
    circuit = QuantumCircuit(2, 1)
    circuit.append(gate, [0, 1])
    circuit.measure(0, 0)
    assert "contradicts itself" in (await refusal(reader, qpy_program(circuit), ideal))["program.qpy.data"]


async def test_every_binding_makes_an_experiment(reader: WorkerProgramReader, ideal: Backend) -> None:
    program = text_program(ROTATION, bindings=[{"theta": 0.25 * step} for step in range(20)])
    prepared = await read(reader, program, ideal)
    circuits = circuits_of(prepared.circuits)
    assert prepared.summary.circuit_count == 20
    assert [circuit.data[0].params[0] for circuit in circuits] == [0.25 * step for step in range(20)]
    assert {circuit.name for circuit in circuits} == {"circuit-0"}


async def test_circuits_of_a_qpy_file_are_bound_by_index(reader: WorkerProgramReader, ideal: Backend) -> None:
    vector = ParameterVector("v", 2)
    free = QuantumCircuit(1, 1, name="free")
    free.u(vector[0], 2 * vector[1], 0.0, 0)
    free.measure(0, 0)
    program = qpy_program(bell(), free, bindings={1: [{"v[0]": 1.0, "v[1]": 2.0}, {"v[0]": 3.0, "v[1]": 4.0}]})
    circuits = circuits_of((await read(reader, program, ideal)).circuits)
    assert [circuit.name for circuit in circuits] == ["bell", "free", "free"]
    assert [circuit.data[0].params for circuit in circuits[1:]] == [[1.0, 4.0, 0.0], [3.0, 8.0, 0.0]]


@pytest.mark.parametrize(
    ("bindings", "field", "words"),
    [
        ([], "bindings", "'theta'"),
        ([{"theta": 1.0}, {}], "bindings[1]", "no value for 'theta'"),
        ([{"theta": 1.0, "phi": 2.0}], "bindings[0]", "no parameter 'phi'"),
        ([{"theta": math.nan}], "bindings[0]", "finite"),
        ([{"theta": math.inf}], "bindings[0]", "finite"),
    ],
)
async def test_wrong_bindings_are_refused_by_place(
    reader: WorkerProgramReader, ideal: Backend, bindings: list[dict[str, float]], field: str, words: str
) -> None:
    violations = await refusal(reader, text_program(ROTATION, bindings=bindings), ideal)
    assert words in violations[f"program.openqasm.circuits[0].{field}"]


async def test_a_value_that_an_expression_cannot_take_is_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    theta = Parameter("theta")
    circuit = QuantumCircuit(1, 1)
    circuit.rx(1 / theta, 0)
    circuit.measure(0, 0)
    violations = await refusal(reader, qpy_program(circuit, bindings={0: [{"theta": 0.0}]}), ideal)
    assert list(violations) == ["program.qpy.circuit_bindings[0].bindings[0]"]


@pytest.mark.parametrize(("index", "field"), [(7, "circuit_index"), (-1, "circuit_index")])
async def test_bindings_of_a_circuit_that_is_not_there_are_refused(
    reader: WorkerProgramReader, ideal: Backend, index: int, field: str
) -> None:
    violations = await refusal(reader, qpy_program(bell(), bindings={index: [{}]}), ideal)
    assert list(violations) == [f"program.qpy.circuit_bindings[0].{field}"]


async def test_free_parameters_of_a_qpy_circuit_are_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.rx(Parameter("phi"), 0)
    circuit.measure(0, 0)
    assert "'phi'" in (await refusal(reader, qpy_program(circuit), ideal))["program.qpy.circuit_bindings"]


async def test_an_infinite_angle_is_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.rx(math.nan, 0)
    circuit.measure(0, 0)
    assert "infinite" in (await refusal(reader, qpy_program(circuit), ideal))["program.qpy.data"]


async def test_too_many_experiments_are_refused(reader: WorkerProgramReader, ideal: Backend) -> None:
    narrow = replace(ideal, max_circuits=3)
    assert "4 experiments" in (await refusal(reader, text_program(*[BELL] * 4), narrow))["program.openqasm.circuits"]
    assert "4 experiments" in (await refusal(reader, qpy_program(*[bell()] * 4), narrow))["program.qpy.data"]
    sweep = text_program(ROTATION, bindings=[{"theta": 1.0}] * 4)
    assert "4 experiments" in (await refusal(reader, sweep, narrow))["program.openqasm.circuits"]


@pytest.mark.parametrize("transpile", [None, 1])
async def test_a_circuit_wider_than_the_backend_is_refused(
    reader: WorkerProgramReader, noisy: Backend, transpile: int | None
) -> None:
    violations = await refusal(reader, qpy_program(bell(), ghz(6)), noisy, transpile)
    assert "circuit 1 ('ghz-6'): the circuit has 6 qubits, and local_noisy_5q has 5" in violations["program.qpy.data"]


async def test_a_circuit_that_measures_nothing_is_refused_with_advice(
    reader: WorkerProgramReader, ideal: Backend
) -> None:
    for source in (HEAD + "qubit q;\nh q;\n", HEAD + "qubit q;\nbit[2] c;\nh q;\n"):
        violations = await refusal(reader, text_program(source), ideal)
        assert "measure at least one qubit" in violations["program.openqasm.circuits[0].source"]


@pytest.mark.parametrize(
    "change",
    [
        lambda circuit: circuit.h(0),
        lambda circuit: circuit.cx(0, 2),
        lambda circuit: circuit.if_else((circuit.clbits[0], 1), with_h(), None, [0], []),
        lambda circuit: circuit.append(own_gate("cx", 2), [0, 1]),
    ],
    ids=["unknown instruction", "wrong qubits", "inside a branch", "a gate of its own under a known name"],
)
async def test_what_the_device_cannot_run_is_refused_and_transpile_is_named(
    reader: WorkerProgramReader, noisy: Backend, change: Callable[[QuantumCircuit], object]
) -> None:
    circuit = QuantumCircuit(3, 1)
    change(circuit)
    circuit.measure(0, 0)
    program = qpy_program(circuit)
    assert "options.transpile" in (await refusal(reader, program, noisy))["program.qpy.data"]
    await read(reader, program, noisy, transpile=1)


async def test_a_circuit_in_the_terms_of_the_device_is_run_as_it_is(
    reader: WorkerProgramReader, noisy: Backend
) -> None:
    circuit = QuantumCircuit(4, 2, name="native")
    circuit.sx(3)
    circuit.rz(0.1, 3)
    circuit.cx(3, 1)
    circuit.barrier()
    circuit.delay(100, 3, "dt")
    circuit.reset(0)
    circuit.measure([3, 1], [0, 1])
    (same,) = circuits_of((await read(reader, qpy_program(circuit), noisy)).circuits)
    assert same == circuit


@pytest.mark.parametrize("level", [0, 1, 2, 3])
async def test_transpiled_circuits_keep_to_gates_and_couplings(
    reader: WorkerProgramReader, noisy: Backend, level: int
) -> None:
    program = text_program(
        BELL, HEAD + "qubit[4] q; bit[4] c; h q; ccx q[0], q[1], q[3]; swap q[0], q[2]; c = measure q;"
    )
    prepared = await read(reader, program, noisy, transpile=level)
    for circuit in circuits_of(prepared.circuits):
        for instruction in circuit.data:
            assert instruction.name in noisy.supported_instructions
            if instruction.name == "cx":
                assert tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits) in noisy.coupling_map
    again = await read(reader, program, noisy, transpile=level)
    assert circuits_of(prepared.circuits) == circuits_of(again.circuits)


async def test_a_parameter_that_the_transpiler_removes_still_needs_and_takes_a_value(
    reader: WorkerProgramReader, noisy: Backend
) -> None:
    source = ROTATION.replace("rx(theta) q;", "rz(theta) q;")
    await read(reader, text_program(source, bindings=[{"theta": 1.0}]), noisy, transpile=3)
    violations = await refusal(reader, text_program(source), noisy, transpile=3)
    assert "'theta'" in violations["program.openqasm.circuits[0].bindings"]


async def test_control_flow_is_seen(reader: WorkerProgramReader, ideal: Backend, noisy: Backend) -> None:
    source = HEAD + "qubit[2] q; bit[2] c; h q[0]; c[0] = measure q[0]; if (c[0]) { x q[1]; } c[1] = measure q[1];"
    assert (await read(reader, text_program(BELL, source), ideal)).dynamic
    assert (await read(reader, text_program(source), noisy, transpile=1)).dynamic
    prepared = await reader.prepare(text_program(source), ideal, RunOptions(dynamic=False))
    assert prepared.dynamic


async def test_the_ideal_simulator_takes_every_gate_that_is_defined(
    reader: WorkerProgramReader, ideal: Backend
) -> None:
    circuit = QuantumCircuit(4, 4, name="many")
    circuit.ch(0, 1)
    circuit.iswap(0, 1)
    circuit.cx(0, 1, ctrl_state=0)
    circuit.append(own_gate("mine", 2), [2, 3])
    circuit.append(own_gate("r", 2), [0, 3])
    circuit.h(0)
    circuit.if_else((circuit.clbits[0], 1), with_own_gate(), None, [2, 3], [])
    circuit.measure(range(4), range(4))
    (written,) = circuits_of((await read(reader, qpy_program(circuit), ideal)).circuits)
    names = set(written.count_ops())
    assert names <= set(ideal.supported_instructions)
    assert "r" not in names
    assert (written.name, written.num_clbits) == ("many", 4)


async def test_a_gate_without_a_definition_is_refused(
    reader: WorkerProgramReader, ideal: Backend, noisy: Backend
) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.append(Gate("secret", 1, []), [0])
    circuit.measure(0, 0)
    for backend, transpile in ((ideal, None), (ideal, 1), (noisy, 1)):
        assert "secret" in (await refusal(reader, qpy_program(circuit), backend, transpile))["program.qpy.data"]


async def test_a_gate_of_the_program_is_not_mistaken_for_the_standard_one_of_its_name(
    reader: WorkerProgramReader, ideal: Backend, noisy: Backend
) -> None:
    source = "OPENQASM 3.0;\ngate h a { U(pi, 0, pi) a; }\nqubit q;\nbit[1] c;\nh q;\nc[0] = measure q;\n"
    for backend, transpile in ((ideal, None), (ideal, 0), (noisy, 0)):
        (circuit,) = circuits_of((await read(reader, text_program(source), backend, transpile)).circuits)
        assert "h" not in circuit.count_ops()


async def test_a_program_over_its_limits_is_refused_as_such(ideal: Backend) -> None:
    pool = WorkerPool(size=1, warm_up="warm_up_programs")
    try:
        slow = WorkerProgramReader(pool, time_limit=0.3, memory_limit=2**30)
        long = "".join(f"rz({number}) q;\n" for number in range(300_000))
        with pytest.raises(WorkerFailure) as caught:
            await slow.prepare(text_program(f"{HEAD}qubit q;\nbit c;\n{long}c = measure q;\n"), ideal, RunOptions())
        assert caught.value.reason is Reason.TIME_LIMIT_EXCEEDED
        small = WorkerProgramReader(pool, time_limit=20, memory_limit=2**26)
        with pytest.raises(WorkerFailure) as caught:
            await small.prepare(text_program(HEAD + "qubit[20000000] q;\n"), ideal, RunOptions())
        assert caught.value.reason is Reason.MEMORY_LIMIT_EXCEEDED
        assert (await small.prepare(text_program(BELL), ideal, RunOptions())).summary.circuit_count == 1
    finally:
        await pool.close()


def own_gate(name: str, width: int) -> Gate:
    definition = QuantumCircuit(width, name=name)
    definition.x(0)
    definition.cy(0, width - 1)
    return definition.to_gate()


def with_h() -> QuantumCircuit:
    block = QuantumCircuit(1)
    block.h(0)
    return block


def with_own_gate() -> QuantumCircuit:
    block = QuantumCircuit(2)
    block.append(own_gate("inner", 2), [0, 1])
    return block
