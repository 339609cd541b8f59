"""The program `executor`, schema v2.0: circuits, and randomised circuits that a samplex describes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from ibm_quantum_schemas.common import (
    CompressedQpyDataModel,
    CompressedTensorModel,
    PauliLindbladMapModel,
)
from ibm_quantum_schemas.executor.version_2_0 import (
    ChunkPart,
    ChunkSpan,
    CircuitItemModel,
    ItemMetadataModel,
    MetadataModel,
    ParamsModel,
    QuantumProgramResultItemModel,
    QuantumProgramResultModel,
    SamplexItemModel,
)
from pydantic import ValidationError
from qiskit.circuit import QuantumCircuit

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.hardware import Machine
from tests.emulators.ibm_quantum.execution.outcome import START_MARK, STOP_MARK, Outcome, ProgramError
from tests.emulators.ibm_quantum.execution.sampling import Bits, execution_time_ns, points, sample

Tensors = dict[str, npt.NDArray[Any]]


def run(params: dict[str, Any], machine: Machine, seed: int, max_qpy_version: int) -> Outcome:
    """Run a program.

    Args:
        params: The program, as it was submitted.
        machine: Where.
        seed: Of the simulator and of randomisations.
        max_qpy_version: The newest QPY version that is read.

    Raises:
        ProgramError: If the program is not valid, or not for this machine.
    """
    try:
        model = ParamsModel.model_validate(params)
    except (ValidationError, ValueError) as error:
        raise ProgramError(Code.BODY_NOT_VALID, f"The program is not valid: {error}") from error
    program = model.quantum_program
    if isinstance(program.circuits, CompressedQpyDataModel) and program.circuits.qpy_version > max_qpy_version:
        message = f"QPY version {program.circuits.qpy_version} is newer than {max_qpy_version}."
        raise ProgramError(Code.NOT_VALID_FOR_BACKEND, message)

    data, parts, runs = [], [], 0
    for index, (circuit, item) in enumerate(zip(program.circuits.to_python(), program.items, strict=True)):
        shape, tensors = _run_item(item, circuit, machine, program.shots, seed + index)
        results = {
            **_registers(tensors["bits"], program.meas_level, seed + index),
            **tensors["others"],
        }
        encoded = {name: CompressedTensorModel.from_numpy(tensor) for name, tensor in results.items()}
        data.append(QuantumProgramResultItemModel(results=encoded, metadata=ItemMetadataModel()))
        elements = math.prod(shape)
        runs += elements * program.shots
        parts.append(
            ChunkPart(
                idx_item=index,
                size=elements,
                permutation=list(range(len(shape))),
                element_range=(0, elements, 1),
            )
        )
    result = QuantumProgramResultModel(
        data=data,
        metadata=MetadataModel(chunk_timing=[ChunkSpan(start=START_MARK, stop=STOP_MARK, parts=parts)]),
        passthrough_data=program.passthrough_data,
        semantic_role=program.semantic_role,
    )
    busy = execution_time_ns(machine, model.options.rep_delay, runs)
    return Outcome(result.model_dump_json(), busy)


def _run_item(
    item: CircuitItemModel | SamplexItemModel, circuit: QuantumCircuit, machine: Machine, shots: int, seed: int
) -> tuple[tuple[int, ...], dict[str, Any]]:
    if isinstance(item, CircuitItemModel):
        values, others = item.circuit_arguments.to_numpy(), Tensors()
    else:
        values, others = _randomise(item, circuit, seed)
    return values.shape[:-1], {"bits": sample(machine, circuit, values, shots, seed), "others": others}


def _registers(registers: dict[str, Bits], level: str, seed: int) -> Tensors:
    found: Tensors = {}
    for name, bits in registers.items():
        if level in ("classified", "both"):
            found[name] = bits
        if level in ("kerneled", "both"):
            found[f"{name}_iq"] = points(bits, seed)
        if level == "avg_kerneled":
            found[f"{name}_avg_iq"] = points(bits, seed).mean(axis=-2)
    return found


def _randomise(item: SamplexItemModel, circuit: QuantumCircuit, seed: int) -> tuple[npt.NDArray[np.float64], Tensors]:
    """Draw values for the parameters of a template circuit.

    The axes of the item's shape along which the arguments have more than one value are a sweep; along the others
    everything is drawn anew.

    Returns:
        The values, of shape `(*item shape, parameters)`, and all else that the samplex gives, of shapes that begin with
        the item's.
    """
    samplex = item.samplex.to_samplex().finalize()
    inputs = samplex.inputs().make_broadcastable()
    for name, argument in item.samplex_arguments.items():
        if isinstance(argument, CompressedTensorModel):
            inputs[name] = argument.to_numpy()
        elif isinstance(argument, PauliLindbladMapModel):
            inputs[name] = argument.to_pauli_lindblad_map()
        else:
            inputs[name] = argument
    shape = np.broadcast_shapes(tuple(item.shape), inputs.shape)
    swept = (1,) * (len(shape) - len(inputs.shape)) + tuple(inputs.shape)
    drawn_axes = [axis for axis, length in enumerate(swept) if length == 1]
    draws = math.prod(shape[axis] for axis in drawn_axes)

    random = np.random.default_rng(seed)
    found: Tensors = {}
    for place in itertools.product(*(range(length) for length in swept)):
        inside = place[len(shape) - len(inputs.shape) :]
        output = samplex.sample(inputs[inside] if inside else inputs, num_randomizations=draws, rng=random)
        # Along the drawn axes all elements are filled at once.
        where = tuple(slice(None) if length == 1 else index for index, length in zip(place, swept, strict=True))
        for name, drawn in output.items():
            tensor = found.setdefault(name, np.empty((*shape, *drawn.shape[1:]), drawn.dtype))
            tensor[where] = drawn.reshape(*(shape[axis] for axis in drawn_axes), *drawn.shape[1:])
    values = found.pop("parameter_values", np.empty((*shape, circuit.num_parameters)))
    return values.astype(np.float64), found
