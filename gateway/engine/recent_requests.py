"""Request ids that came a while ago: whoever repeats a request does so soon, because a connection broke."""

from __future__ import annotations

from collections import OrderedDict

_CAPACITY = 10_000


class RecentRequests:
    """The newest request ids of all tenants, up to a number."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def is_repeated(self, tenant: str, request_id: str) -> bool:
        """Take a request id in. Returns whether it is among those that came before."""
        key = (tenant, request_id)
        if repeated := key in self._seen:
            self._seen.move_to_end(key)
        else:
            self._seen[key] = None
            if len(self._seen) > _CAPACITY:
                self._seen.popitem(last=False)
        return repeated
