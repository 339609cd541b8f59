"""What is kept of a run beside its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.backend import BackendProperties


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the provider told of a job that has ended."""

    metrics: Mapping[str, str] = field(default_factory=dict)
    """By the provider's names."""
    properties: BackendProperties | None = None
    """Calibration of the backend as of the run; None where it has none."""
