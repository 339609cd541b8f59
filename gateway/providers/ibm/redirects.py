"""Redirects: a result may be kept elsewhere, such as in an object storage that is not the provider's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from urllib.parse import urljoin, urlsplit

from requests.utils import default_headers
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import HTTPError

from gateway.providers.ibm.connections import Connections

_MOST_REDIRECTS = 5
_ANONYMOUS = {**default_headers(), "User-Agent": "qgateway"}


class UnsafeRedirect(HTTPError):
    """A redirect leads where nothing protects what is sent."""


@contextmanager
def followed(
    response: BaseHTTPResponse,
    address: str,
    *,
    headers: Mapping[str, str],
    connect: Callable[[str], Connections],
    repetitions: Retry,
    silence: float,
) -> Iterator[BaseHTTPResponse]:
    """Give the response at the end of redirects, with its body unread; one that still redirects after the fifth.

    What proves who calls is in the headers, so only the host that was asked first gets them.

    Args:
        response: What was answered first.
        address: Where.
        headers: What was asked with.
        connect: Makes connections to an address. They are closed in the end.
        repetitions: Which failures are followed by another try, for each request.
        silence: Seconds without a byte after which a response is given up.

    Raises:
        UnsafeRedirect: It leads away from HTTPS, or to what is not the web.
        urllib3.exceptions.HTTPError, OSError: There is no response.
    """
    origin = _origin(address)
    with ExitStack() as opened:
        for _ in range(_MOST_REDIRECTS):
            location = response.get_redirect_location()
            if not location:
                break
            address = _next(address, location)
            there = connect(address)
            opened.callback(there.close)
            response = there.send(
                "GET",
                "",
                query=(),
                headers=headers if _origin(address) == origin else _ANONYMOUS,
                body=None,
                repetitions=repetitions,
                silence=silence,
            )
            opened.callback(let_go, response)
        yield response


def let_go(response: BaseHTTPResponse) -> None:
    """Give a connection back, or close it: one with an unread rest cannot be used again."""
    response.close()
    response.release_conn()


def _next(address: str, location: str) -> str:
    target = urljoin(address, location)
    scheme = urlsplit(target).scheme
    if scheme != "https" and (scheme != "http" or urlsplit(address).scheme == "https"):
        raise UnsafeRedirect(scheme)
    return target


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port
