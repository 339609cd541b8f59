"""The way into the gateway for asyncio: the twin of `qgateway.provider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from qgateway import _requests, _translate
from qgateway._aio_connection import AioConnection
from qgateway._aio_pages import pages
from qgateway._errors import GatewayCallError
from qgateway._provider_record import ProviderRecord, warn_of_unreachable
from qgateway._status import StatusLike
from qgateway._translate import translated
from qgateway.aio.backend import GatewayBackend
from qgateway.aio.job import GatewayCircuitJob
from qgateway.aio.job_watch import JobWatch
from qgateway.configuration import choose_least_busy, matches, retired, the_one
from qgateway.exceptions import IBMApiError, IBMBackendNotFoundError
from qgateway.v1 import account_service_pb2, backend_pb2, backend_service_pb2, job_pb2, job_service_pb2


class GatewayProvider(ProviderRecord[AioConnection]):
    """A connection to a gateway for asyncio, and what can be reached through it.

        async with GatewayProvider("gateway.example:443", api_key="...") as provider:
            backend = await provider.get_backend("local_simulator")
            job = await backend.run(transpile(circuits, backend), shots=1000)
            counts = (await job.result()).get_counts()

    Arguments and errors are those of `qgateway.GatewayProvider`; nothing is sent before the first call.
    """

    _connect = AioConnection

    @property
    def backend(self) -> GatewayBackendService:
        """The service with `backends`, `jobs` and `retrieve_job`."""
        return GatewayBackendService(self)

    async def backends(
        self,
        name: str | None = None,
        filters: Callable[[GatewayBackend], bool] | None = None,
        min_num_qubits: int | None = None,
        instance: str | None = None,
        **kwargs: Any,
    ) -> list[GatewayBackend]:
        """List backends, by account and name; see `qgateway.GatewayProvider.backends`.

        Raises:
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        found = []
        async for message in self._list_backends(min_num_qubits, instance):
            if (name is not None and message.backend_id != name) or not matches(message, kwargs):
                continue
            backend = GatewayBackend(self, message)
            if filters is None or filters(backend):
                found.append(backend)
        return found

    async def get_backend(self, name: str | None = None, instance: str | None = None, **kwargs: Any) -> GatewayBackend:
        """Return the one backend that matches; see `qgateway.GatewayProvider.get_backend`.

        Raises:
            IBMBackendNotFoundError: None matches, or several do.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        if name is not None and not kwargs:
            return GatewayBackend(self, await self._get_backend(name, instance or self._instance))
        return the_one(await self.backends(name, instance=instance, **kwargs), name)

    async def least_busy(
        self,
        min_num_qubits: int | None = None,
        instance: str | None = None,
        filters: Callable[[GatewayBackend], bool] | None = None,
        **kwargs: Any,
    ) -> GatewayBackend:
        """Return the backend with the fewest waiting jobs, among those that take jobs.

        Raises:
            IBMError: None matches, or none takes jobs.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        return await least_busy(await self.backends(None, filters, min_num_qubits, instance, **kwargs))

    async def jobs(  # noqa: PLR0917 - the signature is that of the original
        self,
        limit: int | None = 10,
        skip: int = 0,
        backend_name: str | None = None,
        status: StatusLike | Iterable[StatusLike] | None = None,
        start_datetime: datetime | str | None = None,
        end_datetime: datetime | str | None = None,
        job_tags: list[str] | None = None,
        descending: bool = True,
        instance: str | None = None,
        legacy: bool = False,
        *,
        name: str | None = None,
        session_id: str | None = None,
    ) -> list[GatewayCircuitJob]:
        """List jobs; arguments and errors are those of `qgateway.GatewayProvider.jobs`."""
        most = _requests.check_limit(limit)
        request = _requests.list_request(
            skip=skip,
            backend_name=backend_name,
            status=status,
            start_datetime=start_datetime,
            end_datetime=end_datetime,
            job_tags=job_tags,
            descending=descending,
            instance=instance or self._instance,
            name=name,
            session_id=session_id,
        )
        found: list[GatewayCircuitJob] = []
        if legacy:
            return found
        with translated(_translate.backend_call("Failed to list jobs")):
            async for reply in pages(self.connection, lambda it: it.jobs.ListJobs, request):
                found += [GatewayCircuitJob(self, record) for record in reply.jobs]
                if most is not None and len(found) >= most:
                    return found[:most]
        return found

    def watch_jobs(
        self,
        *,
        backend_name: str | None = None,
        status: StatusLike | Iterable[StatusLike] | None = None,
        job_tags: list[str] | None = None,
        instance: str | None = None,
        name: str | None = None,
        session_id: str | None = None,
        resume_token: str = "",
        timeout: float | None = None,
    ) -> JobWatch:
        """Follow all jobs that match, as they change; see `qgateway.GatewayProvider.watch_jobs`. Not to be awaited.

        Raises:
            IBMBackendValueError: A status is not known, or tags are not a list of texts.
        """
        conditions = _requests.job_filter(
            backend_name=backend_name,
            status=status,
            job_tags=job_tags,
            instance=instance or self._instance,
            name=name,
            session_id=session_id,
        )
        return JobWatch(self, self._new_watch(conditions, resume_token, timeout))

    async def retrieve_job(self, job_id: str) -> GatewayCircuitJob:
        """Return the handle of a job; see `qgateway.GatewayProvider.retrieve_job`.

        Raises:
            IBMJobNotFoundError: There is no such job, or none that the caller may see.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        with translated(_translate.job_lookup(job_id)):
            try:
                record = await self._get_job(_requests.job_name(job_id), job_id)
            except GatewayCallError as error:
                if error.code != "NOT_FOUND" or "/" in job_id:
                    raise
                found = await self._find_provider_job(job_id)
                if found is None:
                    raise
                record = found
        return GatewayCircuitJob(self, record)

    async def _get_job(self, name: str, job_id: str) -> job_pb2.Job:
        request = job_service_pb2.GetJobRequest(name=name)
        return (await self.connection.call(self.connection.jobs.GetJob, request, job_id=job_id)).job

    async def _find_provider_job(self, job_id: str) -> job_pb2.Job | None:
        """Return the job that a provider knows under an id, or None; looked for in the account of `instance`, else in all."""
        try:
            accounts = [self._instance] if self._instance else await self.instances()
        except IBMApiError:  # then it is as unknown as it was
            return None
        for account in accounts:
            try:
                return await self._get_job(f"accounts/{account}/providerJobs/{job_id}", job_id)
            except GatewayCallError as error:
                if error.code != "NOT_FOUND":
                    raise
        return None

    async def backend_of(self, record: job_pb2.Job) -> GatewayBackend:
        """Return the backend of a job, or the stand-in for one that the gateway no longer has.

        Args:
            record: The job as the gateway sent it.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        try:
            return GatewayBackend(self, await self._get_backend(record.backend, record.account))
        except IBMBackendNotFoundError:
            return GatewayBackend(self, retired(record.backend, record.account))

    async def instances(self) -> list[str]:
        """Return the names of the accounts that the caller may use.

        Raises:
            IBMNotAuthorizedError: There is no valid API key.
            IBMApiError: The gateway did not answer.
        """
        request = account_service_pb2.ListAccountsRequest()
        with translated(_translate.service_call("Failed to list accounts")):
            replies = pages(self.connection, lambda it: it.accounts.ListAccounts, request)
            return [_requests.resource_id(account.name) async for reply in replies for account in reply.accounts]

    async def close(self) -> None:
        """End the connection. Handles that were made by this provider cannot be used afterwards."""
        await self.connection.close()

    async def _list_backends(
        self, min_num_qubits: int | None, instance: str | None
    ) -> AsyncIterator[backend_pb2.Backend]:
        # All that `GatewayBackend.target` needs: it is an attribute, and cannot be awaited.
        request = self._listing_request(min_num_qubits, instance, backend_pb2.BACKEND_VIEW_FULL)
        with translated(_translate.backend_call("Failed to list backends")):
            async for reply in pages(self.connection, lambda it: it.backends.ListBackends, request):
                warn_of_unreachable(reply)
                for backend in reply.backends:
                    yield backend

    async def _get_backend(self, name: str, account: str | None) -> backend_pb2.Backend:
        request = backend_service_pb2.GetBackendRequest(name=_requests.backend_name(name, account))
        with translated(_translate.backend_lookup(name)):
            return (await self.connection.call(self.connection.backends.GetBackend, request)).backend

    async def __aenter__(self) -> Self:
        """Return the provider."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connection."""
        await self.close()


class GatewayBackendService:
    """What `provider.backend` is: backends, and the jobs that ran on them.

    Args:
        provider: The provider.

    Attributes:
        backends: As `GatewayProvider.backends`.
        jobs: As `GatewayProvider.jobs`.
        retrieve_job: As `GatewayProvider.retrieve_job`.
    """

    def __init__(self, provider: GatewayProvider) -> None:
        self._provider = provider
        self.backends = provider.backends
        self.jobs = provider.jobs
        self.retrieve_job = provider.retrieve_job

    async def __call__(self, name: str | None = None, **kwargs: Any) -> GatewayBackend:
        """Return a backend, as `GatewayProvider.get_backend`."""
        return await self._provider.get_backend(name, **kwargs)


async def least_busy(backends: Iterable[GatewayBackend]) -> GatewayBackend:
    """Return the backend with the fewest waiting jobs, among those that are operational and `active`.

    Each backend is asked for its status, all at once.

    Args:
        backends: The backends to choose from.

    Raises:
        IBMError: There are none, or none takes jobs.
        IBMBackendApiError: The gateway did not answer.
    """
    candidates = list(backends)
    states = await asyncio.gather(*(backend.status() for backend in candidates))
    return choose_least_busy(zip(states, candidates, strict=True))
