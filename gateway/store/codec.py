"""How jobs, sessions, times and blobs are written in the database."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

import zstandard
from pydantic import ConfigDict, TypeAdapter

from gateway.domain.backend import BackendProperties
from gateway.domain.errors import Internal
from gateway.domain.job import Job
from gateway.domain.payload import KeptFile, KeptPayload
from gateway.domain.session import Session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Pydantic takes a configuration only for a type that cannot have one of its own, so the adapter is for one more type than jobs.
# It is needed because a caller's header may hold NaN, which would come back as None.
_JOB: TypeAdapter[Job | None] = TypeAdapter(Job | None, config=ConfigDict(ser_json_inf_nan="constants"))


def encode_job(job: Job) -> str:
    """Return a job as JSON. Every field is written, so that a default may change without changing old jobs."""
    return _JOB.dump_json(job).decode()


def decode_job(document: str) -> Job:
    """Return the job that `encode_job` wrote."""
    job = _JOB.validate_json(document)
    if job is None:
        raise Internal("A stored job is empty. Restore the database from a backup.")
    return job


_SESSION: TypeAdapter[Session] = TypeAdapter(Session)


def encode_session(session: Session) -> str:
    """Return a session as JSON, with every field."""
    return _SESSION.dump_json(session).decode()


def decode_session(document: str) -> Session:
    """Return the session that `encode_session` wrote."""
    return _SESSION.validate_json(document)


_PROPERTIES: TypeAdapter[BackendProperties | None] = TypeAdapter(
    BackendProperties | None, config=ConfigDict(ser_json_inf_nan="constants")
)


def encode_properties(properties: BackendProperties) -> bytes:
    """Return a calibration as JSON: the same bytes for the same calibration."""
    return _PROPERTIES.dump_json(properties)


def decode_properties(document: bytes) -> BackendProperties | None:
    """Return the calibration that `encode_properties` wrote."""
    return _PROPERTIES.validate_json(document)


def to_micros(at: datetime) -> int:
    """Return an aware time as microseconds since 1970, UTC."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the time that `to_micros` was given, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


class Encoding(StrEnum):
    """How a blob is written."""

    RAW = "raw"
    ZSTD = "zstd"
    FILE = "file"
    """In a file beside the database, as it is; see `gateway.store.files`."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes as they are stored, with what is known of them before encoding."""

    sha256: str
    size: int
    encoding: Encoding
    data: bytes


# Compressors must not be shared by threads, and are costly to make for each blob.
_of_thread = threading.local()


def _compressor() -> zstandard.ZstdCompressor:
    found: zstandard.ZstdCompressor | None = getattr(_of_thread, "compressor", None)
    if found is None:
        found = _of_thread.compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    return found


_LEAST_COMPRESSED = 512
"""Smaller blobs are not worth the time: a row would not get shorter by a page."""


def encode_blob(data: KeptPayload) -> Blob:
    """Hash bytes and compress them, unless that does not make them much smaller. A file stays where it is."""
    if isinstance(data, KeptFile):
        return Blob(data.sha256, data.size_bytes, Encoding.FILE, b"")
    if len(data) < _LEAST_COMPRESSED:
        return _raw_blob(data)
    sha256 = hashlib.sha256(data).hexdigest()
    compressed = _compressor().compress(data)
    if len(compressed) < len(data):
        return Blob(sha256, len(data), Encoding.ZSTD, compressed)
    return Blob(sha256, len(data), Encoding.RAW, data)


@lru_cache(maxsize=256)
def _raw_blob(data: bytes) -> Blob:
    """Return a small blob: many callers submit one program again and again."""
    return Blob(hashlib.sha256(data).hexdigest(), len(data), Encoding.RAW, data)


def decode_blob(encoding: str, size: int, data: bytes) -> bytes:
    """Return the bytes that `encode_blob` was given.

    Raises:
        Internal: The stored bytes are damaged.
    """
    try:
        decoded = data if encoding == Encoding.RAW else zstandard.decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise Internal(f"Stored bytes are damaged ({error}). Restore the database from a backup.") from error
    if len(decoded) != size:
        raise Internal(
            f"Stored bytes are damaged ({len(decoded)} instead of {size}). Restore the database from a backup."
        )
    return decoded
