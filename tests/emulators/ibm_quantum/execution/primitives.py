"""The programs `sampler` and `estimator`, with tagged results or plain ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from qiskit.circuit import QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.primitives import BackendEstimatorV2
from qiskit.primitives.containers.observables_array import ObservablesArray

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.encoding import (
    decode_array,
    decode_circuit,
    encode_array,
    encode_bits,
    encode_data_bin,
    tagged,
)
from tests.emulators.ibm_quantum.execution.hardware import Machine
from tests.emulators.ibm_quantum.execution.outcome import START_MARK, STOP_MARK, Outcome, ProgramError
from tests.emulators.ibm_quantum.execution.sampling import Bits, check, execution_time_ns, points, sample, size

_DEFAULT_SHOTS = 4096
_DEFAULT_PRECISION = 1 / 64


def run_sampler(params: dict[str, Any], machine: Machine, seed: int) -> Outcome:
    """Run a sampler program.

    Args:
        params: The program, as it was submitted.
        machine: Where.
        seed: Of the simulator, unless the program names one.

    Raises:
        ProgramError: If the program is not valid, or not for this machine.
    """
    options = _options(params)
    execution = options.get("execution", {})
    typed = bool(params.get("support_qiskit", False))
    seed = options.get("simulator", {}).get("seed_simulator") or seed
    results, spans, runs = [], {}, 0
    for index, pub in enumerate(_pubs(params)):
        circuit = decode_circuit(pub[0])
        values = _values(pub[1] if len(pub) > 1 else None, circuit)
        shots = (pub[2] if len(pub) > 2 else None) or options.get("default_shots") or _DEFAULT_SHOTS
        bits = sample(machine, circuit, values, shots, seed + index)
        registers = _measured(bits, execution.get("meas_type", "classified"), seed + index)
        metadata = {"circuit_metadata": circuit.metadata or {}}
        if typed:
            results.append(_sampler_pub_result(registers, values.shape[:-1], metadata))
        else:
            results.append({"data": _plain(registers), "metadata": metadata})
        spans[str(index)] = [[*values.shape[:-1], shots], 0, size(values), 0, shots]
        runs += shots * size(values)
    busy = execution_time_ns(machine, execution.get("rep_delay"), runs)
    return Outcome(_dump(_sampler_result(results, spans) if typed else _plain_result(results)), busy)


def run_estimator(params: dict[str, Any], machine: Machine, seed: int) -> Outcome:
    """Run an estimator program, without any mitigation of errors.

    Args:
        params: The program, as it was submitted.
        machine: Where.
        seed: Of the simulator, unless the program names one.

    Raises:
        ProgramError: If the program is not valid, or not for this machine.
    """
    options = _options(params)
    typed = bool(params.get("support_qiskit", False))
    estimator = BackendEstimatorV2(
        backend=machine.simulator, options={"seed_simulator": options.get("seed_estimator") or seed}
    )
    results, runs = [], 0
    for pub in _pubs(params):
        circuit = decode_circuit(pub[0])
        values = _values(pub[2] if len(pub) > 2 else None, circuit)
        precision = (pub[3] if len(pub) > 3 else None) or options.get("default_precision") or _DEFAULT_PRECISION
        check(machine, circuit, shots=1)
        try:
            observables = ObservablesArray.coerce(pub[1])
            found = estimator.run([(circuit, observables, values, precision)]).result()[0]
        except (IndexError, TypeError, ValueError, QiskitError) as error:
            raise ProgramError(Code.BODY_NOT_VALID, f"The pub is not valid: {error}") from error
        evs, stds = np.asarray(found.data.evs), np.asarray(found.data.stds)
        shots = found.metadata["shots"]
        metadata = {
            "shots": shots,
            "target_precision": precision,
            "circuit_metadata": circuit.metadata or {},
            "resilience": {},
            "num_randomizations": 1,
        }
        results.append(_estimator_pub_result(evs, stds, metadata) if typed else _plain_values(evs, stds, metadata))
        runs += shots * max(1, evs.size)
    metadata = {"dynamical_decoupling": {"enable": False}, "resilience": {"measure_mitigation": False}, "version": 2}
    result = tagged("PrimitiveResult", {"pub_results": results, "metadata": metadata})
    return Outcome(_dump(result if typed else _plain_result(results)), execution_time_ns(machine, None, runs))


def _options(params: dict[str, Any]) -> dict[str, Any]:
    if params.get("version", 2) != 2:
        raise ProgramError(Code.BODY_NOT_VALID, "version must be 2.")
    options = params.get("options") or {}
    if not isinstance(options, dict):
        raise ProgramError(Code.BODY_NOT_VALID, "options must be an object.")
    return options


def _pubs(params: dict[str, Any]) -> list[list[Any]]:
    pubs = params.get("pubs")
    if not isinstance(pubs, list) or not pubs or not all(isinstance(pub, list) and pub for pub in pubs):
        raise ProgramError(Code.BODY_NOT_VALID, "pubs must be a list of lists.")
    return pubs


def _values(value: Any, circuit: QuantumCircuit) -> npt.NDArray[np.float64]:
    if value is None:
        return np.zeros((0,))
    if isinstance(value, dict) and "__type__" not in value:
        try:
            columns = [value[parameter.name] for parameter in circuit.parameters]
        except KeyError as error:
            raise ProgramError(Code.BODY_NOT_VALID, f"There is no value for the parameter {error}.") from error
        return np.stack([decode_array(column) for column in columns], axis=-1) if columns else np.zeros((0,))
    return decode_array(value)


def _measured(registers: dict[str, Bits], kind: str, seed: int) -> dict[str, npt.NDArray[Any]]:
    if kind == "classified":
        return dict(registers)
    iq = {name: points(bits, seed) for name, bits in registers.items()}
    return {name: value.mean(axis=-2) for name, value in iq.items()} if kind == "avg_kerneled" else dict(iq)


def _sampler_pub_result(
    registers: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], metadata: dict[str, Any]
) -> dict[str, Any]:
    fields = {
        name: encode_bits(value) if value.dtype == np.bool_ else encode_array(value)
        for name, value in registers.items()
    }
    return tagged("SamplerPubResult", {"data": encode_data_bin(fields, shape), "metadata": metadata})


def _sampler_result(results: list[dict[str, Any]], slices: dict[str, Any]) -> dict[str, Any]:
    span = {
        "start": tagged("datetime", START_MARK),
        "stop": tagged("datetime", STOP_MARK),
        "data_slices": slices,
    }
    spans = tagged("ExecutionSpans", {"spans": [tagged("DoubleSliceSpan", span)]})
    metadata = {"execution": {"execution_spans": spans}, "version": 2}
    return tagged("PrimitiveResult", {"pub_results": results, "metadata": metadata})


def _estimator_pub_result(evs: npt.NDArray[Any], stds: npt.NDArray[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    fields = {"evs": evs, "stds": stds, "ensemble_standard_error": stds}
    data = encode_data_bin({name: encode_array(value) for name, value in fields.items()}, evs.shape)
    return tagged("PubResult", {"data": data, "metadata": metadata})


def _plain(registers: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in registers.items():
        if value.dtype == np.bool_:
            outcomes = (sum(1 << place for place in np.flatnonzero(row)) for row in value.reshape(-1, value.shape[-1]))
            found[name] = {"samples": [hex(outcome) for outcome in outcomes], "num_bits": value.shape[-1]}
        else:
            found[name] = np.stack([value.real, value.imag], axis=-1).reshape(-1, 2).tolist()
    return found


def _plain_values(evs: npt.NDArray[Any], stds: npt.NDArray[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"evs": evs.tolist(), "stds": stds.tolist()}, "metadata": metadata}


def _plain_result(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results": results, "metadata": {"version": 2}}


def _dump(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()
