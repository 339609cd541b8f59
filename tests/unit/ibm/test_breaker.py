from __future__ import annotations

import pytest

from gateway.domain.errors import GatewayError, NotFound, ResourceExhausted, SubmissionInDoubt, Unavailable
from gateway.providers.ibm.breaker import Breaker

DOWN = Unavailable("No route.")


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("alpha", shortest=1.0, longest=8.0, clock=clock)


def call(breaker: Breaker, error: GatewayError | None = None) -> None:
    with breaker.call():
        if error is not None:
            raise error


def fail(breaker: Breaker, times: int, error: GatewayError = DOWN) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            call(breaker, error)


def test_it_opens_after_three_calls_in_a_row_that_nobody_answered(breaker: Breaker) -> None:
    fail(breaker, 2)
    call(breaker)
    fail(breaker, 2)
    assert (breaker.is_open, breaker.is_suspect) == (False, True)
    fail(breaker, 1, SubmissionInDoubt("The line went dead."))
    assert breaker.is_open
    with pytest.raises(Unavailable) as refused:
        call(breaker)
    assert refused.value is not DOWN
    assert refused.value.retry_after is not None
    assert 0.8 < refused.value.retry_after <= 1.0


@pytest.mark.parametrize(
    "error",
    [
        NotFound("None.", metadata={"http_status": "404"}),
        ResourceExhausted("Slower.", metadata={"http_status": "429"}),
        Unavailable("It failed over this request.", metadata={"http_status": "500"}),
    ],
)
def test_a_refusal_is_an_answer(breaker: Breaker, error: GatewayError) -> None:
    fail(breaker, 2)
    fail(breaker, 1, error)
    assert (breaker.is_open, breaker.is_suspect) == (False, False)


def test_one_call_at_a_time_tries_and_each_failure_doubles_the_wait(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    for wait in (1, 2, 4, 8, 8):
        clock.now += 0.8 * wait
        with pytest.raises(Unavailable, match="does not answer"):
            call(breaker)
        clock.now += 0.2 * wait
        trying = breaker.call()
        trying.__enter__()
        with pytest.raises(Unavailable, match="does not answer"):
            call(breaker)
        assert not trying.__exit__(Unavailable, DOWN, None)
    clock.now += 8
    call(breaker)
    assert (breaker.is_open, breaker.is_suspect) == (False, False)
    call(breaker)


def test_calls_that_were_under_way_together_count_as_one_finding(breaker: Breaker, clock: Clock) -> None:
    under_way = [breaker.call() for _ in range(8)]
    for each in under_way:
        each.__enter__()
    for each in under_way:
        assert not each.__exit__(Unavailable, DOWN, None)
    clock.now += 1
    call(breaker)


def test_a_try_that_its_caller_gave_up_lets_another_try(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    with pytest.raises(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt
    call(breaker)
    assert not breaker.is_open
