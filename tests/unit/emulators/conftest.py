"""Callers of the emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.unit.emulators.caller import Caller


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
