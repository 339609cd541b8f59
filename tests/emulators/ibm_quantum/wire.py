"""What all routes share: errors, time stamps, JSON, versions of the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from aiohttp import web

from tests.emulators.ibm_quantum.codes import Code

MORE_INFO = "https://quantum.cloud.ibm.com/docs/errors"

API_VERSIONS = ("2024-01-01", "2025-01-01", "2025-05-01", "2026-02-01", "2026-02-15", "2026-03-15", "2026-04-15")

Shape = Literal["errors", "error", "iam", "text", "empty"]


class ApiError(Exception):
    """An answer that is no success.

    Args:
        status: HTTP status.
        code: The service's error code.
        message: What is wrong.
        solution: What to do about it.
        headers: Further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        solution: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.solution = solution
        self.headers = headers

    def reply(self, trace: str, shape: Shape = "errors") -> web.Response:
        """Return the reply, in one of the shapes that error bodies have."""
        content_type, body = _error_body(shape, self, trace)
        return web.Response(status=self.status, body=body, content_type=content_type, headers=self.headers)


def _error_body(shape: Shape, error: ApiError, trace: str) -> tuple[str, bytes]:
    match shape:
        case "errors":
            entry = {"code": error.code, "message": error.message, "more_info": MORE_INFO}
            if error.solution is not None:
                entry["solution"] = error.solution
            document: dict[str, Any] = {"trace": trace, "errors": [entry]}
        case "error":
            document = {"error": {"code": error.code, "message": error.message}}
        case "iam":
            document = {
                "errorCode": "BXNIM0415E",
                "errorMessage": error.message,
                "context": {"requestId": trace},
            }
        case "text":
            return "text/plain", f"{error.message}\n".encode()
        case "empty":
            return "text/plain", b""
    return "application/json", orjson.dumps(document)


def not_found(what: str, name: str) -> ApiError:
    """Return the error that says that a thing does not exist, or is not this caller's."""
    return ApiError(404, Code.NOT_FOUND, f"{what} not found. {what} ID: {name}", f"Check the {what.lower()} ID.")


def invalid_body(why: str) -> ApiError:
    """Return the error that says that the request's body is not as it must be."""
    return ApiError(400, Code.BODY_NOT_VALID, f"Request validation of body failed, because: {why}")


def reply(document: Any, *, status: int = 200) -> web.Response:
    """Return a JSON reply."""
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the request's body, which must be a JSON object."""
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise invalid_body(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise invalid_body("it is not an object")
    return document


def api_version(request: web.Request) -> str:
    """Return the version of the API that the caller asks for; without the header it is the oldest one."""
    version = request.headers.get("IBM-API-Version", API_VERSIONS[0])
    if version not in API_VERSIONS:
        raise ApiError(400, Code.BODY_NOT_VALID, f"Unknown API version {version}.", f"Use {API_VERSIONS[-1]}.")
    return version


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def stamp(time: datetime | None) -> str | None:
    """Return a time stamp as the service writes it, or None."""
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_time(text: str, name: str) -> datetime:
    """Return the time that a query parameter names; without a zone it is in UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ApiError(400, Code.BODY_NOT_VALID, f"{name} is not an ISO 8601 time: {text}") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def read_flag(text: str) -> bool:
    """Return the truth value of a query parameter, in any case of letters."""
    return text.lower() == "true"
