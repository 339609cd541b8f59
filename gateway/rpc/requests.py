"""Messages of the contract to plain data, checked for form.

Each function raises `InvalidArgument` that names the field as it stands in the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TypedDict, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway.v1 import account_service_pb2, admin_service_pb2, job_pb2, job_service_pb2, session_service_pb2

from gateway.domain.access import NAME, Role
from gateway.domain.errors import InvalidArgument
from gateway.domain.job import (
    DEFAULT_SHOTS,
    JobStatus,
    MeasLevel,
    MeasReturn,
    RunOptions,
    SchedulingMode,
    utc_now,
)
from gateway.domain.query import JobFilter
from gateway.domain.usage import UsageGroup
from gateway.engine.sessions import SessionRequest
from gateway.engine.submissions import JobRequest, request_digest
from gateway.store import AuditQuery

_Value = TypeVar("_Value")

MAX_NAME_LENGTH = 256
"""Longest name of a job, and longest tag, in characters."""
MAX_RESOURCE_NAME_LENGTH = 512
"""Longest name of a resource, in characters. Errors repeat names: they must fit into what clients take of metadata."""
MAX_TAGS = 64
"""Most tags of a job."""
MAX_FILTER_VALUES = 64
"""Most values of one kind in a filter: each is a step of a search that others wait for."""
_SHA256_BYTES = 32
MAX_REQUEST_ID_LENGTH = 128
MAX_CLIENT_VERSIONS = 16
MAX_STRUCT_BYTES = 16 * 1024
"""Longest header, and longest provider options, as JSON."""
_STRUCT_WIRE_RATIO = 8
"""A Struct takes at most this many times as many bytes on the wire as its JSON: `0,` are eleven."""
_MOST_KNOWN_BYTES = 16 * 1024
"""Largest submission that is kept to be known again: a program that runs one circuit again and again sends small ones."""
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_SESSION_SECONDS = 30 * 24 * 3600
"""Longest session that can be asked for: longer than any provider grants."""

_TRANSPILE: dict[int, int | None] = {
    job_pb2.TRANSPILE_UNSPECIFIED: None,
    job_pb2.TRANSPILE_OFF: None,
    job_pb2.TRANSPILE_LEVEL_0: 0,
    job_pb2.TRANSPILE_LEVEL_1: 1,
    job_pb2.TRANSPILE_LEVEL_2: 2,
    job_pb2.TRANSPILE_LEVEL_3: 3,
}
_MEAS_LEVEL = {
    job_pb2.MEAS_LEVEL_UNSPECIFIED: MeasLevel.CLASSIFIED,
    job_pb2.MEAS_LEVEL_CLASSIFIED: MeasLevel.CLASSIFIED,
    job_pb2.MEAS_LEVEL_KERNELED: MeasLevel.KERNELED,
}
_MEAS_RETURN = {
    job_pb2.MEAS_RETURN_UNSPECIFIED: MeasReturn.AVERAGE,
    job_pb2.MEAS_RETURN_AVERAGE: MeasReturn.AVERAGE,
    job_pb2.MEAS_RETURN_SINGLE: MeasReturn.SINGLE,
}
_ROLES = {
    admin_service_pb2.ROLE_VIEWER: Role.VIEWER,
    admin_service_pb2.ROLE_SUBMITTER: Role.SUBMITTER,
    admin_service_pb2.ROLE_OPERATOR: Role.OPERATOR,
}
_SESSION_MODES = {
    job_pb2.SCHEDULING_MODE_SESSION: SchedulingMode.SESSION,
    job_pb2.SCHEDULING_MODE_BATCH: SchedulingMode.BATCH,
}


def job_request(request: job_service_pb2.SubmitJobRequest, tenant: str) -> JobRequest:
    """Return a submission as plain data: the same object for equal requests, while it is known.

    Args:
        request: The submission.
        tenant: Whose it is. Each has its own, so that nobody can tell what another tenant runs.
    """
    without_id = job_service_pb2.SubmitJobRequest()
    without_id.CopyFrom(request)
    without_id.ClearField("request_id")
    body = without_id.SerializeToString(deterministic=True)
    return _known_job_request(body, tenant) if len(body) <= _MOST_KNOWN_BYTES else _job_request(without_id, body)


def request_id(request: job_service_pb2.SubmitJobRequest) -> str:
    """Return the id of a submission."""
    _check_length("request_id", request.request_id, MAX_REQUEST_ID_LENGTH)
    return request.request_id


@lru_cache(maxsize=256)
def _known_job_request(body: bytes, _tenant: str) -> JobRequest:
    return _job_request(job_service_pb2.SubmitJobRequest.FromString(body), body)


def _job_request(request: job_service_pb2.SubmitJobRequest, body: bytes) -> JobRequest:
    """Return a submission as plain data; `body` is all of it but for its id, serialised."""
    source = request.WhichOneof("source")
    if source is None:
        raise InvalidArgument.field("program", "a program is needed: OpenQASM texts, a QPY blob, or a raw program")
    uploaded = sha256("program_sha256", request.program_sha256) if source == "program_sha256" else ""
    if not uploaded and request.program.WhichOneof("kind") is None:
        raise InvalidArgument.field("program.kind", "one of openqasm, qpy and raw must be set")
    if not request.backend:
        raise InvalidArgument.field("backend", "a backend is needed; ListBackends tells which there are")
    if len(request.client_version) > MAX_CLIENT_VERSIONS:
        raise InvalidArgument.field("client_version", f"at most {MAX_CLIENT_VERSIONS} entries")
    for package, version in request.client_version.items():
        _check_length("client_version", package, MAX_NAME_LENGTH)
        _check_length("client_version", version, MAX_NAME_LENGTH)
    return JobRequest(
        program=b"" if uploaded else request.program.SerializeToString(deterministic=True),
        program_sha256=uploaded,
        backend=bare_id("backend", request.backend, "backends"),
        account=bare_id("account", request.account, "accounts"),
        options=run_options(request.options),
        digest=request_digest(body),
        display_name=display_name("display_name", request.display_name),
        tags=tags("tags", request.tags),
        session=resource_id("session", request.session, "sessions") if request.session else "",
        client_version=dict(request.client_version),
    )


class NewApiKey(TypedDict):
    """What an operator wants of a new API key."""

    display_name: str
    tenant: str
    role: Role
    expires_at: datetime | None


def session_request(request: session_service_pb2.CreateSessionRequest) -> SessionRequest:
    """Return a request for a session as plain data."""
    session = request.session
    if not session.backend:
        raise InvalidArgument.field("session.backend", "a backend is needed; ListBackends tells which there are")
    if session.mode not in _SESSION_MODES:
        raise InvalidArgument.field("session.mode", "must be SCHEDULING_MODE_SESSION or SCHEDULING_MODE_BATCH")
    max_seconds = session.max_time.seconds if session.HasField("max_time") else None
    if max_seconds is not None and not 1 <= max_seconds <= MAX_SESSION_SECONDS:
        raise InvalidArgument.field("session.max_time", f"must be 1 to {MAX_SESSION_SECONDS} seconds")
    _check_length("request_id", request.request_id, MAX_REQUEST_ID_LENGTH)
    without_id = session_service_pb2.CreateSessionRequest()
    without_id.CopyFrom(request)
    without_id.ClearField("request_id")
    return SessionRequest(
        backend=bare_id("session.backend", session.backend, "backends"),
        mode=_SESSION_MODES[session.mode],
        digest=request_digest(without_id.SerializeToString(deterministic=True)),
        account=bare_id("account", request.account, "accounts"),
        max_seconds=max_seconds,
        request_id=request.request_id,
    )


def sha256(field: str, value: bytes) -> str:
    """Return a SHA-256 as 64 hexadecimal digits."""
    if len(value) != _SHA256_BYTES:
        raise InvalidArgument.field(field, f"a SHA-256 has {_SHA256_BYTES} bytes, not {len(value)}")
    return value.hex()


def run_options(message: job_pb2.RunOptions) -> RunOptions:
    """Return run options with every default filled in."""
    return RunOptions(
        shots=message.shots if message.HasField("shots") else DEFAULT_SHOTS,
        memory=message.memory,
        meas_level=_enum("options.meas_level", message.meas_level, _MEAS_LEVEL),
        meas_return=_enum("options.meas_return", message.meas_return, _MEAS_RETURN),
        init_qubits=message.init_qubits if message.HasField("init_qubits") else True,
        rep_delay=message.rep_delay.ToNanoseconds() / 1e9 if message.HasField("rep_delay") else None,
        dynamic=message.dynamic if message.HasField("dynamic") else None,
        seed_simulator=message.seed_simulator if message.HasField("seed_simulator") else None,
        header=_struct("options.header", message.header),
        transpile=_enum("options.transpile", message.transpile, _TRANSPILE),
        provider_options=_struct("options.provider_options", message.provider_options),
    )


def job_filter(field: str, message: job_pb2.JobFilter, tenant: str) -> JobFilter:
    """Return a filter on the jobs of a tenant."""
    for name in ("statuses", "backends", "accounts", "all_tags", "any_tags"):
        if len(getattr(message, name)) > MAX_FILTER_VALUES:
            raise InvalidArgument.field(f"{field}.{name}", f"at most {MAX_FILTER_VALUES} values")
    return JobFilter(
        tenant=tenant,
        statuses=frozenset(_status(f"{field}.statuses", status) for status in message.statuses),
        backends=frozenset(message.backends),
        accounts=frozenset(message.accounts),
        all_tags=frozenset(message.all_tags),
        any_tags=frozenset(message.any_tags),
        display_name=message.display_name,
        session=message.session,
        created_from=_datetime(f"{field}.created_after", message, "created_after"),
        created_to=_datetime(f"{field}.created_before", message, "created_before"),
    )


def new_api_key(message: admin_service_pb2.ApiKey) -> NewApiKey:
    """Return what an operator wants of a new API key."""
    _check_length("api_key.display_name", message.display_name, MAX_NAME_LENGTH)
    if not NAME.fullmatch(message.tenant):
        raise InvalidArgument.field(
            "api_key.tenant",
            "must be 1 to 63 lower-case letters, digits, '-' and '_', and begin with a letter or digit",
        )
    roles = [_enum(f"api_key.roles[{index}]", role, _ROLES) for index, role in enumerate(message.roles)]
    if not roles:
        raise InvalidArgument.field("api_key.roles", "at least one role is needed: viewer, submitter or operator")
    expires_at = timestamp("api_key.expire_time", message.expire_time) if message.HasField("expire_time") else None
    if expires_at is not None and expires_at <= utc_now():
        raise InvalidArgument.field("api_key.expire_time", "must lie in the future")
    # Each role grants what the ones before it grant.
    role = max(roles, key=list(Role).index)
    return NewApiKey(display_name=message.display_name, tenant=message.tenant, role=role, expires_at=expires_at)


def audit_query(request: admin_service_pb2.ListAuditRecordsRequest) -> AuditQuery:
    """Return which audit records a request asks for."""
    return AuditQuery(
        tenant=request.tenant,
        resource=request.job,
        since=timestamp("start_time", request.start_time) if request.HasField("start_time") else None,
        until=timestamp("end_time", request.end_time) if request.HasField("end_time") else None,
    )


def display_name(field: str, value: str) -> str:
    """Return a name given by a user."""
    _check_length(field, value, MAX_NAME_LENGTH)
    return value


def tags(field: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of a job."""
    if not values:
        return ()
    if len(values) > MAX_TAGS:
        raise InvalidArgument.field(field, f"at most {MAX_TAGS} tags, not {len(values)}")
    for index, tag in enumerate(values):
        if not tag:
            raise InvalidArgument.field(f"{field}[{index}]", "a tag must not be empty")
        _check_length(f"{field}[{index}]", tag, MAX_NAME_LENGTH)
    if len(set(values)) != len(values):
        raise InvalidArgument.field(field, "no tag may be there twice")
    return tuple(values)


def page_size(value: int) -> int:
    """Return the size of a page: the default for 0, and never more than the limit (AIP-158)."""
    if value < 0:
        raise InvalidArgument.field("page_size", "must not be negative")
    return min(value, MAX_PAGE_SIZE) if value else DEFAULT_PAGE_SIZE


def experiments(values: Sequence[int]) -> tuple[int, ...]:
    """Return which experiments of a result are wanted; each once, so that an answer is never larger than the result."""
    if len(set(values)) != len(values):
        raise InvalidArgument.field("experiments", "no experiment may be there twice")
    return tuple(values)


def offset(value: int) -> int:
    """Return the first byte of a download."""
    if value < 0:
        raise InvalidArgument.field("offset", "must not be negative")
    return value


def bare_id(field: str, name: str, collection: str) -> str:
    """Return the last part of a resource name `COLLECTION/ID`, or an id that stands alone."""
    _check_length(field, name, MAX_RESOURCE_NAME_LENGTH)
    return name.removeprefix(f"{collection}/")


def resource_id(field: str, name: str, collection: str) -> str:
    """Return the last part of a resource name `COLLECTION/ID`."""
    _check_length(field, name, MAX_RESOURCE_NAME_LENGTH)
    head, _, rest = name.partition("/")
    if head != collection or not rest or "/" in rest:
        raise InvalidArgument.field(field, f"must be a resource name of the form {collection}/ID")
    return rest


def account_and_id(field: str, name: str, collection: str) -> tuple[str, str]:
    """Return account and id of `accounts/ACCOUNT/COLLECTION/ID`, or `("", ID)` of `COLLECTION/ID`."""
    _check_length(field, name, MAX_RESOURCE_NAME_LENGTH)
    match name.split("/"):
        case [head, resource] if head == collection and resource:
            return "", resource
        case ["accounts", account, head, resource] if head == collection and account and resource:
            return account, resource
        case _:
            raise InvalidArgument.field(
                field, f"must be a resource name of the form accounts/ACCOUNT/{collection}/ID or {collection}/ID"
            )


def timestamp(field: str, value: Timestamp) -> datetime:
    """Return a time."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument.field(field, "not a time between the years 1 and 9999") from None


def usage_time(
    request: account_service_pb2.GetUsageRequest, field: Literal["start_time", "end_time"]
) -> datetime | None:
    """Return an end of a period, or None if the request leaves it open."""
    if not request.HasField(field):
        return None
    at = timestamp(field, getattr(request, field))
    if not _FIRST_YEAR <= at.year < _LAST_YEAR:
        raise InvalidArgument.field(field, f"not a time between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    return at


def usage_group(request: account_service_pb2.GetUsageRequest) -> UsageGroup:
    """Return by what usage is to be added up."""
    groups = account_service_pb2.GetUsageRequest.GroupBy
    if request.group_by not in groups.values():
        raise InvalidArgument.field("group_by", "not a value of GroupBy")
    if request.group_by == groups.GROUP_BY_UNSPECIFIED:
        return UsageGroup.TENANT
    return UsageGroup(groups.Name(request.group_by).removeprefix("GROUP_BY_"))


def _datetime(field: str, message: job_pb2.JobFilter, name: str) -> datetime | None:
    return timestamp(field, getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type]


def _status(field: str, value: int) -> JobStatus:
    try:
        return JobStatus(job_pb2.JobStatus.Name(value).removeprefix("JOB_STATUS_"))  # type: ignore[arg-type]
    except ValueError:
        raise InvalidArgument.field(field, f"{value} is not a status") from None


def _enum(field: str, number: int, values: Mapping[Any, _Value]) -> _Value:
    try:
        return values[number]
    except KeyError:
        raise InvalidArgument.field(field, f"{number} is not one of its values") from None


def _struct(field: str, message: Struct) -> dict[str, Any]:
    if not message.fields:
        return {}
    # To find out its size as JSON would hold up everybody else, if it were large.
    if (wire_size := message.ByteSize()) > _STRUCT_WIRE_RATIO * MAX_STRUCT_BYTES:
        raise InvalidArgument.field(
            field, f"at most {MAX_STRUCT_BYTES} bytes as JSON, and it has {wire_size} on the wire"
        )
    try:
        value: dict[str, Any] = MessageToDict(message)
        size = len(json.dumps(value, allow_nan=False).encode())
    except (ValueError, RecursionError):
        raise InvalidArgument.field(field, "must be representable as JSON, without NaN and infinity") from None
    if size > MAX_STRUCT_BYTES:
        raise InvalidArgument.field(field, f"at most {MAX_STRUCT_BYTES} bytes as JSON, not {size}")
    return value


def _check_length(field: str, value: str, limit: int) -> None:
    if len(value) > limit:
        raise InvalidArgument.field(field, f"at most {limit} characters, not {len(value)}")
