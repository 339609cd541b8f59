import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.credentials.sources import FileSource
from gateway.credentials.token_cache import Pace, TokenCache
from gateway.domain.errors import AccountRefused, FailedPrecondition, GatewayError, Reason, Unavailable
from gateway.domain.provider import Health
from gateway.domain.secret import Secret, Token, TokenSource
from tests.support.waiting import until
from tests.unit.credentials.token_bench import LIFE, Bench, Provider


def _new_key() -> Secret:
    return Secret(secrets.token_urlsafe(24))


@pytest.fixture
async def cold() -> AsyncIterator[Bench]:
    """A cache that the test itself starts."""
    made = Bench()
    yield made
    await made.cache.close()


@pytest.fixture
async def bench(cold: Bench) -> Bench:
    """A cache that has its first token."""
    cold.cache.start()
    await cold.settle()
    assert cold.exchanges == 1
    return cold


async def test_however_many_ask_a_key_is_exchanged_once(cold: Bench) -> None:
    cold.provider.open.clear()
    cold.cache.start()
    callers = [asyncio.create_task(cold.cache.token()) for _ in range(200)]
    await cold.settle()
    assert not any(caller.done() for caller in callers)
    cold.provider.open.set()
    tokens = await asyncio.gather(*callers)
    assert len({token.secret for token in tokens}) == 1
    await cold.settle()
    assert cold.exchanges == 1
    assert cold.health == [(Health.SERVING, "The account's token is valid.")]


async def test_a_caller_that_gives_up_does_not_take_the_exchange_from_the_others(cold: Bench) -> None:
    cold.provider.open.clear()
    cold.cache.start()
    first, second = (asyncio.create_task(cold.cache.token()) for _ in range(2))
    await cold.settle()
    first.cancel()
    await cold.settle()
    cold.provider.open.set()
    assert (await second).lifetime == LIFE
    assert first.cancelled()
    assert cold.exchanges == 1


async def test_a_token_is_renewed_at_half_its_life_give_or_take(bench: Bench) -> None:
    pauses = []
    for _ in range(20):
        before = await bench.cache.token()
        pauses.append(await bench.to_next_timer())
        assert (await bench.cache.token()).secret != before.secret
    assert all(0.45 * LIFE <= pause <= 0.55 * LIFE for pause in pauses)
    assert len(set(pauses)) > 1
    assert bench.exchanges == 21


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
async def test_a_wrong_clock_at_the_provider_does_no_harm(bench: Bench, skew: float) -> None:
    bench.provider.skew = skew
    before = await bench.cache.token()
    await bench.advance(0.4 * LIFE)
    assert await bench.cache.token() == before
    assert bench.exchanges == 1


async def test_callers_do_not_wait_for_a_renewal(bench: Bench) -> None:
    before = await bench.cache.token()
    bench.provider.open.clear()
    await bench.to_next_timer()
    assert bench.exchanges == 2
    assert await bench.cache.token() == before
    bench.provider.open.set()
    await bench.settle()
    assert await bench.cache.token() != before


async def test_a_token_serves_until_it_is_over_while_the_exchange_fails(bench: Bench) -> None:
    start = bench.clock.time()
    token = await bench.cache.token()
    bench.provider.error = Unavailable("IAM answers 503.")
    while bench.clock.next_at() < start + LIFE:
        await bench.to_next_timer()
        assert await bench.cache.token() == token
    assert bench.health[-1] == (Health.DEGRADED, "IAM answers 503. The token from before is still in use.")
    await bench.to_next_timer()
    with pytest.raises(Unavailable, match=r"IAM answers 503\.") as caught:
        await bench.cache.token()
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 60
    assert bench.health[-1] == (Health.NOT_SERVING, "IAM answers 503.")

    bench.provider.error = None
    await bench.to_next_timer()
    assert await bench.cache.token() != token
    assert bench.health[-1][0] is Health.SERVING


async def test_failures_are_followed_by_growing_pauses_with_jitter(cold: Bench) -> None:
    cold.provider.error = Unavailable("IAM answers 503.")
    cold.cache.start()
    await cold.settle()
    first = cold.exchanges
    pauses = [await cold.to_next_timer() for _ in range(12)]
    assert cold.exchanges == first + 12
    for attempt, pause in enumerate(pauses, first - 1):
        longest = min(60.0, 2.0**attempt)
        assert longest / 2 <= pause <= longest
    assert len({pause for pause in pauses if pause > 30}) > 1


async def test_a_provider_that_asks_for_a_longer_pause_gets_it(bench: Bench) -> None:
    await bench.cache.token()
    bench.provider.error = Unavailable("IAM answers 429.", retry_after=300.0)
    await bench.to_next_timer()
    assert await bench.to_next_timer() == pytest.approx(300.0)


async def test_callers_between_two_tries_fail_at_once_and_cause_no_exchange(cold: Bench) -> None:
    refused = FailedPrecondition("The key is refused.", reason=Reason.PROVIDER_ERROR)
    cold.provider.error = refused
    cold.cache.start()
    await cold.settle()
    exchanges = cold.exchanges
    caught = []
    for _ in range(50):
        with pytest.raises(FailedPrecondition, match="The key is refused") as error:
            await cold.cache.token()
        caught.append(error.value)
    assert cold.exchanges == exchanges
    assert {error.reason for error in caught} == {Reason.PROVIDER_ERROR}
    assert len(set(map(id, caught))) == 50  # an error of its own for each: none gathers the tracebacks of all


async def test_a_refused_token_is_replaced_once_however_many_complain(bench: Bench) -> None:
    refused = await bench.cache.token()
    await bench.advance(120)
    for _ in range(50):
        bench.cache.invalidate(refused)
    tokens = await asyncio.gather(*(bench.cache.token() for _ in range(50)))
    assert {token.secret for token in tokens} == {tokens[0].secret} != {refused.secret}
    bench.cache.invalidate(refused)
    assert await bench.cache.token() == tokens[0]
    assert bench.exchanges == 2


async def test_a_provider_that_refuses_its_fresh_tokens_is_asked_more_and_more_seldom(bench: Bench) -> None:
    bench.cache.invalidate(await bench.cache.token())
    bench.cache.invalidate(await bench.cache.token())  # the first time was for free
    assert bench.exchanges == 2
    pauses = []
    for _ in range(5):
        with pytest.raises(Unavailable, match="refuses the tokens"):
            await bench.cache.token()
        pauses.append(await bench.to_next_timer())
        bench.cache.invalidate(await bench.cache.token())
    assert bench.exchanges == 7
    assert all(0.5 * 2**number <= pause <= 2**number for number, pause in enumerate(pauses))
    assert bench.health[-1][0] is Health.NOT_SERVING

    await bench.to_next_timer()
    good = await bench.cache.token()
    await bench.advance(600)
    bench.cache.invalidate(good)  # it has worked for a while: no reason to doubt the next one
    await bench.cache.token()
    assert bench.exchanges == 9


async def test_a_provider_that_refuses_a_call_now_and_then_is_not_left_alone(bench: Bench) -> None:
    for _ in range(20):
        token = await bench.cache.token()
        bench.cache.confirm(token)
        bench.cache.confirm(token)
        bench.cache.invalidate(token)
    assert bench.exchanges == 20
    await bench.cache.token()


async def test_a_new_key_is_exchanged_at_once_and_once(bench: Bench) -> None:
    old = await bench.cache.token()
    new_key = _new_key()
    bench.provider.open.clear()
    bench.source.rotate(new_key)
    await bench.settle()
    assert await bench.cache.token() == old
    bench.provider.open.set()
    await bench.settle()
    assert await bench.cache.token() != old
    for _ in range(3):
        bench.source.rotate(Secret(new_key.reveal()))
        await bench.settle()
    assert bench.provider.asked[1:] == [new_key]


async def test_a_key_that_is_rotated_during_an_exchange_is_not_missed(cold: Bench) -> None:
    cold.provider.open.clear()
    cold.cache.start()
    await cold.settle()
    new_key = _new_key()
    cold.source.rotate(new_key)
    await cold.settle()
    cold.provider.open.set()
    await cold.settle()
    assert cold.provider.asked[-1] == new_key
    assert cold.exchanges == 2


async def test_a_bad_new_key_leaves_the_old_one_in_use_and_is_reported(bench: Bench) -> None:
    token = await bench.cache.token()
    old_key, bad_key = bench.provider.asked[0], _new_key()
    bench.provider.refused[bad_key] = FailedPrecondition("The new key is refused.")
    bench.source.rotate(bad_key)
    await bench.settle()
    assert bench.provider.asked == [old_key, bad_key]
    assert await bench.cache.token() == token
    assert bench.health[-1] == (
        Health.DEGRADED,
        "The new key is refused. The token from before is still in use.",
    )

    # The old key is even renewed when its time comes, and the new one goes on to be tried.
    for _ in range(200):
        await bench.to_next_timer()
        await bench.cache.token()
    assert bench.provider.asked.count(old_key) >= 2
    assert bench.health[-1][0] is Health.DEGRADED

    good_key = _new_key()
    bench.source.rotate(good_key)
    await bench.settle()
    assert bench.provider.asked[-1] == good_key
    assert bench.health[-1][0] is Health.SERVING


async def test_a_bad_new_key_does_not_let_short_lived_tokens_of_the_old_one_run_out(cold: Bench) -> None:
    cold.provider.life = 10.0
    cold.cache.start()
    await cold.settle()
    bad_key = _new_key()
    cold.provider.refused[bad_key] = Unavailable("IAM answers 429.", retry_after=50.0)
    cold.source.rotate(bad_key)
    for _ in range(200):
        await cold.advance(1)
        await cold.cache.token()


async def test_a_refused_token_is_replaced_through_the_old_key_while_the_new_one_is_bad(bench: Bench) -> None:
    token = await bench.cache.token()
    bad_key = _new_key()
    bench.provider.refused[bad_key] = FailedPrecondition("The new key is refused.")
    bench.source.rotate(bad_key)
    await bench.advance(0.1)
    await bench.advance(30)
    bench.cache.invalidate(token)
    replaced = await bench.cache.token()
    assert replaced.secret != token.secret
    assert bench.provider.asked[-1] == bench.provider.asked[0] != bad_key


async def test_a_new_key_that_becomes_valid_a_little_later_is_taken_then(bench: Bench) -> None:
    old = await bench.cache.token()
    new_key = _new_key()
    bench.provider.refused[new_key] = FailedPrecondition("The new key is not known yet.")
    bench.source.rotate(new_key)
    await bench.settle()
    assert await bench.cache.token() == old
    bench.provider.refused.clear()
    assert await bench.to_next_timer() <= 1
    assert await bench.cache.token() != old
    assert bench.health[-1][0] is Health.SERVING


async def test_taking_a_bad_key_back_makes_all_well_without_an_exchange(bench: Bench) -> None:
    token = await bench.cache.token()
    old_key, bad_key = bench.provider.asked[0], _new_key()
    bench.provider.refused[bad_key] = FailedPrecondition("The new key is refused.")
    bench.source.rotate(bad_key)
    await bench.settle()
    bench.source.rotate(old_key)
    await bench.settle()
    assert await bench.cache.token() == token
    assert bench.exchanges == 2
    assert bench.health[-1][0] is Health.SERVING


async def test_a_key_that_cannot_be_read_leaves_the_old_one_in_use(bench: Bench) -> None:
    await bench.cache.token()
    key = bench.provider.asked[0]
    bench.source.rotate(None)
    await bench.settle()
    assert bench.health[-1][0] is Health.DEGRADED
    assert "file /run/secrets/ibm" in bench.health[-1][1]
    await bench.advance(0.6 * LIFE)
    assert bench.provider.asked == [key, key]
    bench.source.rotate(key)
    await bench.settle()
    assert bench.health[-1][0] is Health.SERVING
    assert bench.exchanges == 2


async def test_operators_are_told_where_the_key_is_missing_and_callers_are_not(cold: Bench) -> None:
    cold.source.key = None
    cold.cache.start()
    with pytest.raises(AccountRefused, match="The key of account 'ibm-eu' cannot be read") as caught:
        await cold.cache.token()
    assert "/run/secrets" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert cold.health == [(Health.NOT_SERVING, "Cannot read the file /run/secrets/ibm.")]
    cold.source.rotate(_new_key())
    await cold.settle()
    await cold.cache.token()


async def test_reload_reads_the_key_now(bench: Bench) -> None:
    await bench.cache.token()
    bench.source.key = _new_key()  # a source that does not tell of changes
    await bench.settle()
    assert bench.exchanges == 1
    bench.cache.reload()
    await bench.settle()
    assert bench.provider.asked[-1] == bench.source.key


@pytest.mark.parametrize("life", [0.0, -5.0, 0.5])
async def test_a_token_that_is_over_already_is_a_failure(cold: Bench, life: float) -> None:
    cold.provider.life = life
    cold.cache.start()
    with pytest.raises(Unavailable, match="over already"):
        await cold.cache.token()


async def test_an_error_that_may_quote_the_key_is_told_by_its_class_only(cold: Bench) -> None:
    assert cold.source.key
    text = cold.source.key.reveal()
    cold.provider.error = ValueError(f"bad form: apikey={text}")
    cold.cache.start()
    with pytest.raises(Unavailable, match="ValueError") as caught:
        await cold.cache.token()
    assert caught.value.__cause__ is None
    assert text not in repr(cold.health)


async def test_the_health_shows_what_the_exchange_says_and_not_what_that_was_made_from(cold: Bench) -> None:
    cold.provider.error = FailedPrecondition("The key is refused.")
    cold.provider.error.__cause__ = ValueError("body: apikey=...")
    cold.cache.start()
    await cold.settle()
    assert cold.health == [(Health.NOT_SERVING, "The key is refused.")]


async def test_waiting_callers_are_released_when_the_cache_is_closed(cold: Bench) -> None:
    cold.provider.open.clear()
    cold.cache.start()
    caller = asyncio.create_task(cold.cache.token())
    await cold.settle()
    await cold.cache.close()
    with pytest.raises(Unavailable) as caught:
        await caller
    assert caught.value.reason is Reason.SERVER_STOPPING
    with pytest.raises(Unavailable):
        await cold.cache.token()


async def test_a_health_listener_that_fails_does_not_end_the_renewals() -> None:
    bench = Bench()

    def fail(health: Health, message: str) -> None:
        raise RuntimeError("no")

    cache = TokenCache("ibm-eu", bench.source, bench.provider.exchange, on_health=fail, clock=bench.clock)
    cache.start()
    await cache.token()
    await bench.to_next_timer()
    assert bench.exchanges == 2
    await cache.close()


async def test_an_exchange_that_hangs_is_given_up() -> None:
    bench = Bench()
    bench.provider.open.clear()
    cache = TokenCache(
        "ibm-eu",
        bench.source,
        bench.provider.exchange,
        on_health=lambda *_: None,
        pace=Pace(timeout=0.02, first_retry=0.01),
    )
    cache.start()
    with pytest.raises(Unavailable, match=r"took longer than 0\.02 s"):
        await cache.token()
    bench.provider.open.set()
    await until(lambda: bench.exchanges >= 2)
    token: Token | None = None
    async with asyncio.timeout(10):
        while token is None:
            try:
                token = await cache.token()
            except GatewayError as error:
                await asyncio.sleep(error.retry_after or 0)
    await cache.close()


async def test_a_key_in_a_file_is_rotated_without_a_restart(tmp_path: Path) -> None:
    provider, path = Provider(), tmp_path / "key"
    first, second = _new_key(), _new_key()
    path.write_text(first.reveal())
    cache = TokenCache("ibm-eu", FileSource(path, poll_interval=0.01), provider.exchange, on_health=lambda *_: None)
    cache.start()
    source: TokenSource = cache
    before = await source.token()
    new = tmp_path / "new"
    new.write_text(second.reveal())
    new.replace(path)
    await until(lambda: provider.asked == [first, second])
    while await source.token() == before:
        await asyncio.sleep(0.001)
    await cache.close()


async def test_whoever_asks_for_a_refresh_hears_whether_the_key_changed(bench: Bench) -> None:
    assert not await bench.cache.refresh()
    bench.source.key = Secret("a new key")
    assert await bench.cache.refresh()
    assert not await bench.cache.refresh()
    before = await bench.cache.token()
    bad = bench.source.key = Secret("a bad key")
    bench.provider.refused[bad] = AccountRefused("No.")
    with pytest.raises(AccountRefused, match="No"):
        await bench.cache.refresh()
    assert (await bench.cache.token()).secret == before.secret


async def test_a_refresh_during_an_exchange_waits_for_one_that_began_later(cold: Bench) -> None:
    cold.provider.open.clear()
    cold.cache.start()
    await cold.settle()
    cold.source.key = Secret("a new key")
    refreshing = asyncio.create_task(cold.cache.refresh())
    await cold.settle()
    cold.provider.open.set()
    assert await refreshing
    assert cold.provider.asked[-1] == Secret("a new key")


async def test_a_refresh_ends_with_the_cache(cold: Bench) -> None:
    cold.provider.open.clear()
    cold.cache.start()
    await cold.settle()
    refreshing = asyncio.create_task(cold.cache.refresh())
    await cold.settle()
    await cold.cache.close()
    with pytest.raises(Unavailable):
        await refreshing
