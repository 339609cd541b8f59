"""Writing files in blocks, past the memory of the system."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.store.blocks import BLOCK_BYTES, Block, BlockFile


def filled(data: bytes) -> Block:
    block = Block()
    assert not block.fill(memoryview(data))
    return block


def test_a_block_takes_what_there_is_room_for_and_gives_back_the_rest() -> None:
    block = filled(b"x" * (BLOCK_BYTES - 3))
    assert bytes(block.fill(memoryview(b"abcdef"))) == b"def"
    assert bytes(block.content[-4:]) == b"xabc"
    block.clear()
    assert not block.fill(memoryview(b"again"))
    assert bytes(block.content) == b"again"


def test_a_file_system_without_straight_writing_is_written_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open
    made: list[int] = []

    def refusing(path: Any, flags: int, *mode: Any) -> int:
        """Do as those file systems do that find out after they have made the file."""
        file = real_open(path, flags & ~os.O_DIRECT, *mode)
        if flags & os.O_DIRECT:
            os.close(file)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        made.append(flags)
        return file

    monkeypatch.setattr(os, "open", refusing)
    file = BlockFile(tmp_path / "new")
    file.make_room(1)
    file.write(filled(b"the end"), BLOCK_BYTES)
    file.write(filled(b"x" * BLOCK_BYTES), 0)
    file.finish(BLOCK_BYTES + 7)
    assert (tmp_path / "new").read_bytes() == b"x" * BLOCK_BYTES + b"the end"
    assert len(made) == 1


def test_a_file_takes_no_more_room_than_its_bytes_in_the_end(tmp_path: Path) -> None:
    file = BlockFile(tmp_path / "new")
    file.make_room(1)
    file.write(filled(b"the end"), 0)
    file.finish(7)
    assert (tmp_path / "new").read_bytes() == b"the end"
    assert (tmp_path / "new").stat().st_blocks * 512 < BLOCK_BYTES


def test_a_file_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        BlockFile(tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"mine"
