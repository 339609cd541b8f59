"""Who hears what providers say that accounts have used, and who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.access import Caller, Role
from gateway.domain.provider import AccountUsage, Capability
from gateway.engine import usages
from tests.support.scripted_provider import ScriptedProvider
from tests.unit.engine.conftest import ALICE, MALLORY, Engine

VIEWER = Caller("eve", "physics", Role.VIEWER)


class Account(ScriptedProvider):
    """An account that tells what it has used once all are asked."""

    def __init__(self, name: str, used: AccountUsage | None, asked: asyncio.Barrier) -> None:
        super().__init__()
        self.account = name
        self.capabilities = self.capabilities | {Capability.USAGE}
        self.used = used
        self._asked = asked

    async def usage(self) -> AccountUsage:
        await self._asked.wait()
        return await super().usage()


async def test_operators_hear_it_of_all_accounts_side_by_side_and_one_that_fails_is_left_out(engine: Engine) -> None:
    asked = asyncio.Barrier(3)
    some, much = AccountUsage(1.5), AccountUsage(600, 600, limit_reached=True)
    accounts = [Account("some", some, asked), Account("mute", None, asked), Account("much", much, asked)]
    assert await engine.usages.at_providers(MALLORY, accounts) == {"some": some, "much": much}


@pytest.mark.parametrize("caller", [ALICE, VIEWER])
async def test_for_others_nobody_is_asked(engine: Engine, caller: Caller) -> None:
    asked = asyncio.Barrier(1)
    account = Account("some", AccountUsage(1), asked)
    assert await engine.usages.at_providers(caller, [account]) == {}


async def test_an_account_that_has_no_such_figures_is_not_asked(engine: Engine) -> None:
    engine.provider.used = AccountUsage(1)
    assert await engine.usages.at_providers(MALLORY, [engine.provider]) == {}


async def test_nobody_waits_long_for_an_account(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usages, "_PROVIDER_SECONDS", 0.05)
    silent, known = Account("silent", AccountUsage(1), asyncio.Barrier(2)), AccountUsage(2)
    accounts = [silent, Account("known", known, asyncio.Barrier(1))]
    assert await engine.usages.at_providers(MALLORY, accounts) == {"known": known}
