from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.engine import turns as turns_module
from gateway.engine.turns import Turns
from tests.support.waiting import until


class Scribe:
    """Writes when it is its turn, and ends its turn when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.turn_since: float | None = None
        self.slow = False
        self.writing = False
        self.written = 0
        self._turns = turns

    def go(self) -> bool:
        self.writing = True
        return True

    def finish(self) -> None:
        self.writing = False
        self.written += 1
        self._turns.end(self)


class Line:
    """Scribes who wait together."""

    def __init__(self, scribes: Sequence[Scribe]) -> None:
        self._scribes = list(scribes)

    def take(self) -> Scribe | None:
        return self._scribes.pop(0) if self._scribes else None


def scribes(turns: Turns, count: int) -> list[Scribe]:
    return [Scribe(turns) for _ in range(count)]


def writing(some: list[Scribe]) -> list[Scribe]:
    return [each for each in some if each.writing]


async def test_no_more_than_a_few_write_at_a_time_and_each_gets_one_turn() -> None:
    turns = Turns()
    crowd = scribes(turns, 100)
    turns.line_up(Line(crowd))
    most = 0
    while busy := writing(crowd):
        most = max(most, len(busy))
        busy[0].finish()
    assert most == turns_module._WIDTH
    assert [each.written for each in crowd] == [1] * 100


async def test_who_asks_for_a_turn_of_its_own_does_not_overtake() -> None:
    turns = Turns()
    crowd, late = scribes(turns, 17), Scribe(turns)
    assert turns.begin(late)
    turns.end(late)
    turns.line_up(Line(crowd))
    assert not turns.begin(late)
    turns.line_up(Line([late]))
    for each in crowd:
        assert not late.writing
        each.finish()
        if crowd.index(each) == 1:
            break
    assert late.writing


async def test_many_who_never_finish_hold_up_the_others_for_a_moment_only() -> None:
    turns = Turns()
    stuck, others = scribes(turns, 1000), scribes(turns, 3)
    turns.line_up(Line(stuck))
    turns.line_up(Line(others))
    await until(lambda: all(each.writing for each in others))
    assert all(each.slow for each in stuck[:400])


async def test_who_was_slow_takes_no_turn_from_the_quick_until_it_is_quick_again() -> None:
    turns = Turns()
    slow, others = scribes(turns, turns_module._WIDTH), scribes(turns, turns_module._WIDTH)
    turns.line_up(Line(slow))
    turns.line_up(Line(others[:1]))
    await until(lambda: others[0].writing)
    others[0].finish()
    for each in slow:
        each.finish()
        assert each.slow
    turns.line_up(Line(slow))
    turns.line_up(Line(others))
    assert writing(slow) == slow
    assert writing(others) == others
    slow[0].finish()
    assert not slow[0].slow


async def test_who_has_left_leaves_its_place_to_the_next() -> None:
    class Gone(Scribe):
        def go(self) -> bool:
            return False

    turns = Turns()
    there = Scribe(turns)
    turns.line_up(Line([Gone(turns) for _ in range(50)]))
    turns.line_up(Line([there]))
    assert there.writing
    await asyncio.sleep(0)
