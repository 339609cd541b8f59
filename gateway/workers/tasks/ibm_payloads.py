"""Writing circuits as programs of IBM Quantum."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from ibm_quantum_schemas.common import CompressedQpyDataModel, F64CompressedTensorModel, OpenQasm3DataModel
from ibm_quantum_schemas.common.ndarray_wrapper import NdarrayWrapperModel
from ibm_quantum_schemas.common.typed_qpy_circuit import TypedQpyCircuitModelV13to17
from ibm_quantum_schemas.executor import version_2_0 as executor
from ibm_quantum_schemas.sampler import version_0_1 as sampler
from qiskit import QuantumCircuit, qpy

from gateway.workers.tasks.ibm_note import NOTE_KEY, CircuitNote, Note, describe, name_loose_bits
from gateway.workers.tasks.qpy import load_own_qpy
from gateway.workers.tasks.violations import refuse

_QPY_VERSIONS = {"qpy17": 17, "qpy18": 18}


def ibm_encode(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Task: write circuits as the parameters of a program.

    Args:
        header: `program`, `executor` or `sampler`; `format`, `qpy17`, `qpy18` or `openqasm3`; `job`, the resource name;
            `shots`; `level`, `classified`, `kerneled` or `avg_kerneled`; `init_qubits`; `rep_delay` in seconds or None;
            `experimental`, options passed on; `header`, the caller's.
        blobs: The circuits, as `gateway.workers.tasks.programs.prepare` wrote them.

    Returns:
        The parameters as JSON.

    Raises:
        InvalidArgument: The circuits cannot be written in this format.
    """
    circuits = load_own_qpy(blobs[0])
    notes = [describe(circuit, name_loose_bits(circuit)) for circuit in circuits]
    encode = _for_executor if header["program"] == "executor" else _for_sampler
    try:
        return {}, (encode(header, circuits, notes),)
    except MemoryError:
        raise
    except Exception as error:
        raise refuse("program", f"a circuit cannot be written as {header['format']}: {error}") from error


def _for_executor(header: dict[str, Any], circuits: list[QuantumCircuit], notes: Sequence[CircuitNote]) -> bytes:
    written = (
        OpenQasm3DataModel[QuantumCircuit].from_python(circuits)
        if header["format"] == "openqasm3"
        else CompressedQpyDataModel[QuantumCircuit].from_python(circuits, _QPY_VERSIONS[header["format"]])
    )
    no_arguments = F64CompressedTensorModel.from_numpy(np.empty(0))
    params = executor.ParamsModel(
        quantum_program=executor.QuantumProgramModel(
            shots=header["shots"],
            circuits=written,
            items=[executor.CircuitItemModel(circuit_arguments=no_arguments, shape=[]) for _ in circuits],
            meas_level=header["level"],
            # As text: in a tree of values the service may take some of them for something else.
            passthrough_data={NOTE_KEY: _note(header, notes, header["header"])},
        ),
        options=executor.OptionsModel(
            init_qubits=header["init_qubits"], rep_delay=header["rep_delay"], experimental=header["experimental"]
        ),
    )
    return bytes(params.model_dump_json(), "utf-8")


def _for_sampler(header: dict[str, Any], circuits: list[QuantumCircuit], notes: Sequence[CircuitNote]) -> bytes:
    no_arguments = NdarrayWrapperModel.model_validate({"__value__": _npy(np.empty(0))})
    pubs = []
    for index, (circuit, note) in enumerate(zip(circuits, notes, strict=True)):
        # The sampler returns the metadata of circuits, and nothing else that is sent along.
        circuit.metadata = {NOTE_KEY: _note(header, [note], header["header"] if index == 0 else {})}
        written = TypedQpyCircuitModelV13to17.model_validate({"__value__": _qpy(circuit, header["format"])})
        pubs.append(sampler.SamplerPubModel((written, no_arguments, header["shots"])))
    params = sampler.ParamsModel(
        pubs=pubs,
        options=sampler.OptionsModel(
            default_shots=header["shots"],
            execution=sampler.SamplerExecutionOptionsModel(
                init_qubits=header["init_qubits"], rep_delay=header["rep_delay"], meas_type=header["level"]
            ),
            experimental=header["experimental"],
        ),
    )
    return bytes(params.model_dump_json(by_alias=True, exclude_none=True), "utf-8")


def _note(header: dict[str, Any], circuits: Sequence[CircuitNote], own: dict[str, Any]) -> str:
    note = Note(job=header["job"], shots=header["shots"], level=header["level"], circuits=tuple(circuits), header=own)
    return note.model_dump_json()


def _qpy(circuit: QuantumCircuit, form: str) -> str:
    buffer = BytesIO()
    qpy.dump(circuit, buffer, version=_QPY_VERSIONS[form])
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


def _npy(array: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()
