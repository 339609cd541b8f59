"""Reading lists that come in pages, with asyncio: the twin of `qgateway._pages`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from qgateway._aio_connection import AioConnection


async def pages(
    connection: AioConnection, method: Callable[[AioConnection], Any], request: Any, job_id: str | None = None
) -> AsyncIterator[Any]:
    """Yield the responses of a list call, page after page; arguments and errors are those of `qgateway._pages.pages`."""
    while True:
        response = await connection.call(method(connection), request, job_id=job_id)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token
