"""Results on their way from the provider to disk, where they are kept until they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog
from pydantic import ValidationError

from gateway.domain.errors import NotFound, Reason, Unavailable
from gateway.domain.failpoints import failpoint
from gateway.domain.payload import PayloadFile
from gateway.domain.spool import ResultSpool
from gateway.providers.ibm import wire
from gateway.providers.ibm.client import IbmClient

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 5.0


class KeptResults(NamedTuple):
    """What the provider gave out for a job."""

    job: wire.JobDocument | None
    """The job, as the provider described it then; None if that was not kept."""
    results: PayloadFile


class Results:
    """Reads results, each once. No more than a piece of one is in memory.

    The job is kept with its result: it is all that is needed when the provider has forgotten it.

    Args:
        client: Calls the API.
        account: Name of the account.
        spool: Where results are kept.
    """

    def __init__(self, client: IbmClient, account: str, spool: ResultSpool) -> None:
        self._client = client
        self._account = account
        self._spool = spool

    async def kept(self, provider_job_id: str) -> KeptResults | None:
        """Return what was read for a job and not dropped yet, by this run of the gateway or a former one."""
        spooled = await asyncio.to_thread(self._spool.get, self._account, provider_job_id)
        if spooled is None:
            return None
        job = None
        with suppress(ValidationError):  # another version of the gateway may have written it
            job = wire.JobDocument.model_validate_json(spooled.about)
        return KeptResults(job, spooled.results)

    async def read(self, job: wire.JobDocument) -> PayloadFile:
        """Bring the results of a DONE job to disk.

        Raises:
            NotFound: The provider has none any more.
            OutOfRange: They are larger than the account takes in.
            Unavailable: They cannot be read or written now.
        """
        await asyncio.to_thread(self._spool.check_room)
        try:
            await self._client.results(job.id, partial(self._keep, job))
        except NotFound as error:
            raise NotFound(
                "The provider has no result of the job any more.", reason=Reason.RESULT_ABSENT, metadata=error.metadata
            ) from None
        except _NotWritten as error:
            _log.error("results_not_written", account=self._account, provider_job_id=job.id, error=str(error))
            raise Unavailable(
                "The gateway cannot write the result to its disk. An operator has to look at the disk; the gateway asks for the "
                "result again by itself.",
                retry_after=_RETRY_SECONDS,
            ) from None
        spooled = await asyncio.to_thread(self._spool.get, self._account, job.id)
        if spooled is None:
            raise Unavailable(
                "The provider has the job as completed, and no result of it yet. The gateway asks again by itself.",
                retry_after=_RETRY_SECONDS,
            )
        return spooled.results

    async def drop(self, provider_job_id: str) -> None:
        """Keep the results of a job no longer, if there are any."""
        await asyncio.to_thread(self._spool.drop, self._account, provider_job_id)

    def _keep(self, job: wire.JobDocument, pieces: Iterator[bytes]) -> None:
        """Bring results to disk, on the thread that reads them: nothing can come between, not even the end of the server."""
        try:
            kept = self._spool.put(self._account, job.id, job.model_dump_json().encode(), pieces)
        except OSError as error:
            raise _NotWritten(str(error)) from error
        if kept:
            failpoint("result.read")


class _NotWritten(Exception):
    """Results could not be written to disk."""
