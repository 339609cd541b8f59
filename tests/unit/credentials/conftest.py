from pathlib import Path

import pytest

from gateway.credentials.seal_key import SealKey
from gateway.credentials.sealed_file import SealedFile


@pytest.fixture
def key() -> SealKey:
    return SealKey(SealKey.generate())


@pytest.fixture
def sealed(tmp_path: Path, key: SealKey) -> SealedFile:
    return SealedFile.create(tmp_path / "credentials.sealed", key)
