"""What becomes of a program."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

START_MARK = "1970-01-01T00:00:00Z"
STOP_MARK = "1970-01-01T00:00:01Z"
"""Stand in a result for the times at which its job ran: the result of the same program is computed only once."""


class ProgramError(Exception):
    """A program that cannot be run.

    Args:
        code: The service's error code.
        message: What is wrong.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Outcome:
    """What became of a program: a result, or a failure.

    `text` is the body of the results, with marks for times; in a failure it is what the program wrote before it died.
    """

    text: str
    circuits_execution_time_ns: int = 0
    failure_code: int | None = None
    failure: str = ""
    solution: str = ""

    @property
    def quantum_seconds(self) -> int:
        """Seconds of quantum time that are charged: whole ones, at least one for a result."""
        if self.failure_code is not None:
            return 0
        return max(1, round(self.circuits_execution_time_ns / 1e9))

    def text_at(self, start: datetime, stop: datetime) -> str:
        """Return the body of the results of a job that ran at these times."""
        times = [time.isoformat().replace("+00:00", "Z") for time in (start, stop)]
        return self.text.replace(START_MARK, times[0]).replace(STOP_MARK, times[1])
