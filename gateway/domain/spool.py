"""Where results wait, as their provider gave them out, until they are stored as results of jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from gateway.domain.payload import PayloadFile


class SpooledResult(NamedTuple):
    """What a provider gave out for a job."""

    about: bytes
    """What was put in with it, so that it can be read although the provider has forgotten the job; empty if that is lost."""
    results: PayloadFile
    """The file stays until it is dropped."""


class ResultSpool(Protocol):
    """Keeps on disk what a provider may give out once only: a crash after that must not lose it.

    All methods block, and may be called from any thread: best from the one that reads the result.
    """

    def get(self, account: str, provider_job_id: str) -> SpooledResult | None:
        """Return what was put in for a job, by this run of the gateway or a former one; None if nothing was."""

    def check_room(self) -> None:
        """Make sure that there is room, before something is asked for that cannot be asked for twice. Quick.

        Raises:
            Unavailable: Too much waits already, or the disk is nearly full.
        """

    def put(self, account: str, provider_job_id: str, about: bytes, results: Iterable[bytes]) -> bool:
        """Keep what a provider gives out for a job, piece by piece. When this returns, it is on disk; before, nothing is kept.

        Args:
            account: The account.
            provider_job_id: The job.
            about: What is to be known of the job to understand the results.
            results: Their pieces. What they raise is raised.

        Returns:
            Whether there was anything to keep.

        Raises:
            OSError: It cannot be written.
        """

    def drop(self, account: str, provider_job_id: str) -> None:
        """Forget what is kept for a job, if anything is: its result is stored, or it is no result."""
