"""Descriptions of backends as JSON, for the way between server and workers."""

from __future__ import annotations

from pydantic import TypeAdapter

from gateway.domain.backend import Backend, BackendProperties

BACKEND: TypeAdapter[Backend] = TypeAdapter(Backend)
"""One backend."""

DEVICES: TypeAdapter[tuple[tuple[Backend, BackendProperties | None], ...]] = TypeAdapter(
    tuple[tuple[Backend, BackendProperties | None], ...]
)
"""Backends with their calibration data, where they have any."""
