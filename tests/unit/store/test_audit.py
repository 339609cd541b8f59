from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from gateway.domain.errors import NotFound
from gateway.store import AuditQuery, AuditReads, AuditTrailBroken, Link, Store, StoreUnusable, read_only
from gateway.store.migrations.upgrade import upgrade
from tests.unit.store.make import PROGRAM, a_job, an_entry


def check(path: Path) -> list[Link]:
    with read_only(path) as connection:
        return list(AuditReads(connection).links())


def alter(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.fixture
async def trail(tmp_path: Path) -> Path:
    path = tmp_path / "qgateway.db"
    store = await Store.open(path)
    for number in range(5):
        await store.append_audit(an_entry(f"act {number}"))
    await store.close()
    return path


async def test_a_trail_is_whole_after_a_restart_and_goes_on(trail: Path) -> None:
    before = check(trail)
    store = await Store.open(trail)
    await store.append_audit(an_entry("after the restart"))
    records = await store.audit_records(limit=10)
    assert check(trail)[:5] == before  # beside the server
    assert [link.sequence for link in check(trail)] == [record.sequence for record in records] == [1, 2, 3, 4, 5, 6]
    assert [link.hash for link in check(trail)] == [record.hash for record in records]
    await store.close()


@pytest.mark.parametrize("column", ["at", "caller", "tenant", "action", "resource", "outcome", "peer", "request_id"])
def test_an_altered_record_shows(trail: Path, column: str) -> None:
    alter(trail, f"UPDATE audit SET {column} = '1' WHERE sequence = 3")  # noqa: S608
    with pytest.raises(AuditTrailBroken, match="Record 3 was altered"):
        check(trail)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM audit WHERE sequence = 3", "records 3 to 3 are missing"),
        ("DELETE FROM audit WHERE sequence <= 2", "records 1 to 2 are missing"),
        ("DELETE FROM audit WHERE sequence >= 4", "records 4 to 5 are missing at the end"),
        ("UPDATE audit SET hash = '00' WHERE sequence = 2", "Record 2 was altered"),
    ],
)
def test_a_missing_record_shows(trail: Path, statement: str, message: str) -> None:
    alter(trail, statement)
    with pytest.raises(AuditTrailBroken, match=message):
        check(trail)


async def test_a_write_that_is_undone_leaves_no_gap(trail: Path) -> None:
    store = await Store.open(trail)
    with pytest.raises(NotFound):
        await store.delete_job("unknown", lambda _: None, an_entry("never"))

    def refuse(_: object) -> None:
        raise NotFound("told to")

    job = a_job()
    job = await store.create_job(job, PROGRAM, an_entry("created"))
    with pytest.raises(NotFound):
        await store.delete_job(job.id, refuse, an_entry("never"))
    await store.append_audit(an_entry("after"))
    assert [record.entry.action for record in await store.audit_records(after=5, limit=9)] == ["created", "after"]
    await store.close()
    assert len(check(trail)) == 7


async def test_records_are_found_by_tenant_resource_and_time_in_both_orders(trail: Path) -> None:
    store = await Store.open(trail)
    entries = [record.entry for record in await store.audit_records(limit=10)]
    newest = await store.audit_records(limit=2, newest_first=True)
    assert [record.sequence for record in newest] == [5, 4]
    assert [record.sequence for record in await store.audit_records(after=4, limit=9, newest_first=True)] == [3, 2, 1]
    everything = AuditQuery(entries[0].tenant, entries[0].resource, entries[0].at, entries[-1].at)
    assert len(await store.audit_records(everything, limit=10)) == 5
    for nothing in (
        AuditQuery(tenant="nobody"),
        AuditQuery(resource="jobs/none"),
        AuditQuery(since=entries[-1].at + timedelta(seconds=1)),
        AuditQuery(until=entries[0].at - timedelta(seconds=1)),
    ):
        assert await store.audit_records(nothing, limit=10) == ()
    await store.close()


async def test_records_of_before_the_chain_are_chained_when_the_database_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        upgrade(connection, "0004")
    engine.dispose()
    columns = "(sequence, at, caller, tenant, action, resource, outcome, peer, request_id)"
    for values in (  # numbers had gaps then
        "(1, 1, 'alice', 'physics', 'act 1', 'jobs/x', 'OK', '', '')",
        "(3, 3, 'alice', 'physics', 'act 3', 'jobs/x', 'OK', '', '')",
        "(4, 4, 'alice', 'physics', 'act 4', 'jobs/x', 'OK', '', '')",
    ):
        alter(path, f"INSERT INTO audit {columns} VALUES {values}")  # noqa: S608
    with pytest.raises(StoreUnusable, match="0004"):
        check(path)
    store = await Store.open(path)
    await store.append_audit(an_entry("new"))
    actions = [record.entry.action for record in await store.audit_records(limit=10)]
    assert actions == ["act 1", "act 3", "act 4", "new"]
    await store.close()
    assert [link.sequence for link in check(path)] == [1, 2, 3, 4]
