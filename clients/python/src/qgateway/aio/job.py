"""The handle of a job for asyncio: the twin of `qgateway.job`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.providers import JobStatus, JobV1
from qiskit.providers.jobstatus import JOB_FINAL_STATES
from qiskit.result import Result

from qgateway import _requests, _translate, job_parts
from qgateway._aio_pages import pages
from qgateway._aio_transfer import download_program, download_result, download_result_to
from qgateway._aio_watch import watch_job
from qgateway._errors import GatewayCallError
from qgateway._files import whole_file
from qgateway._progress import download_bar
from qgateway._record import UPDATE_ATTEMPTS, JobRecord
from qgateway._translate import translated
from qgateway._watch_state import OnResult, WatchTimeout
from qgateway.exceptions import IBMJobInvalidStateError
from qgateway.properties import BackendProperties
from qgateway.queue_info import QueueInfo
from qgateway.v1 import job_pb2, job_service_pb2

if TYPE_CHECKING:
    from qgateway._aio_connection import AioConnection
    from qgateway.aio.backend import GatewayBackend
    from qgateway.aio.provider import GatewayProvider


class GatewayCircuitJob(JobRecord):
    """A job that runs circuits behind the gateway. Made by `GatewayBackend.run` and `GatewayProvider.retrieve_job`.

    It has the members of `qgateway.GatewayCircuitJob`, with the same parameters, results and exceptions; what asks the gateway is
    awaited. It can be copied and pickled as that one can.

    Args:
        provider: The provider that made it.
        record: The job as the gateway sent it.
        backend: The backend, where it is at hand.
        extras: Further facts; each becomes the attribute `{key}_`.
    """

    version = JobV1.version

    def __init__(
        self, provider: GatewayProvider, record: job_pb2.Job, *, backend: GatewayBackend | None = None, **extras: Any
    ) -> None:
        super().__init__(record, provider.target, extras)
        self.metadata: dict[str, Any] = {}
        self._provider = provider
        self._backend = backend
        self._reading = asyncio.Lock()

    async def backend(self) -> GatewayBackend:
        """Return the backend that runs the job; see `qgateway.GatewayCircuitJob.backend`."""
        if self._backend is None:
            self._backend = await self._provider.backend_of(self._record)
        return self._backend

    async def status(self) -> JobStatus:
        """Return the status. One request, or none once a final status is known: that never changes again.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if not self._is_final:
            await self._reload("Failed to retrieve job status")
        return self._status

    async def done(self) -> bool:
        """Return whether the job is DONE; errors as `status`."""
        return bool(await self.status() == JobStatus.DONE)

    async def running(self) -> bool:
        """Return whether the job is RUNNING; errors as `status`."""
        return bool(await self.status() == JobStatus.RUNNING)

    async def cancelled(self) -> bool:
        """Return whether the job is CANCELLED; errors as `status`."""
        return bool(await self.status() == JobStatus.CANCELLED)

    async def in_final_state(self) -> bool:
        """Return whether the job is DONE, CANCELLED or ERROR; errors as `status`."""
        return await self.status() in JOB_FINAL_STATES

    async def wait_for_final_state(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the signature
        wait: float = 3,  # noqa: ARG002 - part of the signature
        callback: Callable[[str, JobStatus, GatewayCircuitJob], object] | None = None,
    ) -> None:
        """Wait until the job is DONE, CANCELLED or ERROR, whichever it is. Nothing is polled.

        Args:
            timeout: Seconds to wait, on the monotonic clock. None waits without end; 0 or less checks once.
            wait: Has no effect. Kept for its name.
            callback: Called with id, status and this job for the first state seen, for each change of the job, and for each
                change of its place in the queue. What it returns is awaited if it can be.

        Raises:
            IBMJobTimeoutError: The job is not final in time.
            IBMJobApiError: The gateway refuses to tell.
        """
        await self._wait(timeout, callback, None)

    async def _wait(
        self,
        timeout: float | None,  # noqa: ASYNC109 - as in `wait_for_final_state`
        callback: Callable[[str, JobStatus, GatewayCircuitJob], object] | None,
        on_result: OnResult | None,
    ) -> None:
        if self._is_final:
            return
        if timeout is not None and timeout <= 0:
            if await self.status() not in JOB_FINAL_STATES:
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
            with translated(_translate.job_call("Failed to wait for job", self.job_id())):
                async with aclosing(watching) as items:
                    async for item in items:
                        self._absorb_item(item)
                        if callback is not None:
                            returned = callback(self.job_id(), self._status, self)
                            if inspect.isawaitable(returned):
                                await returned
                        if self._status in JOB_FINAL_STATES:
                            return  # not waiting for the stream to end, which the time limit could still cut
        except WatchTimeout:
            raise self._timed_out(timeout) from None

    async def result(self, timeout: float | None = None, refresh: bool = False) -> Result:  # noqa: ASYNC109
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
        await self._wait(timeout, None, self._keep_sent_result)
        self._refuse_result()
        async with self._reading:  # two tasks that ask at once download once
            if self._result is None or refresh:
                self._result = await self._read_result()
            return self._result

    async def download_result(self, path: str | PathLike[str], timeout: float | None = None) -> None:  # noqa: ASYNC109
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
        await self._wait(timeout, None, self._keep_sent_result)
        self._refuse_result()
        with (
            whole_file(Path(path)) as file,
            translated(_translate.job_call(self._result_failed, self.job_id())),
            download_bar("Result") as progress,
        ):
            await download_result_to(self._connection, self._record.name, file, progress=progress)

    async def cancel(self) -> bool:
        """Ask for cancellation.

        Returns:
            True if the job is CANCELLED; False if the provider is still at it: watch the job.

        Raises:
            IBMJobInvalidStateError: The job has already ended.
            IBMJobApiError: The gateway did not answer, or refused.
        """
        request = job_service_pb2.CancelJobRequest(name=self._record.name)
        with translated(_translate.job_cancel(self.job_id())):
            reply = await self._connection.call(self._connection.jobs.CancelJob, request, job_id=self.job_id())
        self._absorb(reply.job)
        return bool(self._status == JobStatus.CANCELLED)

    async def update_tags(self, new_tags: list[str]) -> list[str]:
        """Replace the tags, except the protected ones; see `qgateway.GatewayCircuitJob.update_tags`.

        Raises:
            IBMJobInvalidStateError: It is not a list of texts, or the gateway refuses one of them.
            IBMJobApiError: The gateway did not answer, or the job keeps changing.
        """
        tags = _requests.check_tags(new_tags, IBMJobInvalidStateError)
        with translated(_translate.job_update("Failed to update tags", self.job_id())):
            for attempt in range(1, UPDATE_ATTEMPTS + 1):
                try:
                    await self._update(_requests.tags_request(self._record, tags))
                    break
                except GatewayCallError as error:
                    if error.code != "ABORTED" or attempt == UPDATE_ATTEMPTS:
                        raise
                # The job changed since it was read: a protected tag may have come. Read it, then decide again.
                await self._get_job()
        return self.tags()

    async def update_name(self, name: str) -> str:
        """Give the job another name, and return it as stored; see `qgateway.GatewayCircuitJob.update_name`.

        Raises:
            IBMJobInvalidStateError: It is not text, or the gateway refuses it.
            IBMJobApiError: The gateway did not answer.
        """
        with translated(_translate.job_update("Failed to update name", self.job_id())):
            await self._update(_requests.name_request(self._record, name))
        return self._record.display_name

    async def refresh(self) -> None:
        """Read the job from the gateway anew, with its metrics. A result that was read is kept.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        metrics = await self._read_metrics()
        self._extras.update(metrics.provider_metrics)
        await self._reload("Failed to refresh job")

    async def error_message(self) -> str | None:
        """Return why the job failed; None for a job that did not fail, or was cancelled.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        await self.status()
        return self._failure_text()

    async def queue_position(self, refresh: bool = False) -> int | None:
        """Return the place in the provider's queue, 0 for the next to run; None if not known, and for a final job.

        Args:
            refresh: Ask the gateway. Default: the place as last known.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        queue = await self.queue_info() if refresh else self._known_queue()
        return None if queue is None else queue.position

    async def queue_info(self) -> QueueInfo | None:
        """Ask the gateway for the place in the queue and the estimated times; None if nothing is known.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if not self._is_final:
            await self._reload("Failed to retrieve queue information")
        return self._known_queue()

    async def time_per_step(self) -> dict[str, datetime | None] | None:
        """Return when the job reached each step; see `qgateway.GatewayCircuitJob.time_per_step`.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if self._metrics is None:
            await self.status()
            metrics = await self._read_metrics()
            if not self._is_final:
                return job_parts.time_per_step(self._record, metrics)
            self._metrics = metrics
        return job_parts.time_per_step(self._record, self._metrics)

    async def usage_estimation(self) -> dict[str, Any]:
        """Return QPU time, under the key `quantum_seconds`: what was charged, else the estimate, else None.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        if not self._is_final or self._usage() is None:
            await self._reload("Failed to retrieve job")
        return {"quantum_seconds": self._usage()}

    async def circuits(self) -> list[QuantumCircuit | str]:
        """Return the circuits as they were submitted: circuits, or OpenQASM texts; none for a provider program.

        Raises:
            IBMJobApiError: They cannot be read.
        """
        if self._circuits is None:
            with translated(_translate.job_call(self._circuits_failed, self.job_id())):
                data = await download_program(self._connection, self._record.name)
            self._circuits = await asyncio.to_thread(self._decode_circuits, data)
        return list(self._circuits)

    async def properties(self, refresh: bool = False) -> BackendProperties | None:
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
        await self.status()
        request = job_service_pb2.GetJobBackendPropertiesRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve backend properties", self.job_id())):
            method = self._connection.jobs.GetJobBackendProperties
            reply = await self._connection.call(method, request, job_id=self.job_id())
        return self._take_properties(reply)

    async def events(self) -> list[job_parts.JobEvent]:
        """Return the stored history of the job, oldest first.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        request = job_service_pb2.ListJobEventsRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve job events", self.job_id())):
            replies = pages(self._connection, lambda it: it.jobs.ListJobEvents, request, self.job_id())
            return [job_parts.job_event(event) async for reply in replies for event in reply.events]

    async def logs(self) -> str:
        """Return the provider's log of the job; empty if there is none.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        request = job_service_pb2.GetJobLogsRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve job logs", self.job_id())):
            return (await self._connection.call(self._connection.jobs.GetJobLogs, request, job_id=self.job_id())).text

    async def metrics(self) -> dict[str, Any]:
        """Return `timestamps` as in `time_per_step`, `usage` in QPU seconds, `client_version`, and `provider`: the rest.

        Raises:
            IBMJobApiError: The gateway did not answer.
        """
        await self._reload("Failed to retrieve job")
        return job_parts.metrics_dict(self._record, await self._read_metrics())

    @property
    def _connection(self) -> AioConnection:
        return self._provider.connection

    async def _get_job(self) -> None:
        request = job_service_pb2.GetJobRequest(name=self._record.name)
        reply = await self._connection.call(self._connection.jobs.GetJob, request, job_id=self.job_id())
        self._absorb(reply.job, live=True)

    async def _reload(self, text: str) -> None:
        with translated(_translate.job_call(text, self.job_id())):
            await self._get_job()

    async def _update(self, request: job_service_pb2.UpdateJobRequest) -> None:
        reply = await self._connection.call(self._connection.jobs.UpdateJob, request, job_id=self.job_id())
        self._absorb(reply.job)

    async def _read_metrics(self) -> job_service_pb2.GetJobMetricsResponse:
        request = job_service_pb2.GetJobMetricsRequest(name=self._record.name)
        with translated(_translate.job_call("Failed to retrieve job metrics", self.job_id())):
            reply: job_service_pb2.GetJobMetricsResponse = await self._connection.call(
                self._connection.jobs.GetJobMetrics, request, job_id=self.job_id()
            )
        return reply

    async def _read_result(self) -> Result:
        if (sent := self._take_sent_result()) is not None:
            return self._to_result(sent)
        if (request := self._small_result_request()) is not None:
            with translated(_translate.job_call(self._result_failed, self.job_id())):
                reply = await self._connection.call(self._connection.jobs.GetJobResult, request, job_id=self.job_id())
            return self._to_result(reply.result)
        with translated(_translate.job_call(self._result_failed, self.job_id())), download_bar("Result") as progress:
            data = await download_result(self._connection, self._record.name, progress=progress)
        # Counting a large result takes long enough to stall the loop.
        return await asyncio.to_thread(self._decode_result, data)
