"""Texts that are far too long, in every field of every request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway.rpc.method_rules import path_of
from tests.access.requests import REQUESTS
from tests.access.world import METHODS
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import connected, details

Path = tuple[FieldDescriptor, ...]

TOO_LONG = "eyJ" * 100_000
"""Looks like the beginning of a token at every third character: to look for one from each of them would take a minute."""
BEGINNINGS = ("", "jobs/", "sessions/", "backends/", "apiKeys/")
CALLS = {request.method: request for request in reversed(REQUESTS) if not METHODS[request.method].client_streaming}
METADATA_BYTES = 8 * 1024
"""What clients take of metadata by default."""


@pytest.mark.parametrize("name", CALLS)
def test_a_text_that_is_too_long_neither_holds_the_server_up_nor_makes_its_error_unreadable(
    name: str, gateway: GatewayProcess
) -> None:
    method, request = METHODS[name], CALLS[name]
    with connected(gateway) as wire:
        make = wire.channel.unary_stream if method.server_streaming else wire.channel.unary_unary
        call = make(
            path_of(method),
            GetMessageClass(method.input_type).SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )
        for path in texts(method.input_type):
            for beginning in BEGINNINGS:
                message = request.make("jobs/none")
                put(message, path, beginning + TOO_LONG)
                error = failure(call, message, wire.metadata, is_stream=method.server_streaming)
                if error is None:
                    continue
                where = ".".join(field.name for field in path)
                assert details(error)["ErrorInfo"].reason, f"{where}: {error}"
                told = sum(len(value) for _, value in error.trailing_metadata()) + len(error.details())
                assert told < METADATA_BYTES, f"{where}: {told} bytes"


def failure(call: Any, message: Any, metadata: Any, *, is_stream: bool) -> Any:
    """Make a call; return its error, or None if it succeeds."""
    try:
        answer = call(message, metadata=metadata, timeout=20)
        if is_stream:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return error
    return None


def texts(message: Descriptor, before: Path = ()) -> Iterator[Path]:
    """Yield the path of each field with a text, or with several."""
    for field in message.fields:
        inner = field.message_type
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*before, field)
        elif inner is not None and not inner.GetOptions().map_entry and inner.file.package.startswith("qgateway"):
            yield from texts(inner, (*before, field))


def put(message: Any, path: Path, text: str) -> None:
    """Set a field, and what it is in."""
    *way, last = path
    for field in way:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
    if last.is_repeated:
        getattr(message, last.name).append(text)
    else:
        setattr(message, last.name, text)
