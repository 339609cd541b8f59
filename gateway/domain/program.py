"""A program on its way from a caller to a provider.

Two messages of the contract travel through the gateway as opaque bytes, because nothing between their ends has a reason to read
them: a program is a serialised `qgateway.v1.Program` from the caller to the worker that reads it, and a result is a serialised
`qgateway.v1.JobResult` from the worker or provider that makes it to the caller. Neither has a twin here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.domain.backend import Backend
from gateway.domain.errors import OutOfRange, Reason
from gateway.domain.job import ProgramSummary, RunOptions
from gateway.domain.payload import Payload


def result_too_large(max_bytes: int) -> OutOfRange:
    """Return the error for a result, or a part of one, that has more bytes than one message takes."""
    return OutOfRange(
        f"The result has more than {max_bytes} bytes and does not fit into one message. "
        "Use DownloadJobResult, or select experiments.",
        reason=Reason.RESULT_TOO_LARGE,
        metadata={"limit_bytes": str(max_bytes)},
    )


@dataclass(frozen=True, slots=True)
class PreparedProgram:
    """A program that was read, checked, bound and, where asked for, transpiled."""

    summary: ProgramSummary
    circuits: Payload
    """The experiments in a form that only workers read (QPY of bound circuits, in the order of the results); of a RAW program the
    serialised `qgateway.v1.RawProgram`, which only its provider reads."""
    dynamic: bool
    """Whether any circuit has control flow."""


class ProgramReader(Protocol):
    """Reads untrusted programs, away from the server's process."""

    async def prepare(self, program: Payload, backend: Backend, options: RunOptions) -> PreparedProgram:
        """Read, check, bind and transpile a program.

        Args:
            program: Serialised `qgateway.v1.Program`, as the caller sent it.
            backend: The backend that is to run it: its width, number of circuits and instruction set are checked.
            options: `transpile` and `dynamic` matter here.

        Raises:
            InvalidArgument: The program is wrong; the violations name field and line.
            WorkerFailure: Reading it took too long, too much memory, or crashed the reader.
        """

    async def select_result(
        self, result: Payload, experiments: tuple[int, ...], *, include_counts: bool, omit_shots: bool, max_bytes: int
    ) -> Payload:
        """Return a serialised `JobResult` with some experiments (empty: all), with counts, or without shots, as asked for.

        Raises:
            InvalidArgument: An experiment does not exist; the violation names `experiments`.
            OutOfRange: It has more than `max_bytes`. No more work is done for it than to find that out.
        """

    async def qpy_versions(self) -> tuple[int, int]:
        """Return the oldest and the newest version of QPY that is read."""
