"""Running circuits on Aer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import qiskit_aer
from google.protobuf import json_format
from qgateway.v1 import result_pb2
from qiskit import QuantumCircuit
from qiskit.circuit import Clbit
from qiskit.result.models import ExperimentResult
from qiskit_aer import AerSimulator

from gateway.domain.errors import GatewayError, Reason, WorkerFailure
from gateway.workers.codec import DEVICES
from gateway.workers.tasks.devices import STATE_SHARE, devices
from gateway.workers.tasks.qpy import load_own_qpy, write_qpy
from gateway.workers.tasks.results import pack_registers

_SHOTS_PER_RUN = 1_000_000
"""Most shots handed to Aer at once: each costs some hundred bytes until it is packed."""
_SEED_STEP = 2113
"""By how much Aer raises the seed from one circuit of a run to the next."""
_OUT_OF_MEMORY_WORDS = ("Insufficient memory", "Cannot allocate memory", "bad_alloc")
_MAX_MESSAGE = 500
_WARM_UP = {"job": "", "shots": 10, "seed": None, "header": {}, "memory_limit": 2**30, "max_result_bytes": 2**20}


def describe_devices(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: describe all simulated machines.

    Args:
        header: `memory_limit` of a run in bytes.
        blobs: None.
    """
    del blobs
    described = tuple((device.backend(header["memory_limit"]), device.properties()) for device in devices().values())
    return {}, (DEVICES.dump_json(described),)


def simulate(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: run circuits.

    Args:
        header: `job` and `backend`, names for the result; `shots` of each circuit; `seed` or None; `header` to give back;
            `memory_limit` of the run in bytes; `max_result_bytes`.
        blobs: The circuits, as `gateway.workers.tasks.programs.prepare` wrote them.

    Returns:
        Serialised `qgateway.v1.JobResult`.

    Raises:
        GatewayError: Aer cannot run a circuit; the reason is PROVIDER_ERROR.
        WorkerFailure: The circuits or their results need too much memory.
    """
    began = time.perf_counter()
    circuits = load_own_qpy(blobs[0])
    _check_result_size(circuits, header["shots"], header["max_result_bytes"])
    result = result_pb2.JobResult(
        job=header["job"],
        backend=header["backend"],
        backend_version=qiskit_aer.__version__,
        success=True,
        status="DONE",
    )
    for circuit, outcome in _run(circuits, header):
        result.experiments.append(_experiment(circuit, outcome))
    json_format.ParseDict(header["header"], result.header)
    result.metadata["simulator"] = f"qiskit-aer {qiskit_aer.__version__}"
    result.run_time.GetCurrentTime()
    result.time_taken.FromNanoseconds(round((time.perf_counter() - began) * 1e9))
    return {}, (result.SerializeToString(),)


def warm_up(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: run small circuits with and without noise, so that the libraries are loaded and have what they always need.

    It also keeps that out of the memory of the first run: some of these libraries crash where they get none.
    """
    del header, blobs
    circuit = QuantumCircuit(2, 2)
    circuit.sx(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    for backend in ("local_simulator", "local_noisy_5q"):
        simulate({**_WARM_UP, "backend": backend}, (write_qpy([circuit]),))
    return {}, ()


@cache
def _aer() -> AerSimulator:
    return AerSimulator(max_parallel_threads=1)


def _run(
    circuits: Sequence[QuantumCircuit], header: dict[str, Any]
) -> Iterator[tuple[QuantumCircuit, ExperimentResult]]:
    """Yield each circuit with what Aer returns for it. Aer gets as many at once as it can hold the shots of."""
    options = {
        "shots": header["shots"],
        "memory": True,
        "noise_model": devices()[header["backend"]].noise_model(circuits),
        "max_memory_mb": max(1, int(header["memory_limit"] * STATE_SHARE) >> 20),
    }
    at_once = max(1, _SHOTS_PER_RUN // header["shots"])
    for start in range(0, len(circuits), at_once):
        batch = circuits[start : start + at_once]
        if header["seed"] is not None:
            # The seeds are the same whether Aer gets the circuits at once or in turn.
            options["seed_simulator"] = header["seed"] + start * _SEED_STEP
        yield from zip(batch, _outcomes([_with_measurement_first(circuit) for circuit in batch], options), strict=True)


def _outcomes(circuits: list[QuantumCircuit], options: dict[str, Any]) -> list[ExperimentResult]:
    try:
        result = _aer().run(circuits, **options).result()
    except MemoryError:
        raise
    except Exception as error:
        raise _refusal(str(getattr(error, "message", None) or error)) from error
    if result.success:
        return list(result.results)
    message = next((item.status for item in result.results if not item.success), result.status)
    if _tells_of_memory(message) and options["noise_model"] is not None and "method" not in options:
        # For noise and many shots Aer takes a density matrix, whether it fits or not; a state vector per shot is far smaller.
        return _outcomes(circuits, {**options, "method": "statevector"})
    raise _refusal(message)


def _with_measurement_first(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return a circuit that measures something before it first branches.

    Aer cannot jump in a circuit whose first measurement lies behind the jump. A measurement of a fresh qubit into a bit that
    nobody looks at changes nothing.
    """
    for instruction in circuit.data:
        if instruction.name == "measure":
            break
        if instruction.is_control_flow():
            measured = circuit.copy_empty_like()
            measured.add_bits([Clbit()])
            measured.measure(instruction.qubits[0], measured.clbits[-1])
            for item in circuit.data:
                measured.append(item)
            return measured
    return circuit


def _experiment(circuit: QuantumCircuit, outcome: ExperimentResult) -> result_pb2.ExperimentResult:
    experiment = result_pb2.ExperimentResult(
        circuit_name=circuit.name,
        shots=outcome.shots,
        success=True,
        status="DONE",
        registers=pack_registers(circuit, outcome.data.memory),
        seed=outcome.seed_simulator,
        global_phase=float(circuit.global_phase),
        quantum_registers=[
            result_pb2.QuantumRegister(register_name=register.name, size=register.size) for register in circuit.qregs
        ],
        num_clbits=circuit.num_clbits,
    )
    json_format.ParseDict(circuit.metadata or {}, experiment.metadata)
    experiment.time_taken.FromNanoseconds(round(outcome.time_taken * 1e9))
    return experiment


def _check_result_size(circuits: Sequence[QuantumCircuit], shots: int, limit: int) -> None:
    size = shots * sum((circuit.num_clbits + 7) // 8 for circuit in circuits)
    if size > limit:
        raise WorkerFailure(
            f"The outcomes of all shots would take {size} bytes, more than the {limit} bytes of a result. Use fewer shots, or cut "
            "the job into several.",
            reason=Reason.MEMORY_LIMIT_EXCEEDED,
            metadata={"size_bytes": str(size), "limit_bytes": str(limit)},
        )


def _tells_of_memory(message: str) -> bool:
    return any(words in message for words in _OUT_OF_MEMORY_WORDS)


def _refusal(message: str) -> GatewayError:
    """Make the error for what Aer says."""
    message = message.removeprefix("ERROR:").strip()[:_MAX_MESSAGE]
    if _tells_of_memory(message):
        return WorkerFailure(
            f"The circuit does not fit into the memory of a run: {message}. Use fewer qubits.",
            reason=Reason.MEMORY_LIMIT_EXCEEDED,
        )
    return GatewayError(f"Aer cannot run the circuit: {message}", reason=Reason.PROVIDER_ERROR)
