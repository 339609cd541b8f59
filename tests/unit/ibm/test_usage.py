"""What the provider says that the account has used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from gateway.domain.errors import Unavailable
from gateway.domain.provider import AccountUsage, Capability, Health
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.ibm.conftest import Bench

ROUTE = "GET /instances/usage"


async def test_the_usage_of_the_account_is_read(bench: Bench, control: EmulatorControl) -> None:
    assert Capability.USAGE in bench.provider.capabilities
    control.change_instance("alpha-open", usage_consumed_seconds=100_000)
    usage = await bench.provider.usage()
    assert (usage.consumed_seconds, usage.limit_seconds, usage.limit_reached) == (100_000, 100_000, True)
    assert usage.period_start is not None
    assert usage.period_end == usage.period_start + timedelta(days=28)


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        ('{"usage_consumed_seconds": 5}', AccountUsage(5)),
        ('{"usage_consumed_seconds": 5, "usage_allocation_seconds": 60}', AccountUsage(5, 60)),
        ('{"usage_consumed_seconds": 5, "usage_limit_seconds": 9, "usage_allocation_seconds": 60}', AccountUsage(5, 9)),
        (
            '{"usage_consumed_seconds": 5, "usage_limit_seconds": 5, "usage_limit_reached": true, "usage_period": null}',
            AccountUsage(5, 5, limit_reached=True),
        ),
    ],
)
async def test_the_limit_of_the_instance_or_else_its_share_is_the_limit(
    bench: Bench, control: EmulatorControl, text: str, usage: AccountUsage
) -> None:
    control.fault(ROUTE, "garble", body=text)
    assert await bench.provider.usage() == usage


@pytest.mark.parametrize("text", ["{}", '{"usage_consumed_seconds": -1}', '{"usage_consumed_seconds": 1e300}'])
async def test_a_usage_that_is_none_is_not_told(bench: Bench, control: EmulatorControl, text: str) -> None:
    control.fault(ROUTE, "garble", body=text)
    with pytest.raises(Unavailable):
        await bench.provider.usage()


async def test_the_usage_is_asked_for_once_however_often_it_is_wanted(bench: Bench, control: EmulatorControl) -> None:
    first = await bench.provider.usage()
    control.change_instance("alpha-open", usage_consumed_seconds=50)
    assert await bench.provider.usage() is first
    assert control.counts()[ROUTE] == 1


@pytest.mark.parametrize(("status", "health"), [(404, Health.SERVING), (500, Health.NOT_SERVING)])
async def test_a_provider_that_does_not_tell_the_usage_is_not_asked_again_at_once(
    new_bench: Callable[..., Bench], control: EmulatorControl, status: int, health: Health
) -> None:
    provider = new_bench(retries=0).provider
    control.fault(ROUTE, "respond", status=status, times=None)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await provider.usage()
        assert caught.value.retry_after is not None
    assert control.counts()[ROUTE] == 1
    assert provider.health().health is health
    assert await provider.backends()
