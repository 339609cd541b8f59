"""Running circuits: every outcome compared with what Aer and Qiskit themselves say of the same circuit and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from qgateway.v1 import result_pb2
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit, Gate, Parameter
from qiskit.circuit.classical import expr
from qiskit_aer import AerSimulator

from gateway.domain.backend import Backend
from gateway.domain.errors import GatewayError, InvalidArgument, OutOfRange, Reason, WorkerFailure
from gateway.domain.job import RunOptions
from gateway.domain.payload import Payload, PayloadFile
from gateway.domain.program import PreparedProgram
from gateway.domain.provider import ProviderSubmission
from gateway.workers import WorkerProgramReader, WorkerSimulators
from tests.unit.workers.conftest import RUN_BYTES
from tests.unit.workers.make import BELL, ROTATION, bell, ghz, qpy_bytes, qpy_program, text_program

SEED = 1234


class Lab:
    """Sends a program all the way: read, run, count."""

    def __init__(
        self, reader: WorkerProgramReader, simulators: WorkerSimulators, backends: Mapping[str, Backend]
    ) -> None:
        self.reader = reader
        self.simulators = simulators
        self.backends = backends

    async def run(
        self,
        program: bytes | PreparedProgram,
        backend: str = "local_simulator",
        memory: int = RUN_BYTES,
        **options: Any,
    ) -> result_pb2.JobResult:
        chosen = RunOptions(**{"shots": 200, "seed_simulator": SEED, **options})
        if isinstance(program, bytes):
            program = await self.reader.prepare(program, self.backends[backend], chosen)
        submission = ProviderSubmission("marker", backend, program, chosen, "jobs/abc")
        result = await self.simulators.run(submission, time_limit=60, memory_limit=memory)
        return read(result)

    async def counted(
        self,
        result: result_pb2.JobResult,
        *experiments: int,
        omit_shots: bool = False,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> result_pb2.JobResult:
        selected = await self.reader.select_result(
            result.SerializeToString(), experiments, include_counts=True, omit_shots=omit_shots, max_bytes=max_bytes
        )
        return read(selected)

    async def counts(self, program: bytes, **options: Any) -> dict[str, int]:
        return dict((await self.counted(await self.run(program, **options))).experiments[0].counts)


@pytest.fixture
def lab(reader: WorkerProgramReader, simulators: WorkerSimulators, backends: dict[str, Backend]) -> Lab:
    return Lab(reader, simulators, backends)


def read(result: Payload) -> result_pb2.JobResult:
    data = result.path.read_bytes() if isinstance(result, PayloadFile) else result
    return result_pb2.JobResult.FromString(data)


def by_aer(circuits: QuantumCircuit | Sequence[QuantumCircuit], shots: int = 200, **options: Any) -> Any:
    """Return what Aer says, asked without the gateway."""
    simulator = AerSimulator(max_parallel_threads=1)
    return simulator.run(circuits, shots=shots, memory=True, seed_simulator=SEED, **options).result()


def values(register: result_pb2.RegisterResult) -> list[int]:
    """Return the value of a register in each shot."""
    width = (register.size + 7) // 8
    data = register.bits.data
    return [int.from_bytes(data[start : start + width]) for start in range(0, len(data), width)]


def several_registers() -> QuantumCircuit:
    circuit = QuantumCircuit(
        QuantumRegister(3, "a"), QuantumRegister(2, "b"), ClassicalRegister(2, "x"), ClassicalRegister(3, "y")
    )
    circuit.x(1)
    circuit.h(3)
    circuit.cx(3, 4)
    circuit.measure([1, 3, 4, 0], [0, 4, 2, 1])
    return circuit


def mid_circuit() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 3)
    circuit.h(0)
    circuit.measure(0, 0)
    circuit.cx(0, 1)
    circuit.measure(1, 1)
    circuit.reset(0)
    circuit.x(0)
    circuit.measure(0, 2)
    return circuit


def branching() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.x(1)
    with otherwise:
        circuit.h(1)
    circuit.measure(1, 1)
    return circuit


def switching() -> QuantumCircuit:
    circuit = QuantumCircuit(3, 3)
    circuit.h([0, 1])
    circuit.measure([0, 1], [0, 1])
    with circuit.switch(circuit.cregs[0]) as case:
        with case(0, 3):
            circuit.x(2)
        with case(case.DEFAULT):
            circuit.h(2)
    circuit.measure(2, 2)
    return circuit


def by_expression() -> QuantumCircuit:
    circuit = QuantumCircuit(3, 3)
    circuit.h([0, 1])
    circuit.measure([0, 1], [0, 1])
    with circuit.if_test(expr.bit_and(circuit.clbits[0], expr.logic_not(circuit.clbits[1]))):
        circuit.x(2)
    circuit.measure(2, 2)
    return circuit


def wide_register() -> QuantumCircuit:
    circuit = QuantumCircuit(3, 70)
    circuit.x(0)
    circuit.h(2)
    circuit.measure([0, 1, 2], [0, 9, 69])
    return circuit


@pytest.mark.parametrize(
    "make",
    [bell, several_registers, mid_circuit, branching, switching, by_expression, wide_register],
    ids=lambda make: str(make.__name__),
)
async def test_counts_are_those_of_qiskit(lab: Lab, make: Any) -> None:
    circuit = make()
    assert await lab.counts(qpy_program(circuit)) == by_aer(circuit).get_counts()


async def test_loops_run_until_their_condition_fails(lab: Lab) -> None:
    circuit = QuantumCircuit(2, 2)
    with circuit.while_loop((circuit.clbits[1], 0)):
        circuit.h(1)
        circuit.measure(1, 1)
    with circuit.for_loop(range(3)):
        circuit.x(0)
    circuit.measure(0, 0)
    assert await lab.counts(qpy_program(circuit)) == {"11": 200}


async def test_shots_come_in_their_true_order(lab: Lab) -> None:
    circuit = several_registers()
    experiment = (await lab.run(qpy_program(circuit))).experiments[0]
    x, y = (values(register) for register in experiment.registers)
    assert [f"{high:03b} {low:02b}" for low, high in zip(x, y, strict=True)] == by_aer(circuit).get_memory()


async def test_bit_0_of_a_register_is_the_lowest_bit_of_its_value(lab: Lab) -> None:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(3, "first"), ClassicalRegister(10, "second"))
    circuit.x(0)
    circuit.measure([0, 0, 1], [0, 11, 12])
    experiment = (await lab.run(qpy_program(circuit), shots=2)).experiments[0]
    first, second = experiment.registers
    assert (first.register_name, first.size, first.bits.data) == ("first", 3, b"\x01\x01")
    assert (second.register_name, second.size, second.bits.data) == ("second", 10, b"\x01\x00\x01\x00")
    assert not first.clbits
    assert not second.clbits


async def test_bits_of_no_register_come_last_and_without_a_name(lab: Lab) -> None:
    circuit = QuantumCircuit(
        QuantumRegister(1, "q"), ClassicalRegister(1, "a"), [Clbit(), Clbit()], ClassicalRegister(1, "b")
    )
    circuit.x(0)
    circuit.measure([0, 0], [2, 3])
    result = await lab.counted(await lab.run(qpy_program(circuit), shots=5))
    experiment = result.experiments[0]
    assert [(item.register_name, list(item.clbits), values(item)[0]) for item in experiment.registers] == [
        ("a", [0], 0),
        ("b", [3], 1),
        ("", [1, 2], 2),
    ]
    assert experiment.num_clbits == 4
    assert experiment.counts == {"10 1 0": 5}


async def test_a_bit_without_a_register_in_openqasm_is_measured(lab: Lab) -> None:
    source = 'include "stdgates.inc"; qubit q; bit c; x q; c = measure q;'
    assert await lab.counts(text_program(source)) == {"1": 200}


async def test_registers_may_share_bits(lab: Lab) -> None:
    bits = [Clbit() for _ in range(4)]
    circuit = QuantumCircuit(
        QuantumRegister(1), bits, ClassicalRegister(name="x", bits=bits[:3]), ClassicalRegister(name="y", bits=bits[1:])
    )
    circuit.x(0)
    circuit.measure(0, 1)
    experiment = (await lab.run(qpy_program(circuit), shots=1)).experiments[0]
    assert [(list(item.clbits), values(item)) for item in experiment.registers] == [([0, 1, 2], [2]), ([1, 2, 3], [1])]


async def test_a_branch_on_a_bit_that_was_never_measured_is_run(lab: Lab) -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.x(1)
    with circuit.if_test((circuit.clbits[0], 0)):
        circuit.measure(1, 1)
    result = await lab.counted(await lab.run(qpy_program(circuit)))
    assert result.experiments[0].counts == {"10": 200}
    assert result.experiments[0].num_clbits == 2


async def test_gates_that_aer_does_not_know_are_written_out(lab: Lab) -> None:
    own = QuantumCircuit(1, name="r")
    own.x(0)
    circuit = QuantumCircuit(2, 2)
    circuit.append(own.to_gate(), [0])
    circuit.ch(0, 1)
    circuit.ch(0, 1)
    circuit.iswap(0, 1)
    circuit.measure([0, 1], [0, 1])
    assert await lab.counts(qpy_program(circuit)) == {"10": 200}


async def test_each_binding_gives_its_own_result(lab: Lab) -> None:
    program = text_program(ROTATION, bindings=[{"theta": 0.0}, {"theta": 3.141592653589793}], name="turn")
    result = await lab.counted(await lab.run(program))
    assert [dict(experiment.counts) for experiment in result.experiments] == [{"0": 200}, {"1": 200}]
    assert {experiment.circuit_name for experiment in result.experiments} == {"turn"}


async def test_a_seed_repeats_a_run_and_no_seed_does_not(lab: Lab) -> None:
    program = qpy_program(ghz(5), ghz(5))
    first, second = [await lab.run(program) for _ in range(2)]
    assert [item.registers for item in first.experiments] == [item.registers for item in second.experiments]
    assert first.experiments[0].seed == SEED
    assert first.experiments[0].registers != first.experiments[1].registers
    free, other = [await lab.run(program, seed_simulator=None) for _ in range(2)]
    assert free.experiments[0].registers != other.experiments[0].registers


async def test_the_largest_seed_is_taken(lab: Lab) -> None:
    assert (await lab.run(text_program(BELL), seed_simulator=2**63 - 1)).experiments[0].seed == 2**63 - 1


async def test_a_job_too_large_for_one_run_of_aer_gives_the_same_outcomes(lab: Lab) -> None:
    circuits = [ghz(3), ghz(3)]
    result = await lab.counted(await lab.run(qpy_program(*circuits), shots=600_000))
    assert [dict(item.counts) for item in result.experiments] == by_aer(circuits, shots=600_000).get_counts()


async def test_a_result_says_what_was_run(lab: Lab) -> None:
    circuit = QuantumCircuit(QuantumRegister(2, "left"), QuantumRegister(1, "right"), ClassicalRegister(1, "c"))
    circuit.metadata = {"run": 1, "note": None}
    circuit.name = "mine"
    circuit.global_phase = 0.25
    circuit.measure(0, 0)
    result = await lab.run(qpy_program(circuit), header={"a": [1, {"b": "c"}]}, shots=7)
    assert (result.job, result.backend, result.success, result.status) == ("jobs/abc", "local_simulator", True, "DONE")
    assert result.backend_version == lab.backends["local_simulator"].version
    assert json_format.MessageToDict(result.header) == {"a": [1, {"b": "c"}]}
    assert result.time_taken.ToNanoseconds() > 0
    assert result.run_time.seconds > 0
    experiment = result.experiments[0]
    assert (experiment.circuit_name, experiment.shots, experiment.success, experiment.status) == (
        "mine",
        7,
        True,
        "DONE",
    )
    assert experiment.global_phase == 0.25
    assert json_format.MessageToDict(experiment.metadata) == {"run": 1, "note": None}
    assert [(item.register_name, item.size) for item in experiment.quantum_registers] == [("left", 2), ("right", 1)]
    assert not experiment.counts


async def test_experiments_are_picked_in_the_order_asked_for(lab: Lab) -> None:
    names = ["a", "b", "c"]
    circuits = [bell() for _ in names]
    for circuit, name in zip(circuits, names, strict=True):
        circuit.name = name
    picked = await lab.counted(await lab.run(qpy_program(*circuits)), 2, 0, 2, omit_shots=True)
    assert [item.circuit_name for item in picked.experiments] == ["c", "a", "c"]
    assert all(sum(item.counts.values()) == 200 for item in picked.experiments)
    assert all(not item.registers[0].HasField("bits") and item.registers[0].size == 2 for item in picked.experiments)


@pytest.mark.parametrize("omit_shots", [True, False])
async def test_counts_that_do_not_fit_into_a_message_are_refused_as_too_large(lab: Lab, omit_shots: bool) -> None:
    circuit = QuantumCircuit(12)
    circuit.h(range(12))
    circuit.measure_all()
    result = await lab.run(qpy_program(circuit), shots=2_000)
    assert (await lab.counted(result, omit_shots=omit_shots)).experiments[0].counts
    with pytest.raises(OutOfRange) as caught:
        await lab.counted(result, omit_shots=omit_shots, max_bytes=8_000)
    assert caught.value.reason is Reason.RESULT_TOO_LARGE


async def test_an_experiment_that_is_not_there_is_named(lab: Lab) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await lab.counted(await lab.run(text_program(BELL)), 0, 1, -1)
    assert [violation.field for violation in caught.value.violations] == ["experiments[1]"]


@pytest.mark.parametrize("backend", ["local_noisy_5q", "local_noisy_27q"])
async def test_a_noisy_device_makes_errors_but_not_many(lab: Lab, backend: str) -> None:
    counts = await lab.counts(qpy_program(ghz(4)), backend=backend, transpile=1, shots=2000)
    right = counts.get("0000", 0) + counts.get("1111", 0)
    assert 1500 < right < 2000


async def test_noise_is_that_of_the_qubits_in_use(lab: Lab) -> None:
    """A part of the noise model is handed to Aer; it must give what the whole one gives."""
    from qiskit_aer.noise import NoiseModel

    from gateway.workers.tasks.devices import NoisyDevice, devices

    device = devices()["local_noisy_5q"]
    assert isinstance(device, NoisyDevice)
    circuit = QuantumCircuit(5, 3)
    circuit.sx([1, 3])
    circuit.cx(1, 3)
    circuit.cx(3, 4)
    circuit.measure([1, 3, 4], [0, 1, 2])
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(4)
    circuit.measure(4, 2)
    whole = NoiseModel.from_backend(device._generic)
    expected = by_aer(circuit, noise_model=whole).get_counts()
    assert await lab.counts(qpy_program(circuit), backend="local_noisy_5q") == expected


async def test_a_delay_costs_coherence_on_a_noisy_device(lab: Lab) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.delay(2_000_000, 0, "dt")
    circuit.measure(0, 0)
    assert (await lab.counts(qpy_program(circuit), backend="local_noisy_5q"))["0"] > 100


async def test_a_wide_ghz_state_on_the_large_device_uses_only_the_qubits_that_it_needs(lab: Lab) -> None:
    result = await lab.run(qpy_program(ghz(12)), backend="local_noisy_27q", transpile=1, shots=100, memory=2**28)
    assert result.experiments[0].num_clbits == 12
    assert sum(item.size for item in result.experiments[0].quantum_registers) == 27


async def test_many_noisy_shots_do_not_need_a_density_matrix_that_does_not_fit(lab: Lab) -> None:
    result = await lab.run(
        qpy_program(ghz(10)), backend="local_noisy_27q", transpile=0, shots=1100, memory=2**23, seed_simulator=None
    )
    assert result.experiments[0].shots == 1100


async def test_a_run_that_needs_too_much_memory_is_told_so(lab: Lab) -> None:
    wide = QuantumCircuit(24, 24)
    wide.rx(0.1, range(24))
    wide.crx(0.1, range(23), range(1, 24))
    wide.measure(range(24), range(24))
    with pytest.raises(WorkerFailure) as caught:
        await lab.run(qpy_program(wide), shots=1, memory=2**27)
    assert caught.value.reason is Reason.MEMORY_LIMIT_EXCEEDED
    assert (await lab.run(qpy_program(wide), shots=1, memory=2**30)).success


async def test_a_result_that_would_be_too_large_is_refused_before_the_run(lab: Lab) -> None:
    circuit = QuantumCircuit(1, 30_000)
    circuit.measure(0, 0)
    with pytest.raises(WorkerFailure, match="fewer shots") as caught:
        await lab.run(qpy_program(circuit), shots=1_000_000)
    assert caught.value.reason is Reason.MEMORY_LIMIT_EXCEEDED


async def test_what_aer_refuses_is_told_in_its_words(lab: Lab) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.append(Gate("strange", 1, []), [0])
    circuit.measure(0, 0)
    prepared = await lab.reader.prepare(text_program(BELL), lab.backends["local_simulator"], RunOptions())
    with pytest.raises(GatewayError, match="strange") as caught:
        await lab.run(replace(prepared, circuits=qpy_bytes(circuit)))
    assert caught.value.reason is Reason.PROVIDER_ERROR


async def test_parameters_are_bound_before_and_after_transpiling_alike(lab: Lab) -> None:
    theta = Parameter("theta")
    circuit = QuantumCircuit(2, 2)
    circuit.ry(2 * theta, 0)
    circuit.crz(theta, 0, 1)
    circuit.measure([0, 1], [0, 1])
    program = qpy_program(circuit, bindings={0: [{"theta": 3.141592653589793 / 2}]})
    assert await lab.counts(program) == {"01": 200}
    noisy = await lab.counts(program, backend="local_noisy_5q", transpile=2)
    assert noisy["01"] > 180


async def test_devices_are_described(lab: Lab, simulators: WorkerSimulators) -> None:
    described = {backend.name: (backend, properties) for backend, properties in await simulators.describe(4 * 2**30)}
    assert list(described) == ["local_simulator", "local_noisy_5q", "local_noisy_27q"]
    ideal, nothing = described["local_simulator"]
    assert nothing is None
    assert (ideal.num_qubits, ideal.coupling_map, ideal.dt) == (27, (), None)
    assert {"h", "cx", "ccx", "measure", "if_else", "unitary"} <= set(ideal.supported_instructions)
    assert (await simulators.describe(2**30))[0][0].num_qubits == 25
    for name, width in (("local_noisy_5q", 5), ("local_noisy_27q", 27)):
        backend, properties = described[name]
        assert properties is not None
        assert (backend.num_qubits, len(backend.qubits), len(properties.qubits)) == (width, width, width)
        assert set(backend.basis_gates) == {"cx", "id", "rz", "sx", "x"}
        couplings = next(item for item in backend.instructions if item.name == "cx").properties
        assert {item.qubits for item in couplings} == set(backend.coupling_map)
        assert all(item.error and item.duration for item in couplings)
        assert all((second, first) in backend.coupling_map for first, second in backend.coupling_map)
        assert backend.dt is not None
        qubit = {item.parameter: item for item in properties.qubits[width - 1]}
        assert set(qubit) == {"T1", "T2", "frequency", "readout_error", "readout_length"}
        assert qubit["T1"].unit == "us"
        assert backend.qubits[width - 1].t1 == pytest.approx(qubit["T1"].value * 1e-6)
        gate = next(item for item in properties.gates if item.name == "cx1_0")
        assert (gate.gate, gate.qubits, {item.parameter for item in gate.parameters}) == (
            "cx",
            (1, 0),
            {"gate_error", "gate_length"},
        )
