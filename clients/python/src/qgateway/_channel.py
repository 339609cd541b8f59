"""What the channels of `Connection` and `AioConnection` have in common: options, credentials, metadata."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import grpc

from qgateway._settings import ConnectionSettings, SettingsError

MAX_RECEIVE_BYTES = 64 * 1024 * 1024
"""Largest message that is accepted. Larger data comes in chunks."""

NOT_CONNECTED = frozenset({grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.TRANSIENT_FAILURE})
"""States of a channel that tries to make a connection, and has none. An idle one has no reason to try."""

_READING_A_PROGRAM = 90.0
"""Seconds more that a submit is given: the server reads and checks the program before it answers."""


@cache
def service_config() -> str:
    """Return the gRPC service config that is made from the contract, without its deadlines.

    gRPC would take them for the longest that a caller may choose; this client sets a deadline for every call by itself.
    """
    config = json.loads(files("qgateway.v1").joinpath("service_config.json").read_text())
    for method_config in config["methodConfig"]:
        method_config.pop("timeout", None)
    return json.dumps(config)


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


def certificate_mark(settings: ConnectionSettings) -> tuple[int, ...] | None:
    """Return numbers that change with the files of the client certificate; None if there is none, or not at this moment."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        files = settings.tls_cert.stat(), settings.tls_key.stat()
    except OSError:
        return None
    return tuple(number for file in files for number in (file.st_ino, file.st_mtime_ns, file.st_size))


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
