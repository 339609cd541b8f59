"""One emulator for all tests of the emulators, back at its start before each one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.emulators.caller import Caller


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[EmulatorProcess]:
    """The process."""
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


@pytest.fixture
def new_caller(emulator: EmulatorProcess) -> Iterator[Callable[..., Caller]]:
    """Makes callers, by account and the number of its instance."""
    made: list[Caller] = []

    def make(account: str = "alpha", instance: int = 0, prefix: str = "/api/v1") -> Caller:
        made.append(
            Caller(emulator.url + prefix, emulator.url, emulator.api_key(account), emulator.crn(account, instance))
        )
        return made[-1]

    yield make
    for caller in made:
        caller.close()


@pytest.fixture
def caller(new_caller: Callable[..., Caller]) -> Caller:
    """A caller for the account alpha."""
    return new_caller()
