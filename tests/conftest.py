"""Fixtures that all tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.leaks import WATCH
from tests.support.taps import tapped
from tests.support.telemetry_sink import telemetry_sink


def pytest_configure() -> None:
    """Let SIGTERM end the tests as Ctrl-C does: with all the servers that they have started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the table of who may do what be written anew."""
    parser.addoption(
        "--renew-access-table", action="store_true", help="Write tests/access/table.txt from what the server does now."
    )


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A running gateway with the local provider, shared by all tests that only use it."""
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), {"SERVER__HEARTBEAT_INTERVAL": "2"}).start()
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="session", autouse=True)
def _watch() -> Iterator[None]:
    """Everything that tests are told is heard. At the end, what servers have left that all tests share is searched."""
    with tapped(), telemetry_sink() as telemetry:
        GatewayProcess.telemetry = telemetry
        yield
    WATCH.look()
    assert WATCH.take() == []


@pytest.fixture(autouse=True)
def _no_secret_gets_out(_watch: None) -> Iterator[None]:
    """No secret that was planted by now is in anything that a server told or left behind in the test."""
    mark = WATCH.canaries.mark()
    yield
    WATCH.look()
    leaks = WATCH.take()
    WATCH.canaries.forget(mark)
    assert leaks == []


@pytest.fixture
def new_gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Makes a gateway of the test's own, not yet started; it is killed at the end if it still runs."""
    made: list[GatewayProcess] = []

    def make(settings: Mapping[str, str] | None = None, folder: Path = tmp_path) -> GatewayProcess:
        made.append(GatewayProcess(folder, settings))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[EmulatorProcess]:
    """The emulator of IBM Quantum, one process for all tests."""
    with EmulatorProcess() as process:
        yield process


@pytest.fixture
def emulator(running_emulator: EmulatorProcess) -> EmulatorProcess:
    """The emulator as it is at the start: no jobs, no faults, no calls."""
    running_emulator.control.reset()
    return running_emulator


@pytest.fixture
def control(emulator: EmulatorProcess) -> EmulatorControl:
    """Steers the emulator."""
    return emulator.control
