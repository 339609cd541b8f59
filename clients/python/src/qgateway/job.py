"""The handle of a job: what `GatewayBackend.run` returns, a mirror of `IBMCircuitJob`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.providers import JobStatus, JobV1
from qiskit.providers.jobstatus import JOB_FINAL_STATES
from qiskit.result import Result

from qgateway import _requests, _translate, job_parts
from qgateway._errors import GatewayCallError
from qgateway._files import whole_file
from qgateway._pages import pages
from qgateway._progress import download_bar
from qgateway._record import UPDATE_ATTEMPTS, JobRecord
from qgateway._transfer import download_program, download_result, download_result_to
from qgateway._translate import translated
from qgateway._watch import watch_job
from qgateway._watch_state import OnResult, WatchTimeout
from qgateway.exceptions import (
    IBMJobApiError,
    IBMJobError,
    IBMJobFailureError,
    IBMJobInvalidStateError,
    IBMJobNotFoundError,
    IBMJobTimeoutError,
)
from qgateway.properties import BackendProperties
from qgateway.queue_info import QueueInfo
from qgateway.v1 import job_pb2, job_service_pb2

if TYPE_CHECKING:
    from qgateway._connection import Connection
    from qgateway.backend import GatewayBackend
    from qgateway.provider import GatewayProvider

__all__ = [
    "GatewayCircuitJob",
    "IBMJobApiError",
    "IBMJobError",
    "IBMJobFailureError",
    "IBMJobInvalidStateError",
    "IBMJobNotFoundError",
    "IBMJobTimeoutError",
]


class GatewayCircuitJob(JobRecord, JobV1):  # type: ignore[misc]
    """A job that runs circuits behind the gateway. Made by `GatewayBackend.run` and `GatewayProvider.retrieve_job`.

    It has every public member of `IBMCircuitJob` 0.7.3 with the same parameters. What that class left open, or did in a way
    that depended on the release, is decided here:

    * A cancelled job has no result, not even a partial one: `result()` raises `IBMJobInvalidStateError`, whose `reason` and
      message say why it was cancelled.
    * `error_message()` of a cancelled job is None; so is that of a job that is done.
    * `result()` of a job that is DONE is returned also where `result.success` is False: ask the result.
    * `queue_position()` and `queue_info()` of a final job are None.
    * Time limits run on the monotonic clock.
    * A status that this client does not know, because the gateway is newer, is not final; `status()` keeps the last one that
      was known, and `provider_status_` has the provider's word.
    * Results are kept by the gateway, and can be read again by any client until its retention time ends.
    * The event `ibm.job.start` is not published: Qiskit 2 has no broker for it.

    Handles are safe to share between threads. They can be copied and pickled (without the API key: where they are loaded in
    another process, it comes from the environment), and are equal if job id and gateway are. A pickle holds the record of the
    job but not its result, which is read again where it is needed.

    Calls that go wrong raise `IBMJobApiError`, whatever the cause; its `reason` and `code` tell.

    Args:
        provider: The provider that made it.
        record: The job as the gateway sent it.
        backend: The backend, where it is at hand.
        extras: Further facts; each becomes the attribute `{key}_`.
    """

    def __init__(
        self, provider: GatewayProvider, record: job_pb2.Job, *, backend: GatewayBackend | None = None, **extras: Any
    ) -> None:
        JobV1.__init__(self, backend, _requests.resource_id(record.name))
        JobRecord.__init__(self, record, provider.target, extras)
        self._backend: GatewayBackend | None = backend
        self._provider = provider

    def backend(self) -> GatewayBackend:
        """Return the backend that runs the job.

        A backend that the gateway no longer has is stood in for by one that is not operational and refuses to run.

        Raises:
            IBMBackendApiError: The gateway did not answer; only for a job that was retrieved or unpickled.
        """
        if self._backend is None:
            self._backend = self._provider.backend_of(self._record)
        return self._backend

    def status(self) -> JobStatus:
        """Return the status. One request, or none once a final status is known: that never changes again.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if not self._is_final:
            self._reload("Failed to retrieve job status")
        return self._status

    def wait_for_final_state(
        self,
        timeout: float | None = None,
        wait: float = 3,  # noqa: ARG002 - part of the signature
        callback: Callable[[str, JobStatus, GatewayCircuitJob], object] | None = None,
    ) -> None:
        """Wait until the job is DONE, CANCELLED or ERROR, whichever it is.

        The gateway tells of each change as it happens; nothing is polled. While the gateway cannot be reached, waiting goes
        on and picks up what was missed.

        Args:
            timeout: Seconds to wait, on the monotonic clock. None waits without end; 0 or less checks once.
            wait: Has no effect: there is no interval between queries. Kept for its name.
            callback: Called with id, status and this job for the first state seen, for each change of the job, and for each
                change of its place in the queue. Not called for a job that is known to be final.

        Raises:
            IBMJobTimeoutError: The job is not final in time.
            IBMJobApiError: The gateway refuses to tell.
        """
        self._wait(timeout, callback, None)

    def _wait(
        self,
        timeout: float | None,
        callback: Callable[[str, JobStatus, GatewayCircuitJob], object] | None,
        on_result: OnResult | None,
    ) -> None:
        if self._is_final:
            return
        if timeout is not None and timeout <= 0:
            if self.status() not in JOB_FINAL_STATES:
                raise self._timed_out(timeout)
            return
        watching = watch_job(
            self._connection,
            self._record.name,
            timeout=timeout,
            on_result=on_result,
            known_revision=self._known_revision(callback),
        )
        try:
            with (
                translated(_translate.job_call("Failed to wait for job", self.job_id())),
                closing(watching) as items,
            ):
                for item in items:
                    self._absorb_item(item)
                    if callback is not None:
                        callback(self.job_id(), self._status, self)
                    if self._status in JOB_FINAL_STATES:
                        return  # not waiting for the stream to end, which the time limit could still cut
        except WatchTimeout:
            raise self._timed_out(timeout) from None

    def result(self, timeout: float | None = None, refresh: bool = False) -> Result:
        """Wait for the job and return its result: the same object each time.

        Args:
            timeout: Seconds to wait for the job, as in `wait_for_final_state`; the download comes on top.
            refresh: Read the result from the gateway again, into a new object.

        Returns:
            The result. See `qgateway.results.to_result` for its shape.

        Raises:
            IBMJobInvalidStateError: The job was cancelled, or ran a provider program.
            IBMJobFailureError: The job failed.
            IBMJobTimeoutError: The job is not final in time.
            IBMJobApiError: The result cannot be read.
        """
        if self._result is not None and not refresh:
            return self._result
        self._wait(timeout, None, self._keep_sent_result)
        self._refuse_result()
        with self._lock:  # two threads that ask at once download once
            if self._result is None or refresh:
                self._result = self._read_result()
            return self._result

    def download_result(self, path: str | PathLike[str], timeout: float | None = None) -> None:
        """Wait for the job and write its whole result to a file: a serialised `qgateway.v1.JobResult` with every shot.

        It never is in memory as a whole. A download that is cut goes on where it stopped; the file is there only when it is
        complete and its SHA-256 is right.

        Args:
            path: Where to write. A file that stands there is replaced.
            timeout: Seconds to wait for the job, as in `wait_for_final_state`; the download comes on top.

        Raises:
            IBMJobInvalidStateError: The job was cancelled.
            IBMJobFailureError: The job failed.
            IBMJobTimeoutError: The job is not final in time.
            IBMJobApiError: The result cannot be read.
            OSError: The file cannot be written.
        """
        self._wait(timeout, None, self._keep_sent_result)
        self._refuse_result()
        with (
            whole_file(Path(path)) as file,
            translated(_translate.job_call(self._result_failed, self.job_id())),
            download_bar("Result") as progress,
        ):
            download_result_to(self._connection, self._record.name, file, progress=progress)

    def cancel(self) -> bool:
        """Ask for cancellation.

        Returns:
            True if the job is CANCELLED; False if the provider is still at it: watch the job.

        Raises:
            IBMJobInvalidStateError: The job has already ended.
            IBMJobApiError: The gateway did not answer, or refused.
        """
        request = job_service_pb2.CancelJobRequest(name=self._record.name)
        with translated(_translate.job_cancel(self.job_id())):
            self._absorb(self._connection.call(self._connection.jobs.CancelJob, request, job_id=self.job_id()).job)
        return bool(self._status == JobStatus.CANCELLED)

    def update_tags(self, new_tags: list[str]) -> list[str]:
        """Replace the tags, except those that begin with `ibm_composite_job_` or `ibmq_jobset_`, which are kept.

        Args:
            new_tags: The new tags in their order; duplicates are dropped. An empty list removes all that can be removed.

        Returns:
            A copy of the tags after the change.

        Raises:
            IBMJobInvalidStateError: It is not a list of texts, or the gateway refuses one of them.
            IBMJobApiError: The gateway did not answer, or the job keeps changing.
        """
        tags = _requests.check_tags(new_tags, IBMJobInvalidStateError)
        with translated(_translate.job_update("Failed to update tags", self.job_id())):
            for attempt in range(1, UPDATE_ATTEMPTS + 1):
                try:
                    self._update(_requests.tags_request(self._record, tags))
                    break
                except GatewayCallError as error:
                    if error.code != "ABORTED" or attempt == UPDATE_ATTEMPTS:
                        raise
                # The job changed since it was read: a protected tag may have come. Read it, then decide again.
                self._get_job()
        return self.tags()

    def update_name(self, name: str) -> str:
        """Give the job another name.

        Args:
            name: The new name, at most 256 characters; empty removes it.

        Returns:
            The name as stored.

        Raises:
            IBMJobInvalidStateError: It is not text, or the gateway refuses it.
            IBMJobApiError: The gateway did not answer.
        """
        with translated(_translate.job_update("Failed to update name", self.job_id())):
            self._update(_requests.name_request(self._record, name))
        return self._record.display_name

    def refresh(self) -> None:
        """Read the job from the gateway anew, with its metrics. A result that was read is kept.

        What the provider reports in its metrics becomes attributes with a trailing underscore.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        metrics = self._read_metrics()
        with self._lock:
            self._extras.update(metrics.provider_metrics)
        self._reload("Failed to refresh job")

    def error_message(self) -> str | None:
        """Return why the job failed; None for a job that did not fail, or was cancelled.

        Returns:
            `Error code {code}; {message}` where the provider gave a code, else the message.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        self.status()
        return self._failure_text()

    def queue_position(self, refresh: bool = False) -> int | None:
        """Return the place in the provider's queue, 0 for the next to run; None if not known, and for a final job.

        Args:
            refresh: Ask the gateway. Default: the place as last known.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        queue = self.queue_info() if refresh else self._known_queue()
        return None if queue is None else queue.position

    def queue_info(self) -> QueueInfo | None:
        """Ask the gateway for the place in the queue and the estimated times.

        Returns:
            What is known; None if nothing is, and for a final job.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if not self._is_final:
            self._reload("Failed to retrieve queue information")
        return self._known_queue()

    def time_per_step(self) -> dict[str, datetime | None] | None:
        """Return when the job reached each step: aware datetimes in the local zone.

        Returns:
            `created`, `running` and `finished` (None: not reached), as the service of the original has them; and the name
            of each status that was reached, such as `INITIALIZING`, `QUEUED` and `DONE`, as its documentation has them.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if self._metrics is None:
            self.status()
            metrics = self._read_metrics()
            if not self._is_final:
                return job_parts.time_per_step(self._record, metrics)
            self._metrics = metrics
        return job_parts.time_per_step(self._record, self._metrics)

    @property
    def usage_estimation(self) -> dict[str, Any]:
        """QPU time, under the key `quantum_seconds`: what was charged, else the estimate, else None.

        Asks the gateway as long as the value can still change.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if not self._is_final or self._usage() is None:
            self._reload("Failed to retrieve job")
        return {"quantum_seconds": self._usage()}

    def circuits(self) -> list[QuantumCircuit | str]:
        """Return the circuits as they were submitted: circuits, or OpenQASM texts; none for a provider program.

        Raises:
            IBMJobApiError: They cannot be read.
        """
        if self._circuits is None:
            self._circuits = self._read_circuits()
        return list(self._circuits)

    def properties(self, refresh: bool = False) -> BackendProperties | None:
        """Return the calibration of the backend as of the time the job ran; before that, as of now.

        Args:
            refresh: Ask the gateway also where the answer is known.

        Returns:
            The calibration; None where the backend has none, as an ideal simulator.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if self._properties_known and not refresh:
            return self._properties
        self.status()
        request = job_service_pb2.GetJobBackendPropertiesRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve backend properties", self.job_id())):
            method = self._connection.jobs.GetJobBackendProperties
            reply = self._connection.call(method, request, job_id=self.job_id())
        return self._take_properties(reply)

    def events(self) -> list[job_parts.JobEvent]:
        """Return the stored history of the job, oldest first.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        request = job_service_pb2.ListJobEventsRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve job events", self.job_id())):
            replies = pages(self._connection, lambda it: it.jobs.ListJobEvents, request, self.job_id())
            return [job_parts.job_event(event) for reply in replies for event in reply.events]

    def logs(self) -> str:
        """Return the provider's log of the job; empty if there is none.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        request = job_service_pb2.GetJobLogsRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve job logs", self.job_id())):
            return self._connection.call(self._connection.jobs.GetJobLogs, request, job_id=self.job_id()).text

    def metrics(self) -> dict[str, Any]:
        """Return `timestamps` as in `time_per_step`, `usage` in QPU seconds, `client_version`, and `provider`: the rest.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        self._reload("Failed to retrieve job")
        return job_parts.metrics_dict(self._record, self._read_metrics())

    @property
    def _connection(self) -> Connection:
        return self._provider.connection

    def _get_job(self) -> None:
        request = job_service_pb2.GetJobRequest(name=self._record.name)
        reply = self._connection.call(self._connection.jobs.GetJob, request, job_id=self.job_id())
        self._absorb(reply.job, live=True)

    def _reload(self, text: str) -> None:
        with translated(_translate.job_call(text, self.job_id())):
            self._get_job()

    def _update(self, request: job_service_pb2.UpdateJobRequest) -> None:
        self._absorb(self._connection.call(self._connection.jobs.UpdateJob, request, job_id=self.job_id()).job)

    def _read_metrics(self) -> job_service_pb2.GetJobMetricsResponse:
        request = job_service_pb2.GetJobMetricsRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve job metrics", self.job_id())):
            reply: job_service_pb2.GetJobMetricsResponse = self._connection.call(
                self._connection.jobs.GetJobMetrics, request, job_id=self.job_id()
            )
        return reply

    def _read_circuits(self) -> list[QuantumCircuit | str]:
        with translated(_translate.job_call(self._circuits_failed, self.job_id())):
            data = download_program(self._connection, self._record.name)
        return self._decode_circuits(data)

    def _read_result(self) -> Result:
        if (sent := self._take_sent_result()) is not None:
            return self._to_result(sent)
        if (request := self._small_result_request()) is not None:
            with translated(_translate.job_call(self._result_failed, self.job_id())):
                reply = self._connection.call(self._connection.jobs.GetJobResult, request, job_id=self.job_id())
            return self._to_result(reply.result)
        with translated(_translate.job_call(self._result_failed, self.job_id())), download_bar("Result") as progress:
            data = download_result(self._connection, self._record.name, progress=progress)
        return self._decode_result(data)
