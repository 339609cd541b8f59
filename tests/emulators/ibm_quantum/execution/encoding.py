"""The type tags of the programs `sampler` and `estimator`: values that are no JSON, as `{"__type__", "__value__"}`."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from openqasm3.parser import QASM3ParsingError
from qiskit import qasm3, qpy
from qiskit.circuit import QuantumCircuit
from qiskit.exceptions import QiskitError

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.outcome import ProgramError

MAX_QPY_VERSION = 17

_QPY_MAGIC = b"QISKIT"


def tagged(kind: str, value: Any) -> dict[str, Any]:
    """Return a tagged value."""
    return {"__type__": kind, "__value__": value}


def encode_array(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Return an array: a compressed file in NumPy's format, in base64."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return tagged("ndarray", base64.b64encode(zlib.compress(file.getvalue())).decode())


def encode_bits(bits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return outcomes of shape `(..., shots, bits)`: each one an integer in big-endian bytes."""
    count = bits.shape[-1]
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, -count % 8)]
    packed = np.packbits(np.pad(bits, padding), axis=-1, bitorder="little")[..., ::-1]
    return tagged("BitArray", {"array": encode_array(np.ascontiguousarray(packed)), "num_bits": count})


def encode_data_bin(fields: dict[str, dict[str, Any]], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the data of one pub's result."""
    value = {
        "field_names": list(fields),
        "field_types": [field["__type__"] for field in fields.values()],
        "shape": list(shape),
        "fields": fields,
    }
    return tagged("DataBin", value)


def decode_array(value: Any) -> npt.NDArray[np.float64]:
    """Return an array that was sent tagged, or as a list of numbers.

    Raises:
        ProgramError: If it is neither.
    """
    try:
        if isinstance(value, dict) and value.get("__type__") == "ndarray":
            value = value["__value__"]
        if isinstance(value, str):
            value = np.load(io.BytesIO(zlib.decompress(base64.b64decode(value))), allow_pickle=False)
        return np.asarray(value, dtype=np.float64)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ProgramError(Code.BODY_NOT_VALID, f"Not an array: {error}") from error


def decode_circuit(value: Any) -> QuantumCircuit:
    """Return a circuit that was sent as OpenQASM 3 text, or tagged as QPY.

    Raises:
        ProgramError: If it is neither, or of a newer QPY version.
    """
    if isinstance(value, str):
        return _from_qasm(value)
    if not isinstance(value, dict) or value.get("__type__") != "QuantumCircuit":
        raise ProgramError(Code.BODY_NOT_VALID, "A circuit must be OpenQASM 3 text or QPY.")
    try:
        data = zlib.decompress(base64.b64decode(value["__value__"]))
        magic, version = struct.unpack_from("!6sB", data)
    except (KeyError, TypeError, ValueError, zlib.error, struct.error) as error:
        raise ProgramError(Code.BODY_NOT_VALID, f"Not QPY: {error}") from error
    if magic != _QPY_MAGIC:
        raise ProgramError(Code.BODY_NOT_VALID, "Not QPY.")
    if version > MAX_QPY_VERSION:
        message = f"QPY version {version} is newer than {MAX_QPY_VERSION}."
        raise ProgramError(Code.NOT_VALID_FOR_BACKEND, message)
    try:
        return qpy.load(io.BytesIO(data))[0]
    except (QiskitError, struct.error, ValueError) as error:
        raise ProgramError(Code.BODY_NOT_VALID, f"Not QPY: {error}") from error


def _from_qasm(text: str) -> QuantumCircuit:
    try:
        return qasm3.loads(text)
    except (QiskitError, QASM3ParsingError) as error:
        raise ProgramError(Code.BODY_NOT_VALID, f"Not OpenQASM 3: {error}") from error
