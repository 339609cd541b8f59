from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be created."""
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    """An open, empty store at `path`."""
    store = await Store.open(path)
    yield store
    await store.close()
