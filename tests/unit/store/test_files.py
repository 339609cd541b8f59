"""Payloads that are too large for a row."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from gateway.domain.errors import GatewayError, Internal, OutOfRange
from gateway.domain.job import utc_now
from gateway.domain.payload import KeptFile, PayloadFile
from gateway.store import Store
from gateway.store.blocks import BLOCK_BYTES
from tests.support.waiting import until
from tests.unit.store.make import a_job, an_entry, done_with, done_with_file, program_summary

LARGE = 1024 * 1024 + 1


def kept_files(path: Path) -> set[str]:
    """Return the names of all files beside a database."""
    directory = path.with_name(f"{path.name}.files")
    return {file.name for file in directory.rglob("*") if file.is_file()}


def any_size(size: int) -> None: ...


def any_whole(size: int, sha256: str) -> None: ...


async def pieces(*parts: bytes) -> AsyncIterator[memoryview]:
    for part in parts:
        yield memoryview(part)


async def read(store: Store, payload: bytes | KeptFile, offset: int = 0, size: int = 300_000) -> bytes:
    return b"".join([piece async for piece in store.payloads.read_pieces(payload, offset, size)])


async def a_done_job(store: Store, result: bytes) -> str:
    program = b"p" * 100
    created = await store.create_job(a_job(program), program, an_entry())
    kept = await store.payloads.keep(result)
    await store.change_job(created.id, done_with_file(kept) if isinstance(kept, KeptFile) else done_with(result))
    return created.id


async def test_a_large_program_and_result_stand_in_files_and_outlive_the_server(path: Path) -> None:
    program, result = os.urandom(LARGE), os.urandom(3 * LARGE)
    store = await Store.open(path)
    job = await store.create_job(a_job(program), program, an_entry())
    kept = await store.payloads.keep(result)
    assert isinstance(kept, KeptFile)
    await store.change_job(job.id, done_with_file(kept))
    await store.close()

    store = await Store.open(path)
    try:
        stored_program, stored_result = await store.read_program(job.id), await store.read_result(job.id)
        assert isinstance(stored_program, KeptFile)
        assert isinstance(stored_result, KeptFile)
        assert await read(store, stored_program) == program
        assert await read(store, stored_result, LARGE + 7) == result[LARGE + 7 :]
        assert await read(store, stored_result, 3 * LARGE) == b""
    finally:
        await store.close()
    assert path.stat().st_size < LARGE  # noqa: ASYNC240 - a test may wait for a disk


async def test_what_is_small_stays_in_its_row(store: Store, path: Path) -> None:
    result = os.urandom(LARGE - 1)
    assert await store.payloads.keep(result) is result
    job_id = await a_done_job(store, result)
    assert await store.read_result(job_id) == result
    assert kept_files(path) == set()


async def test_a_file_of_a_worker_is_moved_and_keeps_its_owner_only_mode(store: Store, path: Path) -> None:
    made = store.payloads.incoming / "made"
    made.write_bytes(b"x" * LARGE)
    inode = made.stat().st_ino
    kept = await store.payloads.keep(PayloadFile(made, LARGE))
    assert isinstance(kept, KeptFile)
    assert kept.sha256 == hashlib.sha256(b"x" * LARGE).hexdigest()
    assert kept.path.stat().st_ino == inode
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert not made.exists()


async def test_a_link_in_place_of_a_file_is_not_followed(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * LARGE)
    link = store.payloads.incoming / "link"
    link.symlink_to(secret)
    with pytest.raises(OSError, match="link"):
        await store.payloads.keep(PayloadFile(link, LARGE))


async def test_equal_payloads_are_one_file_which_goes_with_the_last_job(store: Store, path: Path) -> None:
    data = os.urandom(LARGE)
    first = await store.create_job(a_job(data), data, an_entry())
    second = await a_done_job(store, data)
    assert len(kept_files(path)) == 1
    await store.delete_job(first.id, lambda _: None, an_entry("job.delete"))
    assert len(kept_files(path)) == 1
    stored = await store.read_result(second)
    assert stored is not None
    assert await read(store, stored) == data
    del stored
    await store.delete_job(second, lambda _: None, an_entry("job.delete"))
    assert kept_files(path) == set()


async def test_a_result_that_replaces_another_leaves_no_file_behind(store: Store, path: Path) -> None:
    job_id = await a_done_job(store, os.urandom(LARGE))
    await store.change_job(job_id, done_with(b"small"))
    assert await store.read_result(job_id) == b"small"
    await store.collect_garbage()
    assert kept_files(path) == set()


async def test_a_file_that_somebody_holds_is_not_garbage(store: Store, path: Path) -> None:
    kept = await store.payloads.keep(os.urandom(LARGE))
    assert await store.collect_garbage() == 0
    del kept
    async with asyncio.timeout(10):  # the thread that wrote it may hold it for a moment longer
        while await store.collect_garbage() == 0:
            await asyncio.sleep(0.01)
    assert kept_files(path) == set()


async def test_a_download_goes_on_while_its_job_is_deleted(store: Store, path: Path) -> None:
    result = os.urandom(4 * LARGE)
    job_id = await a_done_job(store, result)
    stored = await store.read_result(job_id)
    assert stored is not None
    reading = store.payloads.read_pieces(stored, 0, LARGE)
    got = await anext(reading)
    await store.delete_job(job_id, lambda _: None, an_entry("job.delete"))
    got += b"".join([piece async for piece in reading])
    assert got == result
    del stored, reading
    await store.collect_garbage()
    assert kept_files(path) == set()


async def test_what_a_crash_left_unfinished_or_unused_is_removed(path: Path) -> None:
    store = await Store.open(path)
    kept = await store.payloads.keep(os.urandom(LARGE))
    (store.payloads.incoming / "unfinished").write_bytes(b"half")
    await store.close()
    del kept
    store = await Store.open(path)
    try:
        assert await store.collect_garbage() == 1
        assert kept_files(path) == set()
    finally:
        await store.close()


async def test_a_lost_file_is_an_error_that_says_what_to_do(store: Store, path: Path) -> None:
    job_id = await a_done_job(store, os.urandom(LARGE))
    (lost,) = (file for file in path.with_name(f"{path.name}.files").rglob("*") if file.is_file())
    lost.unlink()
    with pytest.raises(Internal, match="backup"):
        await store.read_result(job_id)


class TestUploads:
    async def test_a_program_is_written_while_it_comes(self, store: Store) -> None:
        parts = [os.urandom(200_000) for _ in range(8)]
        kept = await store.payloads.receive(pieces(*parts), any_size, any_whole)
        assert kept.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()
        assert kept.path.read_bytes() == b"".join(parts)

    @pytest.mark.parametrize("size", [1, 4095, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 9 * BLOCK_BYTES])
    async def test_it_has_the_size_that_came_whatever_the_disk_writes_at_once(self, store: Store, size: int) -> None:
        content = os.urandom(size)
        kept = await store.payloads.receive(pieces(content), any_size, any_whole)
        assert kept.size_bytes == size
        assert kept.path.read_bytes() == content

    async def test_one_that_breaks_off_or_is_refused_leaves_nothing(self, store: Store, path: Path) -> None:
        async def broken() -> AsyncIterator[memoryview]:
            yield memoryview(b"x" * 1000)
            raise ConnectionResetError

        def refuse(size: int) -> None:
            if size > 1500:
                raise OutOfRange("too much")

        with pytest.raises(ConnectionResetError):
            await store.payloads.receive(broken(), any_size, any_whole)
        with pytest.raises(GatewayError, match="too much"):
            await store.payloads.receive(pieces(b"x" * 1000, b"y" * 1000), refuse, any_whole)
        assert kept_files(path) == set()

    async def test_one_whose_caller_is_gone_and_gone_again_leaves_nothing_open(self, path: Path) -> None:
        async def endless() -> AsyncIterator[memoryview]:
            while True:
                yield memoryview(b"x" * 300_000)
                await asyncio.sleep(0)

        store = await Store.open(path)
        open_before = psutil.Process().num_fds()
        for steps in range(60):
            call = asyncio.create_task(store.payloads.receive(endless(), any_size, any_whole))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        await until(lambda: kept_files(path) == set() and psutil.Process().num_fds() <= open_before)
        await store.close()

    async def test_it_is_found_by_its_own_tenant_until_its_time_comes(self, store: Store, path: Path) -> None:
        kept = await store.payloads.receive(pieces(b"a program"), any_size, any_whole)
        soon = utc_now() + timedelta(seconds=60)
        await store.add_upload("physics", kept, soon, an_entry())
        assert await store.find_upload("physics", kept.sha256) is kept
        assert await store.find_upload("chemistry", kept.sha256) is None
        assert await store.find_upload("physics", "0" * 64) is None
        await store.add_upload("physics", kept, utc_now() - timedelta(seconds=1), an_entry())
        assert await store.find_upload("physics", kept.sha256) is None
        del kept
        assert await store.collect_garbage() == 1
        assert kept_files(path) == set()

    async def test_a_job_keeps_it_beyond_its_time(self, store: Store) -> None:
        kept = await store.payloads.receive(pieces(b"a program"), any_size, any_whole)
        await store.add_upload("physics", kept, utc_now() - timedelta(seconds=1), an_entry())
        job = await store.create_job(a_job(b"a program"), kept, an_entry())
        del kept
        assert await store.collect_garbage() == 0
        stored = await store.read_program(job.id)
        assert await read(store, stored) == b"a program"
        assert job.program == program_summary(b"a program")
