"""Results as providers gave them out."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain.errors import Unavailable
from gateway.store import Store
from gateway.store.spool import FileSpool


def content(spool: FileSpool, account: str, job: str) -> bytes | None:
    spooled = spool.get(account, job)
    return spooled and spooled.results.path.read_bytes()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_what_was_put_in_is_found_after_a_restart_until_it_is_dropped(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"about", [b"results"])
    spool = FileSpool(directory)
    assert content(spool, "alpha", "j1") == b"results"
    spool.drop("alpha", "j1")
    assert content(spool, "alpha", "j1") is None
    assert content(FileSpool(directory), "alpha", "j1") is None


def test_jobs_of_one_id_in_two_accounts_are_told_apart(directory: Path) -> None:
    spool = FileSpool(directory)
    spool.put("alpha", "j1", b"about", [b"alpha's"])
    assert content(spool, "beta", "j1") is None
    spool.drop("beta", "j1")
    assert content(spool, "alpha", "j1") == b"alpha's"


def test_what_was_put_in_last_counts(directory: Path) -> None:
    spool = FileSpool(directory)
    spool.put("alpha", "j1", b"about", [b"first"])
    spool.put("alpha", "j1", b"about", [b"second"])
    assert content(spool, "alpha", "j1") == b"second"


def test_what_is_to_be_known_of_the_job_is_kept_with_it(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"about", [b"re", b"sults"])
    spooled = FileSpool(directory).get("alpha", "j1")
    assert spooled is not None
    assert (spooled.about, spooled.results.size_bytes) == (b"about", 7)


def test_results_without_a_byte_are_none(directory: Path) -> None:
    spool = FileSpool(directory)
    assert not spool.put("alpha", "j1", b"about", [])
    assert spool.get("alpha", "j1") is None
    assert not list(directory.iterdir())


def test_results_that_break_off_leave_nothing_and_keep_what_was_there(directory: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half of "
        raise Unavailable("The connection failed.")

    spool = FileSpool(directory)
    with pytest.raises(Unavailable):
        spool.put("alpha", "j1", b"about", broken())
    assert not list(directory.iterdir())
    spool.put("alpha", "j1", b"about", [b"whole"])
    with pytest.raises(Unavailable):
        spool.put("alpha", "j1", b"about", broken())
    assert content(spool, "alpha", "j1") == b"whole"


def test_nothing_is_asked_for_with_a_disk_that_is_nearly_full(directory: Path) -> None:
    with pytest.raises(Unavailable, match="nearly full"):
        FileSpool(directory, least_free_bytes=2**60).check_room()


def test_an_id_leads_to_no_other_place(directory: Path) -> None:
    FileSpool(directory).put("alpha", "../../etc/passwd", b"about", [b"results"])
    assert all(file.parent == directory for file in directory.rglob("*"))
    assert len(list(directory.iterdir())) == 2


def test_files_are_for_their_owner_only(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"about", [b"results"])
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


def test_a_file_that_a_former_run_did_not_finish_is_no_result(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"about", [b"results"])
    (file,) = (file for file in directory.iterdir() if not file.suffix)
    file.rename(file.with_suffix(".new"))
    assert content(FileSpool(directory), "alpha", "j1") is None
    assert not list(directory.iterdir())


def test_what_belongs_to_no_unfinished_job_goes(directory: Path) -> None:
    spool = FileSpool(directory)
    spool.put("alpha", "j1", b"about", [b"wanted"])
    spool.put("alpha", "j2", b"about", [b"of a job that has ended"])
    assert FileSpool(directory).keep_only([("alpha", "j1"), ("alpha", "j3")]) == 1
    assert (content(spool, "alpha", "j1"), content(spool, "alpha", "j2")) == (b"wanted", None)


def test_there_is_room_up_to_a_limit_also_after_a_restart(directory: Path) -> None:
    spool = FileSpool(directory, most_bytes=10)
    spool.put("alpha", "j1", b"about", [bytes(10)])
    spool.check_room()
    spool.put("alpha", "j2", b"about", [bytes(1)])
    for each in (spool, FileSpool(directory, most_bytes=10)):
        with pytest.raises(Unavailable, match="goes on by itself"):
            each.check_room()
    spool.drop("alpha", "j1")
    spool.check_room()


async def test_the_collection_of_files_leaves_the_spool_alone(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "gateway.db")
    try:
        store.spool.put("alpha", "j1", b"about", [b"results"])
        await store.collect_garbage()
        assert content(store.spool, "alpha", "j1") == b"results"
    finally:
        await store.close()
