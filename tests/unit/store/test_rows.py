"""Rows that are written together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text

from gateway.store.rows import WaitingRows, insert_rows, update_rows

table = Table("things", MetaData(), Column("number", Integer, primary_key=True), Column("name", Text))
ADD = insert_rows(table)
ADD_UNLESS_THERE = insert_rows(table, "ON CONFLICT (number) DO NOTHING")
RENAME = update_rows(table, table.c.number, ["name"])


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE things (number INTEGER PRIMARY KEY, name TEXT)")
        yield connection


@pytest.fixture
def waiting(database: sqlite3.Connection) -> WaitingRows:
    return WaitingRows(database, (ADD, ADD_UNLESS_THERE, RENAME))


def content(database: sqlite3.Connection) -> list[tuple[int, str]]:
    return database.execute("SELECT * FROM things ORDER BY number").fetchall()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 21, 64, 85, 130, 500])
def test_each_row_is_written_once_however_many_there_are(
    database: sqlite3.Connection, waiting: WaitingRows, count: int
) -> None:
    for number in range(count):
        waiting.put(ADD, number, number, f"thing {number}")
        waiting.put(RENAME, number, number, f"new name of {number}")
    assert content(database) == []
    waiting.write()
    assert content(database) == [(number, f"new name of {number}") for number in range(count)]
    waiting.write()
    assert len(content(database)) == count


def test_a_row_takes_the_place_of_one_that_waits_under_its_key(
    database: sqlite3.Connection, waiting: WaitingRows
) -> None:
    waiting.put(ADD, 1, 1, "one")
    for name in ("uno", "un", "eins"):
        waiting.put(RENAME, 1, 1, name)
    waiting.write()
    assert content(database) == [(1, "eins")]
    assert database.total_changes == 2


def test_a_conflict_is_handled_as_the_statement_says(database: sqlite3.Connection, waiting: WaitingRows) -> None:
    waiting.put(ADD, 1, 1, "one")
    waiting.put(ADD_UNLESS_THERE, "a", 1, "another one")
    waiting.put(ADD_UNLESS_THERE, "b", 2, "two")
    waiting.write()
    assert content(database) == [(1, "one"), (2, "two")]
    waiting.put(ADD, 2, 2, "another two")
    with pytest.raises(sqlite3.IntegrityError):
        waiting.write()


def test_what_waits_can_be_seen_until_it_is_written(database: sqlite3.Connection, waiting: WaitingRows) -> None:
    assert waiting.waiting(ADD, 1) is None
    waiting.put(ADD, 1, 1, "one")
    assert waiting.waiting(ADD, 1) == (1, "one")
    waiting.write()
    assert waiting.waiting(ADD, 1) is None


def test_what_is_forgotten_is_not_written(database: sqlite3.Connection, waiting: WaitingRows) -> None:
    waiting.put(ADD, 1, 1, "one")
    waiting.forget()
    waiting.write()
    assert content(database) == []


def test_asking_and_writing_by_oneself_count_as_changes_and_writing_what_waits_does_not(
    database: sqlite3.Connection, waiting: WaitingRows
) -> None:
    before = waiting.changes
    waiting.put(ADD, 1, 1, "one")
    asked = waiting.changes
    assert asked > before
    waiting.write()
    assert waiting.changes == asked
    database.execute("INSERT INTO things VALUES (2, 'two')")
    assert waiting.changes > asked
