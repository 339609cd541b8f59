"""Takes in programs that are too large for one message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from gateway.domain.access import Caller
from gateway.domain.errors import InvalidArgument, Reason
from gateway.domain.job import utc_now
from gateway.domain.payload import KeptFile
from gateway.engine.audit import audit_entry
from gateway.store import Store


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What may be uploaded, and for how long it is kept."""

    max_bytes: int = 256 * 1024 * 1024
    """Largest program."""
    keep_seconds: float = 24 * 3600.0
    """Time after which a program is removed that no job uses."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored program that its tenant may refer to."""

    sha256: str
    """64 hexadecimal digits."""
    size_bytes: int
    expires_at: datetime


class Uploads:
    """Stores programs, each for one tenant: to know the address of a program is no permission to use it.

    Args:
        store: Where they are kept.
        limits: What is taken.
    """

    def __init__(self, store: Store, limits: UploadLimits) -> None:
        self._store = store
        self._limits = limits

    async def receive(
        self, caller: Caller, pieces: AsyncIterator[memoryview], *, announced_size: int, announced_sha256: str
    ) -> Upload:
        """Store a program.

        Args:
            caller: Whose tenant may refer to it.
            pieces: The bytes of a serialised `qgateway.v1.Program`. They are left alone if the tenant has the program already.
            announced_size: Size of the whole in bytes; 0: not announced.
            announced_sha256: SHA-256 of the whole, 64 hexadecimal digits; empty: not announced.

        Raises:
            InvalidArgument: The program is too large, empty, or not what was announced.
        """
        self.check_size(announced_size)
        file = None
        if announced_sha256:
            file = await self._store.find_upload(caller.tenant, announced_sha256)
        if file is None:
            check_whole = partial(_check_whole, announced_size=announced_size, announced_sha256=announced_sha256)
            file = await self._store.payloads.receive(pieces, self.check_size, check_whole)
        expires_at = utc_now() + timedelta(seconds=self._limits.keep_seconds)
        entry = audit_entry(caller, "program.upload", file.sha256, collection="programs")
        await self._store.add_upload(caller.tenant, file, expires_at, entry)
        return Upload(file.sha256, file.size_bytes, expires_at)

    async def find(self, caller: Caller, sha256: str) -> KeptFile:
        """Return a program that the caller's tenant uploaded.

        Raises:
            InvalidArgument: It did not, or too long ago.
        """
        file = await self._store.find_upload(caller.tenant, sha256)
        if file is None:
            raise InvalidArgument.field(
                "program_sha256",
                "no program of this address was uploaded, or its time is over; upload it with UploadProgram",
                reason=Reason.PROGRAM_NOT_UPLOADED,
            )
        return file

    def check_size(self, size: int) -> None:
        """Refuse a program that is too large, however it comes.

        Raises:
            InvalidArgument: It is.
        """
        most = self._limits.max_bytes
        if size > most:
            raise InvalidArgument(
                f"The program has more than the {most} bytes that this server takes. Cut the job into several.",
                reason=Reason.PROGRAM_TOO_LARGE,
                metadata={"limit_bytes": str(most)},
            )


def _check_whole(size: int, sha256: str, *, announced_size: int, announced_sha256: str) -> None:
    if not size:
        raise InvalidArgument.field("data", "the program is empty")
    if announced_size not in (0, size) or announced_sha256 not in ("", sha256):
        raise InvalidArgument(
            f"What came ({size} bytes, SHA-256 {sha256}) is not what was announced. Upload the program again.",
            reason=Reason.UPLOAD_CORRUPT,
            metadata={"size_bytes": str(size), "sha256": sha256},
        )
