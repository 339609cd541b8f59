"""What the channels of `Connection` and `AioConnection` have in common: options, credentials, metadata."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from typing import Any

import grpc

from qgateway._settings import ConnectionSettings, SettingsError

MAX_RECEIVE_BYTES = 64 * 1024 * 1024
"""Largest message that is accepted. Larger data comes in chunks."""

_READING_A_PROGRAM = 90.0
"""Seconds more that a submit is given: the server reads and checks the program before it answers."""

_JOBS = "qgateway.v1.JobService"

# Calls that may be sent again when the answer was lost. Beside the reads:
#   SubmitJob, CreateSession  the request id makes the second call return what the first made (`stamp_request_id`);
#   CancelJob                 the second call finds the job cancelled: at worst it answers JOB_FINAL;
#   UpdateJob                 sets whole values. With an etag the second call can be ABORTED after the first had
#                             succeeded: who reads again, as ETAG_MISMATCH advises, finds the own change.
# Not: DeleteJob (a repeat is NOT_FOUND), key administration, closing and cancelling sessions. gRPC by itself repeats
# every call that never reached the server.
_RETRY_SAFE = {
    _JOBS: (
        "SubmitJob",
        "GetJob",
        "ListJobs",
        "UpdateJob",
        "CancelJob",
        "ListJobEvents",
        "GetJobResult",
        "GetJobLogs",
        "GetJobMetrics",
        "GetJobBackendProperties",
    ),
    "qgateway.v1.BackendService": ("ListBackends", "GetBackend", "GetBackendProperties"),
    "qgateway.v1.SessionService": ("CreateSession", "GetSession", "ListSessions"),
    "qgateway.v1.AccountService": ("ListAccounts", "GetUsage"),
    "qgateway.v1.AdminService": ("ListApiKeys", "ListAuditRecords"),
    "qgateway.v1.ServerService": ("GetServerInfo",),
}


@cache
def service_config() -> str:
    """Return the gRPC service config: up to five attempts in three seconds, on UNAVAILABLE, of retry-safe calls."""
    names = [{"service": service, "method": method} for service, methods in _RETRY_SAFE.items() for method in methods]
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def channel_options(settings: ConnectionSettings) -> list[tuple[str, Any]]:
    """Return the channel options, the same for grpc and grpc.aio."""
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", f"qgateway-python/{version('qgateway')}"),
        ("grpc.service_config", service_config()),
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        # The server limits requests, and says so in an error that can be read.
        ("grpc.max_send_message_length", -1),
        # gRPC servers allow a ping every five minutes and end connections that send more; the margin is for timers.
        ("grpc.keepalive_time_ms", 305_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # The default grows to two minutes: a watch would notice a restarted server that late.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # Connections are not shared with other channels. After a fork the child would else take up one of its parent's.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if settings.is_local:
        options.append(("grpc.enable_http_proxy", 0))
    if settings.tls_server_name:
        options.append(("grpc.ssl_target_name_override", settings.tls_server_name))
    return options


def channel_credentials(settings: ConnectionSettings) -> grpc.ChannelCredentials | None:
    """Return the TLS credentials, or None where the connection is not encrypted.

    Raises:
        SettingsError: A certificate or key file cannot be read.
    """
    if not settings.uses_tls:
        return None
    files: dict[str, bytes | None] = {}
    for name in ("tls_root", "tls_key", "tls_cert"):
        path = getattr(settings, name)
        try:
            files[name] = path.read_bytes() if path else None
        except OSError as error:
            raise SettingsError(
                f"{name} (QGATEWAY_{name.upper()}): cannot read {str(path)!r}: {error.strerror}."
            ) from None
    return grpc.ssl_channel_credentials(files["tls_root"], files["tls_key"], files["tls_cert"])


def call_metadata(settings: ConnectionSettings) -> tuple[tuple[str, str], ...]:
    """Return the metadata of every call: the API key, if there is one."""
    return (("authorization", f"Bearer {settings.api_key.reveal()}"),) if settings.api_key else ()


def default_deadline(settings: ConnectionSettings, request: Any) -> float:
    """Return the deadline of a unary call in seconds, where its caller gives none."""
    return settings.timeout + (_READING_A_PROGRAM if request.DESCRIPTOR.name == "SubmitJobRequest" else 0.0)


def stamp_request_id(request: Any) -> None:
    """Give a request that has a `request_id` field one, so that it can be sent again without doing its work twice."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
        import uuid

        request.request_id = str(uuid.uuid4())
