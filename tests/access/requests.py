"""One request, or several, for every RPC of the contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from qgateway.v1 import (
    account_service_pb2,
    admin_service_pb2,
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    server_service_pb2,
    session_pb2,
    session_service_pb2,
)

from tests.support.wire import BELL, submission


class Subject(StrEnum):
    """What a request is about, and whose it is: all but the last belong to a tenant."""

    FINISHED_JOB = "finished job"
    UNFINISHED_JOB = "unfinished job"
    ADOPTABLE_JOB = "job by its provider's id"
    SESSION = "session"
    PROGRAM = "uploaded program"
    API_KEY = "API key"
    NONE = ""


@dataclass(frozen=True)
class Request:
    """A request that an RPC is tried with.

    Args:
        method: The RPC, `Service/Method`.
        make: Makes the request about a subject, by its name.
        subject: What it is about.
    """

    method: str
    make: Callable[[str], Any]
    subject: Subject = Subject.NONE

    @property
    def title(self) -> str:
        """Name of the row of the table."""
        about = "" if self.subject in {Subject.NONE, Subject.FINISHED_JOB} else f" ({self.subject})"
        return f"{self.method}{about}"


_UPLOAD = submission(BELL + "// by anybody").program.SerializeToString(deterministic=True)

_jobs, _sessions, _backends = job_service_pb2, session_service_pb2, backend_service_pb2
_accounts, _admin, _server = account_service_pb2, admin_service_pb2, server_service_pb2


def _named(message: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda name: message(name=name)


def _of_jobs(method: str, subject: Subject = Subject.FINISHED_JOB) -> Request:
    return Request(f"JobService/{method}", _named(getattr(_jobs, f"{method}Request")), subject)


def _upload(_: str) -> Any:
    return upload(_UPLOAD)


def upload(program: bytes) -> list[job_service_pb2.UploadProgramRequest]:
    """Return the messages that upload a program."""
    sha256 = hashlib.sha256(program).digest()
    return [_jobs.UploadProgramRequest(data=program, total_size_bytes=len(program), sha256=sha256)]


def _of_session(session: str) -> job_pb2.JobFilter:
    return job_pb2.JobFilter(session=session)


REQUESTS = (
    Request("JobService/SubmitJob", lambda _: submission()),
    Request("JobService/SubmitJob", lambda session: submission(session=session), Subject.SESSION),
    Request(
        "JobService/SubmitJob",
        lambda sha256: _jobs.SubmitJobRequest(program_sha256=bytes.fromhex(sha256), backend="local_simulator"),
        Subject.PROGRAM,
    ),
    Request("JobService/UploadProgram", _upload),
    _of_jobs("GetJob"),
    _of_jobs("GetJob", Subject.ADOPTABLE_JOB),
    Request("JobService/ListJobs", lambda _: _jobs.ListJobsRequest()),
    Request("JobService/ListJobs", lambda session: _jobs.ListJobsRequest(filter=_of_session(session)), Subject.SESSION),
    Request(
        "JobService/UpdateJob",
        lambda name: _jobs.UpdateJobRequest(
            job=job_pb2.Job(name=name, display_name="new"), update_mask=FieldMask(paths=["display_name"])
        ),
        Subject.FINISHED_JOB,
    ),
    _of_jobs("CancelJob", Subject.UNFINISHED_JOB),
    _of_jobs("CancelJob"),
    _of_jobs("DeleteJob"),
    _of_jobs("WatchJob"),
    Request("JobService/WatchJobs", lambda _: _jobs.WatchJobsRequest()),
    Request(
        "JobService/WatchJobs", lambda session: _jobs.WatchJobsRequest(filter=_of_session(session)), Subject.SESSION
    ),
    _of_jobs("ListJobEvents"),
    _of_jobs("GetJobResult"),
    _of_jobs("DownloadJobResult"),
    _of_jobs("DownloadJobProgram"),
    _of_jobs("GetJobLogs"),
    _of_jobs("GetJobMetrics"),
    _of_jobs("GetJobBackendProperties"),
    Request("BackendService/ListBackends", lambda _: _backends.ListBackendsRequest()),
    Request("BackendService/GetBackend", lambda _: _backends.GetBackendRequest(name="backends/local_simulator")),
    Request(
        "BackendService/GetBackendProperties",
        lambda _: _backends.GetBackendPropertiesRequest(name="backends/local_simulator"),
    ),
    Request(
        "SessionService/CreateSession",
        lambda _: _sessions.CreateSessionRequest(
            session=session_pb2.Session(backend="local_simulator", mode=job_pb2.SCHEDULING_MODE_BATCH)
        ),
    ),
    Request("SessionService/GetSession", _named(_sessions.GetSessionRequest), Subject.SESSION),
    Request("SessionService/ListSessions", lambda _: _sessions.ListSessionsRequest()),
    Request("SessionService/CloseSession", _named(_sessions.CloseSessionRequest), Subject.SESSION),
    Request("SessionService/CancelSession", _named(_sessions.CancelSessionRequest), Subject.SESSION),
    Request("AccountService/ListAccounts", lambda _: _accounts.ListAccountsRequest()),
    Request("AccountService/GetUsage", lambda _: _accounts.GetUsageRequest()),
    Request(
        "AdminService/CreateApiKey",
        lambda _: _admin.CreateApiKeyRequest(
            api_key=_admin.ApiKey(display_name="new", tenant="physics", roles=[_admin.ROLE_VIEWER])
        ),
    ),
    Request("AdminService/ListApiKeys", lambda _: _admin.ListApiKeysRequest()),
    Request("AdminService/RevokeApiKey", _named(_admin.RevokeApiKeyRequest), Subject.API_KEY),
    Request("AdminService/ReloadCredentials", lambda _: _admin.ReloadCredentialsRequest()),
    Request("AdminService/ListAuditRecords", lambda _: _admin.ListAuditRecordsRequest()),
    Request("ServerService/GetServerInfo", lambda _: _server.GetServerInfoRequest()),
)
"""Every RPC has one at least: `test_matrix.py` sees to it."""
