"""What the provider's errors mean: HTTP status and error body to the gateway's errors."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from gateway.domain.errors import (
    AccountRefused,
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)

_MAX_MESSAGE = 500
_LIMIT_SECONDS = 300.0
"""Wait after a limit of the instance was met: it is raised by the end of jobs, or of a month."""
_RATE_SECONDS = 15.0
"""Wait after 429 where the provider names none."""
_LONGEST_WAIT = 3600.0
"""Most seconds for which the provider is left alone because it asks for that: a slip there must not stop an account for days."""


class _Meaning(NamedTuple):
    """What a code or a status means."""

    kind: type[GatewayError]
    reason: Reason
    text: str
    """A sentence or two, with the account's name as `{account}`."""
    wait: float | None = None
    """Seconds until the next try where the provider names none."""


_CREDENTIALS = _Meaning(
    AccountRefused,
    Reason.CREDENTIALS_REFUSED,
    "The provider does not take the credentials of account {account!r}. An operator has to look at its key.",
)
_TOO_MANY_JOBS = _Meaning(
    ResourceExhausted,
    Reason.INSTANCE_LIMIT_REACHED,
    "Account {account!r} has as many pending jobs as it may have at the provider. Wait for some to end.",
    _RATE_SECONDS,
)
_USED_UP = _Meaning(
    ResourceExhausted,
    Reason.INSTANCE_LIMIT_REACHED,
    "Account {account!r} has used up its QPU time at the provider. Use another account, or wait for its next period.",
    _LIMIT_SECONDS,
)
_BACKEND_AWAY = _Meaning(
    FailedPrecondition,
    Reason.BACKEND_NOT_OPERATIONAL,
    "The backend takes no jobs now. ListBackends tells which do.",
)
_NO_BACKEND = _Meaning(
    NotFound, Reason.BACKEND_NOT_FOUND, "The provider has no such backend. ListBackends tells which there are."
)
_REJECTED = _Meaning(InvalidArgument, Reason.PROVIDER_REJECTED, "The provider refuses the request.")

_INSTANCE_REFUSED = _Meaning(
    AccountRefused,
    Reason.INSTANCE_REFUSED,
    "The key of account {account!r} does not open its instance. An operator has to look at its CRN and key.",
)

_BY_CODE = {
    "1004": _BACKEND_AWAY,
    "1007": _NO_BACKEND,
    "1012": _TOO_MANY_JOBS,
    "3245": _BACKEND_AWAY,
    "3246": _BACKEND_AWAY,
    "3458": _TOO_MANY_JOBS,
    "4317": _USED_UP,
}
_BY_STATUS: dict[int, _Meaning] = {
    HTTPStatus.UNAUTHORIZED: _CREDENTIALS,
    HTTPStatus.FORBIDDEN: _INSTANCE_REFUSED,
    HTTPStatus.NOT_FOUND: _Meaning(NotFound, Reason.JOB_NOT_FOUND, "The provider does not know what was asked for."),
    HTTPStatus.CONFLICT: _Meaning(FailedPrecondition, Reason.PROVIDER_REJECTED, "The provider cannot do this now."),
    HTTPStatus.TOO_MANY_REQUESTS: _Meaning(
        ResourceExhausted,
        Reason.RATE_LIMITED,
        "The provider wants fewer calls of account {account!r}. The gateway slows down by itself.",
        _RATE_SECONDS,
    ),
}
_BY_STATUS_OF_NEW_JOB: dict[int, _Meaning] = {
    **_BY_STATUS,
    # It may be for this job alone, such as its backend: no reason to let all others wait.
    HTTPStatus.FORBIDDEN: _INSTANCE_REFUSED._replace(kind=FailedPrecondition),
    HTTPStatus.NOT_FOUND: _REJECTED,  # the program or the session is meant: the job is yet to be
    HTTPStatus.CONFLICT: _USED_UP,
}
_DOWN = _Meaning(
    Unavailable,
    Reason.PROVIDER_UNAVAILABLE,
    "The provider of account {account!r} does not answer as it should. The gateway tries again by itself.",
)


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
        """Return what it means, for any call but a new job.

        Args:
            account: Name of the account, for the message.
        """
        return self._error(account, _BY_STATUS, {})

    def submit_error(self, account: str, backend: str) -> GatewayError | TokenRefused:
        """Return what it means for a new job, which was certainly not taken.

        Args:
            account: Name of the account, for the message.
            backend: Where the job was to run.
        """
        return self._error(account, _BY_STATUS_OF_NEW_JOB, {"backend": backend})

    def _error(
        self, account: str, by_status: Mapping[int, _Meaning], about: Mapping[str, str]
    ) -> GatewayError | TokenRefused:
        code, said, metadata = self._said()
        if HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            meaning = _BY_CODE.get(code) or by_status.get(self.status, _REJECTED)
        else:
            meaning = _DOWN
        wait = asked_wait(self.headers)
        error = meaning.kind(
            meaning.text.format(account=account) + said,
            reason=meaning.reason,
            metadata={**about, **metadata, "account": account},
            retry_after=meaning.wait if wait is None else wait,
        )
        return TokenRefused(error) if self.status == HTTPStatus.UNAUTHORIZED else error

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


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as a number or as a date, an hour at most; None if it does not ask."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_WAIT)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _entry(document: dict[str, Any]) -> dict[str, Any]:
    """Return the error itself, in whichever of the two shapes it comes."""
    listed, single = document.get("errors"), document.get("error")
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        return listed[0]
    return single if isinstance(single, dict) else {}
