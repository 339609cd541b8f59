"""What the arguments of `run`, `jobs` and the like say, as requests to the gateway. Nothing here does I/O."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any

from qgateway._run_options import build_run_options
from qgateway._status import StatusLike, status_numbers
from qgateway._times import to_timestamp
from qgateway.exceptions import IBMBackendValueError, IBMError, IBMJobInvalidStateError
from qgateway.programs import as_circuits, check_circuits, common_qpy_version, is_dynamic, to_program
from qgateway.v1 import backend_pb2, job_pb2, job_service_pb2, server_service_pb2

PROTECTED_TAG_PREFIXES = ("ibm_composite_job_", "ibmq_jobset_")
"""Tags that begin so are kept by `update_tags`."""

_PAGE_SIZE = 100


def submit_request(
    circuits: Any,
    arguments: Mapping[str, Any],
    backend_options: Mapping[str, Any],
    run_config: Mapping[str, Any],
    *,
    backend: backend_pb2.Backend,
    server: server_service_pb2.ServerInfo,
    session: str = "",
) -> job_service_pb2.SubmitJobRequest:
    """Return the request of `run`.

    Args:
        circuits: As `run` takes them.
        arguments: The named arguments of `run`; None counts as not given. `job_tags`, `job_name` and `request_id` are read
            here, the others are run options.
        backend_options: The backend's options.
        run_config: Arguments with other names.
        backend: The backend that is to run the job.
        server: What the server is, for the version of QPY.
        session: Resource name of the session; empty for none.

    Raises:
        IBMBackendValueError: An argument is wrong; the message names it.
        IBMBackendError: The server reads no version of QPY that this Qiskit writes.
    """
    tags = check_tags(arguments.get("job_tags"), IBMBackendValueError) if arguments.get("job_tags") is not None else []
    found = as_circuits(circuits)
    check_circuits(found, max_circuits=backend.max_circuits, num_qubits=backend.num_qubits)
    options = build_run_options(
        arguments, backend_options, run_config, backend=backend, dynamic_circuits=is_dynamic(found)
    )
    return job_service_pb2.SubmitJobRequest(
        program=to_program(found, qpy_version=common_qpy_version(server)),
        backend=backend.backend_id,
        account=backend.account,
        options=options,
        display_name=_text("job_name", arguments.get("job_name")),
        tags=tags,
        session=session,
        request_id=_text("request_id", arguments.get("request_id")) or str(uuid.uuid4()),
        client_version=client_version(),
    )


@cache
def _client_version() -> tuple[tuple[str, str], ...]:
    return tuple((package, version(package)) for package in ("qgateway", "qiskit"))


def client_version() -> dict[str, str]:
    """Return the versions of this client and of Qiskit, by package name."""
    return dict(_client_version())


def list_request(*, skip: int, descending: bool, **conditions: Any) -> job_service_pb2.ListJobsRequest:
    """Return the request for the first page of `jobs`; arguments are those of `GatewayProvider.jobs`.

    Raises:
        IBMBackendValueError: As `job_filter`, or `skip` is negative.
        TypeError: A date is neither a datetime nor text.
        ValueError: The text of a date cannot be read.
    """
    if skip < 0:
        raise IBMBackendValueError(f"skip: {skip} is negative.")
    return job_service_pb2.ListJobsRequest(
        filter=job_filter(**conditions), skip=skip, oldest_first=not descending, page_size=_PAGE_SIZE
    )


def job_filter(
    *,
    backend_name: str | None,
    status: StatusLike | Iterable[StatusLike] | None,
    job_tags: list[str] | None,
    instance: str | None,
    name: str | None,
    session_id: str | None,
    start_datetime: datetime | str | None = None,
    end_datetime: datetime | str | None = None,
) -> job_pb2.JobFilter:
    """Return which jobs are meant; arguments are those of `GatewayProvider.jobs`.

    Raises:
        IBMBackendValueError: A status is not known, or tags are not a list of texts.
        TypeError: A date is neither a datetime nor text.
        ValueError: The text of a date cannot be read.
    """
    return job_pb2.JobFilter(
        statuses=status_numbers(status),  # type: ignore[arg-type]
        backends=[backend_name] if backend_name else [],
        accounts=[instance] if instance else [],
        all_tags=check_tags(job_tags, IBMBackendValueError) if job_tags is not None else [],
        display_name=name or "",
        session=session_name(session_id) if session_id else "",
        created_after=to_timestamp(start_datetime) if start_datetime is not None else None,
        created_before=to_timestamp(end_datetime) if end_datetime is not None else None,
    )


def check_limit(limit: int | None) -> int | None:
    """Return how many jobs to list at most; None for all.

    Raises:
        IBMBackendValueError: The number is negative.
    """
    if limit is not None and limit < 0:
        raise IBMBackendValueError(f"limit: {limit} is negative; None lists all jobs.")
    return limit or None


def check_tags(tags: object, error: type[IBMError]) -> list[str]:
    """Return tags in their order, each once.

    Args:
        tags: What the caller gave.
        error: Class of the error to raise.

    Raises:
        IBMError: Of the class given: it is not a list of texts.
    """
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise error("job_tags needs to be a list of strings.", reason="INVALID_FIELD")
    return list(dict.fromkeys(tags))


def tags_request(record: job_pb2.Job, new_tags: list[str]) -> job_service_pb2.UpdateJobRequest:
    """Return the request that replaces the tags of a job, the protected ones excepted.

    It carries the etag of `record`, so that it fails with ABORTED where that is no longer what the gateway has.

    Args:
        record: The job as last read.
        new_tags: The new tags, from `check_tags`.
    """
    protected = [tag for tag in record.tags if tag.startswith(PROTECTED_TAG_PREFIXES)]
    request = job_service_pb2.UpdateJobRequest(etag=record.etag)
    request.job.name = record.name
    request.job.tags.extend(dict.fromkeys([*protected, *new_tags]))
    request.update_mask.paths.append("tags")
    return request


def name_request(record: job_pb2.Job, name: object) -> job_service_pb2.UpdateJobRequest:
    """Return the request that names a job.

    Raises:
        IBMJobInvalidStateError: The name is not text.
    """
    if not isinstance(name, str):
        raise IBMJobInvalidStateError(f"name: {name!r} is not text.", reason="INVALID_FIELD")
    request = job_service_pb2.UpdateJobRequest()
    request.job.name = record.name
    request.job.display_name = name
    request.update_mask.paths.append("display_name")
    return request


def job_name(job_id: str) -> str:
    """Return the resource name of a job: that of its id, or a resource name as it is."""
    return job_id if "/" in job_id else f"jobs/{job_id}"


def backend_name(name: str, account: str | None) -> str:
    """Return the resource name of a backend: that of an account, or without one that of the first that has it."""
    return f"accounts/{account}/backends/{name}" if account else f"backends/{name}"


def session_name(session_id: str) -> str:
    """Return the resource name of a session: that of its id, or a resource name as it is."""
    return session_id if "/" in session_id else f"sessions/{session_id}"


def resource_id(name: str) -> str:
    """Return the id at the end of a resource name."""
    return name.rpartition("/")[2]


def _text(argument: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise IBMBackendValueError(f"{argument}: {value!r} is not text.")
    return value
