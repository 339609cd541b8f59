"""Devices as the service tells of them: listing, configuration, status, calibration now and at a time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.hardware import Description
from tests.emulators.ibm_quantum.wire import ApiError, stamp

State = Literal["online", "paused", "offline"]

ONLINE_SINCE = datetime(2025, 1, 1, 5, tzinfo=UTC)

_CALIBRATED_AT = time(4, 0, tzinfo=UTC)
_DRIFT = 0.05
_DRIFTING = frozenset({"T1", "T2", "readout_error", "prob_meas0_prep1", "prob_meas1_prep0", "gate_error"})


@dataclass
class Device:
    """A device, or the mock of one.

    Args:
        description: What never changes.
    """

    description: Description
    state: State
    extra_queue: int = 0
    """Jobs of others that wait in its queue."""
    message: str = field(default="")

    @property
    def name(self) -> str:
        """Name of the backend."""
        return self.description.name

    @property
    def mock(self) -> bool:
        """Whether it is no real device."""
        return self.description.mock

    def listing(self, pending: int) -> dict[str, Any]:
        """Return the device as listed among the others."""
        configuration = self.description.configuration
        entry: dict[str, Any] = {
            "name": self.name,
            "status": {"name": self.state, "reason": self.message or self._reason()},
            "is_simulator": False,
            "qubits": configuration["n_qubits"],
            "physical_qubits": configuration["n_qubits"],
            "queue_length": pending + self.extra_queue,
            "clops": {"type": "hardware", "value": configuration["clops_h"]},
            "processor_type": configuration["processor_type"],
            "performance_metrics": {
                "two_q_error_best": {"value": 0.001, "gate": "cz", "unit": "", "qubits": [0, 1]},
                "two_q_error_layered": {"value": 0.003, "unit": ""},
            },
        }
        if self.mock:
            entry["class"] = "mock"
        return entry

    def status(self, pending: int) -> dict[str, Any]:
        """Return whether the device works, and how long its queue is."""
        return {
            "state": self.state != "offline",
            "status": {"online": "active", "paused": "internal", "offline": "offline"}[self.state],
            "message": self.message or self._reason(),
            "length_queue": pending + self.extra_queue,
            "backend_version": self.description.configuration["backend_version"],
        }

    def properties(self, at: datetime) -> dict[str, Any]:
        """Return the last calibration before a time; `{}` if there was none yet. Devices are calibrated every day."""
        calibrated = datetime.combine(at.astimezone(UTC).date(), _CALIBRATED_AT)
        if calibrated > at:
            calibrated -= timedelta(days=1)
        if calibrated < ONLINE_SINCE:
            return {}
        properties = deepcopy(self.description.properties)
        drift = random.Random(f"{self.name} {calibrated.date()}")  # noqa: S311 - repeatable, not secret
        when = properties["last_update_date"] = stamp(calibrated)
        for entry in (*properties["qubits"], *(gate["parameters"] for gate in properties["gates"])):
            for item in entry:
                item["date"] = when
                if item["name"] in _DRIFTING:
                    item["value"] *= drift.uniform(1 - _DRIFT, 1 + _DRIFT)
        return properties

    def _reason(self) -> str:
        return {"online": "available", "paused": "under maintenance", "offline": "not available"}[self.state]


class Devices:
    """All devices, by name.

    Args:
        descriptions: What they are.
    """

    def __init__(self, descriptions: Iterable[Description]) -> None:
        self._descriptions = tuple(descriptions)
        self._devices: dict[str, Device] = {}
        self.reset()

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __getitem__(self, name: str) -> Device:
        """Return a device.

        Raises:
            ApiError: 404, if there is none of this name.
        """
        try:
            return self._devices[name]
        except KeyError:
            raise ApiError(
                404, Code.BACKEND_NOT_FOUND, f"Backend not found: {name}.", "Check the name of the backend."
            ) from None

    def reset(self) -> None:
        """Put all devices back into the state they began with."""
        self._devices = {
            item.name: Device(item, "offline" if item.offline else "online") for item in self._descriptions
        }
