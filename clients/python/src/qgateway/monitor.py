"""Following a job on one line of text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from qiskit.providers import JobStatus

from qgateway._times import time_until

if TYPE_CHECKING:
    from qgateway.job import GatewayCircuitJob

_PREFIX = "Job Status: "


def job_monitor(job: GatewayCircuitJob, interval: float | None = None, output: TextIO | None = None) -> None:  # noqa: ARG001
    """Show the status of a job on one line, until the job is final.

    The line is written anew when the status or the place in the queue changes, as the gateway tells of it.

    Args:
        job: The job.
        interval: Has no effect: nothing is polled. Kept for its name.
        output: Where to write. Default: `sys.stdout` as it is at the time of the call.

    Raises:
        IBMJobApiError: The gateway refuses to tell.
    """
    line = _Line(sys.stdout if output is None else output)

    def show(_: str, status: JobStatus, watched: GatewayCircuitJob) -> None:
        line.write(_PREFIX + _describe(watched, status))

    try:
        job.wait_for_final_state(callback=show)
        show(job.job_id(), job.status(), job)
    finally:
        line.end()


def _describe(job: GatewayCircuitJob, status: JobStatus) -> str:
    if status == JobStatus.RUNNING:
        mode = job.scheduling_mode()
        return "RUNNING" + (f" - {mode}" if mode and mode != "job" else "")
    if status == JobStatus.ERROR:
        return f"ERROR - {job.error_message()}"
    text = str(status.value)
    queue = job._known_queue()  # noqa: SLF001 - what the watch brought; asking again would be polling
    if status != JobStatus.QUEUED or queue is None:
        return text
    if queue.position is not None:
        text += f" ({queue.position})"
    wait = time_until(queue.estimated_start_time)
    return text + (f" [Est. wait time: {wait}]" if wait else "")


class _Line:
    """A line of text that is written over."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._text = ""

    def write(self, text: str) -> None:
        if text != self._text:
            self._output.write("\r" + text.ljust(len(self._text)))
            self._output.flush()
            self._text = text

    def end(self) -> None:
        self._output.write("\n")
        self._output.flush()
