"""A gateway with one account at the emulated service, to be broken from both sides."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import FAST
from tests.support.gateway_process import GatewayProcess

NewGateway = Callable[..., GatewayProcess]


@pytest.fixture(scope="package")
def running_emulator() -> Iterator[EmulatorProcess]:
    with EmulatorProcess() as process:
        yield process


@pytest.fixture
def emulator(running_emulator: EmulatorProcess) -> EmulatorProcess:
    running_emulator.control.reset()
    return running_emulator


@pytest.fixture
def control(emulator: EmulatorProcess) -> EmulatorControl:
    return emulator.control


@pytest.fixture
def seed() -> int:
    """Decides what is random: `GATEWAY_FAULTS_SEED`."""
    return int(os.environ.get("GATEWAY_FAULTS_SEED", "1"))


@pytest.fixture
def new_lab_gateway(emulator: EmulatorProcess, tmp_path: Path, new_gateway: NewGateway) -> NewGateway:
    """Makes gateways, not yet started, whose account `alpha` is at the emulator; its settings can be changed by name."""
    key = tmp_path / "alpha.key"
    key.write_text(emulator.api_key("alpha"))

    def make(**changes: Any) -> GatewayProcess:
        account = {
            "provider": "ibm",
            "crn": emulator.crn("alpha"),
            "key_file": str(key),
            "api_url": f"{emulator.url}/api/v1",
            "iam_url": emulator.url,
            "use_environment": False,
            **FAST,
            **changes,
        }
        return new_gateway({"ACCOUNTS": json.dumps({"alpha": account}), "SERVER__HEARTBEAT_INTERVAL": "1"})

    return make
