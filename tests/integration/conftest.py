"""Fixtures of the tests over accounts of IBM Quantum: gateways with both accounts of the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.leaks import WATCH


@pytest.fixture
def key_files(emulator: EmulatorProcess, tmp_path: Path) -> dict[str, Path]:
    """The files with the keys of both accounts, as a container platform would mount them."""
    files = {name: tmp_path / f"{name}.key" for name in ("alpha", "beta")}
    for name, path in files.items():
        path.write_text(emulator.api_key(name))
        WATCH.plant_file("a key of the provider", path)
    return files


@pytest.fixture
def new_ibm_gateway(
    emulator: EmulatorProcess, key_files: dict[str, Path], new_gateway: Callable[..., GatewayProcess]
) -> Callable[..., GatewayProcess]:
    """Makes gateways with both accounts; settings of both can be changed by name, or of one in a dictionary of its name."""

    def make(*, settings: dict[str, str] | None = None, **changes: Any) -> GatewayProcess:
        accounts = {}
        for name, path in key_files.items():
            own = {key: value for key, value in changes.items() if key not in key_files} | changes.get(name, {})
            accounts[name] = ibm_account(emulator, name, **{"key_file": str(path), **own})
        return new_gateway({"ACCOUNTS": json.dumps(accounts), "SERVER__HEARTBEAT_INTERVAL": "1", **(settings or {})})

    return make


@pytest.fixture
def ibm_gateway(new_ibm_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway with both accounts."""
    return new_ibm_gateway().start()
