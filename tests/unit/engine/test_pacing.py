from __future__ import annotations

from gateway.engine.pacing import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_a_rest_as_many_tokens_are_there_as_a_minute_brings() -> None:
    bucket = TokenBucket(5, Clock())
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]


def test_a_token_is_there_exactly_when_it_was_said_to_be() -> None:
    clock = Clock()
    bucket = TokenBucket(5, clock)
    for _ in range(20):
        while bucket.take():
            pass
        assert bucket.delay() > 0
        clock.now += bucket.delay()
        assert bucket.delay() == 0
        assert bucket.take()


def test_whoever_comes_behind_others_waits_for_their_tokens_too() -> None:
    bucket = TokenBucket(6, Clock())
    while bucket.take():
        pass
    assert [round(bucket.delay(ahead=ahead)) for ahead in range(3)] == [10, 20, 30]


def test_no_rest_brings_more_than_a_minute_does() -> None:
    clock = Clock()
    bucket = TokenBucket(3, clock)
    clock.now += 3600
    assert sum(bucket.take() for _ in range(10)) == 3


def test_without_a_limit_there_is_always_a_token() -> None:
    bucket = TokenBucket(None, Clock())
    assert all(bucket.take() for _ in range(1000))
    assert bucket.delay(ahead=1000) == 0


def test_a_token_that_is_given_back_can_be_taken_again() -> None:
    bucket = TokenBucket(1.0, Clock())
    assert bucket.take()
    assert not bucket.take()
    bucket.give_back()
    assert bucket.take()
    bucket.give_back()
    bucket.give_back()
    assert [bucket.take(), bucket.take()] == [True, False]
