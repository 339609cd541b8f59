"""Folders that are gone with their process, however that ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store import temporary_folder

PREFIX = "a-test-"


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the system has temporary files, as this test sees it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is remembered from the first look on
    return tmp_path


@contextmanager
def another_process() -> Iterator[Path]:
    """Run a process with a folder of its own, until it is killed at the end."""
    program = (
        "import sys\n"
        "from gateway.store import temporary_folder\n"
        f"with temporary_folder({PREFIX!r}) as folder:\n"
        "    (folder / 'content').mkdir()\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_removed_at_its_end(temporary_files: Path) -> None:
    with temporary_folder(PREFIX) as folder:
        (folder / "file").touch()
        assert folder.parent == temporary_files
    assert list(temporary_files.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(temporary_files: Path) -> None:
    with another_process() as left:
        pass
    assert (left / "content").is_dir()
    with temporary_folder(PREFIX) as folder:
        assert list(temporary_files.iterdir()) == [folder]


def test_the_folder_of_a_process_that_runs_stays(temporary_files: Path) -> None:
    with another_process() as other, temporary_folder(PREFIX) as folder:
        assert sorted(temporary_files.iterdir()) == sorted([other, folder])
        assert (other / "content").is_dir()


def test_a_folder_that_nobody_has_made_here_stays(temporary_files: Path) -> None:
    foreign = temporary_files / f"{PREFIX}of-somebody"
    foreign.mkdir()
    elsewhere = temporary_files / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".in-use").touch()
    link = temporary_files / f"{PREFIX}link"
    link.symlink_to(elsewhere)
    with temporary_folder(PREFIX):
        pass
    assert sorted(temporary_files.iterdir()) == sorted([foreign, elsewhere, link])
    assert (elsewhere / ".in-use").exists()
