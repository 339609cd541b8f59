"""Which run options the service understands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.domain.backend import Backend
from gateway.domain.errors import FieldViolation, InvalidArgument, Reason
from gateway.domain.job import MeasLevel, RunOptions

RUN_OPTIONS = (
    "shots",
    "memory",
    "meas_level",
    "meas_return",
    "init_qubits",
    "rep_delay",
    "header",
    "dynamic",
    "transpile",
)
"""Run options that are understood; `rep_delay` and `meas_level` within what the backend can do."""

_MAX_OPTIMISATION_LEVEL = 3
_MAX_EXECUTION_SECONDS = 10_800
_LEVELS = {MeasLevel.KERNELED: 1, MeasLevel.CLASSIFIED: 2}
_LOG_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")

_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_execution_time": (
        lambda value: _is_whole(value) and 1 <= value <= _MAX_EXECUTION_SECONDS,
        f"must be a whole number of 1 to {_MAX_EXECUTION_SECONDS} seconds",
    ),
    "private": (lambda value: isinstance(value, bool), "must be true or false"),
    "calibration_id": (lambda value: isinstance(value, str) and bool(value), "must be a text"),
    "image": (lambda value: isinstance(value, str) and bool(value), "must be a text of the form name:tag"),
    "log_level": (lambda value: value in _LOG_LEVELS, f"must be one of {', '.join(_LOG_LEVELS)}"),
    "experimental": (lambda value: isinstance(value, Mapping), "must be an object"),
}
"""The options that only this provider knows."""


def check_options(backend: Backend, options: RunOptions) -> None:
    """Refuse what a backend cannot do.

    Raises:
        InvalidArgument: Names each option, as `options.NAME`.
    """
    wrong = [*_out_of_range(backend, options), *_unsupported(backend, options), *_own(options.provider_options)]
    if wrong:
        reason, first = wrong[0]
        raise InvalidArgument(
            f"{first.field}: {first.description}", reason=reason, violations=[violation for _, violation in wrong]
        )


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request for a new job that the provider's own options make."""
    fields = {
        "cost": int(options["max_execution_time"]) if "max_execution_time" in options else None,
        "private": options.get("private") or None,
        "calibration_id": options.get("calibration_id"),
        "runtime": options.get("image"),
        "log_level": str(options["log_level"]) if "log_level" in options else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _out_of_range(backend: Backend, options: RunOptions) -> Iterator[tuple[Reason, FieldViolation]]:
    if not 1 <= options.shots <= backend.max_shots:
        text = f"must be 1 to {backend.max_shots} on {backend.name}, not {options.shots}"
        yield Reason.INVALID_FIELD, FieldViolation("options.shots", text)
    if options.transpile is not None and not 0 <= options.transpile <= _MAX_OPTIMISATION_LEVEL:
        text = f"must be off or a level of 0 to {_MAX_OPTIMISATION_LEVEL}, not {options.transpile}"
        yield Reason.INVALID_FIELD, FieldViolation("options.transpile", text)
    if options.rep_delay is not None and backend.rep_delay_range is not None:
        low, high = backend.rep_delay_range
        if not low <= options.rep_delay <= high:
            text = f"must be {low:g} to {high:g} seconds on {backend.name}, not {options.rep_delay:g}"
            yield Reason.INVALID_FIELD, FieldViolation("options.rep_delay", text)


def _unsupported(backend: Backend, options: RunOptions) -> Iterator[tuple[Reason, FieldViolation]]:
    if options.rep_delay is not None and backend.rep_delay_range is None:
        text = f"the delay between shots cannot be chosen on {backend.name}; leave it out"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation("options.rep_delay", text)
    if _LEVELS[options.meas_level] not in backend.meas_levels:
        text = f"{backend.name} has measurement levels {', '.join(map(str, backend.meas_levels))} only"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation("options.meas_level", text)
    if options.seed_simulator is not None:
        text = "a device has no seed; leave it out"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation("options.seed_simulator", text)


def _own(options: Mapping[str, Any]) -> Iterator[tuple[Reason, FieldViolation]]:
    for name, value in sorted(options.items()):
        field = f"options.provider_options.{name}"
        if name not in _CHECKS:
            text = f"the provider has no option of this name; it has {', '.join(sorted(_CHECKS))}"
            yield Reason.UNSUPPORTED_OPTION, FieldViolation(field, text)
            continue
        right, text = _CHECKS[name]
        if not right(value):
            yield Reason.INVALID_FIELD, FieldViolation(field, text)


def _is_whole(value: Any) -> bool:
    """Return whether a JSON number is whole; in `google.protobuf.Struct` all numbers are floats."""
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
