"""A gateway with one account at the emulated service, to be broken from both sides."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.faults.upstream.torture import lab_settings
from tests.support.gateway_process import GatewayProcess

NewGateway = Callable[..., GatewayProcess]


@pytest.fixture
def seed() -> int:
    """Decides what is random: `GATEWAY_FAULTS_SEED`."""
    return int(os.environ.get("GATEWAY_FAULTS_SEED", "1"))


@pytest.fixture
def new_lab_gateway(emulator: EmulatorProcess, tmp_path: Path, new_gateway: NewGateway) -> NewGateway:
    """Makes gateways, not yet started, whose account `alpha` is at the emulator; its settings can be changed by name.

    Gateways that run at the same time need names of their own.
    """

    def make(name: str = "lab", **changes: Any) -> GatewayProcess:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return new_gateway(lab_settings(emulator, folder, **changes), folder)

    return make
