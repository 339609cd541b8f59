"""The way into the gateway: a mirror of `IBMProvider`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self

from qgateway import _requests, _translate
from qgateway._connection import Connection
from qgateway._errors import GatewayCallError
from qgateway._pages import pages
from qgateway._provider_record import ProviderRecord, warn_of_unreachable
from qgateway._status import StatusLike
from qgateway._translate import translated
from qgateway.backend import GatewayBackend
from qgateway.configuration import choose_least_busy, matches, retired, the_one
from qgateway.exceptions import IBMApiError, IBMBackendNotFoundError
from qgateway.job import GatewayCircuitJob
from qgateway.job_watch import JobWatch
from qgateway.v1 import account_service_pb2, backend_pb2, backend_service_pb2, job_pb2, job_service_pb2


class GatewayProvider(ProviderRecord[Connection]):
    """A connection to a gateway, and what can be reached through it.

        provider = GatewayProvider("gateway.example:443", api_key="...")
        backend = provider.get_backend("local_simulator")
        job = backend.run(transpile(circuits, backend), shots=1000, job_tags=["a"])
        counts = job.result().get_counts()
        again = provider.retrieve_job(job.job_id())

    What is not given comes from the environment: `QGATEWAY_TARGET`, `QGATEWAY_API_KEY`, `QGATEWAY_API_KEY_FILE`,
    `QGATEWAY_TLS`, `QGATEWAY_TLS_ROOT`, `QGATEWAY_TLS_CERT`, `QGATEWAY_TLS_KEY`, `QGATEWAY_TLS_SERVER_NAME`. Nothing is sent
    before the first call. A provider can be shared between threads and pickled (without the API key: where it is loaded in
    another process, that comes from the environment).

    Args:
        target: `HOST:PORT` of the gateway, or any other gRPC target.
        api_key: The caller's API key, or a token (JWT) of an issuer that the gateway accepts. For one that changes, a function
            that returns it: it is called for each call.
        instance: Account of the gateway that backends and jobs are looked up in unless a call says otherwise. Default: all.
        tls: `auto` (on, unless the target is this machine), `on` or `off`.
        tls_root: PEM file of the authorities to trust.
        tls_cert: PEM file of the client's certificate, for mutual TLS. A new one is taken up with the next call.
        tls_key: PEM file of its private key.
        tls_server_name: Name that the server's certificate must bear.
        api_key_file: File that holds the key. It is read again when it changes.
        timeout: Deadline of a call in seconds. Default: 30.

    Raises:
        SettingsError: A setting is wrong; a ValueError that names the argument and the environment variable.
    """

    _connect = Connection

    @property
    def backend(self) -> GatewayBackendService:
        """The service with `backends`, `jobs` and `retrieve_job`; each backend is an attribute of it."""
        return GatewayBackendService(self)

    def backends(
        self,
        name: str | None = None,
        filters: Callable[[GatewayBackend], bool] | None = None,
        min_num_qubits: int | None = None,
        instance: str | None = None,
        **kwargs: Any,
    ) -> list[GatewayBackend]:
        """List backends, by account and name.

        Args:
            name: Only backends of this name.
            filters: Only backends for which this is true, such as `lambda b: b.num_qubits > 5`.
            min_num_qubits: Only backends with at least this many qubits.
            instance: Only backends of this account.
            kwargs: Only backends whose configuration or status has these values, such as `simulator=True` or
                `operational=True`. An attribute that does not exist matches nothing.

        Raises:
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        found = []
        for message in self._list_backends(min_num_qubits, instance):
            backend = GatewayBackend(self, message)
            if name is not None and backend.name != name:
                continue
            if matches(message, kwargs) and (filters is None or filters(backend)):
                found.append(backend)
        return found

    def get_backend(self, name: str | None = None, instance: str | None = None, **kwargs: Any) -> GatewayBackend:
        """Return the one backend that matches.

        Each call gives a new object with default options; other objects of the same backend keep theirs.

        Args:
            name: Its name. Where several accounts have it: that of the first account. Default: the only backend there is.
            instance: Account that offers it.
            kwargs: As in `backends`.

        Raises:
            IBMBackendNotFoundError: None matches, or several do.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        if name is not None and not kwargs:
            return GatewayBackend(self, self._get_backend(name, instance or self._instance))
        return the_one(self.backends(name, instance=instance, **kwargs), name)

    def least_busy(
        self,
        min_num_qubits: int | None = None,
        instance: str | None = None,
        filters: Callable[[GatewayBackend], bool] | None = None,
        **kwargs: Any,
    ) -> GatewayBackend:
        """Return the backend with the fewest waiting jobs, among those that take jobs. Arguments are those of `backends`.

        Raises:
            IBMError: None matches, or none takes jobs.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        return least_busy(self.backends(None, filters, min_num_qubits, instance, **kwargs))

    def jobs(  # noqa: PLR0917 - the signature is that of the original
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
        """List jobs. The gateway does all filtering.

        Args:
            limit: Most jobs to return; None or 0 for all.
            skip: Number of matching jobs to leave out first.
            backend_name: Only jobs on this backend.
            status: Only jobs in this status: a `JobStatus`, its name in any case, `pending` (not final), `completed`
                (final), or a list of those.
            start_datetime: Only jobs created at this time or later; without a zone it is local time.
            end_datetime: Only jobs created at this time or earlier; without a zone it is local time.
            job_tags: Only jobs that have all of these tags.
            descending: Newest first; False for oldest first.
            instance: Only jobs in this account.
            legacy: The gateway has no legacy jobs: True gives none.
            name: Only jobs with exactly this name.
            session_id: Only jobs in this session.

        Raises:
            IBMBackendValueError: A status is not known, tags are not a list of texts, or a number is negative.
            TypeError: A date is neither a datetime nor text.
            ValueError: The text of a date cannot be read.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
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
        if legacy:
            return []
        with translated(_translate.backend_call("Failed to list jobs")):
            replies = pages(self.connection, lambda it: it.jobs.ListJobs, request)
            records = (record for reply in replies for record in reply.jobs)
            return [GatewayCircuitJob(self, record) for record in islice(records, most)]

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
        """Follow all jobs that match, as they change. Nothing is polled.

        A job is matched by its state after the change. The watch goes on by itself after cuts, stalls and restarts of the
        gateway, and brings each change once.

        Args:
            backend_name: Only jobs on this backend.
            status: Only changes after which a job has this status; values as in `jobs`.
            job_tags: Only jobs that have all of these tags.
            instance: Only jobs in this account.
            name: Only jobs with exactly this name.
            session_id: Only jobs in this session.
            resume_token: `resume_token` of an earlier watch with the same conditions, to go on where it stopped. Default: from
                now on.
            timeout: Seconds after which the watch ends, on the monotonic clock. None: it goes on until it is closed.

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

    def retrieve_job(self, job_id: str) -> GatewayCircuitJob:
        """Return the handle of a job.

        Args:
            job_id: Its id; or its resource name; or the provider's own id, also as `accounts/{account}/providerJobs/{id}`. A job
                that did not come through the gateway is adopted by that, if the caller is an operator.

        Raises:
            IBMJobNotFoundError: There is no such job, or none that the caller may see.
            IBMNotAuthorizedError: There is no valid API key.
            IBMBackendApiError: The gateway did not answer.
        """
        with translated(_translate.job_lookup(job_id)):
            try:
                record = self._get_job(_requests.job_name(job_id), job_id)
            except GatewayCallError as error:
                if error.code != "NOT_FOUND" or "/" in job_id:
                    raise
                found = self._find_provider_job(job_id)
                if found is None:
                    raise
                record = found
        return GatewayCircuitJob(self, record)

    def _get_job(self, name: str, job_id: str) -> job_pb2.Job:
        request = job_service_pb2.GetJobRequest(name=name)
        return self.connection.call(self.connection.jobs.GetJob, request, job_id=job_id).job

    def _find_provider_job(self, job_id: str) -> job_pb2.Job | None:
        """Return the job that a provider knows under an id, or None; looked for in the account of `instance`, else in all."""
        try:
            accounts = [self._instance] if self._instance else self.instances()
        except IBMApiError:  # then it is as unknown as it was
            return None
        for account in accounts:
            try:
                return self._get_job(f"accounts/{account}/providerJobs/{job_id}", job_id)
            except GatewayCallError as error:
                if error.code != "NOT_FOUND":
                    raise
        return None

    def backend_of(self, record: job_pb2.Job) -> GatewayBackend:
        """Return the backend of a job.

        Args:
            record: The job as the gateway sent it.

        Returns:
            The backend; where the gateway no longer has it, a stand-in that is not operational and refuses to run.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        try:
            return GatewayBackend(self, self._get_backend(record.backend, record.account))
        except IBMBackendNotFoundError:
            return GatewayBackend(self, retired(record.backend, record.account))

    def instances(self) -> list[str]:
        """Return the names of the accounts that the caller may use.

        Raises:
            IBMNotAuthorizedError: There is no valid API key.
            IBMApiError: The gateway did not answer.
        """
        request = account_service_pb2.ListAccountsRequest()
        with translated(_translate.service_call("Failed to list accounts")):
            replies = pages(self.connection, lambda it: it.accounts.ListAccounts, request)
            return [_requests.resource_id(account.name) for reply in replies for account in reply.accounts]

    def close(self) -> None:
        """End the connection. Handles that were made by this provider cannot be used afterwards."""
        self.connection.close()

    def _list_backends(self, min_num_qubits: int | None, instance: str | None) -> Iterator[backend_pb2.Backend]:
        request = self._listing_request(min_num_qubits, instance, backend_pb2.BACKEND_VIEW_BASIC)
        with translated(_translate.backend_call("Failed to list backends")):
            for reply in pages(self.connection, lambda it: it.backends.ListBackends, request):
                warn_of_unreachable(reply)
                yield from reply.backends

    def _get_backend(self, name: str, account: str | None) -> backend_pb2.Backend:
        request = backend_service_pb2.GetBackendRequest(name=_requests.backend_name(name, account))
        with translated(_translate.backend_lookup(name)):
            return self.connection.call(self.connection.backends.GetBackend, request).backend

    def __enter__(self) -> Self:
        """Return the provider."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connection."""
        self.close()


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

    def __call__(self, name: str | None = None, **kwargs: Any) -> GatewayBackend:
        """Return a backend, as `GatewayProvider.get_backend`."""
        return self._provider.get_backend(name, **kwargs)

    def __getattr__(self, name: str) -> GatewayBackend:
        """Return the backend of that name."""
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._provider.get_backend(name)
        except IBMBackendNotFoundError as error:
            raise AttributeError(f"There is no backend {name!r}. provider.backends() lists what there is.") from error

    def __dir__(self) -> Iterable[str]:
        """Return the names of members and of backends."""
        return [*super().__dir__(), *(backend.name for backend in self.backends() if backend.name.isidentifier())]


def least_busy(backends: Iterable[GatewayBackend]) -> GatewayBackend:
    """Return the backend with the fewest waiting jobs, among those that are operational and `active`.

    Each backend is asked for its status.

    Args:
        backends: The backends to choose from.

    Raises:
        IBMError: There are none, or none takes jobs.
        IBMBackendApiError: The gateway did not answer.
    """
    return choose_least_busy([(backend.status(), backend) for backend in backends])
