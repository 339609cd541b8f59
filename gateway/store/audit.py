"""The audit trail: records that are only ever appended, each bound to the one before it.

A record's hash covers the record and the hash of its predecessor, and records are numbered without a gap. So a record that was
altered, taken out or put in shows, and so does one that is missing at the end: the database remembers the highest number that it
gave out. Whoever can write to the database can make the whole chain anew: against that, keep a hash that `gateway audit verify`
printed somewhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row, select, text

from gateway.domain.access import AuditEntry
from gateway.store.codec import from_micros, to_micros
from gateway.store.rows import WaitingRows, insert_rows
from gateway.store.schema import audit

ADD_AUDIT = insert_rows(audit)
_LAST = select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
_LAST_NUMBER = text("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")
_BATCH = 1000


class Link(NamedTuple):
    """The end of a chain, to which the next record is bound."""

    sequence: int
    hash: str
    """SHA-256 in hexadecimal; empty before the first record."""


START = Link(0, "")
"""The end of an empty chain."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An audit entry as it is stored."""

    sequence: int
    """Position in the store-wide order, from 1, without gaps."""
    entry: AuditEntry
    hash: str = ""
    """SHA-256 of the record and of the hash before it, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which records to read. Empty fields choose all."""

    tenant: str = ""
    resource: str = ""
    since: datetime | None = None
    until: datetime | None = None


class AuditTrailBroken(Exception):
    """A record is missing, or is not what was written. The message names the first such place."""


class AuditWrites:
    """Appends records, inside the transactions of the writer.

    Args:
        connection: The only connection that writes.
        rows: What is written at the end of the transaction.
    """

    def __init__(self, connection: Connection, rows: WaitingRows) -> None:
        self._rows = rows
        last = connection.execute(_LAST).one_or_none()
        self.end = START if last is None else Link(*last)
        """The end of the chain. Whoever undoes what was appended puts it back."""

    def append(self, entry: AuditEntry) -> None:
        """See `Store.append_audit`."""
        sequence = self.end.sequence + 1
        columns = (
            sequence,
            to_micros(entry.at),
            entry.caller,
            entry.tenant,
            entry.action,
            entry.resource,
            entry.outcome,
            entry.peer,
            entry.request_id,
        )
        self.end = Link(sequence, chained(self.end.hash, columns))
        self._rows.put(ADD_AUDIT, sequence, *columns, self.end.hash)


class AuditReads:
    """Reads and checks records, on a connection that never writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def records(
        self, where: AuditQuery, *, after: int = 0, limit: int, newest_first: bool = False
    ) -> tuple[AuditRecord, ...]:
        """Return records beyond a position, in the order that is asked for.

        Args:
            where: Which ones.
            after: Position before the first, in the order of reading; 0 for the beginning.
            limit: Largest number.
            newest_first: Read backwards.
        """
        query = select(audit).limit(limit)
        if newest_first:
            query = query.order_by(audit.c.sequence.desc())
            query = query.where(audit.c.sequence < after) if after else query
        else:
            query = query.order_by(audit.c.sequence).where(audit.c.sequence > after)
        for column, value in ((audit.c.tenant, where.tenant), (audit.c.resource, where.resource)):
            query = query.where(column == value) if value else query
        if where.since is not None:
            query = query.where(audit.c.at >= to_micros(where.since))
        if where.until is not None:
            query = query.where(audit.c.at <= to_micros(where.until))
        return tuple(_record(row) for row in self._connection.execute(query))

    def links(self, expected: Mapping[int, str] = MappingProxyType({})) -> Iterator[Link]:
        """Check the chain from its beginning, and yield each link that is right.

        Args:
            expected: Hashes that were seen before, by sequence.

        Raises:
            AuditTrailBroken: A record is missing, was altered, or is not the one that was expected.
        """
        link, highest = START, self._connection.execute(_LAST_NUMBER).scalar() or 0
        while rows := self._rows_after(link.sequence):
            for row in rows:
                link = _checked(link, row)
                if expected.get(link.sequence, link.hash) != link.hash:
                    raise AuditTrailBroken(f"Record {link.sequence} is not the one that was expected.")
                yield link
        highest = max(highest, *expected) if expected else highest
        if link.sequence < highest:
            raise AuditTrailBroken(f"The records {link.sequence + 1} to {highest} are missing at the end.")

    def _rows_after(self, sequence: int) -> list[dict[str, Any]]:
        query = select(audit).where(audit.c.sequence > sequence).order_by(audit.c.sequence).limit(_BATCH)
        return [dict(row) for row in self._connection.execute(query).mappings()]


def chained(before: str, columns: Sequence[Any]) -> str:
    """Return the hash that binds a record to the one before it.

    Args:
        before: Hash of that one, in hexadecimal; empty for the first.
        columns: The columns of the record in their order, but for its own hash.
    """
    return hashlib.sha256(orjson.dumps([before, *columns])).hexdigest()


_HASHED = tuple(column.name for column in audit.columns if column.name != "hash")


def _checked(before: Link, row: dict[str, Any]) -> Link:
    sequence = row["sequence"]
    if sequence != before.sequence + 1:
        raise AuditTrailBroken(f"The records {before.sequence + 1} to {sequence - 1} are missing.")
    if row["hash"] != chained(before.hash, [row[name] for name in _HASHED]):
        raise AuditTrailBroken(f"Record {sequence} was altered, or one before it was replaced.")
    return Link(sequence, row["hash"])


def _record(row: Row[Any]) -> AuditRecord:
    return AuditRecord(
        row.sequence,
        AuditEntry(
            at=from_micros(row.at),
            caller=row.caller,
            tenant=row.tenant,
            action=row.action,
            resource=row.resource,
            outcome=row.outcome,
            peer=row.peer,
            request_id=row.request_id,
        ),
        row.hash,
    )
