"""HTTP to the provider: connections, deadlines, retries by the safety of the method. Everything here blocks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from requests.utils import default_headers
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError

from gateway.domain.errors import SubmissionInDoubt, Unavailable
from gateway.domain.secret import Secret
from gateway.providers.ibm.connections import NO_REPETITION, BriefRetry, Connections
from gateway.providers.ibm.failures import Refusal
from gateway.providers.ibm.redirects import followed, let_go
from gateway.providers.ibm.settings import IbmSettings

API_VERSION = "2026-04-15"
"""Version of the API that the gateway speaks."""

_SAFE_METHODS = frozenset({"GET", "PUT", "DELETE"})
_PASSING = frozenset({500, 502, 503, 504, 520, 521, 522, 524})
"""Statuses of a service that may be well again in a moment."""
_CHUNK = 1 << 18
_MAX_BODY = 2**31


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API."""

    method: str
    path: str
    """Below the address of the API, beginning with a slash."""
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    """JSON."""
    repeatable: bool = False
    """Whether it does no harm to do it twice, although its method does not say so."""
    take: Callable[[Iterator[bytes]], None] | None = None
    """Takes a result piece by piece, as it comes, on the thread that reads it; the body of the reply is empty then.

    Its pieces raise `GatewayError`: the connection failed, or they are more than the account takes in. What it raises itself
    must be no `OSError`, which would be taken for the connection's.
    """


@dataclass(frozen=True, slots=True)
class Reply:
    """What the provider answered, if it is a success."""

    status: int
    body: bytes = field(repr=False)


class Transport:
    """Connections to the instance of one account. Threads may use it at the same time.

    Args:
        settings: Where the instance is, and how patient to be.
    """

    def __init__(self, settings: IbmSettings) -> None:
        self._settings = settings
        self._headers = {
            **default_headers(),
            "Service-CRN": settings.crn,
            "IBM-API-Version": API_VERSION,
            "Accept": "application/json",
            "User-Agent": "qgateway",
        }
        self._connections = self._connect(settings.url, settings.threads)
        self._repetitions = BriefRetry(
            total=settings.retries,
            read=min(1, settings.retries),  # each may take as long as the silence that is allowed
            backoff_factor=settings.backoff,
            backoff_jitter=settings.backoff,
            status_forcelist=_PASSING,
            allowed_methods=None,  # the caller decides by taking this one
            redirect=0,
            raise_on_status=False,
        )

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._connections.close()

    def _connect(self, address: str, size: int = 1) -> Connections:
        return Connections(
            address,
            size=size,
            connect_timeout=self._settings.connect_timeout,
            use_environment=self._settings.use_environment,
        )

    def call(self, call: Call, token: Secret, *, repeat: bool = True) -> Reply:
        """Make a call that is no new job.

        Args:
            call: What to send.
            token: Proves who calls.
            repeat: Whether to repeat it if the service or the connection fails, and its method is safe.

        Raises:
            TokenRefused: HTTP 401.
            GatewayError: What else went wrong.
        """
        safe = call.repeatable or call.method in _SAFE_METHODS
        repetitions = self._repetitions if safe and repeat else NO_REPETITION
        try:
            status, headers, body = self._exchange(call, token, repetitions, self._settings.read_timeout)
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from None
        if not _is_success(status):
            raise Refusal(status, headers, body).error(self._settings.account)
        return Reply(status, body)

    def submit(self, call: Call, backend: str, token: Secret) -> Reply:
        """Send a new job, once.

        Args:
            call: What to send.
            backend: Where the job is to run, for errors.
            token: Proves who calls.

        Raises:
            TokenRefused: HTTP 401; the job was not taken.
            SubmissionInDoubt: The job was sent, and may have been taken.
            GatewayError: The job was certainly not taken, and why.
        """
        try:
            status, headers, body = self._exchange(call, token, NO_REPETITION, self._settings.submit_timeout)
        except (HTTPError, OSError) as error:
            if _was_never_sent(error):
                raise self._unreachable(error) from None
            raise self.doubt(f"the connection failed ({_name(error)})") from None
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self.doubt(f"it answered with HTTP {status}")
        if not _is_success(status):
            raise Refusal(status, headers, body).submit_error(self._settings.account, backend)
        return Reply(status, body)

    def doubt(self, what: str) -> SubmissionInDoubt:
        """Return the error for a job that was sent without a good answer.

        Args:
            what: What happened, as the end of a sentence.
        """
        account = self._settings.account
        return SubmissionInDoubt(
            f"Whether the provider of account {account!r} took the job is not known yet: {what}. The gateway looks for it, and "
            "does not send it again before that is settled.",
            metadata={"account": account},
            retry_after=self._settings.settle_seconds,
        )

    def _exchange(
        self, call: Call, token: Secret, repetitions: Retry, silence: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {**self._headers, "Authorization": f"Bearer {token.reveal()}"}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        response = self._connections.send(
            call.method,
            call.path,
            query=call.query,
            headers=headers,
            body=call.body,
            repetitions=repetitions,
            silence=silence,
        )
        with ExitStack() as opened:
            opened.callback(let_go, response)
            if call.take is not None and response.get_redirect_location():
                address = self._settings.url + call.path
                response = opened.enter_context(self._elsewhere(response, address, headers, repetitions, silence))
            return response.status, response.headers, self._body(response, call)

    @contextmanager
    def _elsewhere(
        self,
        redirect: BaseHTTPResponse,
        address: str,
        headers: Mapping[str, str],
        repetitions: Retry,
        silence: float,
    ) -> Iterator[BaseHTTPResponse]:
        """Give the reply with a result that the provider keeps elsewhere, or the one that says that it is not there any more.

        Raises:
            Unavailable: It cannot be read there. That says nothing of the account, nor of its provider.
        """
        why = ""
        try:
            with followed(
                redirect,
                address,
                headers=headers,
                connect=self._connect,
                repetitions=repetitions,
                silence=silence,
            ) as reply:
                if _is_success(reply.status) or reply.status == HTTPStatus.NOT_FOUND:
                    yield reply
                else:
                    why = f"HTTP {reply.status}"
        except (HTTPError, OSError) as error:
            why = _name(error)
        if why:
            account = self._settings.account
            raise Unavailable(
                f"The provider of account {account!r} keeps the result elsewhere, where it cannot be read now ({why}). The gateway "
                "tries again by itself.",
                metadata={"account": account, "http_status": str(redirect.status)},
            )

    def _body(self, response: BaseHTTPResponse, call: Call) -> bytes:
        """Read a body, or let it be taken if it is a result."""
        if call.take is None or not _is_success(response.status):
            return b"".join(_pieces(response, self._settings.total_timeout))
        call.take(self._result(response))
        return b""

    def _result(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        """Yield the pieces of a result.

        Raises:
            OutOfRange: They are more than the account takes in.
            Unavailable: The connection failed.
        """
        size = 0
        try:
            for piece in _pieces(response, self._settings.total_timeout):
                size += len(piece)
                if size > self._settings.max_result_bytes:
                    raise self._settings.result_too_large()
                yield piece
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: BaseException) -> Unavailable:
        account = self._settings.account
        return Unavailable(
            f"The provider of account {account!r} cannot be reached ({_name(error)}). The gateway tries again by itself.",
            metadata={"account": account},
        )


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _pieces(response: BaseHTTPResponse, seconds: float) -> Iterator[bytes]:
    """Yield the pieces of a body, however slowly it trickles, within the time and the size that any may have.

    Raises:
        HTTPError, OSError: The connection failed, or the body takes too long or is too large.
    """
    deadline, size = time.monotonic() + seconds, 0
    # Not `stream`: it waits until a whole chunk is there, for as long as each of its bytes comes in time.
    while piece := response.read1(_CHUNK, decode_content=True):
        size += len(piece)
        if time.monotonic() > deadline:
            raise TimeoutError("the reply took too long")
        if size > _MAX_BODY:
            raise HTTPError("the reply is too large")
        yield piece


def _root(error: BaseException) -> BaseException:
    """Return the failure that ended the last try."""
    return error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error


def _was_never_sent(error: BaseException) -> bool:
    """Return whether a request failed before any of it was sent."""
    root = _root(error)
    unverified = any(isinstance(item, ssl.SSLCertVerificationError) for item in (root, *root.args))
    return unverified or isinstance(root, NewConnectionError | ConnectTimeoutError)


def _name(error: BaseException) -> str:
    """Return what went wrong without addresses and other details, which are for the log of a debugger only."""
    return type(_root(error)).__name__
