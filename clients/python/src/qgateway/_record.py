"""What a handle of a job knows without asking: the last record that the gateway sent, and what follows from it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError
from qiskit import QuantumCircuit
from qiskit.providers import JobStatus
from qiskit.result import Result

from qgateway import _status, job_parts
from qgateway._requests import resource_id
from qgateway._run_options import describe_run_options
from qgateway._structs import from_struct
from qgateway._times import local_datetime, optional_seconds
from qgateway._watch_state import SMALL_RESULT_BYTES, QueueUpdate, WatchItem
from qgateway.exceptions import IBMJobApiError, IBMJobFailureError, IBMJobInvalidStateError, IBMJobTimeoutError
from qgateway.programs import to_circuits
from qgateway.properties import BackendProperties
from qgateway.queue_info import QueueInfo
from qgateway.results import to_result
from qgateway.v1 import job_pb2, job_service_pb2, program_pb2, result_pb2

UPDATE_ATTEMPTS = 10
"""How often tags are read anew when the job changes between reading and writing them."""

_logger = logging.getLogger(__name__)

_SCHEDULING_MODES = {
    job_pb2.SCHEDULING_MODE_JOB: "job",
    job_pb2.SCHEDULING_MODE_SESSION: "session",
    job_pb2.SCHEDULING_MODE_BATCH: "batch",
}
_EXTRAS = ("account", "creator", "etag", "provider_job_id", "provider_status", "request_id", "revision")
_FINAL_FIELDS = ("status", "provider_status", "end_time", "failure", "result", "pending_reason")


class JobRecord:
    """The part of a job's handle that does no I/O; the handles for threads and for asyncio build on it.

    Facts of the gateway's record that have no member of their own are attributes with a trailing underscore, kept up to
    date with the record: `account_`, `creator_`, `etag_`, `provider_job_id_`, `provider_status_`, `request_id_`,
    `revision_`.

    Args:
        record: The job as the gateway sent it.
        service: Address of the gateway: two handles are equal if job id and service are.
        extras: Further facts; each becomes the attribute `{key}_`.
    """

    metadata: dict[str, Any]

    def __init__(self, record: job_pb2.Job, service: str, extras: dict[str, Any]) -> None:
        self._service = service
        self._lock = threading.RLock()
        self._record = record
        self._status = _status.from_number(record.status) or JobStatus.INITIALIZING
        self._queue: QueueInfo | None = None
        self._sent_result: result_pb2.JobResult | None = None
        self._result: Result | None = None
        self._circuits: list[QuantumCircuit | str] | None = None
        self._metrics: job_service_pb2.GetJobMetricsResponse | None = None
        self._properties: BackendProperties | None = None
        self._properties_known = False
        self._extras = extras
        self._absorb(record)

    def job_id(self) -> str:
        """Return the id of the job."""
        return resource_id(self._record.name)

    def name(self) -> str | None:
        """Return the name that the user gave, or None. No request is made."""
        return self._record.display_name or None

    def tags(self) -> list[str]:
        """Return a copy of the tags, as last known. No request is made."""
        return list(self._record.tags)

    def creation_date(self) -> datetime:
        """Return when the gateway accepted the job: aware, local zone. No request is made."""
        return local_datetime(self._record.create_time)

    def header(self) -> dict[str, Any]:
        """Return the header given to `run`; empty if none was. No request is made."""
        return from_struct(self._record.options.header)

    def backend_options(self) -> dict[str, Any]:
        """Return the run options of the job, without its header: plain values. No request is made."""
        return describe_run_options(self._record.options)

    def scheduling_mode(self) -> str | None:
        """Return how the provider schedules the job: `job`, `session` or `batch`; None if not known."""
        return _SCHEDULING_MODES.get(self._record.scheduling_mode)

    def submit(self) -> NoReturn:
        """Refuse: a job is submitted by `GatewayBackend.run`.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("A job cannot be submitted again. Use GatewayBackend.run() to run circuits.")

    @property
    def client_version(self) -> dict[str, str]:
        """Versions of the software that submitted the job, by package name."""
        return dict(self._record.client_version)

    @property
    def session_id(self) -> str | None:
        """Id of the session in which the job runs, or None."""
        return resource_id(self._record.session) or None

    @property
    def pending_reason(self) -> job_parts.PendingReason | None:
        """Why the job is not done, as last known; None once it is final."""
        return job_parts.pending_reason(self._record)

    @property
    def submission(self) -> job_parts.Submission:
        """How far the hand-over to the provider has come, as last known."""
        return job_parts.submission(self._record)

    @property
    def _is_final(self) -> bool:
        return self._status in _status.COMPLETED

    def _absorb(self, record: job_pb2.Job, *, live: bool = False) -> None:
        """Take in a record that the gateway sent.

        An older record than the one known is dropped, and a final status stays, whatever comes later.

        Args:
            record: The record.
            live: Whether the place in the queue was read for it, so that its absence tells something.
        """
        with self._lock:
            if record.revision < self._record.revision:
                return
            if self._is_final and record.status != self._record.status:
                _logger.warning("job %s: ignored a status after the final one: %s", self.job_id(), record.status)
                record = _with_final_fields(record, self._record)
            status = _status.from_number(record.status)
            if status is None:
                _logger.warning("job %s: unknown status %s; it is not taken for final", self.job_id(), record.status)
            self._status = status or self._status
            self._record = record
            if live or record.HasField("queue"):
                self._queue = QueueInfo.from_message(record.queue, status=self._status.name, job_id=self.job_id())
            vars(self).update({f"{name}_": getattr(record, name) for name in _EXTRAS})
            vars(self).update({f"{name}_": value for name, value in self._extras.items()})

    def _absorb_item(self, item: WatchItem) -> None:
        """Take in what a watch brought."""
        if not isinstance(item, QueueUpdate):
            self._absorb(item.job)
            return
        queue = QueueInfo(
            position_in_queue=item.position,
            status=self._status.name,
            estimated_start_time=item.estimated_start,
            estimated_completion_time=item.estimated_completion,
            job_id=self.job_id(),
        )
        with self._lock:
            self._queue = queue

    def _known_revision(self, callback: object) -> int:
        """Return the revision with which a watch need not begin; 0 where a callback is to be told of the first state."""
        return self._record.revision if callback is None else 0

    def _known_queue(self) -> QueueInfo | None:
        """Return the place in the queue as last known; None for a final job."""
        return None if self._is_final else self._queue

    def _failure_text(self) -> str | None:
        """Return why the job failed, with the provider's code; None if it did not fail."""
        if self._status != JobStatus.ERROR:
            return None
        failure = self._record.failure
        message = failure.message or failure.reason or "The provider gave no reason."
        return f"Error code {failure.provider_code}; {message}" if failure.provider_code else message

    def _usage(self) -> float | None:
        """Return QPU seconds: what was charged, else the estimate, else None."""
        charged = optional_seconds(self._record.usage, "charged_qpu_time")
        return charged if charged is not None else optional_seconds(self._record.usage, "estimated_qpu_time")

    def _refuse_result(self) -> None:
        """Raise if the job, which is final, has no result.

        Raises:
            IBMJobInvalidStateError: It was cancelled.
            IBMJobFailureError: It failed.
        """
        failure = self._record.failure
        facts = {"job_id": self.job_id(), "reason": failure.reason, "code": failure.provider_code}
        if self._status == JobStatus.CANCELLED:
            why = f" {failure.message}" if failure.message else ""
            raise IBMJobInvalidStateError(
                f"Unable to retrieve result for job {self.job_id()}. Job was cancelled.{why}", **facts
            )
        if self._status == JobStatus.ERROR:
            raise IBMJobFailureError(f"Job failed: {self._failure_text()}", **facts)

    _circuits_failed = "Failed to retrieve circuits"

    @property
    def _result_failed(self) -> str:
        return f"Unable to retrieve result for job {self.job_id()}"

    def _keep_sent_result(self, message: result_pb2.JobResult) -> None:
        """Keep a result that came along with the event that the job is DONE, until `_take_sent_result`."""
        self._sent_result = message

    def _take_sent_result(self) -> result_pb2.JobResult | None:
        """Return the result that came with the last watch, if one did; it is decoded once."""
        message, self._sent_result = self._sent_result, None
        return message

    def _small_result_request(self) -> job_service_pb2.GetJobResultRequest | None:
        """Return the request for the result in one message, where it is known to be small; else it is downloaded."""
        if 0 < self._record.result.size_bytes <= SMALL_RESULT_BYTES:
            return job_service_pb2.GetJobResultRequest(name=self._record.name)
        return None

    def _decode_result(self, data: bytes) -> Result:
        """Return the result that was downloaded.

        Raises:
            IBMJobInvalidStateError: It is that of a provider program.
            IBMJobApiError: It cannot be read.
        """
        try:
            return self._to_result(result_pb2.JobResult.FromString(data))
        except DecodeError as error:
            raise self._unreadable(self._result_failed, error) from error

    def _to_result(self, message: result_pb2.JobResult) -> Result:
        """Return the result of a message.

        Raises:
            IBMJobInvalidStateError: It is that of a provider program.
            IBMJobApiError: It makes no sense.
        """
        try:
            return to_result(message, job_id=self.job_id(), memory=self._record.options.memory)
        except ValueError as error:
            raise self._unreadable(self._result_failed, error) from error

    def _take_properties(self, reply: job_service_pb2.GetJobBackendPropertiesResponse) -> BackendProperties | None:
        """Keep a calibration, and return it. It stays what it is once the job has run, or if the backend has none."""
        has_run = self._is_final or self._record.HasField("start_time")
        self._properties = BackendProperties.from_message(reply.properties) if reply.HasField("properties") else None
        self._properties_known = has_run or self._properties is None
        return self._properties

    def _decode_circuits(self, data: bytes) -> list[QuantumCircuit | str]:
        """Return the circuits of the program that was downloaded.

        Raises:
            IBMJobApiError: They cannot be read.
        """
        try:
            return to_circuits(program_pb2.Program.FromString(data))
        except (DecodeError, ValueError) as error:
            raise self._unreadable(self._circuits_failed, error) from error

    def _unreadable(self, text: str, error: Exception) -> IBMJobApiError:
        return IBMJobApiError(f"{text}: {error}", job_id=self.job_id(), reason="UNREADABLE")

    def _timed_out(self, timeout: float | None) -> IBMJobTimeoutError:
        return IBMJobTimeoutError(
            f"Timed out waiting for job to complete after {timeout} secs.",
            job_id=self.job_id(),
            pending_reason=self.pending_reason,
        )

    def __repr__(self) -> str:
        """Return class and id."""
        return f"<GatewayCircuitJob('{self.job_id()}')>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what a copy is made of: provider and record, and then further facts and the user's metadata."""
        facts = {f"{name}_": value for name, value in self._extras.items()}
        state = {"metadata": self.metadata, "_extras": dict(self._extras), **facts}
        provider = self._provider  # type: ignore[attr-defined]  # each kind of handle has its own kind of provider
        return _restore, (type(self), provider, self._record.SerializeToString()), state

    def __eq__(self, other: object) -> bool:
        """Return whether both are handles of the same job of the same gateway."""
        if not isinstance(other, JobRecord):
            return NotImplemented
        return (self._service, self._record.name) == (other._service, other._record.name)

    def __hash__(self) -> int:
        """Hash by job id and gateway."""
        return hash((self._service, self._record.name))


def _restore(kind: Callable[[Any, job_pb2.Job], JobRecord], provider: Any, record: bytes) -> JobRecord:
    return kind(provider, job_pb2.Job.FromString(record))


def _with_final_fields(record: job_pb2.Job, final: job_pb2.Job) -> job_pb2.Job:
    """Return a record with everything that belongs to the final status taken from an earlier one."""
    merged = job_pb2.Job()
    merged.CopyFrom(record)
    FieldMask(paths=_FINAL_FIELDS).MergeMessage(final, merged, replace_message_field=True)
    return merged
