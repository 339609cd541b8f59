"""The requests for new jobs, and the listings of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from qgateway.v1 import program_pb2

from gateway.domain.errors import InvalidArgument, Reason
from gateway.domain.payload import Payload, PayloadFile
from gateway.domain.provider import ProviderJobQuery, ProviderSubmission
from gateway.providers.ibm.options import request_fields
from gateway.providers.ibm.tags import marker_tag, visible


def raw_program(data: Payload) -> tuple[str, bytes]:
    """Return id and parameters of a raw program. Blocks while a file is read.

    Args:
        data: Serialised `qgateway.v1.RawProgram`.

    Raises:
        InvalidArgument: The parameters are no JSON object.
    """
    try:
        program = program_pb2.RawProgram.FromString(data.path.read_bytes() if isinstance(data, PayloadFile) else data)
    except DecodeError as error:
        raise _wrong("program.raw", "the bytes are not a qgateway.v1.RawProgram") from error
    if not program.program_id:
        raise _wrong("program.raw.program_id", "the provider's name of the program is needed")
    try:
        parameters = orjson.loads(program.parameters)
    except orjson.JSONDecodeError as error:
        raise _wrong("program.raw.parameters", f"not JSON: {error}") from error
    if not isinstance(parameters, dict):
        raise _wrong("program.raw.parameters", "must be a JSON object")
    return program.program_id, program.parameters


def new_job(submission: ProviderSubmission, program_id: str, parameters: bytes, common_tag: str) -> bytes:
    """Return the request for a new job.

    Args:
        submission: What to run.
        program_id: The provider's name of the program.
        parameters: A JSON object, which goes into the request byte for byte.
        common_tag: Tag of every job of the gateway.
    """
    tags = visible(submission.tags, common_tag)
    request: dict[str, Any] = {
        "program_id": program_id,
        "backend": submission.backend,
        "tags": [marker_tag(submission.marker), common_tag, *tags],
        **request_fields(submission.options.provider_options),
    }
    if submission.session:
        request["session_id"] = submission.session
    return orjson.dumps({**request, "params": orjson.Fragment(parameters)})


def listing(query: ProviderJobQuery) -> Sequence[tuple[str, str]]:
    """Return a listing's query parameters."""
    fields = [
        ("limit", str(query.limit)),
        ("offset", str(query.offset)),
        *(("tags", tag) for tag in query.tags),
    ]
    if query.backend:
        fields.append(("backend", query.backend))
    if query.pending is not None:
        fields.append(("pending", "true" if query.pending else "false"))
    if query.created_from is not None:
        fields.append(("created_after", in_utc(query.created_from)))
    if query.created_to is not None:
        fields.append(("created_before", in_utc(query.created_to)))
    return fields


def in_utc(at: datetime) -> str:
    """Return a time as the provider wants it."""
    return at.astimezone(UTC).isoformat()


def _wrong(field: str, description: str) -> InvalidArgument:
    return InvalidArgument.field(field, description, reason=Reason.INVALID_PROGRAM)
