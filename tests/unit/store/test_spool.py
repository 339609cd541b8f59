"""Results as providers gave them out."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.domain.errors import Unavailable
from gateway.store import Store
from gateway.store.spool import FileSpool


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_what_was_put_in_is_found_after_a_restart_until_it_is_dropped(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"results")
    spool = FileSpool(directory)
    assert spool.get("alpha", "j1") == b"results"
    spool.drop("alpha", "j1")
    assert spool.get("alpha", "j1") is None
    assert FileSpool(directory).get("alpha", "j1") is None


def test_jobs_of_one_id_in_two_accounts_are_told_apart(directory: Path) -> None:
    spool = FileSpool(directory)
    spool.put("alpha", "j1", b"alpha's")
    assert spool.get("beta", "j1") is None
    spool.drop("beta", "j1")
    assert spool.get("alpha", "j1") == b"alpha's"


def test_what_was_put_in_last_counts(directory: Path) -> None:
    spool = FileSpool(directory)
    spool.put("alpha", "j1", b"first")
    spool.put("alpha", "j1", b"second")
    assert spool.get("alpha", "j1") == b"second"


def test_an_id_leads_to_no_other_place(directory: Path) -> None:
    FileSpool(directory).put("alpha", "../../etc/passwd", b"results")
    (file,) = directory.iterdir()
    assert file.parent == directory


def test_files_are_for_their_owner_only(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"results")
    (file,) = directory.iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, file)] == [0o700, 0o600]


def test_a_file_that_a_former_run_did_not_finish_is_no_result(directory: Path) -> None:
    FileSpool(directory).put("alpha", "j1", b"results")
    (file,) = directory.iterdir()
    file.rename(file.with_suffix(".new"))
    assert FileSpool(directory).get("alpha", "j1") is None
    assert not list(directory.iterdir())


def test_what_belongs_to_no_unfinished_job_goes(directory: Path) -> None:
    spool = FileSpool(directory)
    spool.put("alpha", "j1", b"wanted")
    spool.put("alpha", "j2", b"of a job that has ended")
    assert FileSpool(directory).keep_only([("alpha", "j1"), ("alpha", "j3")]) == 1
    assert (spool.get("alpha", "j1"), spool.get("alpha", "j2")) == (b"wanted", None)


def test_there_is_room_up_to_a_limit_also_after_a_restart(directory: Path) -> None:
    spool = FileSpool(directory, most_bytes=10)
    spool.put("alpha", "j1", bytes(10))
    spool.check_room()
    spool.put("alpha", "j2", bytes(1))
    for each in (spool, FileSpool(directory, most_bytes=10)):
        with pytest.raises(Unavailable, match="goes on by itself"):
            each.check_room()
    spool.drop("alpha", "j1")
    spool.check_room()


async def test_the_collection_of_files_leaves_the_spool_alone(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "gateway.db")
    try:
        store.spool.put("alpha", "j1", b"results")
        await store.collect_garbage()
        assert store.spool.get("alpha", "j1") == b"results"
    finally:
        await store.close()
