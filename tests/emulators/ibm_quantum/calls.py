"""Which calls were made, counted by route."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

_KEPT = 10_000
_PREFIXES = ("/experimental/api/v1", "/api/v1")


@dataclass
class Call:
    """One call.

    `status` is the status of the reply, or None if none was sent; `acted` tells whether the service did what it was
    asked for; `fault` is the action that was injected; `reply_bytes` the size of the reply with its head, before a
    fault cut it.
    """

    number: int
    route: str
    path: str
    query: str
    instance: str
    scheme: str
    status: int | None = None
    acted: bool = False
    fault: str | None = None
    reply_bytes: int | None = None


class Calls:
    """Counts calls and remembers the last ones."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last: deque[Call] = deque(maxlen=_KEPT)
        self._number = 0

    def begin(self, request: web.Request) -> Call:
        """Note that a call came in."""
        self._number += 1
        call = Call(
            self._number,
            route_of(request),
            request.path,
            request.query_string,
            request.headers.get("Service-CRN", ""),
            request.headers.get("Authorization", "").partition(" ")[0],
        )
        self._counts[call.route] += 1
        self._last.append(call)
        return call

    def clear(self) -> None:
        """Begin to count anew."""
        self._counts.clear()
        self._last.clear()

    def document(self, route: str | None = None) -> dict[str, Any]:
        """Return the counts by route and the last calls, oldest first; of one route, if it is named."""
        counts = {name: count for name, count in self._counts.items() if route in (None, name)}
        calls = [asdict(call) for call in self._last if route in (None, call.route)]
        return {"total": sum(counts.values()), "counts": counts, "calls": calls}


def route_of(request: web.Request) -> str:
    """Return the route that a request is for, as in `GET /jobs/{job_id}`, under whichever prefix it came."""
    resource = request.match_info.route.resource
    path = request.path if resource is None else resource.canonical
    if path != "/api/v1/{plan_id}":
        for prefix in _PREFIXES:
            path = path.removeprefix(prefix)
    return f"{request.method} {path}"
