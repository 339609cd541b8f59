"""What the provider's errors mean: HTTP status and error body to the gateway's errors."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson

from gateway.domain.errors import (
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
    ResourceExhausted,
    Unavailable,
)

_MAX_MESSAGE = 500
_LIMIT_SECONDS = 300.0
"""Wait after a limit of the instance was met: it is raised by the end of jobs, or of a month."""
_RATE_SECONDS = 15.0
"""Wait after 429 where the provider names none."""

_TOO_MANY_JOBS = frozenset({"1012", "3458"})
_USED_UP = frozenset({"4317"})
_BACKEND_AWAY = frozenset({"1004", "3245", "3246"})
_NO_BACKEND = frozenset({"1007"})


class TokenRefused(Exception):
    """The provider does not take the token: a fresh one may help. Nothing was done.

    Args:
        failure: What to tell if it does not help.
    """

    def __init__(self, failure: GatewayError) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that is no success.

    Args:
        status: HTTP status.
        headers: Of the reply.
        body: Of the reply.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self, account: str) -> GatewayError | TokenRefused:
        """Return what it means, for any call.

        Args:
            account: Name of the account, for the message.
        """
        code, said, metadata = self._said()
        metadata["account"] = account
        wait = self._retry_after()
        match self.status:
            case HTTPStatus.UNAUTHORIZED:
                text = f"The provider does not take the credentials of account {account!r}. An operator has to look at its key."
                return TokenRefused(
                    Unavailable(text + said, reason=Reason.CREDENTIALS_REFUSED, metadata=metadata, retry_after=wait)
                )
            case _ if code in _TOO_MANY_JOBS:
                text = f"Account {account!r} has as many pending jobs as it may have at the provider. Wait for some to end."
                return _exhausted(text + said, Reason.INSTANCE_LIMIT_REACHED, metadata, wait or _RATE_SECONDS)
            case _ if code in _USED_UP:
                text = f"Account {account!r} has used up its QPU time at the provider. Use another account, or wait for the next period."
                return _exhausted(text + said, Reason.INSTANCE_LIMIT_REACHED, metadata, wait or _LIMIT_SECONDS)
            case HTTPStatus.TOO_MANY_REQUESTS:
                text = f"The provider wants fewer calls of account {account!r}. The gateway slows down by itself."
                return _exhausted(text + said, Reason.RATE_LIMITED, metadata, wait or _RATE_SECONDS)
            case _ if code in _BACKEND_AWAY:
                text = "The backend takes no jobs now. ListBackends tells which do."
                return FailedPrecondition(text + said, reason=Reason.BACKEND_NOT_OPERATIONAL, metadata=metadata)
            case _ if code in _NO_BACKEND:
                text = "The provider has no such backend. ListBackends tells which there are."
                return NotFound(text + said, reason=Reason.BACKEND_NOT_FOUND, metadata=metadata)
            case HTTPStatus.FORBIDDEN:
                text = f"The key of account {account!r} does not open its instance. An operator has to look at its CRN and key."
                return PermissionDenied(text + said, reason=Reason.INSTANCE_REFUSED, metadata=metadata)
            case HTTPStatus.NOT_FOUND:
                return NotFound(f"The provider does not know what was asked for.{said}", metadata=metadata)
            case HTTPStatus.CONFLICT:
                return FailedPrecondition(
                    f"The provider cannot do this now.{said}", reason=Reason.PROVIDER_REJECTED, metadata=metadata
                )
            case status if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
                return InvalidArgument(
                    f"The provider refuses the request.{said}", reason=Reason.PROVIDER_REJECTED, metadata=metadata
                )
            case status:
                text = f"The provider of account {account!r} answers with HTTP {status}. The gateway tries again by itself."
                return Unavailable(text + said, metadata=metadata, retry_after=wait)

    def submit_error(self, account: str, backend: str) -> GatewayError | TokenRefused:
        """Return what it means for a new job, which was certainly not taken.

        Args:
            account: Name of the account, for the message.
            backend: Where the job was to run.
        """
        error = self.error(account)
        if isinstance(error, TokenRefused):
            return error
        error.metadata["backend"] = backend
        if error.reason is Reason.PROVIDER_REJECTED and self.status == HTTPStatus.CONFLICT:
            return _exhausted(
                error.message, Reason.INSTANCE_LIMIT_REACHED, error.metadata, self._retry_after() or _LIMIT_SECONDS
            )
        if error.reason is Reason.JOB_NOT_FOUND:  # a job that is yet to be: its program or session is meant
            return InvalidArgument(error.message, reason=Reason.PROVIDER_REJECTED, metadata=error.metadata)
        return error

    def _said(self) -> tuple[str, str, dict[str, str]]:
        """Return the provider's code, its words as a sentence to append, and what to keep for support."""
        metadata = {"http_status": str(self.status)}
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            return "", "", metadata
        entry = _entry(document)
        code = str(entry.get("code") or "")
        words = " ".join(str(entry[name]) for name in ("message", "solution") if entry.get(name))[:_MAX_MESSAGE]
        trace = document.get("trace")
        if code:
            metadata["provider_code"] = code
        if words:
            metadata["provider_message"] = words
        if isinstance(trace, str) and trace:
            metadata["trace"] = trace[:_MAX_MESSAGE]
        return code, f" It says: {words}" if words else "", metadata

    def _retry_after(self) -> float | None:
        """Return the seconds that `Retry-After` asks for, given as a number or as a date."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isdecimal():
            return float(text)
        try:
            at = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _entry(document: dict[str, Any]) -> dict[str, Any]:
    """Return the error itself, in whichever of the two shapes it comes."""
    listed, single = document.get("errors"), document.get("error")
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        return listed[0]
    return single if isinstance(single, dict) else {}


def _exhausted(message: str, reason: Reason, metadata: Mapping[str, str], wait: float) -> ResourceExhausted:
    return ResourceExhausted(message, reason=reason, metadata=metadata, retry_after=wait)
