"""What is read once in a while, from somebody who may take long or fail."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from gateway.domain.errors import NotFound, Unavailable
from gateway.providers.ibm import remembered
from gateway.providers.ibm.remembered import Remembered


class Source:
    """Gives numbers, as long as it does not hang or fail."""

    def __init__(self) -> None:
        self.readings = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.failure: Exception | None = None

    async def read(self) -> int:
        self.readings += 1
        await self.answering.wait()
        if self.failure is not None:
            raise self.failure
        return self.readings


@pytest.fixture
async def source() -> Source:
    return Source()


def remember(source: Source, *, seconds: float = 0.0, patience: float = 10.0) -> Remembered[int]:
    return Remembered(source.read, seconds, patience=patience, late=lambda: Unavailable("Not yet."))


async def test_a_young_value_is_not_read_again(source: Source) -> None:
    value = remember(source, seconds=60)
    assert [await value.get() for _ in range(3)] == [1, 1, 1]


async def test_an_old_value_is_read_again_and_those_who_ask_meanwhile_wait_for_the_same(source: Source) -> None:
    value = remember(source)
    assert await value.get() == 1
    assert await asyncio.gather(*(value.get() for _ in range(5))) == [2] * 5


async def test_an_old_value_serves_while_a_newer_one_takes_long(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = remember(source)
    monkeypatch.setattr(remembered, "_PATIENCE", 0.0)
    assert await value.get() == 1
    source.answering.clear()
    assert [await value.get() for _ in range(3)] == [1, 1, 1]
    assert source.readings == 2
    source.answering.set()
    async with asyncio.timeout(5):
        while await value.get() == 1:
            await asyncio.sleep(0)


async def test_an_old_value_serves_for_another_while_if_it_cannot_be_read(source: Source) -> None:
    value = remember(source)
    await value.get()
    source.failure = Unavailable("Down.")
    assert await value.get() == 1


async def test_that_there_is_nothing_to_be_read_any_more_is_told(source: Source) -> None:
    value = remember(source)
    await value.get()
    source.failure = NotFound.backend("x")
    with pytest.raises(NotFound):
        await value.get()


async def test_whoever_waits_for_the_first_value_is_sent_away_in_time_and_the_reading_goes_on(source: Source) -> None:
    value = remember(source, seconds=60, patience=0.05)
    source.answering.clear()
    for _ in range(3):
        with pytest.raises(Unavailable, match="Not yet"):
            await value.get()
    assert source.readings == 1
    source.answering.set()
    async with asyncio.timeout(5):
        while True:
            with suppress(Unavailable):
                assert await value.get() == 1
                break
            await asyncio.sleep(0)
    assert source.readings == 1


async def test_a_first_value_that_cannot_be_read_is_an_error_each_time_it_is_asked_for(source: Source) -> None:
    value = remember(source)
    source.failure = Unavailable("Down.")
    for _ in range(2):
        with pytest.raises(Unavailable, match="Down"):
            await value.get()
    assert source.readings == 2


async def test_a_reading_that_is_given_up_leaves_nobody_waiting(source: Source) -> None:
    value = remember(source)
    source.answering.clear()
    asking = asyncio.create_task(value.get())
    await asyncio.sleep(0)
    value.close()
    with pytest.raises(Unavailable):
        await asking
