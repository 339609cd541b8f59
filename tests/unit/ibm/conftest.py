"""An account of a real emulator of the service, in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.credentials.sources import SecretSource
from gateway.credentials.token_cache import TokenCache
from gateway.domain.secret import Secret
from gateway.providers.ibm import HealthRecord, IamExchange, IbmSettings
from gateway.providers.ibm.client import IbmClient
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl


@pytest.fixture(scope="session")
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


class FixedKey:
    """A source that holds one key."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def load(self) -> Secret:
        return Secret(self._key)

    async def changes(self) -> AsyncIterator[None]:
        yield


class Account:
    """What the composition root makes for one account, in the same order."""

    def __init__(self, settings: IbmSettings, iam_url: str, key: str) -> None:
        self.settings = settings
        self.health = HealthRecord()
        self.exchange = IamExchange(settings.account, iam_url, use_environment=False)
        source: SecretSource = FixedKey(key)
        self.tokens = TokenCache(settings.account, source, self.exchange, on_health=self.health.credentials)
        self.tokens.start()

    async def close(self) -> None:
        await self.tokens.close()
        self.exchange.close()


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def new_account(emulator: EmulatorProcess, closing: AsyncExitStack) -> Callable[..., Account]:
    """Makes accounts over the emulator; settings can be changed by name."""

    def make(*, name: str = "alpha", instance: int = 0, key: str = "", **changes: Any) -> Account:
        fields = {
            "account": name,
            "crn": emulator.crn(name, instance),
            "api_url": f"{emulator.url}/api/v1",
            "use_environment": False,
            "backoff": 0.01,
            **changes,
        }
        account = Account(IbmSettings(**fields), emulator.url, key or emulator.api_key(name))
        closing.push_async_callback(account.close)
        return account

    return make


@pytest.fixture
async def new_client(new_account: Callable[..., Account], closing: AsyncExitStack) -> Callable[..., IbmClient]:
    """Makes clients of accounts of their own."""

    def make(**changes: Any) -> IbmClient:
        account = new_account(**changes)
        client = IbmClient(account.settings, account.tokens, account.health)
        closing.callback(client.close)
        return client

    return make


@pytest.fixture
async def client(new_client: Callable[..., IbmClient]) -> IbmClient:
    return new_client()
