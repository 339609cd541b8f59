"""Rows that are written together: a few statements for all the rows of a transaction.

The driver lets go of the interpreter's lock around every statement. Beside a busy event loop, a writer that runs ten statements
for each job spends nearly all its time on getting the lock back, and the loop loses as much. So rows wait, and go to their tables
in one piece.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from sqlalchemy import Column, Table

Values = tuple[Any, ...]

_PORTIONS = (64, 32, 16, 8, 4, 2, 1)
"""Numbers of rows for which there is a statement: the driver keeps so few in a form that need not be parsed again."""


@dataclass(frozen=True, eq=False)
class RowStatement:
    """A statement on any number of rows: what stands before them, one of them, and what stands after them."""

    head: str
    row: str
    tail: str = ""

    @cached_property
    def _texts(self) -> dict[int, str]:
        return {size: f"{self.head}{', '.join([self.row] * size)}{self.tail}" for size in _PORTIONS}

    def portions(self, rows: Sequence[Values]) -> Iterator[tuple[str, Values]]:
        """Yield the statements that write some rows, each with its parameters."""
        begin = 0
        for size in _PORTIONS:
            while len(rows) - begin >= size:
                yield self._texts[size], tuple(chain.from_iterable(rows[begin : begin + size]))
                begin += size


def insert_rows(table: Table, tail: str = "") -> RowStatement:
    """Return the insertion of rows, with a value for each column in its order.

    Args:
        table: Where to insert.
        tail: What else the statement says, such as what to do about a conflict.
    """
    names = [column.name for column in table.columns]
    head = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES "  # noqa: S608 - names of ours
    return RowStatement(head, _places(names), f" {tail}")


def update_rows(table: Table, key: Column[int], names: Sequence[str]) -> RowStatement:
    """Return the change of rows: the value of the key column comes first, and then those of the columns to set."""
    settings = ", ".join(f"{name} = new.column{number}" for number, name in enumerate(names, 2))
    return RowStatement(
        f"UPDATE {table.name} SET {settings} FROM (VALUES ",  # noqa: S608 - names of ours
        _places([key.name, *names]),
        f") AS new WHERE {table.name}.{key.name} = new.column1",
    )


def _places(columns: Collection[str]) -> str:
    return f"({', '.join('?' * len(columns))})"


class WaitingRows:
    """The rows of a transaction that are not written yet.

    Args:
        connection: The only connection that writes.
        statements: What can be done with rows, in the order in which it is done.
    """

    def __init__(self, connection: sqlite3.Connection, statements: Sequence[RowStatement]) -> None:
        self._connection = connection
        self._waiting: dict[RowStatement, dict[Hashable, Values]] = {statement: {} for statement in statements}
        self._put = 0
        self._written = 0

    @property
    def changes(self) -> int:
        """A number that grows with every change that somebody made or asked for, and not by writing what was asked for."""
        return self._put + self._connection.total_changes - self._written

    def waiting(self, statement: RowStatement, key: Hashable) -> Values | None:
        """Return the row that waits under a key, or None."""
        return self._waiting[statement].get(key)

    def put(self, statement: RowStatement, key: Hashable, *values: Any) -> None:
        """Have a row written, instead of one that waits under the same key for the same statement."""
        self._waiting[statement][key] = values
        self._put += 1

    def write(self) -> None:
        """Write what waits: whoever reads a table, or changes it in another way, does this first.

        Raises:
            sqlite3.Error: The database took only some of it, or nothing.
        """
        before = self._connection.total_changes
        for statement, waiting in self._waiting.items():
            if waiting:
                rows = list(waiting.values())
                waiting.clear()
                for text, values in statement.portions(rows):
                    self._connection.execute(text, values)
        self._written += self._connection.total_changes - before

    def forget(self) -> None:
        """Write none of what waits."""
        for waiting in self._waiting.values():
            waiting.clear()
