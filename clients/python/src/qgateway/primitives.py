"""Qiskit's sampler over the gateway."""

from __future__ import annotations

from typing import Any

from qiskit.primitives import BackendSamplerV2

from qgateway.backend import GatewayBackend


class SamplerV2(BackendSamplerV2):  # type: ignore[misc]
    """Qiskit's `BackendSamplerV2` on a backend of the gateway, with the shots of the backend's options as default.

    Circuits of one shot count go in one job, or in several where there are more than the backend takes in one. An estimator is
    Qiskit's own: `BackendEstimatorV2(backend=backend)`.

        job = SamplerV2(backend).run([circuit], shots=1000)
        counts = job.result()[0].data.meas.get_counts()

    Args:
        backend: The backend.
        options: `default_shots`, `seed_simulator`, and `run_options`: further arguments of `GatewayBackend.run`, such as
            `{"job_tags": ["a"]}`.
    """

    def __init__(self, backend: GatewayBackend, *, options: dict[str, Any] | None = None) -> None:
        super().__init__(backend=backend, options={"default_shots": backend.options.shots, **(options or {})})
