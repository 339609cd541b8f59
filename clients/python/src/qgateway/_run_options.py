"""The arguments of `run`, checked and merged: explicit before the backend's options before the defaults."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from typing import Any

from qiskit.result.models import MeasLevel, MeasReturnType

from qgateway._structs import to_struct
from qgateway._times import optional_seconds, to_duration
from qgateway.exceptions import IBMBackendValueError
from qgateway.v1 import backend_pb2, job_pb2

DEFAULTS: dict[str, Any] = {
    "shots": 4000,
    "memory": False,
    "meas_level": int(MeasLevel.CLASSIFIED),
    "meas_return": MeasReturnType.AVERAGE.value,
    "init_qubits": True,
    "rep_delay": None,
    "dynamic": None,
    "header": None,
    "seed_simulator": None,
    "transpile": None,
    "noise_model": None,
    "init_circuit": None,
    "init_num_resets": None,
    "use_measure_esp": None,
}
"""What `backend.options` begins with. None stands for the gateway's own default."""

_PASSED_ON = ("noise_model", "init_circuit", "init_num_resets")
_MEAS_LEVELS = {MeasLevel.KERNELED: job_pb2.MEAS_LEVEL_KERNELED, MeasLevel.CLASSIFIED: job_pb2.MEAS_LEVEL_CLASSIFIED}
_MEAS_RETURNS = {"single": job_pb2.MEAS_RETURN_SINGLE, "avg": job_pb2.MEAS_RETURN_AVERAGE}
_TRANSPILE_LEVELS = (
    job_pb2.TRANSPILE_LEVEL_0,
    job_pb2.TRANSPILE_LEVEL_1,
    job_pb2.TRANSPILE_LEVEL_2,
    job_pb2.TRANSPILE_LEVEL_3,
)
_LARGEST_SEED = 2**64 - 1


def build_run_options(
    explicit: Mapping[str, Any],
    backend_options: Mapping[str, Any],
    run_config: Mapping[str, Any],
    *,
    backend: backend_pb2.Backend,
    dynamic_circuits: bool,
) -> job_pb2.RunOptions:
    """Return how a program is to be run.

    Args:
        explicit: Arguments of `run` by name; None counts as not given.
        backend_options: The backend's options; those with a name of `DEFAULTS` and a value count.
        run_config: Arguments of `run` with other names: each gives a warning and is passed to the provider, which refuses what
            it does not know.
        backend: The backend, for its limits.
        dynamic_circuits: Whether circuits have control flow.

    Raises:
        IBMBackendValueError: A value is wrong; the message names the argument.
    """
    merged = dict(DEFAULTS)
    for source in (backend_options, explicit):
        merged.update({name: value for name, value in source.items() if name in merged and value is not None})
    if merged["use_measure_esp"]:
        raise IBMBackendValueError("use_measure_esp: excited state promotion readout is not supported.")
    options = job_pb2.RunOptions(
        shots=_shots(merged["shots"], backend.max_shots),
        memory=_flag("memory", merged["memory"]),
        meas_level=_meas_level(merged["meas_level"]),
        meas_return=_meas_return(merged["meas_return"]),
        init_qubits=_flag("init_qubits", merged["init_qubits"]),
    )
    if merged["rep_delay"] is not None:
        options.rep_delay.CopyFrom(to_duration(_rep_delay(merged["rep_delay"], backend)))
    if merged["dynamic"] is not None:
        options.dynamic = _dynamic(merged["dynamic"], dynamic_circuits=dynamic_circuits)
    if merged["seed_simulator"] is not None:
        options.seed_simulator = _whole("seed_simulator", merged["seed_simulator"], 0, _LARGEST_SEED)
    if merged["header"] is not None:
        _fill_struct(options.header, "header", merged["header"])
    if merged["transpile"] is not None:
        level = _whole("transpile", merged["transpile"], 0, len(_TRANSPILE_LEVELS) - 1)
        options.transpile = _TRANSPILE_LEVELS[level]
    _fill_struct(options.provider_options, "run_config", _provider_options(merged, run_config))
    return options


def describe_run_options(options: job_pb2.RunOptions) -> dict[str, Any]:
    """Return the run options of a job as `backend_options()` gives them: plain values, without the header."""
    from qgateway._structs import from_struct

    described: dict[str, Any] = {
        "shots": options.shots,
        "memory": options.memory,
        "meas_level": next((int(level) for level, wire in _MEAS_LEVELS.items() if wire == options.meas_level), 2),
        "meas_return": next((name for name, wire in _MEAS_RETURNS.items() if wire == options.meas_return), "avg"),
        "init_qubits": options.init_qubits if options.HasField("init_qubits") else True,
    }
    rep_delay = optional_seconds(options, "rep_delay")
    if rep_delay is not None:
        described["rep_delay"] = rep_delay
    for name in ("dynamic", "seed_simulator"):
        if options.HasField(name):
            described[name] = getattr(options, name)
    if options.transpile in _TRANSPILE_LEVELS:
        described["transpile"] = _TRANSPILE_LEVELS.index(options.transpile)
    return {**from_struct(options.provider_options), **described}


def _provider_options(merged: Mapping[str, Any], run_config: Mapping[str, Any]) -> dict[str, Any]:
    passed = {name: merged[name] for name in _PASSED_ON if merged[name] is not None}
    if hasattr(passed.get("noise_model"), "to_dict"):
        passed["noise_model"] = passed["noise_model"].to_dict(serializable=True)
    for name, value in run_config.items():
        if value is not None:
            warnings.warn(f"run() has no argument {name!r}; it is passed to the provider as it is.", stacklevel=5)
            passed[name] = value
    return passed


def _fill_struct(target: Any, argument: str, values: object) -> None:
    if not isinstance(values, Mapping):
        raise IBMBackendValueError(f"{argument}: a {type(values).__name__} is not a dictionary.")
    try:
        target.CopyFrom(to_struct(values))
    except ValueError as error:
        raise IBMBackendValueError(f"{argument}.{error}") from error


def _shots(value: object, max_shots: int) -> int:
    return _whole("shots", value, 1, max_shots or None)


def _whole(name: str, value: object, least: int, most: int | None) -> int:
    """Return a whole number in bounds. Numbers of numpy count, and so do floats without a fraction."""
    if isinstance(value, bool):
        raise IBMBackendValueError(f"{name}: {value!r} is not a whole number.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise IBMBackendValueError(f"{name}: {value!r} is not a whole number.") from None
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise IBMBackendValueError(f"{name}: {number} is out of range; it must be {bounds}.")
    return number


def _flag(name: str, value: object) -> bool:
    if type(value).__name__ not in ("bool", "bool_"):  # bool_ is numpy's
        raise IBMBackendValueError(f"{name}: {value!r} is not True or False.")
    return bool(value)


def _dynamic(value: object, *, dynamic_circuits: bool) -> bool:
    asked = _flag("dynamic", value)
    if dynamic_circuits and not asked:
        warnings.warn("dynamic=False is ignored: a circuit has control flow.", stacklevel=5)
        return True
    return asked


def _meas_level(value: object) -> job_pb2.MeasLevel.ValueType:
    level = MeasLevel.__members__.get(value.upper()) if isinstance(value, str) else _whole("meas_level", value, 0, 2)
    if level not in _MEAS_LEVELS:
        raise IBMBackendValueError(f"meas_level: {value!r} is not offered; it is 1 (kerneled) or 2 (classified).")
    return _MEAS_LEVELS[MeasLevel(level)]


def _meas_return(value: object) -> job_pb2.MeasReturn.ValueType:
    word = getattr(value, "value", value)
    if word not in _MEAS_RETURNS:
        raise IBMBackendValueError(f"meas_return: {value!r} is neither 'single' nor 'avg'.")
    return _MEAS_RETURNS[word]


def _rep_delay(value: object, backend: backend_pb2.Backend) -> float:
    try:
        delay = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise IBMBackendValueError(f"rep_delay: {value!r} is not a number of seconds.") from None
    shortest, longest = optional_seconds(backend, "min_rep_delay"), optional_seconds(backend, "max_rep_delay")
    if not delay >= (shortest or 0.0) or (longest is not None and delay > longest):
        bounds = f"{shortest or 0:g} s to {longest:g} s" if longest is not None else f"at least {shortest or 0:g} s"
        raise IBMBackendValueError(f"rep_delay: {delay:g} s is out of range; it must be {bounds}.")
    return delay
