"""Kept connections to the address of an instance, through the proxies and with the authorities that the environment names.

`requests` knows how to read the environment, and is asked once. Calls go straight to the connections of urllib3, on which it
stands: what it does for each call, such as looking for cookies, passwords and redirects, has no place here, and would take longer
than to send a job. For redirects of results, see `redirects`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, NamedTuple, Self, cast
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Retry, Timeout
from urllib3.exceptions import MaxRetryError

_LONGEST_WAIT = 5.0
"""Most seconds that a thread sleeps because of `Retry-After`; longer waits are left to the caller."""

NO_REPETITION = Retry(total=0, redirect=0, raise_on_status=False)
"""A request is sent once, whatever comes of it."""


class _Way(NamedTuple):
    """How requests get to an address."""

    pool: HTTPConnectionPool
    base: str
    """What stands before the path of each request: the path of the address, or all of it for a proxy."""


class Connections:
    """Connections to one address. Threads may use it at the same time.

    Args:
        url: The address, with a path and without a slash at its end.
        size: Most connections that are kept.
        connect_timeout: Seconds that a connection may take.
        use_environment: Whether proxies and certificates named by the environment are used.
    """

    def __init__(self, url: str, *, size: int, connect_timeout: float, use_environment: bool) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._use_environment = use_environment
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=size)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._adapter.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        body: bytes | None,
        repetitions: Retry,
        silence: float,
    ) -> BaseHTTPResponse:
        """Send a request, and return the response, whose body is still to be read.

        Args:
            method: HTTP method.
            path: Below the address, quoted, beginning with a slash.
            query: Names and values, not quoted.
            headers: All of them but those that describe the body's length and the host.
            body: What to send, or None.
            repetitions: Which failures are followed by another try.
            silence: Seconds without a byte after which the response is given up.

        Raises:
            urllib3.exceptions.HTTPError, OSError: There is no response, and why.
        """
        target = self._way.base + path
        return self._way.pool.urlopen(
            method,
            f"{target}?{urlencode(query)}" if query else target,
            body=body,
            headers=headers,
            retries=repetitions,
            redirect=False,
            assert_same_host=False,  # it is the proxy's in an address for a proxy
            timeout=Timeout(connect=self._connect_timeout, read=silence),
            preload_content=False,
            decode_content=False,
        )

    @cached_property
    def _way(self) -> _Way:
        session = requests.Session()
        session.trust_env = self._use_environment
        environment = session.merge_environment_settings(self._url, {}, True, None, None)
        authorities, proxies = environment["verify"] or True, environment["proxies"]
        request = requests.Request("GET", self._url).prepare()
        pool = self._adapter.get_connection_with_tls_context(request, authorities, proxies)
        self._adapter.cert_verify(pool, self._url, authorities, None)  # type: ignore[no-untyped-call]
        return _Way(cast("HTTPConnectionPool", pool), self._adapter.request_url(request, proxies))


class BriefRetry(Retry):
    """Repeats at once or after a short while; a long `Retry-After` ends the repetitions, and the caller hears of it."""

    RETRY_AFTER_STATUS_CODES = frozenset({HTTPStatus.SERVICE_UNAVAILABLE})

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        """Return the retries that are left.

        Raises:
            MaxRetryError: None are.
        """
        if response is not None and (self.get_retry_after(response) or 0.0) > _LONGEST_WAIT:
            raise MaxRetryError(_pool, url or "", None)
        return super().increment(method, url, response, error, _pool, _stacktrace)
