"""Which run options the simulators understand."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.domain.backend import Backend
from gateway.domain.errors import FieldViolation, InvalidArgument, Reason
from gateway.domain.job import MeasLevel, RunOptions

MAX_SEED = 2**63 - 1
"""Largest seed that Aer takes."""
MAX_OPTIMISATION_LEVEL = 3


def check_options(backend: Backend, options: RunOptions) -> None:
    """Refuse what a simulated backend cannot do.

    `meas_return` is left alone: it has a meaning for kerneled data only.

    Raises:
        InvalidArgument: Names each option, as `options.NAME`.
    """
    wrong = [*_out_of_range(backend, options), *_unsupported(options)]
    if wrong:
        reason, first = wrong[0]
        raise InvalidArgument(
            f"{first.field}: {first.description}", reason=reason, violations=[violation for _, violation in wrong]
        )


def _out_of_range(backend: Backend, options: RunOptions) -> Iterator[tuple[Reason, FieldViolation]]:
    if not 1 <= options.shots <= backend.max_shots:
        text = f"must be 1 to {backend.max_shots} on {backend.name}, not {options.shots}"
        yield Reason.INVALID_FIELD, FieldViolation("options.shots", text)
    if options.seed_simulator is not None and not 0 <= options.seed_simulator <= MAX_SEED:
        yield Reason.INVALID_FIELD, FieldViolation("options.seed_simulator", f"must be 0 to {MAX_SEED}")
    if options.transpile is not None and not 0 <= options.transpile <= MAX_OPTIMISATION_LEVEL:
        text = f"must be off or a level of 0 to {MAX_OPTIMISATION_LEVEL}, not {options.transpile}"
        yield Reason.INVALID_FIELD, FieldViolation("options.transpile", text)


def _unsupported(options: RunOptions) -> Iterator[tuple[Reason, FieldViolation]]:
    if options.meas_level is not MeasLevel.CLASSIFIED:
        text = "simulators have no kerneled data; leave it at CLASSIFIED"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation("options.meas_level", text)
    if options.rep_delay is not None:
        text = "simulators have no delay between shots; leave it out"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation("options.rep_delay", text)
    if not options.init_qubits:
        text = "simulators reset the qubits before each shot; leave it at true"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation("options.init_qubits", text)
    for name in sorted(options.provider_options):
        text = "simulators have no option of this name; leave it out"
        yield Reason.UNSUPPORTED_OPTION, FieldViolation(f"options.provider_options.{name}", text)
