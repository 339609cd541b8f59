"""How the emulator behaves while no fault is injected; all of it can be changed while it runs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The behaviour of the service."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    seed: int = 1
    """Makes job ids and results repeatable: the same program under the same seed has the same result."""

    manual: bool = False
    """New jobs change their state only when the control route says so."""

    queue_seconds: float = Field(default=0.0, ge=0)
    """How long a new job is Queued."""

    run_seconds: float = Field(default=0.0, ge=0)
    """How long a new job is Running, at least; a job that is longer than its maximum execution time is cancelled."""

    latency_seconds: float = Field(default=0.0, ge=0)
    """Added to every call before it is answered."""

    listing_delay_seconds: float = Field(default=0.0, ge=0)
    """How long a new job is missing from listings; it can be asked for by its id at once."""

    results_once: bool = False
    """Results of every job can be read once, as if the job were private."""

    queue_positions: bool = False
    """Metrics tell the place in the queue and estimates, instead of null."""

    noise: bool = False
    """Programs run with the noise of the device, instead of ideally."""

    max_pending_jobs: int | None = Field(default=None, ge=1)
    """How many jobs of one instance may be Queued or Running; no limit by default."""

    submits_per_minute: int | None = Field(default=None, ge=1)
    """How many jobs one instance may submit in any 60 seconds; no limit by default."""

    max_qpy_version: int = Field(default=18, ge=13)
    """The newest QPY version that the program `executor` reads. Sampler and estimator read none above 17."""

    token_lifetime_seconds: int = Field(default=3600, ge=1)
    """Life of the tokens that are issued from now on."""
