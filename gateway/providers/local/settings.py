"""Settings of the local provider."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Limits of the local provider."""

    parallel_jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Number of jobs that run at a time."""
    queue_limit: int = 10_000
    """Most jobs that wait."""
    time_limit: float = 300.0
    """Longest run of a job, in seconds."""
    memory_limit: int = 4 * 2**30
    """Most memory of a run, in bytes. It decides how wide the ideal simulator is."""
    max_shots: int = 1_000_000
    """Most shots of a circuit."""
    max_circuits: int = 300
    """Most experiments of a job."""
