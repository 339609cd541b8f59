"""A cache of the newest items."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class BoundedCache(Generic[_Item]):
    """Keeps the last items by name.

    Args:
        room: Most items; beyond that the oldest goes.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: OrderedDict[str, _Item] = OrderedDict()

    def put(self, name: str, item: _Item) -> None:
        """Keep an item."""
        self._items[name] = item
        if len(self._items) > self._room:
            self._items.popitem(last=False)

    def get(self, name: str) -> _Item | None:
        """Return an item, or None if it is not kept."""
        return self._items.get(name)

    def drop(self, name: str) -> None:
        """Keep an item no longer."""
        self._items.pop(name, None)
