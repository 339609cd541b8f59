"""Where results wait, as their provider gave them out, until they are stored as results of jobs."""

from __future__ import annotations

from typing import Protocol


class ResultSpool(Protocol):
    """Keeps on disk what a provider may give out once only: a crash after that must not lose it.

    All methods block, and may be called from any thread: best from the one that has just read the result.
    """

    def get(self, account: str, provider_job_id: str) -> bytes | None:
        """Return what was put in for a job, by this run of the gateway or a former one; None if nothing was."""

    def check_room(self) -> None:
        """Make sure that there is room, before something is asked for that cannot be asked for twice. Quick.

        Raises:
            Unavailable: Too much waits already.
        """

    def put(self, account: str, provider_job_id: str, results: bytes) -> None:
        """Keep what a provider gave out for a job. When this returns, it is on disk.

        Raises:
            OSError: It cannot be written.
        """

    def drop(self, account: str, provider_job_id: str) -> None:
        """Forget what is kept for a job, if anything is: its result is stored, or it is no result."""
