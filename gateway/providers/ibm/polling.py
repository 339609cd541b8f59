"""What has become of jobs: one listing for all that are pending, and a look at each that it does not show."""

from __future__ import annotations

from contextlib import suppress

from gateway.domain.errors import GatewayError, NotFound
from gateway.domain.job import JobStatus
from gateway.domain.provider import NoNews, ProviderUpdate
from gateway.providers.ibm import states, wire
from gateway.providers.ibm.bounded_cache import BoundedCache
from gateway.providers.ibm.client import PAGE_SIZE, IbmClient
from gateway.providers.ibm.concurrency import map_concurrently
from gateway.providers.ibm.results import Results
from gateway.providers.ibm.settings import IbmSettings

_FEW = 2
"""Up to so many jobs are looked up one by one: a listing would cost no less."""
_KEPT_JOBS = 1000


class Polling:
    """Asks how jobs are.

    Args:
        client: Calls the API.
        results: What was read of results: it tells how a job ended that the provider has forgotten.
        settings: The instance's tag, and how many calls may be made at a time.
    """

    def __init__(self, client: IbmClient, results: Results, settings: IbmSettings) -> None:
        self._client = client
        self._results = results
        self._settings = settings
        self._ended: BoundedCache[wire.JobDocument] = BoundedCache(_KEPT_JOBS)

    def ended(self, provider_job_id: str) -> wire.JobDocument | None:
        """Return a job whose end was seen lately, so that it need not be read again; None if it was not."""
        return self._ended.get(provider_job_id)

    def forget(self, provider_job_id: str) -> None:
        """Keep a job no longer."""
        self._ended.drop(provider_job_id)

    async def poll(self, provider_job_ids: tuple[str, ...]) -> tuple[ProviderUpdate | NoNews, ...]:
        """Return what is known of some jobs. See `gateway.domain.provider.Provider.poll`."""
        listed = await self._pending() if len(provider_job_ids) > _FEW else {}
        wanted = dict.fromkeys(provider_job_ids)
        left = (job_id for job_id in wanted if job_id not in listed)
        found = await map_concurrently(left, self._try_to_look_up, at_once=self._settings.threads)
        failures = [item.error for item in found if isinstance(item, NoNews)]
        if failures and len(failures) == len(found) and not listed:
            raise failures[0]
        return (
            *(states.update_of(listed[job_id]) for job_id in wanted if job_id in listed),
            *(update for update in found if update is not None),
        )

    async def look_up(self, provider_job_id: str) -> ProviderUpdate | None:
        """Return what is known of one job, or None if the provider does not know it."""
        try:
            job = await self._client.job(provider_job_id)
        except NotFound:
            # Its end is known all the same if its result was read before.
            kept = await self._results.kept(provider_job_id)
            return states.update_of(kept.job) if kept is not None and kept.job is not None else None
        status = states.status_of(job)
        if not status.is_final:
            return states.update_of(job)
        self._ended.put(provider_job_id, job)
        metrics = None
        with suppress(GatewayError):  # nice to have: the end of the job is news without them
            metrics = await self._client.metrics(provider_job_id)
        return states.update_of(job, metrics, await self._error_text(job, status))

    async def _pending(self) -> dict[str, wire.JobDocument]:
        """Return all pending jobs of the gateway, oldest first, so that new ones do not move the pages."""
        found: dict[str, wire.JobDocument] = {}
        offset = 0
        while True:
            page = await self._client.jobs(
                [
                    ("tags", self._settings.common_tag),
                    ("pending", "true"),
                    ("sort", "ASC"),
                    ("limit", str(PAGE_SIZE)),
                    ("offset", str(offset)),
                ]
            )
            found.update((job.id, job) for job in page.jobs)
            offset += len(page.jobs)
            if not page.jobs or offset >= page.count:
                return found

    async def _try_to_look_up(self, provider_job_id: str) -> ProviderUpdate | NoNews | None:
        try:
            return await self.look_up(provider_job_id)
        except GatewayError as error:
            return NoNews(provider_job_id, error)

    async def _error_text(self, job: wire.JobDocument, status: JobStatus) -> str:
        """Return what a failed job wrote, if the provider gives no other reason."""
        if status is not JobStatus.ERROR or job.state.reason:
            return ""
        with suppress(GatewayError):
            return await self._client.error_text(job.id)
        return ""
