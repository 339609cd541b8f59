"""Reading lists that come in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qgateway._connection import Connection


def pages(
    connection: Connection, method: Callable[[Connection], Any], request: Any, job_id: str | None = None
) -> Iterator[Any]:
    """Yield the responses of a list call, page after page.

    Args:
        connection: The connection.
        method: Gives the call's method; asked for each page, because stubs are not to be kept.
        request: The request for the first page; its `page_token` is changed.
        job_id: Job that the call is about, for the error.

    Raises:
        GatewayCallError: A call did not succeed.
    """
    while True:
        response = connection.call(method(connection), request, job_id=job_id)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token
