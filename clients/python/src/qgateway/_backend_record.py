"""What a backend knows without asking: the message that the gateway sent, and what follows from it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qiskit.providers import BackendV2, Options
from qiskit.result.models import MeasLevel, MeasReturnType
from qiskit.transpiler import Target

from qgateway._run_options import DEFAULTS
from qgateway._times import optional_seconds, optional_time, to_timestamp
from qgateway.configuration import BackendConfiguration
from qgateway.properties import BackendProperties
from qgateway.v1 import backend_pb2, backend_service_pb2

_LARGEST_SHOTS = 2**63 - 1


class BackendRecord(BackendV2):  # type: ignore[misc]
    """The part of a backend that does no I/O; the backends for threads and for asyncio build on it.

    Args:
        provider: The provider that made it.
        message: The backend as the gateway sent it.
    """

    def __init__(self, provider: Any, message: backend_pb2.Backend) -> None:
        super().__init__(
            provider=provider,
            name=message.backend_id,
            description=message.description or None,
            online_date=optional_time(message, "online_time"),
            backend_version=message.backend_version or None,
        )
        self._message = message
        self._target: Target | None = None
        self._properties: BackendProperties | None = None
        self._properties_known = False
        self._set_validators()

    @classmethod
    def _default_options(cls) -> Options:
        return Options(**DEFAULTS)

    def _set_validators(self) -> None:
        message = self._message
        self._options.set_validator("shots", (1, message.max_shots or _LARGEST_SHOTS))
        self._options.set_validator("memory", bool)
        self._options.set_validator("init_qubits", bool)
        self._options.set_validator("meas_level", list(message.meas_levels) or [int(MeasLevel.CLASSIFIED)])
        self._options.set_validator("meas_return", [kind.value for kind in MeasReturnType])
        shortest, longest = optional_seconds(message, "min_rep_delay"), optional_seconds(message, "max_rep_delay")
        if shortest is not None and longest is not None:
            self._options.set_validator("rep_delay", (shortest, longest))

    @property
    def account(self) -> str:
        """Account of the gateway that offers the backend."""
        return self._message.account

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return self._message.num_qubits

    @property
    def max_circuits(self) -> int | None:
        """Most circuits of a job; None for no limit."""
        return self._message.max_circuits or None

    def configuration(self) -> BackendConfiguration:
        """Return what the backend is. No request is made."""
        return BackendConfiguration.from_message(self._message)

    def _properties_request(self, at: datetime | None) -> backend_service_pb2.GetBackendPropertiesRequest:
        """Return the request for the calibration as of a time; None: now."""
        request = backend_service_pb2.GetBackendPropertiesRequest(name=self._message.name)
        if at is not None:
            request.at_time.CopyFrom(to_timestamp(at))
        return request

    def _take_properties(
        self, reply: backend_service_pb2.GetBackendPropertiesResponse, at: datetime | None
    ) -> BackendProperties | None:
        """Return the calibration that was asked for; that of now is kept."""
        properties = BackendProperties.from_message(reply.properties) if reply.HasField("properties") else None
        if at is None:
            self._properties, self._properties_known = properties, True
        return properties

    def __repr__(self) -> str:
        """Return class and name."""
        return f"<GatewayBackend('{self.name}')>"
