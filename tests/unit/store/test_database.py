"""The file: creation, migration, locking, and what survives."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from gateway.domain.job import JobStatus
from gateway.domain.query import JobFilter
from gateway.store import Store, StoreUnusable
from gateway.store.migrations.upgrade import known_revisions
from gateway.store.schema import SCHEMA_REVISION, metadata
from tests.support.waiting import until

from .make import PROGRAM, a_job, an_entry, done_with, rows, to_status

ROOT = Path(__file__).parents[3]
DEFINITIONS = (
    "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND tbl_name != 'alembic_version'"
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestOpen:
    async def test_a_new_database_and_all_beside_it_is_for_its_owner_only(self, path: Path) -> None:
        store = await Store.open(path)
        try:
            await store.append_audit(an_entry())
            assert mode(path.parent) == 0o700
            files = {file.name: mode(file) for file in path.parent.iterdir()}
        finally:
            await store.close()
        assert files.pop("gateway.db.files") == 0o700
        assert files == dict.fromkeys(("gateway.db", "gateway.db-wal", "gateway.db-shm", "gateway.db.lock"), 0o600)

    async def test_a_commit_is_on_disk_before_it_is_told(self, store: Store) -> None:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")

        def settings(connection: sqlite3.Connection) -> list[object]:
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]

        assert await store._writer.run(lambda writes: settings(writes.connection)) == ["wal", 2, 1]

    async def test_the_log_of_commits_comes_into_the_database_long_before_it_is_large(
        self, store: Store, path: Path
    ) -> None:
        def size(name: str) -> int:
            return path.with_name(name).stat().st_size

        before = size(path.name)
        await asyncio.gather(*(store.append_audit(an_entry()) for _ in range(1100)))
        await until(lambda: size(path.name) > before)
        assert size(f"{path.name}-wal") < 8_000_000

    async def test_everything_is_there_after_reopening_and_revisions_go_on(self, path: Path) -> None:
        store = await Store.open(path)
        job = await store.create_job(a_job(tags=("t",), request_id="r"), PROGRAM, an_entry())
        gone = await store.create_job(a_job(), PROGRAM, an_entry())
        result = b"counts"
        done = await store.change_job(job.id, done_with(result))
        await store.delete_job(gone.id, lambda _: None, an_entry("job.delete"))
        events = await store.events(after=0, limit=100)
        audit = await store.audit_records(limit=100)
        await store.close()

        store = await Store.open(path)
        try:
            assert await store.get_job(job.id) == done
            assert (await store.list_jobs(JobFilter(all_tags=frozenset({"t"})), limit=5)).jobs == (done,)
            assert await store.read_program(job.id) == PROGRAM
            assert await store.read_result(job.id) == result
            assert await store.events(after=0, limit=100) == events
            assert await store.audit_records(limit=100) == audit
            assert await store.last_revision() == 4
            assert (await store.create_job(a_job(), PROGRAM, an_entry())).revision == 5
        finally:
            await store.close()

    async def test_a_revision_is_not_given_out_again_even_if_its_event_is_gone(self, path: Path) -> None:
        store = await Store.open(path)
        for _ in range(3):
            await store.create_job(a_job(), PROGRAM, an_entry())
        await store.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM events")
        store = await Store.open(path)
        try:
            assert await store.last_revision() == 3
            assert (await store.create_job(a_job(), PROGRAM, an_entry())).revision == 4
        finally:
            await store.close()

    async def test_a_path_with_odd_characters_works(self, tmp_path: Path) -> None:
        path = tmp_path / "100% wild?#&" / "ü db.sqlite"
        store = await Store.open(path)
        await store.close()
        assert rows(path, "SELECT version_num FROM alembic_version") == [(SCHEMA_REVISION,)]


class TestRefusal:
    async def test_a_second_server_on_the_same_file_is_refused(self, store: Store, path: Path) -> None:
        with pytest.raises(StoreUnusable, match=r"in use by another server \(process \d+\)"):
            await Store.open(path)
        await store.append_audit(an_entry())

    async def test_the_file_is_free_again_after_closing(self, path: Path) -> None:
        for _ in range(2):
            store = await Store.open(path)
            await store.close()

    async def test_a_database_of_a_newer_gateway_is_refused_and_left_alone(self, path: Path) -> None:
        store = await Store.open(path)
        await store.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        for _ in range(2):
            with pytest.raises(StoreUnusable, match=r"newer gateway.*9999.*Start the newer gateway"):
                await Store.open(path)
        assert rows(path, "SELECT version_num FROM alembic_version") == [("9999",)]

    async def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("not a database " * 100)
        with pytest.raises(StoreUnusable, match="not a database"):
            await Store.open(path)
        assert path.read_text() == "not a database " * 100

    async def test_a_path_that_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreUnusable, match="Check the path"):
            await Store.open(tmp_path / "file" / "gateway.db")


class TestMigrations:
    async def test_they_lead_from_nothing_to_the_schema_that_the_code_uses(self, path: Path, tmp_path: Path) -> None:
        store = await Store.open(path)
        await store.close()
        reference = tmp_path / "reference.db"
        engine = create_engine(f"sqlite:///{reference}")
        metadata.create_all(engine)
        engine.dispose()

        def definitions(database: Path) -> set[tuple[str, ...]]:
            return {
                (kind, name, re.sub(r"\s*([(),])\s*|\s+", r"\1 ", sql or ""))
                for kind, name, sql in rows(database, DEFINITIONS)
            }

        assert definitions(path) == definitions(reference)
        engine = create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()

    def test_the_newest_is_the_one_that_the_code_expects(self) -> None:
        assert known_revisions()[0] == SCHEMA_REVISION

    async def test_one_that_is_interrupted_leaves_nothing_behind(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE audit (what TEXT)")  # the last table to be created
        with pytest.raises(StoreUnusable, match="already exists"):
            await Store.open(path)
        assert rows(path, "SELECT name FROM sqlite_master") == [("audit",)]


class TestCrash:
    @pytest.mark.parametrize("acknowledged", [1, 200])
    async def test_every_acknowledged_write_survives_a_kill(self, path: Path, acknowledged: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.unit.store.endless_writer", path, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout
        output = b"".join([await process.stdout.readline() for _ in range(acknowledged)])
        process.kill()
        output += await process.stdout.read()
        await process.wait()
        told = [line.split() for line in output.decode().splitlines(keepends=True) if line.endswith("\n")]
        assert len(told) >= acknowledged

        store = await Store.open(path)
        try:
            for job_id, revision, status in told:
                job = await store.get_job(job_id)
                assert job is not None
                assert job.revision >= int(revision)
                assert job.status == status or job.status is JobStatus.QUEUED
                assert await store.read_program(job_id)
                assert [event.revision for event in await store.job_events(job_id, limit=9)][-1] == job.revision
            await self.check_consistency(store, path)
        finally:
            await store.close()

    async def check_consistency(self, store: Store, path: Path) -> None:
        """Rows, events and audit entries must agree: each change was one transaction."""
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        (jobs, events, audit) = rows(
            path, "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM events), (SELECT count(*) FROM audit)"
        )[0]
        assert events == audit
        assert jobs == rows(path, "SELECT count(*) FROM events WHERE type = 'CREATED'")[0][0]
        last = await store.last_revision()
        after = await store.create_job(a_job(), PROGRAM, an_entry())
        assert after.revision == last + 1
        await store.change_job(after.id, to_status(JobStatus.QUEUED))
