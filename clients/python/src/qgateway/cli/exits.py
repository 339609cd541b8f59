"""Exit codes, and the errors that a command ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit code of the command says."""

    OK = 0
    JOB_FAILED = 1
    """The job in question failed or was cancelled."""
    USAGE = 2
    """Wrong arguments, settings or files."""
    NOT_FOUND = 3
    REFUSED = 4
    """The request is invalid, not allowed, or not possible in this state."""
    UNAVAILABLE = 5
    """The gateway cannot be reached, or the time is over."""
    INTERRUPTED = 130
    """Ended with Ctrl-C."""


EXIT_CODES_HELP = (
    "Exit codes: 0 fine; 1 the job failed or was cancelled; 2 wrong usage; 3 not found; "
    "4 refused (invalid, not allowed, not possible now); 5 unavailable or timed out; 130 interrupted."
)

_PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "INTERNAL", "UNKNOWN"})


class CommandError(Exception):
    """A command cannot go on.

    Args:
        message: What is wrong and what to do.
        code: Exit code of the command.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def exit_code_of(status: str, reason: str) -> ExitCode:
    """Return the exit code for an error of the gateway.

    Args:
        status: Name of the gRPC status code.
        reason: Reason of the error; may be empty.
    """
    if status == "NOT_FOUND":
        return ExitCode.NOT_FOUND
    if reason == "RESULT_ABSENT":
        return ExitCode.JOB_FAILED
    return ExitCode.UNAVAILABLE if status in _PASSING or status == "DATA_LOSS" else ExitCode.REFUSED
